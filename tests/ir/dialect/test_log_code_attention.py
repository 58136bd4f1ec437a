"""LogCodeAttention against its equations, with masks, rows that see nothing, and real softmax."""

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

FORMS = ((1, 4), (2, 4), (2, 5), (7, 6))
NONE = np.zeros(1, np.float32)


def model(n, bits, scale=1.0, delta=0.0, kind=ir.DataType.FLOAT, masked=None):
    inputs = {
        "s": (kind, ["B", "H", "Q", "L"]),
        "mask": NONE if masked is None else (kind, masked),
        "v": (kind, ["B", "H", "L", "D"]),
    }
    return model_of(
        "LogCodeAttention",
        inputs,
        codes_per_octave=n,
        bits=bits,
        scale=float(scale),
        delta=float(delta),
    )


def table(n, bits):
    levels = np.rint(255 * 2.0 ** (-np.arange(2**bits) / n)).astype(np.uint8)
    levels[-1] = 0
    return levels


def codes_of(scores, n, bits, delta=0.0):
    """Codes by the equations in float64, and how far each is from changing."""
    with np.errstate(all="ignore"):
        if delta:
            p = np.exp(scores - scores.max(-1, keepdims=True))
            exact = -n * np.log2(p / p.sum(-1, keepdims=True) / delta)
        else:
            exact = n * np.log2(np.e) * (scores.max(-1, keepdims=True) - scores)
    exact = np.where(np.isnan(exact), np.inf, exact)
    codes = np.clip(np.rint(exact), 0, 2**bits - 1).astype(int)
    margin = np.abs(np.where(np.isinf(exact), 0.0, exact) % 1 - 0.5)
    return codes, margin


def drawn(rng, b, h, q, n, d, sigma=2.0):
    s = (rng.standard_normal((b, h, q, n)) * sigma).astype(np.float32)
    return s, rng.integers(-127, 128, (b, h, n, d)).astype(np.float32)


def far_from_halves(s, n, bits, scale, delta=0.0, mask=0.0):
    """Scores nudged until no code depends on how float32 rounds; whole numbers of 1/64."""
    s = np.rint(s * 64) / 64
    for _ in range(30):
        _, margin = codes_of(s * scale + mask, n, bits, delta)
        close = margin < 2.0**-12 * n
        if not close.any():
            break
        s = np.where(close, s - 3 / 64, s)
    return s.astype(np.float32), not close.any()


