"""Mixtures without a kernel: each expert computes its own tokens, in operators of any runtime."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.statistics import HAS_KERNEL, IN_RUNTIME
from addax.ir.verify import verify
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._statistics import Statistics

FREE = Pipeline.parse("route-experts{dispatch=0}")
HEAD = '<ir_version: 10, opset_import: ["": 20]>\n'
CHOICE = """
    e = ArgMax<axis = -1, keepdims = 0>(z)
    f = Equal(e, zero)
    c = Unsqueeze(f, last)
"""
LAYER = "    p = MatMul(x, w0)\n    q = MatMul(x, w1)\n    y = Where(c, p, q)\n"
# Two layers, a choice after each of them, as a trained mixture has it.
BLOCK = """
    a = MatMul(x, u0)
    g = Add(a, b0)
    b = MatMul(x, u1)
    h = Add(b, b1)
    t = Where(c, g, h)
    l = LayerNormalization<axis = 2>(t, gain)
    s = Mul(l, half)
    k = Gelu(s)
    p = MatMul(k, w0)
    q = MatMul(k, w1)
    y = Where(c, p, q)
"""
WEIGHTS = {"w0": (6, 5), "w1": (6, 5), "u0": (4, 6), "u1": (4, 6), "b0": (6,), "b1": (6,)}


def drawn(body: str, tokens: str = "N") -> ir.Model:
    """A model of tokens x[2, N, 4], or [2, N, 6] for one layer, and logits z."""
    inner = 4 if "u0" in body else 6
    used = {name: dims for name, dims in WEIGHTS.items() if f"{name})" in body}
    declared = "".join(f", float[{','.join(map(str, d))}] {name}" for name, d in used.items())
    model = parse_text(
        f"{HEAD}g (float[2,{tokens},{inner}] x, float[2,{tokens},2] z) => (float[2,{tokens},5] y) "
        "<int64[1] last = {-1}, int64 zero = {0}, float[6] gain = {1,1,1,2,1,1}, "
        f"float[1,1,6] half = {{1,1,2,1,1,1}}{declared}> {{{CHOICE}{body}}}\n"
    )
    rng = np.random.default_rng(0)
    for name, dims in used.items():
        array = rng.standard_normal(dims)
        if name.endswith("1") and len(dims) == 2:
            array = np.exp2(rng.integers(-3, 3, dims)) * rng.choice([-1, 1], dims)
        model.graph.initializers[name].const_value = ir.Tensor(array.astype(np.float32))
    return model


def run(model: ir.Model, pipeline: Pipeline = FREE) -> Statistics:
    return run_pipeline(model, pipeline, budget=1000, facts={HAS_KERNEL: lambda _: False})


def feeds(model: ir.Model, tokens: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {}
    for port in model.graph.inputs:
        dims = [d if isinstance(d, int) else tokens for d in port.shape]
        made[port.name] = rng.standard_normal(dims).astype(np.float32)
    return made


def permuted(body: str, tokens: str = "N") -> tuple[ir.Model, ir.Model]:
    """Before and after, which is well formed and has no choice of ours."""
    before = drawn(body, tokens)
    after = clone(before)
    assert run(after).applied == 1
    verify(after)
    made = [node.op_type for node in after.graph]
    assert made.count("Gather") == 1
    assert made.count("Compress") == 2
    assert "RoutedMoE" not in made
    return before, after


def difference(before: ir.Model, after: ir.Model, given: Mapping[str, np.ndarray]) -> float:
    expected, actual = (evaluate(model, given)["y"] for model in (before, after))
    assert expected.shape == actual.shape
    size = np.linalg.norm(expected) or 1.0
    return float(np.linalg.norm(actual - expected) / size)


@pytest.mark.parametrize("body", [LAYER, BLOCK], ids=["layer", "block"])
@pytest.mark.parametrize("tokens", ["N", "3"])
def test_the_same_but_for_eight_bits(body: str, tokens: str) -> None:
    before, after = permuted(body, tokens)
    assert after.graph.outputs[0].shape == before.graph.outputs[0].shape
    for count in (0, 1, 5) if tokens == "N" else (3,):
        assert difference(before, after, feeds(before, count)) < 0.02


@pytest.mark.parametrize("logits", [[1, 0], [0, 1], [0, 0]])
def test_all_tokens_to_one_expert(logits: list[int]) -> None:
    before, after = permuted(BLOCK)
    given = feeds(before, 5)
    given["z"] = np.broadcast_to(np.float32(logits), given["z"].shape).copy()
    # Of equal logits the first counts, and Mult is not rounded.
    assert difference(before, after, given) < (1e-6 if logits[0] >= logits[1] else 0.02)


def test_zero_rows_stay_what_they_are() -> None:
    before, after = permuted(LAYER)
    given = feeds(before, 5)
    given["x"][:, ::2] = 0
    assert not evaluate(after, given)["y"][:, ::2].any()
    assert difference(before, after, given) < 0.02


def test_a_large_token_does_not_move_the_others() -> None:
    _, after = permuted(BLOCK)
    given = feeds(after, 6)
    alone = evaluate(after, given)["y"]
    given["x"][0, 2] = 1e4
    beside = evaluate(after, given)["y"]
    others = np.arange(6) != 2
    assert np.array_equal(alone[1], beside[1])
    assert np.array_equal(alone[0, others], beside[0, others])


def test_what_the_shape_of_the_tokens_matters_to_is_refused() -> None:
    model = drawn(LAYER.replace("Where(c, p, q)", "Where(c, r, s)").replace(
        "    y =", "    m = ReduceMax(p, last)\n    n = ReduceMax(q, last)\n"
        "    r = Sub(p, m)\n    s = Sub(q, n)\n    y ="
    ))  # fmt: skip
    declined = [why for entry in run(model).values() for why in entry.declined]
    assert declined == [
        "an expert has something that depends on the shape of the tokens, or is not in float32"
    ]


def test_it_says_what_it_would_cost() -> None:
    declined = [
        why
        for entry in run(drawn(LAYER), Pipeline.parse("route-experts")).values()
        for why in entry.declined
    ]
    # 40 for each of 6 + 5 numbers that are moved and a third of these for rounding.
    assert declined == ["to route a token would cost as much as 587 multiplies and save 30"]


def test_what_does_not_run_in_onnx_runtime_computes_both():
    model = drawn(BLOCK)
    before = len(model.graph)
    facts = {HAS_KERNEL: lambda _: False, IN_RUNTIME: False}
    run_pipeline(model, FREE, budget=1000, facts=facts)
    assert before == len(model.graph)
