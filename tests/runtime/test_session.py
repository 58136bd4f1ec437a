"""Sessions: what they tell, what they run, what they refuse."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from addax.errors import InputError, UnsupportedOpError
from addax.runtime.session import Session


def read(text: str) -> ir.Model:
    head = '<ir_version: 10, opset_import: ["": 20, "mystery": 1]> g '
    return ir.from_proto(onnx.parser.parse_model(head + text))


TEXT = "(float[N,2] x) => (float[N,2] y) <float[2] c = {1, 2}> { y = Add(x, c) }"


@pytest.mark.parametrize("optimize", [True, False])
def test_it_runs_and_tells_its_ports(optimize):
    session = Session(read(TEXT), optimize=optimize, threads=1)
    assert ["x: tensor(float)['N', 2]"] == [str(port) for port in session.inputs]
    made = session.run({"x": np.float32([[1, 1], [0, 0], [2, 2]])})
    np.testing.assert_array_equal(np.float32([[2, 3], [1, 2], [3, 4]]), made["y"])


def test_missing_and_unknown_feeds():
    with pytest.raises(InputError, match=r"missing \['x'\], unknown \['z'\]"):
        Session(read(TEXT)).run({"z": np.zeros((1, 2), np.float32)})


def test_feeds_of_the_wrong_shape_or_type():
    session = Session(read(TEXT))
    with pytest.raises(InputError, match=r"expected x: tensor\(float\).*got x: float32\[1, 3\]"):
        session.run({"x": np.zeros((1, 3), np.float32)})
    with pytest.raises(InputError, match=r"got x: float64\[1, 2\]"):
        session.run({"x": np.zeros((1, 2))})


def test_an_operator_that_the_runtime_lacks():
    with pytest.raises(UnsupportedOpError, match="cannot load this model"):
        Session(read("(float[2] x) => (float[2] y) { y = mystery.What(x) }"))


def test_a_scalar_stays_a_scalar():
    made = Session(read("(float x) => (float y) { y = Neg(x) }")).run({"x": np.float32(3)})
    assert () == made["y"].shape
    assert -3 == made["y"]


def test_a_library_that_is_none(tmp_path):
    (tmp_path / "x.so").write_bytes(b"nothing")
    with pytest.raises(UnsupportedOpError, match="cannot load the library of kernels"):
        Session(read(TEXT), library=tmp_path / "x.so")


def test_a_model_in_a_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(ir.to_proto(read(TEXT)).SerializeToString())
    made = Session(tmp_path / "m.onnx").run({"x": np.float32([[1, 1]])})
    np.testing.assert_array_equal(np.float32([[2, 3]]), made["y"])
