"""The affine algebra: each operation is what the two maps do one after another, or side by side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from addax.ir import affine
from addax.ir.affine import Affine, Convolution, Dense, Diagonal, Tensor
from addax.ir.builder import Builder, Replacement
from addax.ir.evaluate import evaluate
from addax.ir.shapes import ShapeInference

CHANNELS = 4
# Three convolutions in a row fit, each over at most 5, with strides of 2 along the first.
SIZES = (29, 13)


def constant(array: Any, name: str = "c") -> Tensor:
    array = np.asarray(array, np.float32)
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(array.shape),
    )
    return affine.given(value)


@dataclass
class Genes:
    """Draws the pieces of a map."""

    rng: np.random.Generator

    def ints(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-3, 4, shape)

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def diagonal(self, axis: int) -> Diagonal:
        kind = self.pick("identity", "scalar", "vector")
        if kind == "identity":
            return affine.IDENTITY
        if kind == "scalar":
            return Diagonal(constant(self.pick(2.0, -0.5, 3.0)))
        return Diagonal(constant(self.ints(CHANNELS)), axis)

    def dense(self) -> Affine:
        if self.rng.random() < 0.3:
            return self.diagonal(2)
        return Dense(constant(self.ints(CHANNELS, CHANNELS)), 2)

    def convolution(self) -> Affine:
        if self.rng.random() < 0.25:
            return self.diagonal(1)
        groups = self.pick(1, 1, 2, CHANNELS)
        taps = tuple(self.pick(1, 1, 3, 2) for _ in SIZES)
        dilations = tuple(self.pick(1, 1, 2) for _ in SIZES)
        strides = self.pick((1, 1), (1, 1), (2, 1))
        wide = [(k - 1) * d for k, d in zip(taps, dilations, strict=True)]
        same = self.rng.random() < 0.6
        begins = tuple(w // 2 if same else self.pick(0, 0, 1) for w in wide)
        ends = tuple(
            w - b if same else self.pick(0, 0, 1) for w, b in zip(wide, begins, strict=True)
        )
        kernel = self.ints(CHANNELS, CHANNELS // groups, *taps)
        return Convolution(constant(kernel), strides, begins, ends, dilations, groups)


def run(a: Affine, x: np.ndarray) -> np.ndarray:
    """The map's value at x, by the nodes that it builds."""
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(x.shape))
    root = ir.Node("", "Identity", [source], num_outputs=1)
    graph = ir.Graph([source], [], nodes=[root], opset_imports={"": 20}, name="g")
    model = ir.Model(graph, ir_version=10)
    replacement = Replacement(root)
    op = Builder(replacement, ShapeInference(model), 20)
    y = op.Identity(affine.build(op, a, source, x.ndim))
    copies: dict[ir.Value, ir.Value] = {}  # a value belongs to one graph, a map to many
    for node in replacement.nodes:
        for place, value in enumerate(node.inputs):
            if value is not None and value.const_value is not None:
                copy = copies.setdefault(
                    value, ir.Value(name=f"k{len(copies)}", const_value=value.const_value)
                )
                node.replace_input_with(place, copy)
    for copy in copies.values():
        graph.register_initializer(copy)
    graph.extend(replacement.nodes)
    y.name = "y"
    graph.outputs.append(y)
    return np.asarray(evaluate(model, {"x": x}, precision=np.float64)["y"])


def image(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, (2, CHANNELS, *SIZES)).astype(np.float32)


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, (2, 3, CHANNELS)).astype(np.float32)


SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["dense", "convolution"])


def drawn(seed: int, kind: str, count: int) -> tuple[list[Affine], np.ndarray]:
    genes = Genes(np.random.default_rng(seed))
    maps = [getattr(genes, kind)() for _ in range(count)]
    return maps, (rows if kind == "dense" else image)(seed)


@settings(max_examples=120)
@given(SEEDS, KINDS)
def test_composition_is_one_after_the_other(seed: int, kind: str) -> None:
    (first, second), x = drawn(seed, kind, 2)
    made = affine.compose(second, first)
    assume(made is not None)
    assert run(second, run(first, x).astype(np.float32)).tolist() == run(made, x).tolist()


@settings(max_examples=120)
@given(SEEDS, KINDS)
def test_a_sum_is_the_sum_of_both(seed: int, kind: str) -> None:
    (a, b), x = drawn(seed, kind, 2)
    made = affine.add(a, b)
    assume(made is not None)
    left, right = run(a, x), run(b, x)
    assert left.shape == right.shape
    assert (left + right).tolist() == run(made, x).tolist()


@settings(max_examples=60)
@given(SEEDS, KINDS)
@example(2_139_095_040, "convolution")  # its second convolution reached over the image as it was
def test_composition_is_associative(seed: int, kind: str) -> None:
    (a, b, c), x = drawn(seed, kind, 3)
    inner, outer = affine.compose(b, a), affine.compose(c, b)
    assume(inner is not None and outer is not None)
    left, right = affine.compose(c, inner), affine.compose(outer, a)
    assume(left is not None and right is not None)
    assert run(left, x).tolist() == run(right, x).tolist()


