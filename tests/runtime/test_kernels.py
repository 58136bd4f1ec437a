"""Kernels of this machine: what is built, what falls back to bodies, what is told."""

import ctypes
import functools
import importlib.util
import logging
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax.backends.compiler import find_compiler
from addax.backends.target import InstructionSet, Target
from addax.backends.to_ort import to_ort
from addax.errors import BuildError
from addax.runtime import kernels as module
from addax.runtime.kernels import Kernels, code_paths, host_kernels, kernels_for
from addax.runtime.session import Session
from tests.backends.ort.libraries import layer, reference_library, representable
from tests.ir.dialect.running import model_of

KERNELS = Path(__file__).parents[1] / "backends/ort/kernels.c"


def reference_object(target: Target) -> dict[str, bytes]:
    """The kernels in plain loops, compiled under the name of an instruction set."""
    (isa,) = target.sets
    return {f"{isa.name}.o": compiled(isa.name)}


@functools.cache
def compiled(isa: str) -> bytes:
    text = KERNELS.read_text("utf-8").replace("_scalar", f"_{isa}")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernels.c"), Path(folder, "kernels.o")
        source.write_text(text, "utf-8")
        command = [*find_compiler().command, "-c", "-O1", "-fPIC", str(source), "-o", str(made)]
        subprocess.run(command, check=True)
        return made.read_bytes()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that is empty before the first test of this file."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def no_tvm(monkeypatch, cache):
    """The plain kernels in place of TVM's, in a cache of their own."""
    monkeypatch.setenv("ADDAX_CACHE", str(cache))
    monkeypatch.setattr(module, "machine_code", reference_object)


@pytest.fixture(scope="module")
def cache_without_kernels(tmp_path_factory):
    """A cache that has at most what asks the processor."""
    return tmp_path_factory.mktemp("probe")


@pytest.fixture
def no_kernels(monkeypatch, cache_without_kernels):
    monkeypatch.setenv("ADDAX_CACHE", str(cache_without_kernels))


@pytest.fixture
def only_scalar(monkeypatch):
    sets = (InstructionSet("avx1024", "", ""), InstructionSet("scalar", "", ""))
    monkeypatch.setattr(module.targets, "host", lambda: Target("host", "x", sets))


def test_the_best_that_the_processor_has_is_built(no_tvm, only_scalar):
    made = host_kernels()
    assert made == host_kernels()
    model = layer("codebook4", 70, 40)
    assert "scalar" == made.code_path(model.graph[0])
    x = representable("codebook4", (2,), 40, many=False)
    session = Session(to_ort(model), library=made.path)
    np.testing.assert_array_equal(
        Session(to_ort(model)).run({"x": x})["y"], session.run({"x": x})["y"]
    )


def test_the_environment_names_the_instruction_set(no_tvm, monkeypatch):
    monkeypatch.setenv("ADDAX_ISA", "scalar")
    assert "scalar" == host_kernels().code_path(layer("int8", 3, 3).graph[0])
    monkeypatch.setenv("ADDAX_ISA", "neon9")
    with pytest.raises(
        BuildError, match=r"this processor has .*nomul, and ADDAX_ISA asks for neon9"
    ):
        host_kernels()


def test_a_processor_without_kernels(no_tvm, monkeypatch):
    monkeypatch.setattr(module.targets, "host", lambda: Target("host"))
    with pytest.raises(BuildError, match=r"an instruction set that addax has kernels for; .*none"):
        host_kernels()


def test_a_node_has_a_kernel_only_where_kernels_can_be_had(no_tvm, monkeypatch):
    node = layer("codebook4", 70, 40).graph[0]
    assert module.has_host_kernel()(node)
    assert not module.has_host_kernel()(ir.node("Relu", [node.outputs[0]]))
    monkeypatch.setattr(module.targets, "host", lambda: Target("host"))
    assert not module.has_host_kernel()(node)


def test_without_tvm_it_says_what_to_install(no_kernels, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"TVM, which is not installed: pip install addax\[tvm\]"):
        host_kernels()


