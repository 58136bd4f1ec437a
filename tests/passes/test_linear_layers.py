"""A value that is a linear layer is read as the matrix and bias that give its numbers."""

import numpy as np
import pytest

from addax.ir.evaluate import evaluate
from addax.passes._linear_layers import linear
from addax.testing.cases import draw

HEAD = '<ir_version: 10, opset_import: ["": 20]>\n'


def graph(body: str, weights: str) -> str:
    return f"{HEAD}g (float[3,4] x) => (float[3,3] y) <{weights}> {{ {body} }}"


LAYERS = [
    ("y = MatMul(x, w)", "float[4,3] w"),
    ("p = MatMul(x, w)\n y = Add(p, b)", "float[4,3] w, float[3] b"),
    ("p = MatMul(x, w)\n y = Add(b, p)", "float[4,3] w, float[1,3] b"),
    ("p = MatMul(x, w)\n y = Add(p, b)", "float[4,3] w, float b"),
    ("t = Transpose<perm = [1,0]>(w)\n y = MatMul(x, t)", "float[3,4] w"),
    ("y = Gemm(x, w, b)", "float[4,3] w, float[3] b"),
    ("y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b)", "float[3,4] w, float[1] b"),
]
OTHERS = [
    ("y = Gemm(x, w, b)", "float[4,3] w, float[3,1] b"),
    ("p = MatMul(x, w)\n y = Add(p, b)", "float[4,3] w, float[3,1] b"),
    ("p = MatMul(x, w)\n y = Add(p, p)", "float[4,3] w"),
    ("t = Transpose(x)\n y = Gemm<transA = 1>(t, w)", "float[4,3] w"),
    ("k = Exp(w)\n y = MatMul(x, k)", "float[4,3] w"),
    ("y = MatMul(k, w)", "float[4,3] w, float[3,4] k"),
]


@pytest.mark.parametrize(("body", "weights"), LAYERS)
def test_the_matrix_and_the_bias_give_the_numbers(body: str, weights: str) -> None:
    model = draw(graph(body, weights))
    found = linear(model.graph.outputs[0])
    assert found is not None
    assert (4, 3) == found.size == found.weight.shape
    assert "x" == found.x.name
    assert np.float32 == found.kind
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(x @ found.weight + found.bias, evaluate(model, {"x": x})["y"])


@pytest.mark.parametrize(("body", "weights"), OTHERS)
def test_what_is_no_linear_layer(body: str, weights: str) -> None:
    assert linear(draw(graph(body, weights)).graph.outputs[0]) is None
