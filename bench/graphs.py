"""Synthetic graphs for the driver's benches: sizes and redexes as wanted, weights small.

Each function returns an ONNX model without value_info, as a careless exporter would write it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 20


class Graph:
    """A graph under construction: `add` makes a node and returns its output's name."""

    def __init__(self, seed: int = 0, *, constant_nodes: bool = False) -> None:
        self.constant_nodes = constant_nodes
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], f"n{len(self.nodes)}", **attributes)
        )
        return name

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *dims: int) -> str:
        """A random float32 initializer."""
        return self.constant(self.rng.standard_normal(dims).astype(np.float32) / 8)

    def number(self, value: float) -> str:
        """A scalar float32 initializer."""
        return self._small(np.float32(value).reshape(()))

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        return self._small(np.asarray(values, np.int64))

    def axis(self, value: int) -> str:
        """A scalar int64."""
        return self._small(np.asarray(value, np.int64))

    def _small(self, array: np.ndarray) -> str:
        if not self.constant_nodes:
            return self.constant(array)
        return self.add("Constant", value=numpy_helper.from_array(array))

    def model(
        self,
        inputs: dict[str, Sequence[int | str]],
        outputs: Sequence[str],
        kind: int = TensorProto.FLOAT,
        output: Sequence[int | str] = (),
    ) -> onnx.ModelProto:
        """The finished model; `output` is the shape of its outputs."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, dims) for name, dims in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, output) for name in outputs],
            self.weights,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10
        )


def onion(nodes: int) -> onnx.ModelProto:
    """Nested negations and transposes of which only the innermost pair can go: all become one."""
    g = Graph()
    value = "x"
    half = nodes // 2
    for layer in [*range(half), *reversed(range(half))]:
        value = g.add("Neg", value) if layer % 2 else g.add("Transpose", value, perm=[1, 0])
    return g.model({"x": [4, 8]}, [g.add("Relu", value)], output=[4, 8])


def mixed(nodes: int, seed: int = 0) -> onnx.ModelProto:
    """Chains with a redex in every second place: identities, constants, movement, affine maps."""
    g = Graph(seed)
    w, b = g.weight(16, 16), g.weight(16)
    kept = ["x"]

    def back_and_forth(v: str) -> str:
        return g.add("Reshape", g.add("Reshape", v, g.ints([2, 2, 16])), g.ints([4, 16]))

    def join(v: str) -> str:
        kept.append(g.add("Tanh", g.add("Add", v, kept[-int(g.rng.integers(len(kept[-8:]))) - 1])))
        return kept[-1]

    steps = [
        lambda v: g.add("Identity", v),
        lambda v: g.add("Mul", v, g.number(1.0)),
        lambda v: g.add("Add", g.add("MatMul", v, w), b),
        lambda v: g.add("Relu", v),
        lambda v: g.add("Transpose", g.add("Transpose", v, perm=[1, 0]), perm=[1, 0]),
        back_and_forth,
        lambda v: g.add("Add", v, g.add("Add", g.number(0.25), g.number(0.5))),
        lambda v: g.add("Cast", v, to=TensorProto.FLOAT),
        join,
    ]
    value = "x"
    while len(g.nodes) < nodes:
        value = steps[int(g.rng.integers(len(steps)))](value)
    return g.model({"x": [4, 16]}, [value], output=[4, 16])


def _rms_norm(g: Graph, x: str, width: int) -> str:
    """Decomposed, as torch writes it."""
    square = g.add("Pow", x, g.number(2.0))
    mean = g.add("ReduceMean", square, g.ints([-1]), keepdims=1)
    root = g.add("Sqrt", g.add("Add", mean, g.number(1e-5)))
    return g.add("Mul", g.add("Mul", x, g.add("Reciprocal", root)), g.weight(width))


def _shape_of(g: Graph, x: str, axis: int) -> str:
    size = g.add("Gather", g.add("Shape", x), g.axis(axis), axis=0)
    return g.add("Unsqueeze", size, g.ints([0]))


def _heads(g: Graph, x: str, heads: int, width: int) -> str:
    batch, length = _shape_of(g, x, 0), _shape_of(g, x, 1)
    shape = g.add("Concat", batch, length, g.ints([heads]), g.ints([width]), axis=0)
    return g.add("Transpose", g.add("Reshape", x, shape), perm=[0, 2, 1, 3])


def _rotate(g: Graph, x: str, cos: str, sin: str, width: int) -> str:
    """Rotary embedding as exporters write it: slices, a negation, a concatenation."""
    half, last, one = g.ints([width // 2]), g.ints([3]), g.ints([1])
    first = g.add("Slice", x, g.ints([0]), half, last, one)
    second = g.add("Slice", x, half, g.ints([2**62]), last, one)
    turned = g.add("Concat", g.add("Neg", second), first, axis=-1)
    return g.add("Add", g.add("Mul", x, cos), g.add("Mul", turned, sin))


def llama(layers: int = 32, width: int = 64, heads: int = 4, hidden: int = 128) -> onnx.ModelProto:
    """A Llama-shaped decoder with dynamic batch and length, as exporters write it.

    About 140 nodes a layer, of which 60 are Constant nodes.
    """
    g = Graph(constant_nodes=True)
    each, vocabulary = width // heads, 128
    x = g.add("Gather", g.weight(vocabulary, width), "ids", axis=0)
    cos, sin = g.weight(1, 1, 1, each), g.weight(1, 1, 1, each)
    for _ in range(layers):
        x = _attention(g, x, heads, each, width, cos, sin)
        y = _rms_norm(g, x, width)
        gate = g.add("MatMul", y, g.weight(width, hidden))
        up = g.add("MatMul", y, g.weight(width, hidden))
        silu = g.add("Mul", gate, g.add("Sigmoid", gate))
        x = g.add("Add", x, g.add("MatMul", g.add("Mul", silu, up), g.weight(hidden, width)))
    logits = g.add("MatMul", _rms_norm(g, x, width), g.weight(width, vocabulary))
    shape = ["batch", "length", vocabulary]
    return g.model({"ids": shape[:2]}, [logits], TensorProto.INT64, shape)


def _attention(g: Graph, x: str, heads: int, each: int, width: int, cos: str, sin: str) -> str:
    y = _rms_norm(g, x, width)
    q, k, v = (_heads(g, g.add("MatMul", y, g.weight(width, width)), heads, each) for _ in range(3))
    q, k = _rotate(g, q, cos, sin, each), _rotate(g, k, cos, sin, each)
    scores = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = g.add("Div", scores, g.number(each**0.5))
    weights = g.add("Softmax", g.add("Add", scaled, g.number(0.0)), axis=-1)
    mixed_values = g.add("Transpose", g.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    shape = g.add("Concat", _shape_of(g, x, 0), _shape_of(g, x, 1), g.ints([width]), axis=0)
    flat = g.add("Reshape", mixed_values, shape)
    return g.add("Add", x, g.add("MatMul", flat, g.weight(width, width)))


def write_large(path: Path, gigabytes: float, *, matrices: int = 24) -> int:
    """Write a chain of matrix products whose weights lie in a file; returns their bytes.

    The weights are a sparse file, zeros but for some random rows: as long as real ones, and quick.
    """
    side = int((gigabytes * 1e9 / matrices / 4) ** 0.5) // 8 * 8
    each = side * side * 4
    data, g = path.name + ".data", Graph()
    with open(path.with_name(data), "wb") as file:
        file.truncate(each * matrices)
        for i in range(matrices):
            file.seek(each * i)
            file.write(g.rng.standard_normal((8, side)).astype(np.float32).tobytes())
    value = "x"
    for i in range(matrices):
        tensor = onnx.TensorProto(
            name=f"w{i}", dims=[side, side], data_type=TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        for key, item in (("location", data), ("offset", each * i), ("length", each)):
            tensor.external_data.add(key=key, value=str(item))
        g.weights.append(tensor)
        value = g.add("Relu", g.add("Identity", g.add("MatMul", value, tensor.name)))
    onnx.save(g.model({"x": ["batch", side]}, [value], output=["batch", side]), path)
    return each * matrices
