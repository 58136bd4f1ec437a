"""Calibration data: read once, checked, and any value observed on it."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.errors import InputError
from addax.ir.shapes import infer_shapes
from addax.runtime.calibrate import Batches, output_error


def model(second: str = "Relu") -> ir.Model:
    made = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,3] x, int64[N] i) => (float[N,3] y, int64[N] j) {{
            a = Neg(x)
            y = {second}(a)
            j = Neg(i)
        }}"""
    )
    infer_shapes(made)
    return made


def batch(count: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(start * 3, (start + count) * 3, dtype=np.float32).reshape(count, 3)
    return x - 4, np.arange(count)


def test_batches_are_read_once_and_observed_as_often_as_asked():
    given = iter([batch(2), dict(zip("xi", batch(3, 2), strict=True)), list(batch(1, 5))])
    graph, told = model(), []
    read = Batches(graph, given, told.append)
    assert (6, (2, 3, 1)) == (read.samples, read.sizes())
    x, a = graph.graph.inputs[0], graph.graph.node(0).outputs[0]
    for _ in range(2):
        observed = list(read.observe(graph, (x, a)))
        whole = np.concatenate([given for given, _ in observed])
        np.testing.assert_array_equal(whole, batch(6)[0])
        np.testing.assert_array_equal(np.concatenate([made for _, made in observed]), -whole)
    assert "reading calibration data (6 samples)" in told
    assert "observing a (6 of 6 samples)" in told


def test_readers_do_not_disturb_each_other():
    graph = model()
    read = Batches(graph, [batch(2), batch(2)])
    pairs = zip(read.feeds(), read.feeds(), strict=True)
    assert all(np.array_equal(a["x"], b["x"]) for a, b in pairs)


def test_the_error_of_outputs_is_relative_and_of_floats_only():
    before, after = model(), model("Abs")
    x = np.array([[1, -3, 4]], np.float32)
    read = Batches(before, [(x, np.zeros(1, np.int64))])
    assert {"y": pytest.approx(np.sqrt(17) / 3)} == output_error(read, before, after)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "expected an iterable of batches for the inputs ..x., .i.., got int"),
        ({"x": 1}, "expected an iterable of batches"),
        ([], "got none"),
        ([batch(1)[0]], "expected 2 arrays, for .*, got 1; leave out"),
        ([{"x": 1}], "expected the inputs"),
        ([(np.zeros((2, 4), np.float32), np.zeros(2, int))], "input 'x' has the shape"),
        ([(np.zeros(3, np.float32), np.zeros(2, int))], "input 'x' has the shape"),
        ([(np.zeros((2, 3), int), np.zeros(2, int))], "input 'x' is float32.*, got int64"),
        ([(np.full((2, 3), np.nan), np.zeros(2, int))], "input 'x' holds NaN or infinity"),
        ([batch(2), (np.array([["a"] * 3]), np.zeros(1, int))], "batch 1: input 'x' is float32"),
    ],
)
def test_bad_data_is_refused_with_what_was_expected(given, said):
    with pytest.raises(InputError, match=said):
        Batches(model(), given)
