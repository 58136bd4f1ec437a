"""Reading ONNX text: constants without a literal, seeds, and what cannot be read."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.errors import ModelFileError
from addax.ir.parser import parse_text
from addax.ir.verify import verify

TEXT = """<opset_import: ["" : 18]>
g (float[5,4] x, bool c) => (float[5,3] y) <
    float[4,3] w1, float[4,3] w2, int8[50] i, uint8[50] u, bool[50] b, float16[2,2] h,
    float[3] literal = {1, 2, 3}
> {
    a = MatMul(x, w1)
    y = If(c) <
        then_branch = t () => (p) <float[3] inner> { p = Add(a, inner) },
        else_branch = e () => (q) { q = Add(a, literal) }
    >
}"""


def constants(model: ir.Model) -> dict[str, np.ndarray]:
    graphs = list(model.graphs())
    return {n: v.const_value.numpy() for g in graphs for n, v in g.initializers.items()}


def test_constants_without_a_literal_are_drawn() -> None:
    model = parse_text(TEXT)
    verify(model)
    drawn = constants(model)
    assert {"w1", "w2", "i", "u", "b", "h", "literal", "inner"} == set(drawn)
    assert [1, 2, 3] == drawn["literal"].tolist()
    assert not np.array_equal(drawn["w1"], drawn["w2"])
    assert drawn["i"].dtype == np.int8
    assert drawn["i"].min() < 0
    assert drawn["h"].dtype == np.float16
    assert drawn["b"].dtype == np.bool_
    assert (3,) == drawn["inner"].shape


def test_seed_decides() -> None:
    first, second = constants(parse_text(TEXT)), constants(parse_text(TEXT))
    other = constants(parse_text(TEXT, seed=1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert not np.array_equal(first["w1"], other["w1"])


def test_a_constant_is_drawn_by_its_name() -> None:
    less = TEXT.replace("float[4,3] w1, ", "").replace("w1", "w2")
    np.testing.assert_array_equal(
        constants(parse_text(TEXT))["w2"], constants(parse_text(less))["w2"]
    )


def test_zeros() -> None:
    drawn = constants(parse_text(TEXT, weights="zeros"))
    assert not drawn["w1"].any()
    assert drawn["literal"].all()


def test_computed_values_stay_declarations() -> None:
    model = parse_text(
        '<opset_import: ["" : 18]> g (float[2] x) => (float[2] y) <float[2] a> '
        "{ a = Relu(x) y = Neg(a) }"
    )
    assert not model.graph.initializers
    assert [2] == list(model.graph[0].outputs[0].shape)


def test_invalid_text() -> None:
    with pytest.raises(ModelFileError, match=r"expected a model in ONNX text syntax.*column"):
        parse_text('<opset_import: ["" : 18]> g (float x) => (float y) { y = }')


@pytest.mark.parametrize("declaration", ["float[N] w", "string[2] w", "float[] w"])
def test_a_constant_that_cannot_be_drawn(declaration: str) -> None:
    text = f'<opset_import: ["" : 18]> g (float x) => (float y) <{declaration}> {{ y = F(x, w) }}'
    with pytest.raises(ModelFileError, match="'w' has neither a literal nor a numeric type"):
        parse_text(text)
