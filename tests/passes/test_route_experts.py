"""Mixtures that compute both experts become mixtures that route, or say why they stay."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.backends.ort import form_of
from addax.errors import OptionError
from addax.ir.dialect import install, operators
from addax.ir.evaluate import evaluate
from addax.ir.model import clone
from addax.ir.parser import parse_text
from addax.ir.rule import Exact
from addax.ir.statistics import HAS_KERNEL
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._shift.powers import encode_integers
from addax.passes._statistics import Statistics
from addax.testing.cases import Case, draw, read_text
from addax.testing.laws import agrees, does_as_said, settles, well_formed
from addax.testing.strategies.arrays import Kind, feeds_for

FREE = Pipeline.parse("route-experts{dispatch=0}")
HEAD = '<ir_version: 10, opset_import: ["": 20]>\n'
POWERS = "float[4,2] w1 = {1, 0.5, -2, 0, 0.25, 32, 16, -1}"
COUNTS = "int64[1] last = {-1}, int64 zero = {0}"
CHOICE = """
    e = ArgMax<axis = -1, keepdims = 0>(z)
    f = Equal(e, zero)
    c = Unsqueeze(f, last)
"""


def graph(body: str, weights: str = f"float[4,2] w0, {POWERS}", more: str = "") -> str:
    """A graph of tokens x[3, N, 4], logits z and the result y[3, N, 2]."""
    return (
        f"{HEAD}g (float[3,N,4] x, float[3,N,2] z{more}) => (float[3,N,2] y) "
        f"<{COUNTS}, {weights}> {{{CHOICE}{body}}}\n"
    )


def linear_text(tail: str = "y = Where(c, p, q)", **given: str) -> str:
    return graph(f"    p = MatMul(x, w0)\n    q = MatMul(x, w1)\n    {tail}\n", **given)


BLOCKS = [
    ("fires: a linear layer of two experts", linear_text()),
    (
        "fires: the Shift expert comes first, with a bias of its own",
        graph(
            "    r = MatMul(x, w1)\n    p = Add(r, b)\n    q = MatMul(x, w0)\n"
            "    y = Where(c, p, q)\n",
            weights=f"float[4,2] w0, {POWERS}, float[2] b",
        ),
    ),
    (
        "fires: two layers each, the same norm and activation between",
        graph(
            "    a = MatMul(x, u0)\n    b = MatMul(x, u1)\n"
            "    g = Relu(a)\n    h = Relu(b)\n"
            "    l = LayerNormalization(g, gain)\n    m = LayerNormalization(h, gain)\n"
            "    k = Mul(l, two)\n    n = Mul(m, two)\n"
            "    p = MatMul(k, w0)\n    q = MatMul(n, w1)\n    y = Where(c, p, q)\n",
            weights="float[4,2] w0, float[4,4] u0, float[4] gain, float two = {2}, "
            "float[4,4] u1 = {1, 0, 2, 0, 1, 0, 2, 0, 1, 4, 2, 0, 1, 0, -2, 0.5}, " + POWERS,
        ),
    ),
    (
        "fires: a choice that is no comparison of an expert",
        f"{HEAD}g (float[N,4] x, bool[N,1] c) => (float[N,2] y) <float[4,2] w0, {POWERS}> {{\n"
        "    p = MatMul(x, w0)\n    q = MatMul(x, w1)\n    y = Where(c, p, q)\n}\n",
    ),
    (
        "fires: layers with a factor, their weights stored the other way around",
        f"{HEAD}g (float[N,4] x, bool[N,1] c) => (float[N,2] y) <float[2,4] w0, float[2,4] w1 = "
        "{1, 0.5, -2, 0, 0.25, 4, 16, -1}, float[2] b> {\n"
        "    p = Gemm<transB = 1, alpha = 0.75>(x, w0, b)\n"
        "    q = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w1, b)\n    y = Where(c, p, q)\n}\n",
    ),
    (
        "declines: neither expert has weights that are powers of two, up to seven of them in an "
        "output, times a number for each output",
        linear_text(weights="float[4,2] w0, float[4,2] w1 = {1, 3, 2, 5, 3, 7, 9, 11}"),
    ),
    (
        "declines: neither expert has weights that are powers of two, up to seven of them in an "
        "output, times a number for each output",
        linear_text(weights="float[4,2] w0, float[4,2] w1 = {1, 1, 128, 1, 1, 1, 1, 1}"),
    ),
    (
        "declines: the experts have no linear layer",
        f"{HEAD}g (float[N,4] x, float[N,4] z, bool[N,1] c) => (float[N,4] y) {{\n"
        "    p = Relu(x)\n    q = Relu(x)\n    y = Where(c, p, q)\n}\n",
    ),
    (
        "declines: the experts are not the same but for their weights",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    p = Relu(a)\n    q = Sigmoid(b)\n"
            "    y = Where(c, p, q)\n"
        ),
    ),
    (
        "declines: the experts have other sizes",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    y = Where(c, a, b)\n",
            weights=f"float[4,1] w0, {POWERS}",
        ),
    ),
    (
        "declines: something else reads what an expert computes",
        linear_text("s = Sigmoid(p)\n    t = Where(c, p, q)\n    y = Add(t, s)"),
    ),
    (
        "declines: there is not one choice for each token",
        f"{HEAD}g (float[3,N,4] x, bool[3,1,1] c) => (float[3,N,2] y) <float[4,2] w0, {POWERS}> "
        "{\n    p = MatMul(x, w0)\n    q = MatMul(x, w1)\n    y = Where(c, p, q)\n}\n",
    ),
    (
        "declines: an expert does not compute each token alone: BatchNormalization in training "
        "reads the whole batch",
        f"{HEAD}g (float[5,4] x, bool[5,1] c) => (float[5,2] y) <float[4,2] w0, {POWERS}, "
        "float[2] s, float[2] b, float[2] m, float[2] var> {\n"
        "    a = MatMul(x, w0)\n    d = MatMul(x, w1)\n"
        "    p, pm, pv = BatchNormalization<training_mode = 1>(a, s, b, m, var)\n"
        "    q, qm, qv = BatchNormalization<training_mode = 1>(d, s, b, m, var)\n"
        "    y = Where(c, p, q)\n}\n",
    ),
    (
        "declines: an expert does not compute each token alone: Conv reads the tokens beside each",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n"
            "    p = Conv<group = 1, pads = [1,1]>(a, k)\n"
            "    q = Conv<group = 1, pads = [1,1]>(b, k)\n    y = Where(c, p, q)\n",
            weights=f"float[4,2] w0, {POWERS}, float[2,2,3] k",
        ).replace("[3,N,", "[3,2,"),
    ),
    (
        "declines: an expert does not compute each token alone: MatMul of two computed factors, "
        "as in attention, reads other tokens",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    p = MatMul(s, a)\n"
            "    q = MatMul(s, b)\n    y = Where(c, p, q)\n",
            more=", float[3,N,N] s",
        ),
    ),
    (
        "declines: an expert does not compute each token alone: the weights of MatMul are "
        "computed anew for each input; freeze them first",
        graph(
            "    a = Exp(w0)\n    b = Exp(w1)\n    p = MatMul(x, a)\n    q = MatMul(x, b)\n"
            "    y = Where(c, p, q)\n"
        ),
    ),
    (
        "declines: an expert does not compute each token alone: Softmax over another axis than "
        "the last one reads other tokens",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    p = Softmax<axis = 1>(a)\n"
            "    q = Softmax<axis = 1>(b)\n    y = Where(c, p, q)\n"
        ),
    ),
    (
        "declines: an expert does not compute each token alone: ReduceMax reads other tokens",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    m = ReduceMax(a, token)\n"
            "    n = ReduceMax(b, token)\n    p = Sub(a, m)\n    q = Sub(b, n)\n"
            "    y = Where(c, p, q)\n",
            weights=f"float[4,2] w0, {POWERS}, int64[1] token = {{1}}",
        ),
    ),
    (
        "declines: an expert does not compute each token alone: DynamicQuantizeLinear has one "
        "scale for all tokens, so that each depends on the largest",
        graph(
            "    a, sa, za = DynamicQuantizeLinear(x)\n    k = DequantizeLinear(a, sa, za)\n"
            "    b, sb, zb = DynamicQuantizeLinear(v)\n    l = DequantizeLinear(b, sb, zb)\n"
            "    h = Cast<to = 1>(a)\n    i = Cast<to = 1>(b)\n"
            "    p = MatMul(h, w0)\n    q = MatMul(i, w1)\n    y = Where(c, p, q)\n",
            more=", float[3,N,4] v",
        ),
    ),
    (
        "declines: an expert does not compute each token alone: a constant of Add is not the "
        "same for all tokens",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    p = Add(a, t)\n    q = Add(b, t)\n"
            "    y = Where(c, p, q)\n",
            weights=f"float[4,2] w0, {POWERS}, float[2,2] t",
        ).replace("[3,N,", "[3,2,"),
    ),
    (
        "declines: an expert does not compute each token alone: Transpose moves tokens",
        graph(
            "    a = MatMul(x, w0)\n    b = MatMul(x, w1)\n    p = Transpose<perm = [0,2,1]>(a)\n"
            "    q = Transpose<perm = [0,2,1]>(b)\n    y = Where(c, p, q)\n"
        ).replace("[3,N,", "[3,2,"),
    ),
]
CASES = read_text("\n".join(f"# {head}\n{text}" for head, text in BLOCKS), "route-experts/route")
FIRING = [case for case in CASES if case.verb == "fires"]


def run(model: ir.Model, pipeline: Pipeline = FREE) -> Statistics:
    return run_pipeline(model, pipeline, budget=1000)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.heading[:60])
def test_it_fires_or_declines_as_said(case: Case) -> None:
    statistics = run(draw(case.text))
    assert does_as_said(case, statistics) is None
    assert case.verb == "fires" or any(entry.declined for entry in statistics.values())


@pytest.mark.parametrize("case", FIRING, ids=lambda case: case.heading[:60])
def test_what_it_makes_obeys_the_laws(case: Case) -> None:
    for seed, kind in enumerate((Kind.WHOLE, Kind.PLAIN)):
        before = draw(case.text, kind, seed)
        after = clone(before)
        run(after)
        assert well_formed(before, after) is None
        assert settles(after, run) is None
        for tokens in (0, 1, 5):
            feeds = feeds_for(before.graph.inputs, Kind.PLAIN, seed, {"N": tokens})
            assert agrees(before, after, feeds, Exact.REASSOCIATED) is None


@pytest.mark.parametrize("reason", [None, "the expert of powers of two comes first"])
def test_the_operator_that_selects_is_read_too(reason: str | None) -> None:
    first, second = ("p", "q") if reason is None else ("q", "p")
    text = (
        '<ir_version: 10, opset_import: ["": 20, "addax": 1]>\n'
        "g (float[3,N,4] x, int32[3,N] e) => (float[3,N,2] y) "
        f"<float[4,2] w0, {POWERS}> {{\n    p = MatMul(x, w0)\n    q = MatMul(x, w1)\n"
        f"    y = addax.MoeSelect(e, {first}, {second})\n}}\n"
    )
    before = draw(text)
    install(before, operators()["MoeSelect"])
    after = clone(before)
    statistics = run(after)
    assert {why for entry in statistics.values() for why in entry.declined} == (
        set() if reason is None else {reason}
    )
    assert statistics.applied == (reason is None)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(3, 5, 4)).astype(np.float32)}
    feeds["e"] = rng.integers(0, 3, (3, 5)).astype(np.int32)
    assert agrees(before, after, feeds, Exact.REASSOCIATED) is None


@pytest.mark.parametrize("logits", [[1, 0], [0, 1], [0, 0]])
def test_all_tokens_to_one_expert_and_ties_go_where_the_choice_says(logits: Sequence[int]) -> None:
    before = draw(linear_text())
    after = clone(before)
    run(after)
    x = np.arange(60, dtype=np.float32).reshape(3, 5, 4)
    feeds = {"x": x, "z": np.broadcast_to(np.float32(logits), (3, 5, 2)).copy()}
    assert np.array_equal(evaluate(before, feeds)["y"], evaluate(after, feeds)["y"])


@pytest.mark.parametrize(
    ("inputs", "outputs", "dispatch", "reason"),
    [
        (64, 256, 40, None),
        (
            32,
            32,
            40,
            "to route a token would cost as much as 2,560 multiplies and save 1,024",
        ),
        (32, 32, 2, None),
    ],
)
def test_it_pays_or_says_the_figures(
    inputs: int, outputs: int, dispatch: float, reason: str | None
) -> None:
    text = linear_text().replace("4]", f"{inputs}]").replace(",2] y", f",{outputs}] y")
    weights = f"float[{inputs},{outputs}] w0, float[{inputs},{outputs}] w1"
    text = text.replace(f"float[4,2] w0, {POWERS}", weights)
    model = parse_text(text)
    rng = np.random.default_rng(0)
    powers = np.exp2(rng.integers(-3, 3, (inputs, outputs))).astype(np.float32)
    weight = model.graph.initializers["w1"]
    weight.const_value = ir.Tensor(powers)
    statistics = run(model, Pipeline.parse(f"route-experts{{dispatch={dispatch}}}"))
    assert statistics.applied == (reason is None)
    given = {why for entry in statistics.values() for why in entry.declined}
    assert given == (set() if reason is None else {reason})


@pytest.mark.parametrize(("has_kernel", "fires"), [(True, 1), (False, 0)])
def test_small_layers_are_routed_where_there_is_a_kernel(has_kernel: bool, fires: int) -> None:
    wide = np.eye(8, 32, dtype=np.float32) + 1
    weights = {"w0": wide, "w1": np.exp2(wide)}
    text = linear_text(weights="float[8,32] w0, float[8,32] w1")
    model = parse_text(text.replace("N,4] x", "N,8] x").replace(",2] y", ",32] y"))
    for name, array in weights.items():
        model.graph.initializers[name].const_value = ir.Tensor(array)
    asked: list[str] = []

    def serves(node: ir.Node) -> bool:
        asked.append(form_of(node) or "none")
        return has_kernel

    facts = {HAS_KERNEL: serves}
    assert run_pipeline(model, Pipeline.parse("route-experts"), facts=facts).applied == fires
    assert set(asked) == {"mixture"}


@pytest.mark.parametrize("dispatch", [-1, True, "much"])
def test_a_cost_that_is_no_number_is_refused(dispatch: object) -> None:
    with pytest.raises(OptionError, match="dispatch must be a number of multiplies"):
        Pipeline.parse(f"route-experts{{dispatch={dispatch!r}}}")


@given(st.integers(0, 999), st.integers(-20, 20), st.integers(1, 9))
def test_powers_of_two_become_int8_without_loss(seed: int, base: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    powers = rng.integers(0, reach, (5, 7))
    matrix = rng.integers(-1, 2, (5, 7)) * np.exp2(base + powers)
    matrix[:, 0] = np.exp2(base)
    found = encode_integers(matrix)
    if np.abs(matrix).max() > 64 * np.exp2(base):
        assert found is None
    else:
        assert found is not None
        integers, scale = found
        assert np.array_equal(integers * scale[:, None], matrix)
