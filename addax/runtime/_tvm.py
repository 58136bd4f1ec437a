"""The only contact with TVM: an ONNX model through Relax to machine code, and one run of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from addax.ir.model import clone
from addax.ir.rewriter import Rewriter
from addax.ir.shapes import infer_shapes


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The outputs of `model` by name.

    TVM compiles for fixed sizes, so the inputs get those of the feeds. It raises errors of its own
    where its frontend does not take the model.
    """
    fixed = clone(model)
    for value in fixed.graph.inputs:
        if value.name in feeds:
            value.shape = ir.Shape(feeds[str(value.name)].shape)
    infer_shapes(fixed)
    Rewriter(fixed).lift_constants()  # it knows constants of one tensor only
    module = from_onnx(ir.to_proto(fixed), keep_params_in_input=False)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    arguments = [
        tvm.runtime.tensor(np.ascontiguousarray(feeds[str(value.name)]))
        for value in fixed.graph.inputs
        if value.name in feeds
    ]
    made = machine["main"](*arguments)
    outputs = [made] if hasattr(made, "numpy") else list(made)
    return {
        str(value.name): array.numpy()
        for value, array in zip(fixed.graph.outputs, outputs, strict=True)
    }
