"""BinaryLinearAttention against its equations in float64."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.backends.to_ort import to_ort
from addax.ir.dialect import operators
from addax.ir.evaluate import evaluate
from addax.ir.verify import verify
from tests.ir.dialect.running import model_of, run


def model(heads, bits, width, filters, kind=ir.DataType.FLOAT, weights=(0.5, 1 / np.pi)):
    inputs = {"x": (kind, ["B", "N", heads * (2 * bits + width)]), "filters": filters}
    return model_of(
        "BinaryLinearAttention",
        inputs,
        heads=heads,
        bits=bits,
        width=width,
        value_weight=weights[0],
        sum_weight=weights[1],
        epsilon=1e-12,
    )


def expected(x, heads, bits, width, filters, weights=(0.5, 1 / np.pi)):
    """y by the equations, and the size of its terms, both float64[B, N, heads * width]."""
    x = x.astype(np.float64)
    tokens = x.shape[1]
    q, k, v = np.split(x, [heads * bits, 2 * heads * bits], axis=2)
    made, size = [], []
    for h in range(heads):
        one = slice(h * bits, (h + 1) * bits)
        values = v[..., h * width : (h + 1) * width]
        qb, kb = (q[..., one] > 0).astype(float), (k[..., one] > 0).astype(float)
        summed = qb @ (np.swapaxes(kb, 1, 2) @ values)
        u = weights[0] * values + weights[1] * summed
        norm = np.maximum(np.sqrt(np.sum(u * u, axis=2, keepdims=True)), 1e-12)
        terms = weights[1] * (qb @ (np.swapaxes(kb, 1, 2) @ np.abs(values))) + np.abs(values)
        filtered, passed = np.zeros_like(values), np.zeros_like(values)
        taps = filters.shape[2]
        for n in range(tokens):
            for j in range(taps):
                at = n + j - taps // 2
                if 0 <= at < tokens:
                    filtered[:, n] += float(filters[h, 0, j, 0]) * values[:, at]
                    passed[:, n] += abs(float(filters[h, 0, j, 0])) * np.abs(values[:, at])
        made.append(u / norm + filtered)
        scale = np.sqrt(np.sum(terms * terms, axis=2, keepdims=True))
        size.append((terms + np.abs(u) * scale / norm) / norm + passed)
    return np.concatenate(made, axis=2), np.concatenate(size, axis=2)


def drawn(rng, batch, tokens, heads, bits, width, taps):
    x = rng.standard_normal((batch, tokens, heads * (2 * bits + width))).astype(np.float32)
    return x, rng.standard_normal((heads, 1, taps, 1)).astype(np.float32)


@given(
    tokens=st.sampled_from([1, 7, 31, 33, 129]),
    heads=st.integers(1, 3),
    bits=st.sampled_from([1, 7, 16, 31]),
    width=st.sampled_from([1, 7, 16, 33]),
    taps=st.sampled_from([1, 3, 9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_its_equation(tokens, heads, bits, width, taps, seed):
    x, filters = drawn(np.random.default_rng(seed), 2, tokens, heads, bits, width, taps)
    made = model(heads, bits, width, filters)
    verify(to_ort(made))
    y, size = expected(x, heads, bits, width, filters)
    (ran,) = run(made, {"x": x})
    bound = size * (tokens + bits + width + taps + 8) * np.finfo(np.float32).eps
    assert np.all(np.abs(ran - y) <= bound)


def test_the_judge_runs_the_body():
    x, filters = drawn(np.random.default_rng(0), 2, 31, 2, 7, 8, 9)
    judged = evaluate(to_ort(model(2, 7, 8, filters)), {"x": x}, precision=np.float64)["y"]
    y, size = expected(x, 2, 7, 8, filters, (np.float32(0.5), np.float32(1 / np.pi)))
    assert np.all(np.abs(judged - y) <= size * 64 * np.finfo(np.float64).eps)


def test_rows_of_zeros_are_zeros():
    x, filters = drawn(np.random.default_rng(0), 1, 5, 2, 3, 4, 3)
    x[:] = 0
    (ran,) = run(model(2, 3, 4, filters), {"x": x})
    assert not ran.any()


def test_length_of_queries_and_keys_does_not_matter():
    x, filters = drawn(np.random.default_rng(0), 2, 9, 2, 4, 8, 9)
    made = model(2, 4, 8, filters)
    longer = x.copy()
    longer[..., :16] *= np.exp2(np.random.default_rng(1).integers(-3, 4, (2, 9, 1)))
    assert (run(made, {"x": x})[0] == run(made, {"x": longer})[0]).all()


def test_without_a_filter_tokens_may_be_exchanged():
    x, _ = drawn(np.random.default_rng(0), 1, 12, 2, 4, 8, 1)
    x = np.rint(x * 16)  # whole numbers: sums do not depend on their order
    made = model(2, 4, 8, np.zeros((2, 1, 1, 1), np.float32))
    order = np.random.default_rng(1).permutation(12)
    assert (run(made, {"x": x})[0][:, order] == run(made, {"x": x[:, order]})[0]).all()


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_types_are_computed_in_float32(kind):
    x, filters = drawn(np.random.default_rng(0), 1, 9, 2, 4, 8, 9)
    x, filters = x.astype(kind), filters.astype(kind)
    name = {np.float16: ir.DataType.FLOAT16, np.float64: ir.DataType.DOUBLE}[kind]
    (ran,) = run(model(2, 4, 8, filters, name), {"x": x})
    (single,) = run(model(2, 4, 8, filters.astype(np.float32)), {"x": x.astype(np.float32)})
    assert (ran == single.astype(kind)).all()


def test_no_rows():
    filters = np.zeros((2, 1, 3, 1), np.float32)
    (ran,) = run(model(2, 4, 8, filters), {"x": np.zeros((0, 5, 32), np.float32)})
    assert ran.shape == (0, 5, 16)


def test_what_it_costs():
    node = model(2, 4, 8, np.zeros((2, 1, 9, 1), np.float32)).graph[0]
    cost = operators()["BinaryLinearAttention"].cost(node, {"B": 3, "N": 7})
    out = 3 * 7 * 16
    assert (out * 13, out * 4 + out * 11) == (cost.multiplies, cost.adds)