@settings(max_examples=60)
@given(SEEDS, KINDS, st.sampled_from([1, 2.0, -0.5]))
def test_a_scaled_map_is_the_scaled_result(seed: int, kind: str, number: float) -> None:
    (a,), x = drawn(seed, kind, 1)
    made = affine.scale(a, number)
    assume(made is not None)
    assert (number * run(a, x)).tolist() == run(made, x).tolist()


@settings(max_examples=60)
@given(SEEDS, KINDS, st.sampled_from([(0, 1), (2, 0), (3,), (1, 2, 3)]))
def test_some_channels_are_taken_or_fed(seed: int, kind: str, places: tuple) -> None:
    (a,), x = drawn(seed, kind, 1)
    axis = 2 if kind == "dense" else 1
    made = affine.take(a, places, axis)
    if made is not None:
        assert run(a, x).take(places, axis).tolist() == run(made, x).tolist()
    made = affine.feed(a, places, axis)
    if made is not None and not isinstance(a, Diagonal):
        alone = np.zeros_like(x)
        where = [slice(None)] * x.ndim
        where[axis] = list(places)
        alone[tuple(where)] = x[tuple(where)]
        assert run(a, alone).tolist() == run(made, x.take(places, axis)).tolist()


@settings(max_examples=80)
@given(SEEDS, KINDS, st.booleans())
def test_a_constant_goes_through_as_a_value_does(seed: int, kind: str, wide: bool) -> None:
    (a,), x = drawn(seed, kind, 1)
    shape = [1] * x.ndim
    shape[-1 if kind == "dense" else 1] = CHANNELS
    shape[-2] = x.shape[-2] if wide else 1
    b = np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)
    made = affine.apply_to_constant(a, constant(b), x.shape, x.ndim)
    assume(made is not None)
    shifted = run(a, (x + b).astype(np.float32)) - run(a, x)
    found = run(Diagonal(made, None), np.ones((), np.float32)) if made.size == 1 else value_of(made)
    assert np.broadcast_to(found.reshape(made.shape), shifted.shape).tolist() == shifted.tolist()


def value_of(made: Tensor) -> np.ndarray:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    root = ir.Node("", "Identity", [x], num_outputs=1)
    graph = ir.Graph([x], [], nodes=[root], opset_imports={"": 20}, name="g")
    model = ir.Model(graph, ir_version=10)
    op = Builder(Replacement(root), ShapeInference(model), 20)
    return np.asarray(op.exact(made.build(op)))


def conv(
    taps: int, pad: int, groups: int = 1, stride: int = 1, inputs: int = CHANNELS
) -> Convolution:
    kernel = np.ones((CHANNELS, inputs // groups, taps, taps))
    return Convolution(constant(kernel), (stride,) * 2, (pad,) * 2, (pad,) * 2, (1, 1), groups)


@pytest.mark.parametrize(
    ("second", "first"),
    [
        (conv(3, 1), conv(3, 1)),  # the zeros around the second see no bias of the first's border
        (conv(3, 1), conv(1, 1)),
        (conv(3, 1), conv(1, 0, stride=2)),
        (Dense(constant(np.eye(4)), 2), conv(1, 0)),
        (Dense(constant(np.eye(4)), 2), Diagonal(constant([1, 2, 3]), 1)),
        (conv(1, 0), Diagonal(constant([1, 2, 3, 4]), 2)),
    ],
)
def test_what_is_not_exact_is_not_composed(second: Affine, first: Affine) -> None:
    assert affine.compose(second, first) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (conv(3, 1), conv(1, 1)),
        (conv(3, 1), conv(3, 1, stride=2)),
        (conv(3, 0), affine.IDENTITY),
        (conv(3, 1, stride=2), affine.IDENTITY),
        (conv(1, 0, inputs=2), affine.IDENTITY),
        (Dense(constant(np.ones((4, 3))), 2), affine.IDENTITY),
        (Dense(constant(np.ones((4, 4))), 2), Diagonal(constant([1, 2, 3]), 1)),
        (affine.IDENTITY, affine.IDENTITY),
    ],
)
def test_what_does_not_fit_is_not_added(a: Affine, b: Affine) -> None:
    assert affine.add(a, b) is None
    assert affine.add(b, a) is None


def test_costs_are_counted() -> None:
    assert affine.multiplies(conv(3, 1), 10) == 10 * 4 * 9
    assert affine.multiplies(conv(3, 1, groups=4), 10) == 10 * 9
    assert affine.multiplies(affine.IDENTITY, 10) == 0
    assert affine.multiplies(Dense(constant(np.ones((5, 3))), 2), 6) == 30
    assert affine.weights(conv(3, 1)) == 4 * 4 * 9
    assert affine.weights(affine.IDENTITY) == 0


def test_nothing_is_computed_before_it_is_built() -> None:
    def refuse(op: Any) -> Any:
        raise AssertionError("built too early")

    huge = Dense(Tensor((1 << 20, 1 << 20), refuse), 2)
    made = affine.compose(huge, affine.add(huge, affine.IDENTITY))
    assert made.weight.shape == (1 << 20, 1 << 20)
