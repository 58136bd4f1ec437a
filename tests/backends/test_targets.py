"""Targets: which there are, what their instruction sets need, which kernels each op has there."""

import platform
import subprocess
import sys

import pytest

import addax
from addax.api import TARGETS as NAMES
from addax.backends import targets
from addax.backends.ort.forms import form_of
from addax.backends.ort.project import SYSTEMS
from addax.backends.ort.sources import FORMS
from addax.backends.ort.table import table
from addax.backends.targets import TARGETS
from addax.errors import OptionError
from addax.ir.dialect import operators
from tests.backends.ort.libraries import layer

ARMS = ("android-arm64", "ios-arm64", "linux-arm64")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_target_can_be_asked_for_by_name(name):
    assert name in NAMES
    assert name == TARGETS[name].name
    assert TARGETS[name].triple


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_last_instruction_set_runs_on_every_processor(name):
    *better, last = TARGETS[name].sets
    assert () == last.requires
    assert all(isa.requires for isa in better)


def test_the_nearest_name_is_suggested():
    with pytest.raises(OptionError, match="'android' does not exist; did you mean 'android-arm64'"):
        addax.optimize(layer("int8", 8, 40), target="android")
    with pytest.raises(OptionError, match="did you mean 'linux-arm64'"):
        addax.optimize(layer("int8", 8, 40), target="linux-aarch64")


@pytest.mark.parametrize(
    ("system", "machine", "triple", "best"),
    [
        ("Linux", "x86_64", "x86_64-linux-gnu", "avx512"),
        ("Linux", "aarch64", "aarch64-linux-gnu", "neondot"),
        ("Darwin", "arm64", "arm64-apple-macosx", "neondot"),
        ("Windows", "AMD64", "x86_64-windows-msvc", "avx512"),
    ],
)
def test_this_machine(monkeypatch, system, machine, triple, best):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(targets.sys, "platform", system.lower())
    assert triple == targets.host().triple
    assert best == targets.host().sets[0].name


@pytest.mark.parametrize(("system", "machine"), [("Linux", "riscv64"), ("Plan9", "x86_64")])
def test_a_machine_without_kernels(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert () == targets.host().sets


def test_targets_load_no_tvm():
    code = "import sys, addax.backends.targets; sys.exit('tvm' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


# --- which kernels ops have ---


def test_every_op_has_a_row_and_every_form_one_op():
    rows = table(TARGETS.values())
    assert set(operators()) == {row.op for row in rows}
    assert sorted(FORMS) == sorted(row.form for row in rows if row.form)


@pytest.mark.parametrize("form", ["codebook4", "codebook2", "binary1", "binary4", "int8"])
def test_a_node_is_in_the_row_of_its_form(form):
    node = layer(form, 8, 40).graph[0]
    assert form == form_of(node)
    (row,) = (row for row in table(TARGETS.values()) if row.form == form)
    assert node.op_type == row.op


def test_a_row_says_which_kernels_and_from_how_many_rows():
    rows = {row.form: row for row in table([TARGETS["linux-arm64"]])}
    assert {"neondot", "neon"} == set(rows["binary2"].many_from)
    assert "tables, binary2_few" == rows["binary2"].few
    assert "quantize, binary2_many" == rows["binary2"].many
    assert rows["int8"].few == rows["int8"].many == "quantize, int8"


@pytest.mark.parametrize("name", ARMS)
def test_all_kernels_are_on_every_processor_of_a_target(name):
    sets = {isa.name for isa in TARGETS[name].sets}
    assert all(sets == set(row.many_from) for row in table([TARGETS[name]]) if row.form)
