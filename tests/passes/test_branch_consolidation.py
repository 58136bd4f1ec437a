"""Random sums of affine branches: consolidated they mean the same, and never cost more."""

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.ir.cost import cost_of
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.proof import prove_equal
from addax.ir.rule import Exact
from addax.ir.shapes import infer_shapes
from addax.ir.text import to_text
from addax.ir.tolerance import disagreement
from addax.passes._pipeline import Pipeline, run_pipeline

PASS = Pipeline.parse("branch-consolidation")
CHANNELS, SIZE = 4, 6


class Sketch:
    """A random graph of affine nodes, sums and activations over values of one shape."""

    def __init__(self, seed: int, *, images: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.images = images
        dims = (2, CHANNELS, SIZE, SIZE) if images else (2, SIZE, CHANNELS)
        self.type, self.dims = ir.TensorType(ir.DataType.FLOAT), ir.Shape(dims)
        self.x = ir.Value(name="x", type=self.type, shape=self.dims)
        self.values, self.nodes, self.constants = [self.x], [], []

    def constant(self, *dims: int) -> ir.Value:
        array = self.random.integers(-2, 3, dims).astype(np.float32)
        value = ir.Value(
            name=f"c{len(self.constants)}",
            type=self.type,
            shape=ir.Shape(dims),
            const_value=ir.tensor(array),
        )
        self.constants.append(value)
        return value

    def node(self, operator: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        made = ir.node(operator, inputs, attributes)
        made.outputs[0].name, made.outputs[0].type = f"v{len(self.nodes)}", self.type
        self.nodes.append(made)
        return made.outputs[0]

    def some(self) -> ir.Value:
        return self.values[self.random.integers(len(self.values))]

    def grow(self) -> None:
        x, kind = self.some(), self.random.integers(7)
        if kind < 2:
            made = self.node("Sub" if kind else "Add", x, self.some())
        elif kind == 2:
            made = self.node("Relu", x)
        elif kind == 3:
            scale = self.constant(CHANNELS, 1, 1) if self.images else self.constant(CHANNELS)
            made = self.node(["Mul", "Add"][self.random.integers(2)], x, scale)
        elif self.images:
            half = int(self.random.integers(2))
            size, groups = 1 + 2 * half, int(self.random.choice([1, 2, CHANNELS]))
            weight = self.constant(CHANNELS, CHANNELS // groups, size, size)
            bias = [self.constant(CHANNELS)] if self.random.integers(2) else []
            made = self.node("Conv", x, weight, *bias, pads=[half] * 4, group=groups)
        elif kind == 4:
            down = self.node("MatMul", x, self.constant(CHANNELS, 1))
            made = self.node("MatMul", down, self.constant(1, CHANNELS))
        else:
            made = self.node("MatMul", x, self.constant(CHANNELS, CHANNELS))
        self.values.append(made)

    def model(self, count: int) -> ir.Model:
        for _ in range(count):
            self.grow()
        read = {value for node in self.nodes for value in node.inputs}
        outputs = [v for v in self.values if v not in read and v is not self.x]
        for value in outputs:
            value.shape = self.dims
        graph = ir.Graph(
            [self.x],
            outputs,
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports={"": 18},
            name="g",
        )
        return ir.Model(graph, ir_version=10)


def drawn(seed: int, count: int, *, images: bool) -> ir.Model:
    model = Sketch(seed, images=images).model(count)
    infer_shapes(model)
    return model


def price(model: ir.Model) -> tuple[int, int]:
    """Multiplies and nodes."""
    return sum(cost_of(node).multiplies for node in model.graph), len(model.graph)


def total(model: ir.Model) -> float:
    """Operations, stored elements and nodes: what the pass promises not to raise."""
    work = [cost_of(node) for node in model.graph]
    stored = sum(v.const_value.size for v in model.graph.initializers.values())
    return sum(w.multiplies + w.adds for w in work) + stored + len(work)


@settings(max_examples=settings.default.max_examples // 2)
@given(st.integers(0, 10**6), st.integers(2, 9), st.booleans())
def test_random_regions_keep_their_meaning_and_never_cost_more(
    seed: int, count: int, images: bool
) -> None:
    model = drawn(seed, count, images=images)
    after = clone(model)
    run_pipeline(after, PASS)
    feeds = {"x": np.random.default_rng(seed).standard_normal(model.graph.inputs[0].shape)}
    feeds = {"x": feeds["x"].astype(np.float32)}
    found = disagreement(model, after, feeds, Exact.REASSOCIATED)
    assert found is None, str(found)
    infer_shapes(after)
    assert total(after) <= total(model)
    settled = to_text(after)
    run_pipeline(after, PASS)
    assert to_text(after) == settled


def test_the_same_model_gives_the_same_text() -> None:
    texts = set()
    for _ in range(2):
        model = drawn(3, 9, images=True)
        run_pipeline(model, PASS)
        texts.add(to_text(model))
    assert len(texts) == 1


def test_a_block_of_branches_becomes_one_convolution() -> None:
    sketch = Sketch(0, images=True)
    wide = sketch.node("Conv", sketch.x, sketch.constant(4, 4, 3, 3), pads=[1] * 4)
    narrow = sketch.node("Conv", sketch.x, sketch.constant(4, 4, 1, 1))
    sketch.values.append(sketch.node("Add", sketch.node("Add", wide, narrow), sketch.x))
    model = sketch.model(0)
    infer_shapes(model)
    before = clone(model)
    run_pipeline(model, PASS)
    assert [node.op_type for node in model.graph] == ["Conv"]
    assert price(before)[0] > price(model)[0]
    assert prove_equal(before, model).verdict == "proved"


HALF = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,3,4] u, float[2,3,4] v) => (float[2,3,4] y, float[2,3,4] z, float[2,3,4] q)
<float[4] a, float[4] b, float[4] c = {3e38,3e38,3e38,3e38}, float big = {3e38},
 float[4,4] w, float[4,4] k> {
    x = Add(u, v)
    l1 = LayerNormalization(x, a)
    l2 = LayerNormalization(x, b)
    l3 = LayerNormalization(x, c)
    m1 = MatMul(l1, w)
    m2 = MatMul(l2, k)
    s = Add(m1, m2)
    y = Relu(s)
    z = Tanh(s)
    m3 = Mul(l3, big)
    q = Relu(m3)
}"""


def test_a_plan_of_which_a_part_overflows_ends() -> None:
    model = parse_text(HALF)
    assert run_pipeline(model).applied < 20
    assert run_pipeline(model).applied == 0
