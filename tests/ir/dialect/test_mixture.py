"""Route, MoeSelect and RoutedMoE: every token by its own expert, and no other."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.backends.to_ort import to_ort
from addax.ir.dialect import operators
from addax.ir.evaluate import evaluate
from addax.ir.verify import verify
from tests.ir.dialect.packing import pack_int8
from tests.ir.dialect.running import linear_bound, model_of, run

TYPES = {
    np.float32: ir.DataType.FLOAT,
    np.float16: ir.DataType.FLOAT16,
    np.float64: ir.DataType.DOUBLE,
}


def mixture(k, n, rng, kind=np.float32, lead=("B",)):
    """A model of one RoutedMoE; both weights float64[N, K] and biases float64[N]."""
    weight = rng.standard_normal((k, n)).astype(kind)
    powers = np.exp2(rng.integers(0, 7, (n, k))) * rng.choice([-1, 0, 1], (n, k))
    scale = np.exp2(rng.integers(-8, -4, n)).astype(kind)
    biases = rng.standard_normal((2, n)).astype(kind)
    inputs = {
        "x": (TYPES[kind], [*lead, k]),
        "expert": (ir.DataType.INT32, [*lead]),
        "weight": weight,
        "bias": biases[0],
        "weights": pack_int8(powers.astype(np.int8), rng),
        "scale": scale,
        "biases": biases[1],
    }
    model = model_of("RoutedMoE", inputs)
    return model, (weight.T.astype(np.float64), powers * scale[:, None]), biases


def expected(x, expert, weights, biases):
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    made = [row @ weights[e].T + biases[e] for row, e in zip(rows, expert.ravel(), strict=True)]
    return np.array(made).reshape(*x.shape[:-1], len(biases[0]))


def bound_of(x, weights, biases, kind):
    size = np.maximum(np.abs(weights[0]), np.abs(weights[1]))
    largest = np.abs(biases).max(axis=0).astype(np.float64)
    return linear_bound(x, size, kind) + 2 * np.finfo(kind).eps * (
        largest + np.abs(x.astype(np.float64)) @ size.T
    )


@given(
    k=st.sampled_from([1, 7, 31, 33, 64]),
    n=st.sampled_from([1, 7, 33, 64, 129]),
    lead=st.lists(st.integers(1, 5), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_token_goes_through_its_expert(k, n, lead, seed):
    rng = np.random.default_rng(seed)
    model, weights, biases = mixture(k, n, rng, lead="BTU"[: len(lead)])
    x = rng.standard_normal((*lead, k)).astype(np.float32)
    expert = np.asarray(rng.integers(0, 2, lead), np.int32)
    verify(to_ort(model))
    (ran,) = run(model, {"x": x, "expert": expert})
    bound = bound_of(x, weights, biases, np.float32)
    assert np.all(np.abs(ran - expected(x, expert, weights, biases)) <= bound)


@pytest.mark.parametrize("share", [0, 1])
def test_an_expert_without_tokens(share):
    rng = np.random.default_rng(0)
    model, weights, biases = mixture(33, 7, rng)
    x = rng.standard_normal((5, 33)).astype(np.float32)
    expert = np.full(5, share, np.int32)
    (ran,) = run(model, {"x": x, "expert": expert})
    bound = bound_of(x, weights, biases, np.float32)
    assert np.all(np.abs(ran - expected(x, expert, weights, biases)) <= bound)


def test_the_judge_runs_the_body():
    rng = np.random.default_rng(0)
    model, weights, biases = mixture(33, 7, rng)
    x, expert = rng.standard_normal((5, 33)).astype(np.float32), np.array([0, 1, 1, 0, 1], np.int32)
    feeds = {"x": x, "expert": expert}
    judged = evaluate(to_ort(model), feeds, precision=np.float64)["y"]
    bound = bound_of(x, weights, biases, np.float64)
    assert np.all(np.abs(judged - expected(x, expert, weights, biases)) <= bound)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_types(kind):
    rng = np.random.default_rng(0)
    model, weights, biases = mixture(33, 7, rng, kind)
    x, expert = rng.standard_normal((5, 33)).astype(kind), np.array([0, 1, 1, 0, 1], np.int32)
    (ran,) = run(model, {"x": x, "expert": expert})
    bound = bound_of(x, weights, biases, kind)
    assert np.all(np.abs(ran - expected(x, expert, weights, biases)) <= bound)


def test_no_tokens():
    model, _, _ = mixture(33, 7, np.random.default_rng(0), lead=("B", "T"))
    feeds = {"x": np.zeros((2, 0, 33), np.float32), "expert": np.zeros((2, 0), np.int32)}
    assert run(model, feeds)[0].shape == (2, 0, 7)


def test_a_token_that_is_no_number_stays_alone():
    model, _, _ = mixture(33, 7, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 33)).astype(np.float32)
    expert = np.array([0, 0, 1, 1], np.int32)
    (clean,) = run(model, {"x": x, "expert": expert})
    x[1] = x[2] = np.nan
    (ran,) = run(model, {"x": x, "expert": expert})
    assert (ran[[0, 3]] == clean[[0, 3]]).all()
    assert np.isnan(ran[1:3]).all()


@given(lead=st.lists(st.integers(0, 4), max_size=2), seed=st.integers(0, 2**32 - 1))
def test_select_takes_each_token_whole(lead, seed):
    rng = np.random.default_rng(seed)
    model = model_of(
        "MoeSelect",
        {
            "expert": (ir.DataType.INT32, [*"BT"[: len(lead)]]),
            "y0": (ir.DataType.FLOAT, [*"BT"[: len(lead)], 5]),
            "y1": (ir.DataType.FLOAT, [*"BT"[: len(lead)], 5]),
        },
    )
    feeds = {
        "expert": np.asarray(rng.integers(0, 2, lead), np.int32),
        "y0": rng.standard_normal((*lead, 5)).astype(np.float32),
        "y1": rng.standard_normal((*lead, 5)).astype(np.float32),
    }
    verify(to_ort(model))
    (ran,) = run(model, feeds)
    assert (ran == np.where(feeds["expert"][..., None] == 0, feeds["y0"], feeds["y1"])).all()


def router(weight, bias, lead=("B",), kind=ir.DataType.FLOAT):
    inputs = {"x": (kind, [*lead, len(weight)]), "weight": weight, "bias": bias}
    return model_of("Route", inputs, outputs=2)


@given(
    lead=st.lists(st.integers(1, 5), max_size=2),
    experts=st.integers(2, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_router_takes_the_largest(lead, experts, seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-3, 4, (6, experts)).astype(np.float32)
    bias = rng.integers(-3, 4, experts).astype(np.float32)
    x = rng.integers(-3, 4, (*lead, 6)).astype(np.float32)
    model = router(weight, bias, "BT"[: len(lead)])
    verify(to_ort(model))
    expert, probability = run(model, {"x": x})
    z = x.astype(np.float64) @ weight + bias
    assert (expert == np.argmax(z, axis=-1)).all()
    soft = 1 / np.exp(z - z.max(-1, keepdims=True)).sum(-1)
    assert np.all(np.abs(probability - soft) <= soft * 2.0**-19)


def test_equal_experts_are_the_lowest():
    model = router(np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    expert, probability = run(model, {"x": np.ones((4, 3), np.float32)})
    assert ([0] * 4, [0.5] * 4) == (expert.tolist(), probability.tolist())


def test_what_they_cost():
    model, _, _ = mixture(33, 7, np.random.default_rng(0))
    cost = operators()["RoutedMoE"].cost(model.graph[0], {"B": 10})
    assert (28 * 33 + 42, 28 * 33 + 70) == (cost.multiplies, cost.adds)
    assert (42 * 33, 42 * 33) == (cost.integer_adds, cost.shifts)
    node = router(np.ones((3, 2), np.float32), np.zeros(2, np.float32)).graph[0]
    cost = operators()["Route"].cost(node, {"B": 10})
    assert (60, 60) == (cost.multiplies, cost.adds)
