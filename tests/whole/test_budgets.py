"""Budgets of `optimize`: plans that hold on samples nobody chose by, and what cannot be planned."""

import json
import sys

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax import Budget
from addax.errors import (
    BudgetError,
    BuildError,
    EvaluationError,
    InputError,
    MissingPackageError,
    OptionError,
)
from addax.runtime import kernels
from addax.testing.cases import build

NETWORK = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,5,64] x) => (float[N,5,80] y)
    <float[64,128] up, float[128,64] down, float[64,80] head> {
    h = MatMul(x, up)
    p = Gelu(h)
    r = MatMul(p, down)
    s = Add(r, x)
    y = MatMul(s, head)
}"""
MIX = np.random.default_rng(0).normal(size=(64, 64)) / 8 + np.eye(64)


def network() -> ir.Model:
    random = np.random.default_rng(0)
    shapes = ((64, 128), (128, 64), (64, 80))
    return build(
        NETWORK, [random.normal(size=s, scale=s[0] ** -0.5).astype(np.float32) for s in shapes]
    )


def samples(count: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, 5, 64)) @ MIX).astype(np.float32)


DATA = [samples(48, 1), samples(48, 2)]
OTHERS = samples(64, 9)


def exact(x: np.ndarray) -> np.ndarray:
    return addax.optimize(network(), target="portable").session.run({"x": x})["y"]


def planned(budget: Budget, **options) -> addax.Optimized:
    given = {"target": "portable", "calibration": DATA, "progress": False} | options
    return addax.optimize(network(), budget=budget, **given)


def error(made: addax.Optimized, x: np.ndarray = OTHERS) -> float:
    expected = exact(x)
    return float(np.linalg.norm(made(x) - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def small() -> addax.Optimized:
    return planned(Budget(max_error=0.05, objective="bytes"))


def test_the_error_holds_on_samples_of_which_the_planner_knew_nothing(small):
    plan = small.report.plan
    assert plan.measured.error <= 0.05
    assert error(small) <= 0.05 * 1.1
    assert 24 == plan.held_out
    assert plan.measured.bytes < plan.before.bytes / 4


def test_the_plan_is_what_was_done(small):
    plan = small.report.plan
    chosen = {place.name: place.label for place in plan.places if place.family}
    assert chosen == {layer.name: layer.format for layer in small.report.layers}
    assert plan.measured.bytes == plan.predicted.bytes == small.report.after.weight_bytes
    again = addax.optimize(
        network(), target="portable", pipeline=small.report.pipeline, calibration=DATA
    )
    assert chosen == {layer.name: layer.format for layer in again.report.layers}


def test_plans_are_the_same_each_time(small):
    again = planned(Budget(max_error=0.05, objective="bytes"))
    first, second = small.report.plan, again.report.plan
    assert first.places == second.places
    assert small.report.pipeline == again.report.pipeline


def test_the_report_says_what_was_predicted_and_measured(small):
    text = " ".join(str(small.report).split())
    for said in ("predicted", "measured", "max_error 0.05; least bytes", "24 held-out samples"):
        assert said in text
    record = json.loads(small.report.to_json())["plan"]
    assert 3 == len(record["places"])
    shares = [place["share"] for place in record["places"]]
    assert sum(shares) == pytest.approx(1)
    assert small.report.plan.measured.seconds > 0


def test_more_error_buys_fewer_bytes_along_the_frontier(small):
    points = small.report.plan.frontier.smallest
    assert len(points) > 4
    assert sorted((p.bytes for p in points), reverse=True) == [p.bytes for p in points]


def test_as_a_page(small, tmp_path):
    path = tmp_path / "report.html"
    small.report.save_html(path)
    text = path.read_text("utf-8")
    assert [path] == list(tmp_path.iterdir())
    for said in ("The plan", "Layer by layer", "held-out samples", "<svg", "this plan, measured"):
        assert said in text
    assert "<script" not in text
    assert "http://www.w3.org/2000/svg" in text
    assert not [part for part in text.split('"') if part.startswith(("http:", "https:"))
                and "w3.org" not in part]  # fmt: skip
    with pytest.raises(OSError, match="expected a place where a report can be written, got"):
        small.report.save_html(tmp_path / "missing" / "report.html")


def test_a_picture_of_the_frontier(small, tmp_path):
    pytest.importorskip("matplotlib")
    from addax.planner.chart import save_chart

    save_chart(small.report.plan.frontier, tmp_path / "frontier.png")
    assert b"PNG" == (tmp_path / "frontier.png").read_bytes()[1:4]


def test_pictures_without_matplotlib(small, monkeypatch, tmp_path):
    from addax.planner.chart import save_chart

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pictures need matplotlib: pip install addax"):
        save_chart(small.report.plan.frontier, tmp_path / "frontier.png")


def test_bytes_alone_make_the_error_least():
    limit = 30_000
    made = planned(Budget(max_bytes=limit))
    plan = made.report.plan
    assert made.report.after.weight_bytes <= limit
    labels = {place.label for place in plan.places}
    assert "fp32" not in labels
    assert plan.measured.error < 0.3


def test_only_allowed_families_are_chosen_among():
    made = planned(Budget(max_error=0.05, objective="bytes"), allow=("int8{smallest=1}",))
    assert {"int8"} == {place.label for place in made.report.plan.places}
    assert 3 == sum(node.op_type == "DynamicQuantizeMatMul" for node in made.model.graph)


def test_norms_are_folded_where_that_serves():
    random = np.random.default_rng(0)
    stretch = np.geomspace(0.05, 20, 64)
    weights = [
        stretch.astype(np.float32),
        np.zeros(64, np.float32),
        (random.normal(size=(64, 96)) / stretch[:, None] / 8).astype(np.float32),
    ]
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (float[N,8,64] x) => (float[N,8,96] y) <float[64] gain, float[64] shift, float[64,96] w> {
        n = LayerNormalization<axis=-1>(x, gain, shift)
        y = MatMul(n, w)
    }"""
    data = [random.normal(size=(32, 8, 64)).astype(np.float32)]
    made = addax.optimize(
        build(text, weights),
        target="portable",
        calibration=data,
        budget=Budget(max_error=0.05, objective="bytes"),
        allow=("layernorm-reparam{tokens=64}", "int8{smallest=1}"),
        progress=False,
    )
    assert "layernorm-reparam" in made.report.pipeline
    assert {"int8"} == {place.label for place in made.report.plan.places}
    assert "planning: norms are folded (2 of 2 ways kept the budget)" in made.report.plan.notes


