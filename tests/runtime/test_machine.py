"""What a machine has."""

import importlib.metadata

import pytest

from addax.backends.target import Target
from addax.backends.targets import AVX2, SCALAR
from addax.errors import BuildError
from addax.runtime import machine as module
from addax.runtime.kernels import Kernels
from addax.runtime.machine import Machine
from tests.backends.ort.libraries import reference_library


@pytest.fixture
def machine(monkeypatch):
    """One that has AVX2, a compiler, and a library."""
    monkeypatch.setattr(module, "usable_sets", lambda: (AVX2, SCALAR))
    monkeypatch.setattr(module, "best_target", lambda: Target("host", "", (SCALAR,)))
    monkeypatch.setattr(module, "built_kernels", lambda: Kernels(reference_library()))


def test_a_machine_with_everything(machine):
    here = Machine.here()
    assert ("avx2", "scalar") == here.sets
    assert "scalar" == here.used
    assert reference_library() == here.library
    assert importlib.metadata.version("onnxruntime") == here.onnxruntime
    assert here.compiler
    assert "" == here.missing


def test_kernels_that_were_not_built_need_tvm(machine, monkeypatch):
    monkeypatch.setattr(module, "built_kernels", lambda: None)
    found = module._version
    monkeypatch.setattr(module, "_version", lambda name: None if "tvm" in name else found(name))
    here = Machine.here()
    assert here.library is None
    assert here.tvm is None
    assert "kernels are made with TVM: pip install addax[tvm]" == here.missing


def test_a_machine_without_compiler(monkeypatch):
    def fail():
        raise BuildError("found none: install one")

    monkeypatch.setattr(module, "find_compiler", fail)
    here = Machine.here()
    assert (None, (), None) == (here.compiler, here.sets, here.library)
    assert "found none: install one" == here.missing
