"""A walk shows what observing from the inputs shows, and runs each part once."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.ir.shapes import infer_shapes
from addax.ir.statistics import SecondMoments, observe_second_moments
from addax.runtime import _walk
from addax.runtime.calibrate import Batches

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,3] x, bool c) => (float[N,3] y) {
    a = Exp(x)
    b = Neg(a)
    d = Add(b, x)
    e = If(c) <then_branch = t () => (float[N,3] t1) {t1 = Mul(a, d)},
               else_branch = f () => (float[N,3] f1) {f1 = Sub(a, d)}>
    h = Relu(e)
    y = Add(h, b)
}"""


@pytest.fixture
def graph() -> ir.Model:
    made = ir.from_onnx_text(TEXT)
    infer_shapes(made)
    return made


@pytest.fixture
def read(graph) -> Batches:
    random = np.random.default_rng(0)
    return Batches(graph, [(random.normal(size=(n, 3)), np.array(n == 2)) for n in (2, 1, 4)])


def values(graph: ir.Model) -> dict[str, ir.Value]:
    found = {str(v.name): v for v in graph.graph.inputs}
    return found | {str(v.name): v for node in graph.graph for v in node.outputs}


@pytest.mark.parametrize("names", [["a", "d", "e", "h", "y"], ["x", "b", "d", "y"], ["h", "a"]])
def test_a_walk_shows_what_observing_from_the_inputs_shows(graph, read, names):
    walk = read.walk(graph)
    assert walk.sizes() == read.sizes()
    for name in names:
        value = values(graph)[name]
        for expected, actual in zip(
            read.observe(graph, (value,)), walk.observe((value,)), strict=True
        ):
            np.testing.assert_array_equal(expected[0], actual[0])


def test_each_part_runs_once_and_nothing_is_kept_that_nobody_reads(graph, read, monkeypatch):
    ran = []

    class Session(_walk.Session):
        def __init__(self, model: ir.Model) -> None:
            ran.append([node.op_type for node in model.graph])
            super().__init__(model)

    monkeypatch.setattr(_walk, "Session", Session)
    walk, found = read.walk(graph), values(graph)
    for name in ("b", "d", "e", "y"):
        list(walk.observe((found[name],)))
    assert [["Exp", "Neg"], ["Add"], ["If"], ["Relu", "Add"]] == ran
    assert not walk._kept


def test_what_lies_ahead_may_change(graph, read):
    walk, found = read.walk(graph), values(graph)
    list(walk.observe((found["d"],)))
    relu = next(node for node in graph.graph if node.op_type == "Relu")
    relu.op_type = "Abs"
    expected = [made for (made,) in read.observe(graph, (found["y"],))]
    for whole, (actual,) in zip(expected, walk.observe((found["y"],)), strict=True):
        np.testing.assert_array_equal(whole, actual)


def test_an_observation_that_is_given_up_changes_nothing(graph, read):
    walk, found = read.walk(graph), values(graph)
    next(walk.observe((found["d"],)))
    assert not walk._kept
    assert 3 == len(list(walk.observe((found["h"],))))


def test_second_moments_are_of_rows_of_all_batches_and_hold_out_whole_samples(graph, read):
    value, before = values(graph)["b"], values(graph)["x"]
    rows, old = (
        np.concatenate([made for (made,) in read.observe(graph, (v,))]).astype(np.float64)
        for v in (value, before)
    )
    walk = read.walk(graph)
    fitting, judging = observe_second_moments([(walk, value)], lambda a: a, held_out=3)
    held = np.arange(7) % 3 == 2
    assert (5, 2) == (fitting.count, judging.count)
    np.testing.assert_allclose(rows[~held].T @ rows[~held] / 5, fitting.matrix, rtol=1e-12)
    np.testing.assert_allclose(rows[held].T @ rows[held] / 2, judging.matrix, rtol=1e-12)
    np.testing.assert_array_equal(judging.matrix, judging.cross)
    whole, none = observe_second_moments(
        [(read.walk(graph), value)] * 2,
        lambda a: a,
        originals=[(read.walk(graph), before)] * 2,
    )
    assert (14, 0) == (whole.count, none.count)
    np.testing.assert_allclose(rows.T @ rows / 7, whole.matrix, rtol=1e-12)
    np.testing.assert_allclose(rows.T @ old / 7, whole.cross, rtol=1e-12)
    np.testing.assert_allclose(old.T @ old / 7, whole.original, rtol=1e-12)
    np.testing.assert_array_equal(np.zeros((3, 3)), none.matrix)
    assert (2, 2) == SecondMoments(2).matrix.shape
