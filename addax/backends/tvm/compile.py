"""From a graph in standard operators to a library: convert, lower, schedule, generate code."""

from collections.abc import Callable

import onnx_ir as ir
import tvm
from tvm import relax

from addax.backends.kernel_code import KernelCode
from addax.backends.tvm.default_schedule import default_schedule, splitting_loops
from addax.backends.tvm.host import host
from addax.backends.tvm.kernel_calls import kernel_calls
from addax.backends.tvm.library import Interface, Library, Slot, compiled
from addax.backends.tvm.relax_model import relax_module
from addax.backends.tvm.tune import tuned
from addax.errors import BuildError, UnsupportedOpError


def compile_model(
    model: ir.Model, code: KernelCode | None, tune: float, say: Callable[[str], None]
) -> Library:
    """Machine code for this processor; arguments as for `addax.backends.to_tvm.to_tvm`.

    Nodes of the dialect that are still in the model become calls of kernels.
    """
    target = host()
    with target, splitting_loops(with_kernels=code is not None):
        module = relax_module(model, {} if code is None else kernel_calls(code.isa))
        try:
            module = lowered(module)
            scheduled = default_schedule(module, target)
            if tune:
                scheduled = tuned(module, scheduled, target, tune, say)
            say("generating code with TVM")
            return compiled(scheduled, interface(model), target, code)
        except BuildError:
            raise
        except Exception as error:  # passes of TVM raise whatever they meet
            lines = str(error).strip().splitlines() or [""]
            raise UnsupportedOpError(
                f"TVM cannot compile this model: {type(error).__name__}: {lines[-1][:300]}; fix "
                'the sizes of the inputs if some are open, or use target="host"'
            ) from error


def lowered(module: tvm.IRModule) -> tvm.IRModule:
    """Operators as loops, neighbours fused; needs a target in scope."""
    steps = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ]
    return tvm.transform.Sequential(steps)(module)


def interface(model: ir.Model) -> Interface:
    """What the compiled model takes and gives."""
    inputs = [value for value in model.graph.inputs if value.const_value is None]
    return Interface(tuple(map(_slot, inputs)), tuple(map(_slot, model.graph.outputs)))


def _slot(value: ir.Value) -> Slot:
    dims = (d if isinstance(d, int) else str(d.value) for d in value.shape or ())
    dtype = "" if value.dtype is None else str(value.dtype.numpy())
    return Slot(str(value.name), dtype, tuple(dims))
