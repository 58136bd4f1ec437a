"""Attention and mixtures in ONNX Runtime: kernels of this machine against the bodies."""

import functools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.backends.ort import form_of
from addax.backends.to_ort import to_ort
from addax.errors import BuildError, InputError, UnsupportedOpError
from addax.runtime.kernels import Kernels, host_kernels
from addax.runtime.session import Session
from tests.backends.ort.libraries import reference_library
from tests.ir.dialect.packing import pack_int8
from tests.ir.dialect.running import model_of

FLOAT = ir.DataType.FLOAT
EPSILON = float(np.finfo(np.float32).eps)
SETTINGS = settings(max_examples=15)


@functools.cache
def library() -> Kernels:
    try:
        return host_kernels()
    except BuildError as error:
        pytest.skip(f"no kernels on this machine: {error}")


def both(model: ir.Model, feeds: dict[str, np.ndarray], plain: bool, threads: int = 1):
    """What the body gives; what a kernel gives, one in plain loops or this machine's."""
    kernels = Kernels(reference_library()) if plain else library()
    assert kernels.has(model.graph[0])
    kernel = Session(to_ort(model), library=kernels.path, threads=threads)
    return [session.run(feeds)["y"] for session in (Session(to_ort(model)), kernel)]


@SETTINGS
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    queries=st.sampled_from([1, 7, 31, 33, 70]),
    length=st.sampled_from([1, 7, 32, 65, 129]),
    width=st.sampled_from([1, 16, 33, 64]),
    codes=st.sampled_from([(1, 4), (2, 4), (7, 6)]),
    mask=st.sampled_from(["none", "keys", "heads", "all"]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("plain", [True, False])
def test_log_code_attention(plain, lead, queries, length, width, codes, mask, threads, seed):
    rng = np.random.default_rng(seed)
    shapes = {
        "none": [1],
        "keys": [1, length],
        "heads": [*([lead[0], *[1] * (len(lead) - 1)] if lead else []), 1, length],
        "all": [*lead, queries, length],
    }
    values = rng.integers(-20, 21, (*lead, length, width)).astype(np.float32)
    values[..., 0, 0] = 127  # a scale of 1: rounding leaves V alone
    hidden = rng.random(shapes[mask]) < (0.3 if mask != "none" else 0)
    feeds = {
        "s": rng.standard_normal((*lead, queries, length)).astype(np.float32) * 8,
        "mask": np.where(hidden, -np.inf, 0).astype(np.float32),
        "v": values,
    }
    inputs = {name: (FLOAT, list(array.shape)) for name, array in feeds.items()}
    attributes = {"codes_per_octave": codes[0], "bits": codes[1], "scale": 0.125, "delta": 0.0}
    body, kernel = both(model_of("LogCodeAttention", inputs, **attributes), feeds, plain, threads)
    np.testing.assert_allclose(kernel, body, rtol=3 * EPSILON, atol=0)  # the same integers


@SETTINGS
@given(
    batch=st.integers(0, 3),
    tokens=st.sampled_from([1, 7, 33, 100]),
    heads=st.integers(1, 3),
    bits=st.sampled_from([16, 32, 64]),
    width=st.sampled_from([16, 32, 48]),
    taps=st.sampled_from([1, 3, 9]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("plain", [True, False])
def test_binary_linear_attention(plain, batch, tokens, heads, bits, width, taps, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, (batch, tokens, heads * (2 * bits + width))).astype(np.float32)
    filters = rng.integers(-2, 3, (heads, 1, taps, 1)).astype(np.float32)
    inputs = {"x": (FLOAT, ["B", "N", x.shape[2]]), "filters": filters}
    attributes = {"heads": heads, "bits": bits, "width": width}
    weights = {"value_weight": 0.5, "sum_weight": 0.25, "epsilon": 1e-6}
    model = model_of("BinaryLinearAttention", inputs, **attributes, **weights)
    body, kernel = both(model, {"x": x}, plain)
    # A norm of 1 and a filter of whole numbers, up to 2 on values up to 9, each sum in any order.
    bound = EPSILON * (width + taps + 4) * (1 + 18 * taps)
    np.testing.assert_allclose(kernel, body, rtol=0, atol=bound)


@SETTINGS
@given(
    inner=st.sampled_from([1, 7, 31, 32, 64, 129]),
    outer=st.sampled_from([1, 7, 33, 64, 130]),
    lead=st.lists(st.integers(0, 70), min_size=1, max_size=2),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("plain", [True, False])
def test_routed_mixture(plain, inner, outer, lead, share, threads, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-20, 21, (*lead, inner)).astype(np.float32)
    x[..., 0] = 127
    expert = (rng.random(lead) >= share).astype(np.int32)
    integers = 2 ** rng.integers(0, 4, (outer, inner)) * rng.choice([-1, 0, 1], (outer, inner))
    draw = lambda *shape: rng.integers(-9, 10, shape).astype(np.float32)  # noqa: E731
    inputs = {
        "x": (FLOAT, [*(f"d{i}" for i in range(len(lead))), inner]),
        "expert": (ir.DataType.INT32, [f"d{i}" for i in range(len(lead))]),
        "w": draw(inner, outer),
        "b": draw(outer),
        "weights": pack_int8(integers.astype(np.int8), rng),
        "scale": rng.choice([0.5, 1, 2], outer).astype(np.float32),
        "c": draw(outer),
    }
    body, kernel = both(model_of("RoutedMoE", inputs), {"x": x, "expert": expert}, plain, threads)
    np.testing.assert_array_equal(body, kernel)


@pytest.mark.parametrize(
    "changes", [{"bits": 7}, {"delta": 0.1}], ids=["seven bits", "the absolute form"]
)
def test_other_log_codes_keep_their_body(changes):
    inputs = {"s": (FLOAT, [1, 4]), "mask": np.zeros(1, np.float32), "v": (FLOAT, [4, 4])}
    attributes = {"codes_per_octave": 2, "bits": 4, "scale": 1.0, "delta": 0.0} | changes
    model = model_of("LogCodeAttention", inputs, **attributes)
    assert form_of(model.graph[0]) is None
    with pytest.raises(UnsupportedOpError, match=r"expected bits from 1 to 6, .* and delta 0, got"):
        Session(to_ort(model), library=library().path)


def test_widths_that_no_kernel_takes_keep_their_body():
    inputs = {"x": (FLOAT, [1, 4, 40]), "filters": np.zeros((1, 1, 1, 1), np.float32)}
    attributes = {"heads": 1, "bits": 12, "width": 16}
    weights = {"value_weight": 0.5, "sum_weight": 0.25, "epsilon": 1e-6}
    model = model_of("BinaryLinearAttention", inputs, **attributes, **weights)
    assert form_of(model.graph[0]) is None
    with pytest.raises(UnsupportedOpError, match="multiples of 16, got 1, 12 and 16"):
        Session(to_ort(model), library=library().path)


@pytest.mark.parametrize(
    ("mask", "values", "told"),
    [
        ([3, 1], [4, 4], r"a mask that broadcasts to the scores, \[2, 4\], got \[3, 1\]"),
        ([1, 2, 4], [4, 4], r"a mask that broadcasts to the scores, \[2, 4\], got \[1, 2, 4\]"),
        ([1], [5, 4], r"scores \[..., Q, L\] and values \[..., L, D\], got \[2, 4\] and \[5, 4\]"),
    ],
)
def test_scores_that_do_not_fit(mask, values, told):
    given = {"s": [2, 4], "mask": mask, "v": values}
    inputs = {name: (FLOAT, [f"{name}{i}" for i in range(len(d))]) for name, d in given.items()}
    attributes = {"codes_per_octave": 2, "bits": 4, "scale": 1.0, "delta": 0.0}
    session = Session(
        to_ort(model_of("LogCodeAttention", inputs, **attributes)), library=library().path
    )
    with pytest.raises(InputError, match=told):
        session.run({name: np.zeros(dims, np.float32) for name, dims in given.items()})


def test_scores_of_nothing():
    inputs = {
        "s": (FLOAT, ["B", 2, "L"]),
        "mask": np.zeros(1, np.float32),
        "v": (FLOAT, ["B", "L", 5]),
    }
    attributes = {"codes_per_octave": 1, "bits": 3, "scale": 1.0, "delta": 0.0}
    session = Session(
        to_ort(model_of("LogCodeAttention", inputs, **attributes)), library=library().path
    )
    for batch, length in ((0, 3), (2, 0)):
        feeds = {"s": (batch, 2, length), "v": (batch, length, 5)}
        made = session.run({name: np.ones(dims, np.float32) for name, dims in feeds.items()})["y"]
        np.testing.assert_array_equal(np.zeros((batch, 2, 5), np.float32), made)


def mixture(**changes) -> ir.Model:
    inputs = {
        "x": (FLOAT, ["B", "K"]),
        "expert": (ir.DataType.INT32, ["E"]),
        "w": np.zeros((4, 3), np.float32),
        "b": np.zeros(3, np.float32),
        "weights": np.zeros((1, 1, 64, 4), np.int8),
        "scale": np.ones(3, np.float32),
        "c": np.zeros(3, np.float32),
    }
    return model_of("RoutedMoE", inputs | changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"w": np.zeros((0, 3), np.float32)}, "expected weights of at least one column"),
        ({"w": np.zeros(3, np.float32)}, r"expected W of shape \[K, N\] and scale of shape \[N\]"),
        ({"c": np.zeros(4, np.float32)}, r"expected c of shape \[3\], got \[4\]"),
        ({"b": (FLOAT, [3])}, "weights that are initializers, but input 3 is computed at run time"),
    ],
)
def test_experts_that_are_refused(changes, told):
    model = mixture(**changes)
    assert form_of(model.graph[0]) is None
    with pytest.raises(UnsupportedOpError, match=told):
        Session(to_ort(model), library=library().path)


@pytest.mark.parametrize(("columns", "experts"), [(5, 2), (4, 3)])
def test_tokens_that_do_not_fit(columns, experts):
    session = Session(to_ort(mixture()), library=library().path)
    feeds = {"x": np.zeros((2, columns), np.float32), "expert": np.zeros(experts, np.int32)}
    with pytest.raises(InputError, match=r"X of shape \[..., 4\] and an expert for each row of it"):
        session.run(feeds)


@pytest.mark.parametrize(
    ("x", "filters", "told"),
    [
        ((1, 4, 47), (1, 1, 1, 1), r"expected X of shape \[B, N, 48\], got \[1, 4, 47\]"),
        ((1, 4, 48), (2, 1, 1, 1), r"filters of shape \[1, 1, 1, 1\], got \[2, 1, 1, 1\]"),
        ((1, 4, 48), (1, 1, 2, 1), "expected filters of an odd number of taps, got 2"),
    ],
)
def test_heads_that_do_not_fit(x, filters, told):
    inputs = {"x": (FLOAT, ["B", "N", "C"]), "filters": (FLOAT, ["H", 1, "T", 1])}
    attributes = {"heads": 1, "bits": 16, "width": 16}
    weights = {"value_weight": 0.5, "sum_weight": 0.25, "epsilon": 1e-6}
    model = model_of("BinaryLinearAttention", inputs, **attributes, **weights)
    session = Session(to_ort(model), library=library().path)
    with pytest.raises(InputError, match=told):
        session.run({"x": np.zeros(x, np.float32), "filters": np.zeros(filters, np.float32)})
