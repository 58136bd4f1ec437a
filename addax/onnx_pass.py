"""addax as a pass of onnx_ir's own pass manager."""

from collections.abc import Iterable, Sequence
from typing import Any

import onnx_ir as ir

from addax.backends.to_ort import to_ort
from addax.errors import OptionError
from addax.frontend import to_ir
from addax.ir.rule import Rule
from addax.ir.statistics import CALIBRATION
from addax.ir.verify import verify as require_well_formed
from addax.passes._family import Family, Phase
from addax.passes._pipeline import Pipeline, Step, run_pipeline
from addax.passes._statistics import Statistics


def as_pass(
    pipeline: str | None = None,
    *,
    rules: Sequence[Rule] = (),
    calibration: Iterable[Any] | None = None,
) -> "OnnxPass":
    """A pass that stands beside others in `onnx_ir.passes.Sequential` and `PassManager`.

        passes = ir.passes.Sequential(addax.as_pass("cleanup,fold-affine"), OtherPass())
        passes(model)

    Args:
        pipeline: What runs, such as "cleanup,shift-add{bits=3}"; by default every exact family,
            or, where `rules` are given, these alone.
        rules: Rules of your own, or of onnxscript (`addax.frontend.from_onnxscript`), that run
            with the exact families of the pipeline to a joint fixed point.
        calibration: Batches of real inputs for approximate families, as `addax.optimize` takes.

    Raises:
        OptionError: If the pipeline names what does not exist, or `rules` are no rules.
    """
    if strange := [rule for rule in rules if not isinstance(rule, Rule)]:
        raise OptionError(f"expected rules, as addax.ir.rule.rule makes, got {strange[0]!r}")
    steps = () if pipeline is None and rules else _steps(pipeline)
    if rules:
        family = Family("own-rules", Phase.FOLD, tuple(rules), None, "Rules of the caller's own.")
        steps = (*steps, Step(family))
    return OnnxPass(Pipeline(steps), None if calibration is None else list(calibration))


def _steps(pipeline: str | None) -> tuple[Step, ...]:
    return (Pipeline.exact() if pipeline is None else Pipeline.parse(pipeline)).steps


class OnnxPass(ir.passes.InPlacePass):
    """A pipeline of addax that changes a model in place; `statistics` tell what its last run did.

    The model may have any operator set that addax reads; it has the one that addax writes after.
    Ops of the dialect come with their bodies, so that any ONNX Runtime runs the model.
    """

    def __init__(self, pipeline: Pipeline, calibration: list[Any] | None = None) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.statistics = Statistics()
        self._calibration = calibration

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pipeline; a model that it finds nothing to do in is not touched.

        Raises:
            InvalidGraphError, UnsupportedOpError: If the model cannot be read.
        """
        graph = to_ir(model)
        facts: dict[str, Any] = {}
        if self._calibration is not None:
            from addax.runtime.calibrate import Batches

            facts[CALIBRATION] = Batches(graph, self._calibration, lambda _: None)
        self.statistics = run_pipeline(graph, self.pipeline, facts=facts)
        if not self.statistics.applied and not sum(self.statistics.passes.values()):
            return ir.passes.PassResult(model, modified=False)
        require_well_formed(graph)
        made = to_ort(graph)
        model.graph = made.graph
        model.functions.clear()
        model.functions.update(made.functions)
        model.ir_version = max(made.ir_version or 0, model.ir_version or 0)
        return ir.passes.PassResult(model, modified=True)
