"""Machine code of the kernels: made once for each instruction set and kept."""

import sys
import types

import pytest

from addax.backends.targets import TARGETS
from addax.errors import BuildError
from addax.runtime import objects
from addax.runtime.objects import generator_digest, machine_code

ARM, PHONE = TARGETS["linux-arm64"], TARGETS["android-arm64"]


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[tuple[str, str]]:
    """What the generator is asked for: triple and instruction set."""
    made = []

    def kernel_objects(target):
        made.extend((target.triple, isa.name) for isa in target.sets)
        return {isa.name: f"{target.triple} {isa.name}".encode() for isa in target.sets}

    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path))
    monkeypatch.setattr(objects, "require_tvm", lambda: None)
    stand_in = types.SimpleNamespace(kernel_objects=kernel_objects)
    monkeypatch.setitem(sys.modules, "addax.backends.tvm.objects", stand_in)
    return made


def test_code_is_made_once_for_each_system_and_set(asked):
    code = machine_code(ARM)
    assert {"neondot.o": b"aarch64-linux-gnu neondot", "neon.o": b"aarch64-linux-gnu neon"} == code
    assert code == machine_code(ARM)
    assert b"aarch64-linux-android neon" == machine_code(PHONE)["neon.o"]
    systems = ("aarch64-linux-gnu", "aarch64-linux-android")
    assert [(system, isa) for system in systems for isa in ("neondot", "neon")] == asked


def test_damaged_code_is_made_anew(asked, tmp_path):
    code = machine_code(ARM)
    for path in tmp_path.rglob("neon.o"):
        path.write_bytes(b"damaged")
    assert code == machine_code(ARM)
    assert 3 == len(asked)


def test_another_generator_makes_its_own(asked, monkeypatch):
    machine_code(ARM)
    monkeypatch.setattr(objects, "generator_digest", lambda: generator_digest()[::-1])
    machine_code(ARM)
    assert 4 == len(asked)


def test_a_cache_that_cannot_be_written(asked, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(
        BuildError, match=r"the machine code of the kernels cannot be kept: .*CACHE"
    ):
        machine_code(ARM)
