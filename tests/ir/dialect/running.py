"""Models of one dialect op, and running their bodies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from addax.backends.to_ort import to_ort
from addax.ir.dialect import DOMAIN, operators


def model_of(
    op_type: str,
    inputs: Mapping[str, np.ndarray | tuple[ir.DataType, Sequence[int | str]] | None],
    outputs: int = 1,
    opset: int = 20,
    **attributes: int | float | str,
) -> ir.Model:
    """One node: arrays are initializers, (type, shape) are graph inputs, None is left out."""
    values: list[ir.Value | None] = []
    for name, given in inputs.items():
        if given is None:
            values.append(None)
        elif isinstance(given, tuple):
            kind, shape = given
            values.append(ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape)))
        else:
            tensor = ir.tensor(given, name=name)
            values.append(
                ir.Value(
                    name=name,
                    const_value=tensor,
                    type=ir.TensorType(tensor.dtype),
                    shape=ir.Shape(given.shape),
                )
            )
    node = ir.node(op_type, values, attributes, domain=DOMAIN, num_outputs=outputs)
    for i, out in enumerate(node.outputs):
        out.name = f"y{i}" if outputs > 1 else "y"
    operators()[op_type].shape(node)
    present = [value for value in values if value is not None]
    graph = ir.Graph(
        [value for value in present if value.const_value is None],
        node.outputs,
        nodes=[node],
        initializers=[value for value in present if value.const_value is not None],
        name="g",
        opset_imports={"": opset, DOMAIN: 1},
    )
    return ir.Model(graph, ir_version=10)


def session_of(model: ir.Model, *, optimize: bool = True) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the model's bodies, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    made = ir.to_proto(to_ort(model)).SerializeToString()
    return onnxruntime.InferenceSession(made, options, ["CPUExecutionProvider"])


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[Any]:
    """What ONNX Runtime computes by the bodies; shapes must be what the shape rule says."""
    results = session_of(model).run(None, dict(feeds))
    for value, result in zip(model.graph.outputs, results, strict=True):
        assert value.dtype is not None
        assert value.dtype.numpy() == result.dtype
        assert value.shape is not None
        assert len(value.shape) == result.ndim
        known = {
            str(dim): size
            for fed in model.graph.inputs
            for dim, size in zip(fed.shape or (), feeds[str(fed.name)].shape, strict=True)
        }
        assert [known.get(str(d), d) for d in value.shape] == list(result.shape)
    return results


def linear_bound(x: np.ndarray, weight: np.ndarray, kind: type) -> np.ndarray:
    """How far apart two ways to compute x w^T may be: w is rounded, then K products summed."""
    precision = np.finfo(kind).eps
    sizes = np.abs(x.astype(np.float64)) @ np.abs(weight.T.astype(np.float64))
    # Halves are summed in float32 or better, and rounded at the end.
    sums = weight.shape[1] * max(np.finfo(np.float32).eps, precision if kind != np.float16 else 0)
    return np.asarray(sizes * (3 * precision + sums) + np.finfo(kind).tiny)
