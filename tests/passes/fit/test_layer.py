"""Fitting one layer: how near it comes, what it must hold whatever the layer, what it refuses."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.ir.numbers import (
    BinaryCodes,
    relative_error,
    unpack_binary,
    unpack_codebook,
)
from addax.passes.fit import FitOptions, Format, Job, fit
from tests.passes.fit.layers import gauss, moments, with_outliers

FORMATS = ["binary1", "binary3", "binary2{scales=powers}", "binary3{scales=apot2}", "fitted4",
           "fitted2", "powers4{scales=powers}", "uniform4", "uniform2"]  # fmt: skip


@functools.cache
def fit_outliers(text: str, **options):
    weights, hessian = with_outliers()
    return fit(Job("layer", weights, hessian, Format.parse(text), FitOptions(**options)))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("binary2", 0.117),
        pytest.param("binary2{scales=apot2}", 0.12, marks=pytest.mark.slow),
        pytest.param("binary2{scales=powers}", 0.132, marks=pytest.mark.slow),
        ("binary3", 0.064),
        ("fitted4", 0.032),
    ],
)
def test_output_errors_are_below_those_of_the_paper_on_a_layer_with_outliers(text, limit) -> None:
    fitted = fit_outliers(text)
    assert fitted.output_error < limit
    assert fitted.codes.multipliers is not None


def test_compensation_is_worth_a_factor_and_more_starts_a_little() -> None:
    plain = fit_outliers("binary2", compensate=False)
    assert plain.output_error > 2 * fit_outliers("binary2").output_error
    assert fit_outliers("binary2").output_error < fit_outliers("binary2", starts=1).output_error


@pytest.mark.slow
def test_natural_order_and_scales_on_reaching_a_group_are_as_near() -> None:
    assert fit_outliers("binary2", act_order=False).output_error < 0.117


def test_descent_lowers_the_error_of_the_column_loop() -> None:
    alone = fit_outliers("binary2", sweeps=0, starts=1)
    more = fit_outliers("binary2", starts=1)
    assert more.output_error < 0.97 * alone.output_error


@settings(max_examples=12)
@given(
    st.integers(0, 1000),
    st.sampled_from(FORMATS),
    st.integers(1, 70),
    st.integers(1, 140),
    st.booleans(),
)
def test_what_is_fitted_is_what_its_packed_form_says(seed, text, rows, columns, compensate):
    weights, hessian = gauss(seed, rows, columns), moments(seed, columns)
    job = Job("layer", weights, hessian, Format.parse(text), FitOptions(compensate=compensate))
    fitted = fit(job)
    packed = fitted.packed()
    unpack = unpack_binary if job.format.is_binary else unpack_codebook
    assert np.array_equal(fitted.decoded, unpack(packed, columns).decode())
    assert relative_error(weights, fitted.decoded) == fitted.weight_error
    difference = weights - fitted.decoded
    expected = np.sqrt(
        np.trace(difference @ hessian @ difference.T) / np.trace(weights @ hessian @ weights.T)
    )
    assert fitted.output_error == pytest.approx(expected, rel=1e-4)
    assert fitted.bytes == packed.nbytes
    again = fit(job)
    assert np.array_equal(fitted.decoded, again.decoded)
    if isinstance(fitted.codes, BinaryCodes):
        assert np.all(np.diff(fitted.codes.alpha, axis=2) <= 0)


@pytest.mark.parametrize("text", FORMATS)
def test_scale_and_order_of_the_rows_do_not_matter(text: str) -> None:
    weights, hessian = gauss(1, 24, 96), moments(1, 96)
    once = fit(Job("layer", weights, hessian, Format.parse(text)))
    scaled = fit(Job("layer", weights * 2.0**-20, hessian * 2.0**10, Format.parse(text)))
    assert np.array_equal(once.decoded, scaled.decoded * 2.0**20)
    if not text.startswith("fitted"):
        turned = fit(Job("layer", weights[::-1], hessian, Format.parse(text)))
        assert relative_error(once.decoded[::-1], turned.decoded) < 0.05


@pytest.mark.parametrize("layout", ["columns", "blocks"])
def test_layouts_of_the_paper_are_there_to_compare(layout: str) -> None:
    weights, hessian = gauss(0, 64, 96), moments(0, 96)
    job = Job("layer", weights, hessian, Format.parse("binary2{scales=apot3}"))
    rows = fit(job)
    shared = fit(replace(job, options=FitOptions(layout=layout)))
    assert shared.codes is None
    assert rows.output_error < shared.output_error < 0.4
    assert shared.bytes <= rows.bytes
    levels = {round(v, 9) for v in np.abs(shared.decoded[:8, 0])}
    assert len(levels) <= 2
    plain = fit(replace(job, hessian=None, options=FitOptions(layout=layout)))
    assert plain.weight_error < 0.45
    with pytest.raises(ValueError, match="float scales or a layout that is for"):
        shared.packed()


def test_rivals_have_zero_points_and_three_bits() -> None:
    weights, hessian = gauss(0, 32, 128) + 0.5, moments(0)
    uneven, even = (
        fit(Job("layer", weights, hessian, Format.parse(text)))
        for text in ("uniform3{scales=real,zero=asymmetric}", "uniform3{scales=real}")
    )
    assert uneven.weight_error < even.weight_error
    whole = fit(Job("l", weights, hessian, Format.parse("uniform3"), FitOptions(group=128)))
    assert whole.output_error < 0.2


def test_weights_that_a_format_holds_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 8, (16, 64)) * rng.uniform(0.5, 2, (16, 1))
    weights[:, ::32] = -8 * np.abs(weights).max(axis=1, keepdims=True) / 8
    fitted = fit(Job("layer", weights, moments(0, 64), Format.parse("uniform4")))
    assert fitted.output_error < 0.05


@pytest.mark.parametrize("text", FORMATS)
def test_zeros_and_constants_are_fitted(text: str) -> None:
    hessian = moments(0, 64)
    for weights in (np.zeros((3, 64)), np.full((3, 64), 0.25), np.eye(3, 64)):
        for given_moments in (None, hessian):
            fitted = fit(Job("layer", weights, given_moments, Format.parse(text)))
            assert np.isfinite(fitted.decoded).all()
            assert np.isfinite(fitted.weight_error)
            if not weights.any():
                assert not fitted.decoded.any()


def test_inputs_that_are_always_zero_may_have_any_weight() -> None:
    weights, hessian = gauss(0, 16, 64), moments(0, 64)
    dead = np.arange(64) % 5 == 0
    hessian[dead] = 0
    hessian[:, dead] = 0
    fitted = fit(Job("layer", weights, hessian, Format.parse("binary3")))
    other = fit(Job("layer", weights + 1e3 * dead, hessian, Format.parse("binary3")))
    assert fitted.notes == ("13 of 64 inputs are always zero",)
    assert np.isfinite(fitted.decoded).all()
    assert fitted.output_error == pytest.approx(other.output_error, rel=1e-3)
    none = fit(Job("layer", weights, np.zeros((64, 64)), Format.parse("binary3")))
    assert none.notes == ("all inputs are zero in the calibration data: fitted without it",)
    assert none.output_error == 0


def test_few_samples_make_singular_moments_and_more_damping() -> None:
    weights = gauss(0, 16, 64)
    few = moments(0, 64, samples=3)
    fitted = fit(Job("layer", weights, few, Format.parse("binary2"), FitOptions(damping=0.0)))
    assert "singular second moments: damping raised to 1e-0" in fitted.notes[0]
    assert np.isfinite(fitted.decoded).all()
    assert fitted.output_error < 0.3


def test_what_is_no_moment_of_inputs_is_refused() -> None:
    weights = gauss(0, 4, 8)
    wrong = -np.ones((8, 8)) + 2 * np.eye(8)
    with pytest.raises(ValueError, match="layer 'head' have no factor even with damping 3"):
        fit(Job("head", weights, wrong, Format.parse("binary2")))
    uneven = np.eye(8)
    uneven[0, 1] = 0.5
    for bad in (uneven, -np.eye(8)):
        with pytest.raises(ValueError, match="layer 'head' are not the mean of x x"):
            fit(Job("head", weights, bad, Format.parse("binary2")))


@pytest.mark.parametrize(
    ("weights", "hessian", "message"),
    [
        (np.full((2, 8), np.nan), None, "layer 'head' hold 16 NaN or infinite values of 16"),
        (np.full((2, 8), np.inf), None, "repair the model first"),
        (np.full((2, 8), 1e31), None, "layer 'head' reach 1e.31; expected at most 1e.30"),
        (np.ones(8), None, r"expected weights \[outputs, inputs\] of layer 'head', got shape"),
        (np.ones((0, 8)), None, r"got shape \(0, 8\)"),
        (np.ones((2, 8)), np.eye(7), r"second moments \[8, 8\] for layer 'head' of 8 inputs"),
        (np.ones((2, 8)), np.full((8, 8), np.nan), "layer 'head' hold NaN or infinities"),
    ],
)
def test_bad_arrays_are_refused(weights, hessian, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit(Job("head", weights, hessian, Format.parse("binary2")))


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ({"layout": "tiles"}, "binary2", "one of blocks, columns, rows; got 'tiles'"),
        ({"layout": "columns"}, "fitted4", "those of binary codes; layer 'head' asks for fitted4"),
        ({"damping": -1.0}, "binary2", "expected damping of at least 0, got -1.0"),
        ({"damping": np.nan}, "binary2", "expected damping of at least 0, got nan"),
        ({"sweeps": -1}, "binary2", "expected sweeps of at least 0"),
        ({"rounds": 0}, "binary2", "expected rounds of at least 1"),
        ({"starts": 0}, "binary2", "expected starts of at least 1"),
        ({"group": 0}, "binary2", "groups of at least one column, got 0"),
        ({"group": 48}, "binary2", "groups of 32, 64, 96 or 128 columns for layer 'head'"),
    ],
)
def test_bad_options_are_refused(options, text, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit(Job("head", np.ones((2, 8)), None, Format.parse(text), FitOptions(**options)))
