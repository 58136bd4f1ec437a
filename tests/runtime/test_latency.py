"""Latency of layers: which figures there are, by which code path, and what they are of."""

import json

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax.backends.rates import RATES
from addax.errors import OptionError
from addax.ir.statistics import Layer
from addax.runtime import kernels as module
from addax.runtime import latency
from addax.runtime.kernels import Kernels
from addax.runtime.latency import describe_latency
from addax.testing.cases import build
from tests.backends.ort.libraries import layer, reference_library

FORMS = ("codebook4", "codebook2", "binary1", "binary2", "binary3", "binary4", "int8")
FIGURES = ("predicted_before", "predicted_after", "measured_before", "measured_after")
HEADINGS = ("predicted us", "measured us")
NETWORK = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,7,64] x) => (float[N,7,96] y) <float[64,64] up, float[64,96] down> {
    h = MatMul(x, up)
    r = Relu(h)
    again = MatMul(r, up)
    p = Gelu(again)
    y = MatMul(p, down)
}"""


@pytest.fixture
def scalar(monkeypatch):
    """The plain kernels in place of those of this machine, and rates for them."""
    found = Kernels(reference_library())
    monkeypatch.setattr(module, "host_kernels", lambda: found)
    monkeypatch.setitem(RATES, "scalar", RATES["avx512"])
    return found


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(latency, "_SECONDS", 0.0)


def described(form, model, kernels, **options):
    before = Layer("it", 70, 40, form, 4, 0.1, None, 70 * 40 * 4, 70 * 40 // 2, 0.0)
    (after,) = describe_latency([before], [list(model.graph)], kernels, **options)
    return before, after


def network() -> ir.Model:
    rng = np.random.default_rng(0)
    return build(NETWORK, [rng.normal(size=(64, n)).astype(np.float32) for n in (64, 96)])


def optimized(**options):
    return addax.optimize(network(), allow=("shift-add",), bits=2, **options)


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_with_a_kernel(form, scalar, quick):
    model = layer(form, 70, 40, leading=(2, "B", 3))
    _, made = described(form, model, scalar, measure=True)
    assert (6, "scalar") == (made.rows, made.code_path)
    assert all(getattr(made, name) > 0 for name in FIGURES)


@pytest.mark.parametrize("kind", [ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE])
def test_a_layer_without_a_kernel_runs_through_its_body(kind, quick):
    model = layer("codebook4", 70, 40)
    model.graph.inputs[0].type = ir.TensorType(kind)
    _, made = described("fitted4", model, None, measure=True)
    assert (1, "bodies") == (made.rows, made.code_path)
    assert made.measured_before > 0
    assert made.measured_after > 0
    assert (None, None) == (made.predicted_before, made.predicted_after)


def test_a_node_that_the_library_does_not_compute_runs_through_its_body(scalar, quick):
    model = layer("binary2", 70, 40)
    model.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    _, made = described("binary2", model, scalar, measure=True)
    assert "bodies" == made.code_path
    assert made.measured_after > 0
    assert made.predicted_after is None


def test_nothing_is_run_unless_wanted(scalar, monkeypatch):
    monkeypatch.setattr(latency, "Session", lambda *_, **__: pytest.fail("ran"))
    _, made = described("int8", layer("int8", 70, 40), scalar)
    assert made.predicted_after > 0
    assert (None, None) == (made.measured_before, made.measured_after)


def test_no_prediction_without_rates(quick, monkeypatch):
    monkeypatch.delitem(RATES, "scalar", raising=False)
    _, made = described("int8", layer("int8", 70, 40), Kernels(reference_library()))
    assert (1, "scalar", None) == (made.rows, made.code_path, made.predicted_after)


def test_a_layer_that_is_gone_stays_as_it_was(scalar):
    model = layer("int8", 70, 40)
    (node,) = model.graph
    model.graph.outputs.clear()
    model.graph.remove(node, safe=True)
    before = Layer("it", 70, 40, "int8", 8, 0.1, None, 1, 1, 0.0)
    assert (before,) == describe_latency([before], [[node]], scalar)


def test_equal_layers_are_measured_once_and_more_rows_in_proportion(scalar, quick, monkeypatch):
    runs: list[int] = []

    def in_turns(*calls):
        for call in calls:
            call()
        runs.append(len(calls))
        return 10.0, 5.0

    monkeypatch.setattr(latency, "_in_turns", in_turns)
    monkeypatch.setattr(latency, "_MOST_ROWS", 4)
    models = [layer("int8", 70, 40, leading=(rows,)) for rows in (8, 8, 3)]
    each = Layer("it", 70, 40, "int8", 8, 0.1, None, 1, 1, 0.0)
    told: list[str] = []
    places = [list(model.graph) for model in models]
    made = describe_latency([each] * 3, places, scalar, measure=True, tell=told.append)
    assert [(20.0, 10.0), (20.0, 10.0), (10.0, 5.0)] == [
        (one.measured_before, one.measured_after) for one in made
    ]
    assert [2, 2] == runs
    assert ["measuring it"] * 2 == told


def test_a_clock_that_is_too_coarse_is_not_used(monkeypatch):
    class Coarse:
        resolution = 1 / 64

    monkeypatch.setattr(latency.time, "get_clock_info", lambda _: Coarse)
    latency._clock.cache_clear()
    assert latency.time.perf_counter is latency._clock()
    latency._clock.cache_clear()


def test_the_report_of_a_network(scalar, quick):
    report = optimized(measure=True).report
    assert ["up", "down"] == [made.name for made in report.layers]
    assert [14, 7] == [made.rows for made in report.layers]  # `up` is read twice
    assert {"scalar"} == {made.code_path for made in report.layers}
    assert all(getattr(made, name) > 0 for made in report.layers for name in FIGURES)
    assert all(heading in str(report) for heading in HEADINGS)
    read = json.loads(report.to_json())["layers"]
    assert [made.measured_after for made in report.layers] == [x["measured_after"] for x in read]


def test_columns_are_there_only_where_there_are_figures(scalar, quick):
    predicted = str(optimized().report)
    assert [True, False] == [heading in predicted for heading in HEADINGS]
    portable = optimized(target="portable", measure=True).report
    assert {"bodies"} == {made.code_path for made in portable.layers}
    assert [False, True] == [heading in str(portable) for heading in HEADINGS]
    neither = str(optimized(target="portable").report)
    assert [False, False] == [heading in neither for heading in HEADINGS]


def test_measuring_where_nothing_became_codes_is_said():
    made = addax.optimize(network(), measure=True)
    assert ("measure: no layer became codes, so that none was timed",) == made.report.notes


@pytest.mark.parametrize("target", ["tvm", "linux-arm64", "cuda"])
def test_what_does_not_run_in_the_runtime_here_cannot_be_measured(target):
    with pytest.raises(
        OptionError, match=f"one of the targets host, portable; got target='{target}': leave meas"
    ):
        addax.optimize(network(), target=target, measure=True)
