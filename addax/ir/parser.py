"""ONNX text to a model, for tests: constants without a literal get random values from a seed."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from addax.errors import ModelFileError

Weights = Literal["random", "zeros"]

_IR_VERSION = 10


def parse_text(text: str, *, weights: Weights = "random", seed: int = 0) -> ir.Model:
    """Read a model from ONNX's text syntax. Types and shapes are as written; none are inferred.

    A constant of the `<...>` list that has no literal is drawn from the seed: floats from a
    standard normal distribution, integers from -4 to 4 (0 to 4 if unsigned), booleans evenly.
    Each is drawn by its own name, so a change to one leaves the others as they are.

    Args:
        text: The model; `ir_version` may be left out.
        weights: "zeros" fills such constants with zeros instead.
        seed: Of the random values.

    Raises:
        ModelFileError: If the text is not valid; shows the place.
    """
    try:
        proto = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        detail = error.args[0]
        message = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
        raise ModelFileError(f"expected a model in ONNX text syntax: {message}") from None
    if not proto.ir_version:
        proto.ir_version = _IR_VERSION
    _fill(proto.graph, weights, seed)
    return ir.from_proto(proto)


def _fill(graph: onnx.GraphProto, weights: Weights, seed: int) -> None:
    """Turn declarations that nothing computes into initializers, in subgraphs too."""
    computed = {name for node in graph.node for name in node.output}
    declared = [info for info in graph.value_info if info.name not in computed]
    for info in declared:
        graph.value_info.remove(info)
        graph.initializer.append(_constant(info, weights, seed))
    for node in graph.node:
        for body in _bodies(node):
            _fill(body, weights, seed)


def _bodies(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _constant(info: onnx.ValueInfoProto, weights: Weights, seed: int) -> onnx.TensorProto:
    kind = info.type.tensor_type
    dtype = ir.DataType(kind.elem_type)
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    if -1 in shape or not kind.HasField("shape") or dtype == ir.DataType.STRING:
        raise ModelFileError(
            f"the constant {info.name!r} has neither a literal nor a numeric type with a fixed "
            "shape: write `float[2,3] name` to have it drawn, or `float[2] name = {1, 2}`"
        )
    array = np.zeros(shape) if weights == "zeros" else _draw(dtype, shape, info.name, seed)
    tensor = ir.Tensor(array.astype(dtype.numpy()), dtype=dtype, name=info.name)
    return ir.serde.serialize_tensor(tensor)


def _draw(dtype: ir.DataType, shape: list[int], name: str, seed: int) -> np.ndarray:
    random = np.random.default_rng([seed, *name.encode()])
    if dtype.is_floating_point():
        return random.standard_normal(shape)
    if dtype == ir.DataType.BOOL:
        return random.integers(0, 2, shape)
    return random.integers(-4 if dtype.is_signed() else 0, 5, shape)
