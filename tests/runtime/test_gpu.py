"""The folder for GPUs beside a model: files, and a description that fits them."""

import json
from importlib.util import find_spec

import onnx_ir as ir
import pytest
from safetensors.numpy import load_file

import addax
from addax.backends.gpu.languages import LANGUAGES
from addax.backends.to_ort import to_ort
from addax.errors import MissingPackageError, ModelFileError
from addax.runtime.beside import folder_beside
from addax.runtime.gpu import planned, save_program
from addax.runtime.session import Session
from tests.backends.ort.libraries import layer, representable
from tests.ir.dialect.running import model_of

NEEDS_TVM = pytest.mark.skipif(find_spec("tvm") is None, reason="TVM is not installed")


@NEEDS_TVM
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_step_gives_the_parameters_that_its_kernel_has(language, tmp_path):
    save_program(layer("codebook4", 70, 96), language, tmp_path / "model.onnx")
    folder = folder_beside(tmp_path / "model.onnx", language)
    described = json.loads((folder / "kernels.json").read_text("utf-8"))
    assert language == described["language"]
    kernels = {kernel["name"]: kernel for kernel in described["kernels"]}
    weights = load_file(folder / described["weights"])
    (node,) = described["nodes"]
    launched = set()
    for step in (*node["few"], *node["many"]):
        kernel = kernels[step["kernel"]]
        launched.add(step["kernel"])
        assert {parameter["name"] for parameter in kernel["parameters"]} == set(step["arguments"])
        assert {extent["parameter"] for extent in kernel["grid"]} <= set(step["arguments"])
        for argument in step["arguments"].values():
            assert not isinstance(argument, dict) or argument["tensor"] in weights
        assert kernel["name"] in (folder / kernel["file"]).read_text("utf-8")
    assert launched == set(kernels)
    files = {kernel["file"] for kernel in kernels.values()}
    assert files | {"kernels.json", "weights.safetensors"} == {f.name for f in folder.iterdir()}


@NEEDS_TVM
def test_the_model_beside_it_runs_anywhere(tmp_path):
    made = addax.optimize(to_ort(layer("binary2", 9, 64)), target="metal", progress=False)
    assert any("kernels in metal: 1 nodes" in note for note in made.report.notes)
    made.save(tmp_path / "model.onnx")
    x = representable("binary2", (3,), 64, False)
    expected = made.session.run({"x": x})
    assert expected["y"].tolist() == Session(tmp_path / "model.onnx").run({"x": x})["y"].tolist()


def test_a_model_without_layers_gets_no_folder(tmp_path):
    model = model_of("Binarize", {"x": (ir.DataType.FLOAT, ["B", 8])})
    save_program(model, "cuda", tmp_path / "model.onnx")
    assert ["model.onnx"] == [file.name for file in tmp_path.iterdir()]
    (told,) = planned(model, "cuda")
    assert "kernels in cuda: 0 nodes; bodies in standard operators: 1" in told


@NEEDS_TVM
def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "model.cuda").write_text("in the way")
    with pytest.raises(ModelFileError, match=r"model\.cuda: cannot write the kernels for cuda"):
        save_program(layer("int8", 3, 8), "cuda", tmp_path / "model.onnx")


def test_the_target_wants_tvm_at_once(monkeypatch):
    def missing():
        raise MissingPackageError("TVM is not installed; pip install addax[tvm]")

    monkeypatch.setattr("addax.backends.to_tvm.require_tvm", missing)
    with pytest.raises(MissingPackageError, match="TVM is not installed"):
        addax.optimize(to_ort(layer("int8", 3, 8)), target="webgpu", progress=False)
