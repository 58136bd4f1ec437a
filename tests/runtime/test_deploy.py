"""Models for other machines: what lies beside them, what is planned, what fails and how."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

import addax
from addax.backends.ort.project import SYSTEMS, project
from addax.backends.targets import TARGETS
from addax.backends.to_ort import to_ort
from addax.errors import BuildError, ModelFileError, UnsupportedOpError
from addax.runtime import deploy as module
from addax.runtime import objects
from addax.runtime.beside import folder_beside
from addax.runtime.deploy import Planned, planned, save_project
from addax.runtime.kernels import Kernels
from addax.runtime.session import Session
from tests.backends.ort.libraries import layer, reference_library, representable, weights

PHONE = TARGETS["android-arm64"]


@pytest.fixture
def made(monkeypatch):
    """Machine code that is there at once, and a library of plain loops for this machine."""
    monkeypatch.setattr(objects, "require_tvm", lambda: None)
    monkeypatch.setattr(
        module, "machine_code", lambda target: {f"{isa.name}.o": b"code" for isa in target.sets}
    )
    monkeypatch.setattr(module, "host_kernels", lambda: Kernels(reference_library()))


@pytest.fixture
def no_kernels(made, monkeypatch):
    """A machine that cannot build kernels, so that nothing is converted for minimal builds."""

    def fail():
        raise BuildError("no compiler")

    monkeypatch.setattr(module, "host_kernels", fail)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_save_writes_a_folder_beside_the_model(made, tmp_path):
    model = to_ort(layer("codebook4", 70, 40, leading=(2,)))
    fast = addax.optimize(model, target="android-arm64")
    assert "kernels for android-arm64, planned: neondot: 1 CodebookMatMul" in str(fast.report)
    fast.save(tmp_path / "model.onnx")
    folder = tmp_path / "model.android-arm64"
    assert {"model.onnx", folder.name} == files(tmp_path)
    ours = {"README.md", "neondot.o", "neon.o", "model.ort", "model.required_operators.config"}
    assert set(project(PHONE)) | ours == files(folder)
    assert "`model.ort`" in (folder / "README.md").read_text("utf-8")
    config = (folder / "model.required_operators.config").read_text("utf-8")
    assert "addax;1;CodebookMatMul\n" == config

    x = representable("codebook4", (2,), 40, many=False)
    expected = x @ weights("codebook4", 70, 40)[3].T
    for path, library in (
        (tmp_path / "model.onnx", None),
        (tmp_path / "model.onnx", reference_library()),
        (folder / "model.ort", reference_library()),
    ):
        (y,) = Session(path, library=library).run({"x": x}).values()
        assert np.array_equal(expected, y), path
    assert np.array_equal(expected, fast(x))
    with pytest.raises(UnsupportedOpError, match="CodebookMatMul"):
        Session(folder / "model.ort")


def test_a_folder_that_is_there_is_kept(no_kernels, tmp_path):
    save_project(layer("int8", 8, 40), PHONE, tmp_path / "m.onnx")
    folder = folder_beside(tmp_path / "m.onnx", PHONE.name)
    (folder / "build").mkdir()
    (folder / "neon.o").write_bytes(b"old")
    save_project(layer("int8", 8, 40), PHONE, tmp_path / "m.onnx")
    assert (folder / "build").is_dir()
    assert b"code" == (folder / "neon.o").read_bytes()


def test_a_model_of_standard_operators_needs_no_kernels(made, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "machine_code", lambda target: pytest.fail("not needed"))
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    fast = addax.optimize(model, target="ios-arm64")
    assert ("kernels for ios-arm64: none are needed, the model has standard ops alone",) == (
        fast.report.notes
    )
    fast.save(tmp_path / "m.onnx")
    assert {"m.onnx"} == files(tmp_path)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_best_instruction_set_is_planned(name):
    target = TARGETS[name]
    (line,) = planned(layer("binary2", 8, 40), target)
    assert f"kernels for {name}, planned: {target.sets[0].name}: 1 BinaryMatMul" == line
    wide = layer("binary2", 8, 40)
    wide.graph.inputs[0].dtype = onnx.TensorProto.FLOAT16
    assert not Planned(target).has(wide.graph[0])
    assert (f"kernels for {name}, planned: bodies: 1 BinaryMatMul",) == planned(wide, target)
    assert not Planned(dataclasses.replace(target, sets=())).has(layer("int8", 8, 40).graph[0])


# --- what fails ---


def test_without_tvm_nothing_is_begun(monkeypatch):
    monkeypatch.setattr(objects.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"TVM, which is not installed: pip install addax\[tvm\]"):
        addax.optimize(layer("int8", 8, 40), target="linux-arm64")


def test_without_machine_code_nothing_is_written(monkeypatch, tmp_path):
    def fail(target):
        raise BuildError("no code")

    monkeypatch.setattr(module, "machine_code", fail)
    with pytest.raises(BuildError, match="no code"):
        save_project(layer("int8", 8, 40), PHONE, tmp_path / "m.onnx")
    assert set() == files(tmp_path)


def test_without_kernels_of_this_machine_there_is_no_small_model(no_kernels, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        save_project(layer("int8", 8, 40), PHONE, tmp_path / "m.onnx")
    assert "no model in ORT format, since this machine has no kernels: no compiler" in caplog.text
    folder = tmp_path / "m.android-arm64"
    assert "m.ort" not in files(folder)
    assert "There is no model in ORT format" in (folder / "README.md").read_text("utf-8")


def test_a_converter_that_fails(made, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(module.sys, "executable", "false")
    with caplog.at_level(logging.WARNING):
        save_project(layer("int8", 8, 40), PHONE, tmp_path / "m.onnx")
    assert "since ONNX Runtime cannot write it: it said nothing" in caplog.text
    assert "m.ort" not in files(tmp_path / "m.android-arm64")


def test_a_folder_that_cannot_be_made(made, tmp_path):
    (tmp_path / "m.android-arm64").write_text("a file")
    with pytest.raises(ModelFileError, match="cannot write the kernels for android-arm64"):
        save_project(layer("int8", 8, 40), PHONE, tmp_path / "m.onnx")
    assert {"m.onnx", "m.android-arm64"} == files(tmp_path)


def test_the_report_of_a_portable_model_names_its_bodies():
    fast = addax.optimize(to_ort(layer("int8", 8, 40)), target="portable")
    assert ("kernels: none for this target; bodies: 1 Int8MatMul",) == fast.report.notes
