"""Channel-idle: the fit against least squares by hand, the rewrite, its budget, its refusals."""

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax.errors import InputError, OptionError
from addax.ir.evaluate import evaluate
from addax.ir.statistics import Moments
from addax.passes._idle_fit import Fit, greedy_order
from addax.passes._pipeline import Pipeline, run_pipeline

D, H = 6, 24
RANDOM = np.random.default_rng(0)
W1, B1 = RANDOM.normal(size=(D, H)), RANDOM.normal(size=H)
W2, B2 = RANDOM.normal(size=(H, D)), RANDOM.normal(size=D)


def samples(count: int = 300, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, D)).astype(np.float32)


def initializers(**arrays: np.ndarray) -> str:
    return ", ".join(
        f"float[{','.join(map(str, a.shape))}] {name} = "
        f"{{{', '.join(repr(float(np.float32(x))) for x in a.reshape(-1))}}}"
        for name, a in arrays.items()
    )


def model(body: str = "p = Gelu(h)", outputs: str = "") -> ir.Model:
    weights = initializers(w1=W1, b1=B1, w2=W2, b2=B2)
    return ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,3,{D}] x) => (float[N,3,{D}] y{outputs}) <{weights}> {{
            l = MatMul(x, w1)
            h = Add(l, b1)
            {body}
            m = MatMul(p, w2)
            y = Add(m, b2)
        }}"""
    )


def optimized(text: str = "channel-idle{ratio=0.5}", source: ir.Model | None = None):
    return addax.optimize(
        source or model(), allow=(text,), calibration=[samples()[:200], samples()[200:]]
    )


def fit(active: int | None = None) -> Fit:
    """Of a ReLU layer, or of one whose channels from `active` on are linear in x."""
    x = samples(2000).reshape(-1, D).astype(np.float64)
    h = x @ W1 + B1
    phi = np.maximum(h, 0)
    if active is not None:
        phi[:, active:] = 0.5 * h[:, active:] + 2
    parts = Moments(D + H), Moments(D + H)
    parts[0].add(x[::2], phi[::2])
    parts[1].add(x[1::2], phi[1::2])
    return Fit(W1, W2, *parts)


def test_moments_are_those_of_all_rows_at_once():
    rows = RANDOM.normal(size=(1000, 5)) + 1e4
    moments = Moments(5)
    for part in np.split(rows, [1, 400]):
        moments.add(part[:, :2], part[:, 2:])
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), atol=1e-9)


def test_channels_that_are_linear_are_found_and_cost_no_accuracy():
    found = fit(active=H // 2).candidate("idle", 0.5, correct=False)
    assert list(range(H // 2)) == found.kept.tolist()
    assert found.error < 1e-6


@pytest.mark.parametrize("method", ["idle", "prune"])
def test_the_correction_lowers_the_error_on_held_out_rows(method):
    plain = fit().candidate(method, 0.5, correct=False)
    corrected = fit().candidate(method, 0.5)
    assert corrected.error < plain.error


def test_the_error_is_that_of_the_rows_themselves():
    x = samples(2000).reshape(-1, D).astype(np.float64)[1::2]
    phi = np.maximum(x @ W1 + B1, 0)
    found = fit().candidate("idle", 0.5)
    y = phi @ W2
    made = phi[:, found.kept] @ found.active + x @ found.linear + found.bias
    expected = np.sqrt(np.square(made - y).sum() / np.square(y - y.mean(0)).sum())
    np.testing.assert_allclose(found.error, expected, rtol=1e-9)


def test_both_methods_cost_no_more_than_the_ratio_says():
    for ratio in (0.3, 0.5, 0.75, 1.0):
        idle, prune = (fit().candidate(m, ratio) for m in ("idle", "prune"))
        assert idle.multiplies == D * D + len(idle.kept) * 2 * D
        assert prune.multiplies == len(prune.kept) * 2 * D <= idle.multiplies


def test_greedy_takes_what_adds_least():
    cost = np.array([[1.0, -2.0, 0.0], [-2.0, 4.5, 0.0], [0.0, 0.0, 2.0]])
    assert [0, 1, 2] == greedy_order(cost).tolist()  # 1, then 4.5 - 4 before 2


@pytest.mark.parametrize("method", ["auto", "idle", "prune"])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_the_model_becomes_smaller_and_has_the_error_that_the_report_says(method, ratio):
    made = optimized(f"channel-idle{{ratio={ratio},method={method!r}}}")
    assert made.report.after.cost.multiplies < made.report.before.cost.multiplies
    assert "approximate" == made.report.exactness
    site, network = made.report.notes
    assert f"ratio {ratio:g}" in site
    x = samples()
    old = evaluate(model(), {"x": x})["y"]
    error = np.linalg.norm(made(x) - old) / np.linalg.norm(old)
    assert network.endswith(f"on 300 calibration samples: y {error:.3g}")


def test_the_largest_ratio_within_the_budget_is_taken():
    loose, tight = (optimized(f"channel-idle{{max_error={e}}}") for e in (0.5, 0.2))
    assert loose.report.after.cost.multiplies < tight.report.after.cost.multiplies
    none = optimized("channel-idle{max_error=1e-6}")
    assert "has an output error of" in none.report.notes[0]
    assert none.report.after.cost.multiplies == addax.optimize(model()).report.after.cost.multiplies


def test_an_activation_of_several_nodes_is_taken_over():
    made = optimized(source=model("s = Sigmoid(h)\n p = Mul(h, s)"))
    assert "idle, ratio 0.5" in made.report.notes[0] or "prune" in made.report.notes[0]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (model("p = Gelu(h)", f", float[N,3,{H}] p"), "its hidden channels are read elsewhere too"),
        (model("k = MatMul(x, w1)\n g = Gelu(h)\n p = Mul(g, k)"), "it is gated"),
    ],
)
def test_what_cannot_be_treated_stays_and_the_report_says_why(source, reason):
    made = optimized(source=source)
    assert reason in made.report.notes[0]
    x = samples(4)
    expected = evaluate(source, {"x": x})["y"]
    np.testing.assert_allclose(made.session.run({"x": x})["y"], expected, atol=1e-4)


def test_a_ratio_below_break_even_is_declined_with_the_figure():
    made = optimized("channel-idle{ratio=0.125}")
    assert "a ratio of 0.125 saves nothing" in made.report.notes[0]
    assert "12.5% of the channels" in made.report.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channel-idle{ratio=0}", "ratio must be above 0 and at most 1"),
        ("channel-idle{max_error=-1}", "max_error must be a positive number"),
        ("channel-idle{method='best'}", "method must be 'auto', 'idle' or 'prune'"),
        ("channel-idle{rate=1}", "has no option rate"),
    ],
)
def test_options_are_validated(text, said):
    with pytest.raises(OptionError, match=said):
        optimized(text)


def test_too_little_data_and_none_are_refused():
    with pytest.raises(InputError, match="expects at least 256 calibration samples, got 10"):
        addax.optimize(model(), allow=("channel-idle",), calibration=[samples(10)])
    with pytest.raises(OptionError, match="channel-idle needs calibration=batches"):
        run_pipeline(model(), Pipeline.parse("channel-idle"))
