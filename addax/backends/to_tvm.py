"""Machine code by TVM for a whole model: a library for this processor, tuned on request."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from addax.backends.kernel_code import KernelCode
from addax.backends.to_ort import to_ort
from addax.errors import MissingPackageError, OptionError, UnsupportedOpError
from addax.ir.dialect import DOMAIN
from addax.ir.evaluate import evaluate
from addax.ir.model import clone, prune
from addax.ir.query import static_shape
from addax.ir.rewriter import Rewriter
from addax.ir.shapes import ShapeInference, infer_shapes

if TYPE_CHECKING:
    from addax.backends.tvm.library import Library

__all__ = ["require_tvm", "to_tvm", "tuning_time"]

_TARGET = re.compile(r"tvm(?:\{\s*tune\s*=\s*(\d+(?:\.\d*)?)\s*\})?")

_BROKEN_SINCE = (0, 1, 15)  # tvm.ir.save_json, pickle and MetaSchedule end in a segfault


def to_tvm(
    model: ir.Model,
    *,
    sizes: Mapping[str, Sequence[int]] | None = None,
    kernels: KernelCode | None = None,
    tune: float = 0,
    say: Callable[[str], None] = lambda _: None,
) -> "Library":
    """Compile a model for this processor.

    Nodes of the dialect become calls of kernels where there are some, the others are replaced by
    their bodies. Named sizes of the inputs, such as a batch, stay open where TVM can do that.

    Args:
        model: Stays as it is.
        sizes: Fixed shapes of inputs, by name; the others stay as the model says.
        kernels: Machine code of the kernels, which becomes part of the library; it needs a linker.
        tune: Seconds to search for better loops; needs all sizes fixed.
        say: Told what is done now.

    Raises:
        MissingPackageError: TVM is not installed, or in a version that crashes.
        UnsupportedOpError: An operator has no converter, or an input an unknown rank or open sizes
            where they must be fixed.
        EvaluationError: A constant cannot be computed.
        BuildError: The kernels cannot be linked.
    """
    require_tvm()
    from addax.backends.tvm.compile import compile_model

    say("preparing the model for TVM")
    made = _prepared(model, sizes or {}, kernels)
    called = any(node.domain == DOMAIN for node in made.graph.all_nodes())
    return compile_model(made, kernels if called else None, tune, say)


def tuning_time(target: str) -> float:
    """The seconds of tuning that a target asks for: 60 for "tvm{tune=60}", 0 for "tvm".

    Raises:
        OptionError: If there is anything else in the braces.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise OptionError(
            f'target={target!r}: expected "tvm" or "tvm{{tune=SECONDS}}", such as "tvm{{tune=60}}"'
        )
    return float(found[1] or 0)


def require_tvm() -> None:
    """Make sure that a TVM is installed that works.

    Raises:
        MissingPackageError: Says what to install.
    """
    try:
        version("apache-tvm")
        ffi = version("apache-tvm-ffi")
    except PackageNotFoundError as error:
        raise MissingPackageError("TVM is not installed; pip install addax[tvm]") from error
    numbers = tuple(int(part) for part in ffi.split(".")[:3] if part.isdecimal())
    if numbers >= _BROKEN_SINCE:
        raise MissingPackageError(
            f"apache-tvm-ffi {ffi} crashes the process when TVM saves or tunes; expected a version "
            'below 0.1.15; pip install "apache-tvm-ffi<0.1.15"'
        )


def _prepared(
    model: ir.Model, sizes: Mapping[str, Sequence[int]], kernels: KernelCode | None
) -> ir.Model:
    """A copy in standard operators and those with kernels, whatever is constant in it computed."""
    made = to_ort(model, has_kernel=lambda node: kernels is not None and kernels.has(node))
    for value in made.graph.inputs:
        if value.name in sizes:
            value.shape = ir.Shape(sizes[str(value.name)])
        if value.const_value is None and value.shape is None:
            raise UnsupportedOpError(
                f"TVM needs the rank of every input, but that of {value.name!r} is unknown; "
                "export the model with example inputs"
            )
    InlinePass(lambda function: function.domain != DOMAIN)(made)
    Rewriter(made).lift_constants()
    infer_shapes(made)
    _settle_sizes(made)
    _fold(made)
    infer_shapes(made)
    return made


def _settle_sizes(model: ir.Model) -> None:
    """Make constants of the integers that are computed from known sizes."""
    inference = ShapeInference(model)
    for node in model.graph:
        for value in node.outputs:
            if value.dtype != ir.DataType.INT64 or not value.uses() or value.is_graph_output():
                continue
            contents, dims = inference.contents(value), static_shape(value)
            if contents is not None and dims is not None and all(map(_is_int, contents)):
                _replace(model.graph, value, np.array(contents, np.int64).reshape(dims))
    prune(model)


def _fold(model: ir.Model) -> None:
    """Compute every value that depends on nothing but constants."""
    graph = model.graph
    known = {v for v in graph.initializers.values() if not v.is_graph_input()}
    for node in graph:
        if _is_plain(node) and all(v is None or v in known for v in node.inputs):
            known.update(v for v in node.outputs if not v.is_graph_output())
    wanted = {str(v.name): v for v in known if v.producer() and not _feeds_only(v, known)}
    if not wanted:
        return
    cone = clone(model)
    outputs = [v for node in cone.graph for v in node.outputs if v.name in wanted]
    cone.graph.outputs.clear()
    cone.graph.outputs.extend(outputs)
    prune(cone)
    cone.graph.inputs.clear()
    for name, array in evaluate(cone, {}).items():
        _replace(graph, wanted[name], array)
    prune(model)


def _replace(graph: ir.Graph, old: ir.Value, array: np.ndarray) -> None:
    name, old.name = old.name, None
    tensor = ir.tensor(array, dtype=old.dtype)
    new = ir.Value(name=name, type=old.type, shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(new)
    old.replace_all_uses_with(new)


def _is_plain(node: ir.Node) -> bool:
    """Whether a node means the same at every run, and has no body of its own."""
    nested = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
    return not nested and not node.op_type.startswith("Random") and node.op_type != "Dropout"


def _feeds_only(value: ir.Value, known: set[ir.Value]) -> bool:
    return all(set(node.outputs) <= known for node, _ in value.uses())


def _is_int(number: Any) -> bool:
    return isinstance(number, int)