def test_tvm_that_fails(no_kernels, monkeypatch):
    def fail(target):
        raise TypeError("no such attribute")

    stand_in = types.SimpleNamespace(kernel_objects=fail)
    monkeypatch.setitem(sys.modules, "addax.backends.tvm.objects", stand_in)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(BuildError, match="TVM could not make the kernels: TypeError: no such attr"):
        host_kernels()


# --- which nodes have a kernel ---


def library() -> Kernels:
    return Kernels(reference_library())


def test_a_node_that_no_kernel_computes():
    half = layer("binary3", 8, 40)
    half.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    other = layer("codebook2", 8, 40)
    other.graph[0].attributes["bits"] = ir.AttrInt64("bits", 3)
    unknown = layer("int8", 8, 40)
    unknown.graph.inputs[0].shape = None
    fed = layer("int8", 8, 40)
    fed.graph.inputs.append(fed.graph.initializers.pop("scale"))
    group = layer("binary1", 8, 40)
    group.graph[0].attributes["group"] = ir.AttrInt64("group", 256)
    wide = layer("codebook4", 8, 40)
    wide.graph.inputs[0].shape = ir.Shape([1, 400])
    foreign = model_of("Int8MatMul", {"x": (ir.DataType.FLOAT, [1, 4])} | int8_weights())
    foreign.graph[0].domain = "other"
    for model in (half, other, unknown, fed, group, wide, foreign):
        assert library().code_path(model.graph[0]) is None
    assert "scalar" == library().code_path(layer("binary3", 8, 40).graph[0])


def int8_weights() -> dict[str, np.ndarray]:
    return {"weights": np.zeros((1, 1, 64, 4), np.int8), "scale": np.ones(3, np.float32)}


def test_the_line_of_the_report(monkeypatch, caplog):
    model = to_ort(layer("codebook4", 8, 40))
    monkeypatch.setattr(module, "host_kernels", library)
    assert (library(), ("kernels: scalar: 1 CodebookMatMul",)) == kernels_for(model)
    model.graph.inputs[0].shape = ir.Shape([1, "K"])
    assert (None, ("kernels: bodies: 1 CodebookMatMul",)) == kernels_for(model)
    assert "bodies: 1 CodebookMatMul" == code_paths(model, None)

    def fail():
        raise BuildError("no compiler\nits last words")

    monkeypatch.setattr(module, "host_kernels", fail)
    with caplog.at_level(logging.WARNING):
        told = ("kernels: bodies: 1 CodebookMatMul, because no compiler",)
        assert (None, told) == kernels_for(model)
    assert "no kernels, the model runs through the bodies of its ops: no compiler" in caplog.text


def test_a_model_without_the_dialect_builds_nothing(monkeypatch):
    monkeypatch.setattr(module, "host_kernels", lambda: pytest.fail("built"))
    model = ir.Model(ir.Graph([], [], nodes=[], name="g", opset_imports={"": 20}), ir_version=10)
    assert (None, ()) == kernels_for(model)


# --- the whole way ---


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_optimize_without_a_compiler_runs_the_bodies(monkeypatch, tmp_path, compiler):
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    fast = addax.optimize(to_ort(layer("codebook4", 8, 40)))
    x = np.float32(np.ones((1, 40)))
    portable = addax.optimize(to_ort(layer("codebook4", 8, 40)), target="portable")
    np.testing.assert_array_equal(portable(x), fast(x))
    assert "kernels: bodies: 1 CodebookMatMul, because" in str(fast.report)
    assert portable.kernels is None
    fast.save(tmp_path / "m.onnx")
    assert ["m.onnx"] == [file.name for file in tmp_path.glob("m*")]


def test_optimize_with_kernels(monkeypatch):
    monkeypatch.setattr(module, "host_kernels", library)
    fast = addax.optimize(to_ort(layer("codebook4", 8, 40)))
    assert ("kernels: scalar: 1 CodebookMatMul",) == fast.report.notes
    x = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)
    exact = addax.optimize(to_ort(layer("codebook4", 8, 40)), target="portable")(x)
    assert 0 < np.abs(fast(x) - exact).max() < 0.02 * np.abs(exact).max()


def test_the_library_says_what_the_processor_has():
    has = ctypes.CDLL(str(reference_library())).addax_has_isa
    assert (1, 0) == (has(b"scalar"), has(b"quantum"))
