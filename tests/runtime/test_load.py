"""Saved models find the library that was saved beside them, if it is whole."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import addax
from addax.backends.to_ort import to_ort
from addax.errors import ModelFileError, UnsupportedOpError
from addax.runtime import load as module
from addax.runtime.build import SUFFIX
from addax.runtime.kernels import Kernels
from addax.runtime.load import library_beside
from tests.backends.ort.libraries import layer, reference_library

X = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)


def bodies(x: np.ndarray) -> np.ndarray:
    return addax.optimize(to_ort(layer("codebook4", 8, 40)), target="portable")(x)


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    """A model and its library, in a folder with a name that needs care."""
    monkeypatch.setattr("addax.runtime.kernels.host_kernels", lambda: Kernels(reference_library()))
    fast = addax.optimize(to_ort(layer("codebook4", 8, 40)))
    path = tmp_path / "with blank; $(and more)" / "mödel.v1.onnx"
    path.parent.mkdir()
    fast.save(path)
    np.testing.assert_array_equal(fast(X), addax.load(path).run({"x": X})["y"])
    assert not np.array_equal(bodies(X), fast(X))
    return path


def run(path: Path) -> np.ndarray:
    return addax.load(path, threads=1).run({"x": X})["y"]


def test_two_files_are_written(saved):
    names = ["mödel.v1.addax" + SUFFIX, "mödel.v1.onnx"]
    assert names == sorted(os.listdir(saved.parent))
    assert saved.parent / names[0] == library_beside(saved)


def test_the_model_runs_in_onnx_runtime_alone_and_with_the_library(saved):
    plain = onnxruntime.InferenceSession(saved, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(bodies(X), plain.run(None, {"x": X})[0])
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_beside(saved)))
    fast = onnxruntime.InferenceSession(saved, options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(run(saved), fast.run(None, {"x": X})[0])


@pytest.mark.parametrize(
    ("damage", "told"), [("gone", "is not beside it"), ("cut", "is damaged, or was saved with")]
)
def test_a_library_that_is_not_whole_is_not_loaded(saved, caplog, damage, told):
    place = library_beside(saved)
    if damage == "gone":
        place.unlink()
    else:
        place.write_bytes(place.read_bytes()[:5000])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(bodies(X), run(saved))
    assert "runs without its library of kernels, slowly: mödel.v1.addax" in caplog.text
    assert told in caplog.text


def test_a_library_of_ones_own(saved, tmp_path):
    other = tmp_path / ("other" + SUFFIX)
    shutil.move(library_beside(saved), other)
    made = addax.load(saved, library=other).run({"x": X})["y"]
    assert not np.array_equal(bodies(X), made)
    other.write_bytes(b"no library")
    with pytest.raises(UnsupportedOpError, match="cannot load the library of kernels"):
        addax.load(saved, library=other)


def test_external_data_comes_along(saved, tmp_path):
    addax.optimize(saved).save(tmp_path / "big.onnx", external_data=True)
    assert (tmp_path / "big.onnx.data").is_file()
    np.testing.assert_array_equal(run(saved), run(tmp_path / "big.onnx"))


def test_a_portable_model_asks_for_no_library(saved, tmp_path, caplog):
    addax.optimize(saved, target="portable").save(tmp_path / "m.onnx")
    np.testing.assert_array_equal(bodies(X), run(tmp_path / "m.onnx"))
    assert (["m.onnx"], "") == ([file.name for file in tmp_path.glob("m*.*")], caplog.text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*pass the path of an ONNX model"):
        addax.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("data", [b"", b"\x7a", b"\x7f" * 40, b"\x72\x02\x08\x01", b"\x0d\x01"])
def test_a_file_that_is_no_model(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(UnsupportedOpError, match="cannot load this model"):
        addax.load(tmp_path / "m.onnx")


def test_metadata_is_read_past_any_field(tmp_path):
    model = to_ort(layer("codebook4", 8, 40))
    model.metadata_props.update({"a": "1", "ü": "x" * 300})
    model.model_version, model.doc_string = 1 << 40, "text"
    proto = ir.to_proto(model).SerializeToString()
    fixed = b"\xf9\x7f" + bytes(8) + b"\xfd\x7f" + bytes(4)  # fields of fixed size that we ignore
    (tmp_path / "m.onnx").write_bytes(fixed + proto)
    assert {"a": "1", "ü": "x" * 300} == module._metadata(tmp_path / "m.onnx")


def test_a_library_that_cannot_be_written(saved):
    place = library_beside(saved)
    place.unlink()
    place.mkdir()
    (place / "file").touch()
    with pytest.raises(ModelFileError, match="cannot write the library of kernels"):
        addax.optimize(saved).save(saved)