def test_a_metric_with_a_floor():
    expected = exact(OTHERS).argmax(-1)
    seen = []

    def same(model) -> float:
        seen.append(model.target)
        return float((np.asarray(model(OTHERS)).argmax(-1) == expected).mean())

    made = planned(Budget(metric=same, floor=0.97, objective="bytes"))
    assert same(made) >= 0.97
    assert made.report.plan.score == same(made)
    assert made.report.plan.measured.bytes < made.report.plan.before.bytes / 3
    assert {"portable"} == set(seen)


def test_other_machines_get_a_model_of_latencies_that_is_said_to_be_one(monkeypatch):
    pytest.importorskip("tvm")

    def none_here():
        raise BuildError("none here")

    monkeypatch.setattr(kernels, "host_kernels", none_here)
    made = planned(Budget(max_error=0.05), target="linux-arm64")
    plan = made.report.plan
    assert "a model for neondot, not measured" in plan.costs
    assert plan.measured.seconds is None
    assert plan.predicted.seconds > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.05}, r"budget must be an addax.Budget, such as Budget\(max_error=0.02\)"),
        ({"bits": 4}, "bits has no use beside budget="),
        ({"max_error": 0.1}, "max_error has no use beside budget=, which says what is chosen by"),
        ({"calibration": None}, "budget= needs calibration=batches of real inputs"),
        ({"allow": "int8"}, r"allow takes a sequence of names, such as allow=\('int8',\)"),
        ({"allow": ("channel-idle",)}, "allow='channel-idle' is nothing that it can choose"),
        ({"target": "cuda"}, "the budget needs latencies, and there is no cost table for this"),
    ],
)
def test_options_that_do_not_fit_a_budget(options, message):
    if options.get("target") == "cuda":
        pytest.importorskip("tvm")
    given = {"budget": Budget(max_error=0.05), "target": "portable", "calibration": DATA} | options
    with pytest.raises(OptionError, match=message):
        addax.optimize(network(), **given)


def test_a_budget_that_cannot_be_met():
    with pytest.raises(BudgetError, match=r"expected bytes of at most 100 .the least that"):
        planned(Budget(max_bytes=100))
    with pytest.raises(BudgetError, match=r"an error of at most .* and bytes of at most 11000"):
        planned(Budget(max_error=1e-4, max_bytes=11_000), allow=("int8",))


@pytest.mark.parametrize(
    ("metric", "kind", "message"),
    [
        (lambda _: float("nan"), EvaluationError, "Budget: the metric gave NaN for a model"),
        (lambda _: 1 / 0, EvaluationError, "the metric raised ZeroDivisionError when it was"),
        (lambda _: 0.5, BudgetError, "at least 0.9, and the model as it is has 0.5; lower the"),
        (
            lambda model: float(np.mean(model(DATA[0][:2])) < 100),
            InputError,
            "all 2 samples that the metric runs the model on are among the calibration data",
        ),
    ],
)
def test_a_metric_that_says_nothing(metric, kind, message):
    with pytest.raises(kind, match=message):
        planned(Budget(metric=metric, floor=0.9, objective="bytes"), allow=("int8",))


def test_data_that_judges_nothing():
    with pytest.raises(InputError, match="expected at least 4 samples of calibration data"):
        planned(Budget(max_error=0.1), calibration=[samples(3, 1)])
    same = [np.repeat(samples(1, 1), 16, axis=0)]
    with pytest.raises(InputError, match="all those that were held out to judge are among those"):
        planned(Budget(max_error=0.1), calibration=same)
