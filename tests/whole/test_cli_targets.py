"""`addax targets`: what it lists, for people and for programs, on machines with much and little."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from addax.api import TARGETS
from addax.cli import app
from addax.ir.dialect import operators
from addax.runtime.machine import Machine

RICH = Machine(
    "Linux x86_64",
    "1.32.0",
    "0.27.0",
    "/usr/bin/cc",
    ("avx2", "scalar"),
    "avx2",
    Path("k/addax.so"),
    "",
)
POOR = Machine(
    "Linux x86_64", "1.32.0", None, None, (), None, None, "expected a C compiler, found none\nmore"
)


def run(monkeypatch: pytest.MonkeyPatch, machine: Machine, *arguments: str) -> str:
    monkeypatch.setattr(Machine, "here", staticmethod(lambda: machine))
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(app, ["targets", *arguments], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.stdout


def test_programs_get_everything(monkeypatch):
    record = json.loads(run(monkeypatch, RICH, "--json"))
    assert list(TARGETS) == [target["name"] for target in record["targets"]]
    assert all(target["where"] for target in record["targets"])
    assert ["avx2", "scalar"] == record["machine"]["sets"]
    assert "addax.so" == Path(record["machine"]["library"]).name
    sets = {t["name"]: t["instruction_sets"] for t in record["targets"]}
    assert ["neondot", "neon"] == sets["android-arm64"]
    assert [] == sets["portable"]
    assert ["dotprod"] == record["instruction_sets"]["neondot"]
    assert "avx512vnni" in record["instruction_sets"]["avx512"]
    assert set(operators()) == {row["op"] for row in record["ops"]}
    rows = {row["form"]: row for row in record["ops"]}
    assert "quantize, codebook4_few" == rows["codebook4"]["few"]
    assert {"neondot", "avx512"} <= rows["codebook4"]["many_from"].keys()


def test_people_see_what_the_machine_has(monkeypatch):
    printed = run(monkeypatch, RICH)
    lines = {line.split(":")[0]: line for line in printed.splitlines()}
    assert "avx2, scalar" in lines["instruction sets"]
    assert "/usr/bin/cc" in lines["C compiler"]
    assert "addax.so" in lines["kernels"]
    assert "missing" not in lines
    words = [[cell.strip() for cell in line.split("│")] for line in printed.splitlines()]
    (used,) = (row for row in words if row[0] == "avx2")
    assert ["avx2", "x86_64: avx2 fma", "used"] == used
    (row,) = (row for row in words if row[:2] == ["CodebookMatMul", "codebook4"])
    assert ["quantize, codebook4_few", "quantize, codebook4_many"] == row[2:4]
    assert "through their bodies in standard operators:" in printed
    assert all(name in printed for name in (*TARGETS, *operators()))


def test_people_see_what_is_missing(monkeypatch):
    printed = run(monkeypatch, POOR)
    assert "missing:          expected a C compiler, found none\n" in printed
    assert "not built yet; the first use builds them" in printed
    assert "not installed" in printed


def test_this_machine_is_asked():
    result = CliRunner().invoke(app, ["targets", "--json"], catch_exceptions=False)
    machine = json.loads(result.stdout)["machine"]
    assert machine["system"]
    assert machine["sets"] or machine["missing"]