@given(
    form=st.sampled_from(FORMS),
    q=st.sampled_from([1, 7, 31, 33]),
    n=st.sampled_from([1, 7, 31, 33, 129]),
    d=st.sampled_from([1, 8, 33]),
    scale=st.sampled_from([1.0, 0.125]),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_its_equation_exactly_on_integers(form, q, n, d, scale, seed):
    rng = np.random.default_rng(seed)
    s, v = drawn(rng, 2, 1, q, n, d, 2.0 / scale)
    s, usable = far_from_halves(s, *form, scale)
    codes, _ = codes_of(s * scale, *form)
    p = table(*form)[codes].astype(np.int64)
    expected = ((p @ v.astype(np.int64)) / p.sum(-1, keepdims=True)).astype(np.float32)
    made = model(*form, scale)
    verify(to_ort(made))
    (ran,) = run(made, {"s": s, "v": v})
    if usable:
        assert (expected == ran).all()


def test_nudged_scores_are_usable():
    s, _ = drawn(np.random.default_rng(0), 2, 2, 33, 129, 1)
    for form in FORMS:
        assert far_from_halves(s, *form, 1.0)[1]


@pytest.mark.parametrize("form", FORMS)
def test_the_judge_runs_the_body(form):
    s, v = drawn(np.random.default_rng(0), 1, 2, 7, 31, 8)
    s, _ = far_from_halves(s, *form, 1.0)
    p = table(*form)[codes_of(s, *form)[0]].astype(np.int64)
    judged = evaluate(to_ort(model(*form)), {"s": s, "v": v}, precision=np.float64)["y"]
    assert (judged == (p @ v.astype(np.int64)) / p.sum(-1, keepdims=True)).all()


@given(form=st.sampled_from(FORMS), seed=st.integers(0, 2**32 - 1))
def test_the_absolute_form_is_the_papers_quantizer(form, seed):
    rng = np.random.default_rng(seed)
    s, v = drawn(rng, 1, 2, 7, 33, 8)
    delta = float(np.float32(rng.uniform(0.05, 1.0)))
    made = model(*form, delta=delta)
    (ran,) = run(made, {"s": s, "v": v})
    codes, margin = codes_of(s.astype(np.float64), *form, delta)
    sure = (margin > 2.0**-12 * form[0]).all(-1)
    expected = delta / 255 * (table(*form)[codes].astype(np.float64) @ v)
    bound = np.abs(expected) * 2.0**-21 + 2.0**-100
    assert np.all((np.abs(ran - expected) <= bound) | ~sure[..., None])


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_rows_that_see_nothing_are_zeros_and_masks_hide(delta):
    rng = np.random.default_rng(0)
    s, v = drawn(rng, 2, 2, 5, 5, 4)
    mask = np.where(np.tril(np.ones((5, 5)), -1) > 0, 0, -np.inf).astype(np.float32)
    made = model(2, 4, delta=delta, masked=[5, 5])
    (ran,) = run(made, {"s": s, "mask": mask, "v": v})
    assert (ran[..., 0, :] == 0).all()
    changed = np.where(np.arange(5)[:, None] == 4, np.nan_to_num(v) * 3 + 1, v)
    assert (ran == run(made, {"s": s, "mask": mask, "v": changed})[0]).all()
    if not delta:
        assert (ran[..., 1, :] == v[..., 0, :]).all()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_scores_that_are_no_numbers_end_nothing(bad):
    s, v = drawn(np.random.default_rng(0), 1, 1, 3, 4, 2)
    s[0, 0, 0, 1] = bad
    (ran,) = run(model(7, 6), {"s": s, "v": v})
    clean, _ = drawn(np.random.default_rng(0), 1, 1, 3, 4, 2)
    assert (ran[..., 1:, :] == run(model(7, 6), {"s": clean, "v": v})[0][..., 1:, :]).all()


def test_halves_and_doubles():
    s, v = drawn(np.random.default_rng(0), 1, 2, 7, 31, 8)
    s, _ = far_from_halves(s, 7, 6, 1.0)
    (single,) = run(model(7, 6), {"s": s, "v": v})
    for kind, name in ((np.float16, ir.DataType.FLOAT16), (np.float64, ir.DataType.DOUBLE)):
        assert (s == s.astype(kind)).all()
        (ran,) = run(model(7, 6, kind=name), {"s": s.astype(kind), "v": v.astype(kind)})
        assert (ran == single.astype(kind)).all()


def test_it_is_close_to_softmax_the_closer_the_finer_the_codes():
    s, v = drawn(np.random.default_rng(0), 1, 3, 64, 197, 64)
    p = np.exp(s.astype(np.float64) - s.max(-1, keepdims=True))
    exact = p @ v / p.sum(-1, keepdims=True)
    errors = [
        np.linalg.norm(run(model(*form), {"s": s, "v": v})[0] - exact) / np.linalg.norm(exact)
        for form in FORMS
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.032  # what a step of 2^(1/7) in all weights makes, less their mean


def test_no_rows():
    (ran,) = run(
        model(2, 4),
        {"s": np.zeros((0, 2, 3, 4), np.float32), "v": np.zeros((0, 2, 4, 5), np.float32)},
    )
    assert ran.shape == (0, 2, 3, 5)


def test_what_it_costs():
    bind = {"B": 2, "H": 3, "Q": 5, "L": 7, "D": 11}
    cost = operators()["LogCodeAttention"].cost
    scores, out = 2 * 3 * 5 * 7, 2 * 3 * 5 * 11
    made = cost(model(7, 6).graph[0], bind)
    assert (scores + out, scores * 11, 0) == (made.multiplies, made.byte_multiplies, made.shifts)
    assert (3 * scores, scores * 11) == (made.adds, made.integer_adds)
    assert scores == made.table_reads
    made = cost(model(1, 4).graph[0], bind)
    assert (scores + out, 0, scores * 11) == (made.multiplies, made.byte_multiplies, made.shifts)
