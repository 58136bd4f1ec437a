"""A planted fault is named, and the model that shows it shrinks to a few nodes."""

import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from addax.debugging import Crashes, Differs, Fails, bisect, reduce
from addax.errors import InputError
from addax.ir.parser import parse_text
from addax.ir.verify import verify
from addax.testing.cases import read_file
from tests.debugging.planted import crash, plant, wrong_sign

__all__ = ["plant"]

BODY = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,4] x, float[N,4] z) => (float[N,4] y, float[N,4] other) <float[4,4] w, float one = {1}> {
    a = MatMul(x, w)
    b = Mul(a, one)
    c = Relu(b)
    d = Relu(c)
    e = Sub(d, z)
    f = Tanh(e)
    h = Sigmoid(f)
    i = Identity(h)
    j = Add(i, x)
    y = Mul(j, one)
    k = Neg(z)
    other = Neg(k)
}"""


@pytest.fixture
def model() -> ir.Model:
    return parse_text(BODY)


def test_bisect_names_the_rewrite_that_changes_the_result(plant, model, tmp_path: Path) -> None:
    plant(wrong_sign)
    found = bisect(model, Differs())
    assert (found.rule, found.bindings) == ("cleanup/wrong-sign", {"x": "c", "y": "z"})
    assert 1 <= found.number <= found.total
    assert "which may differ by" in found.fault
    text = str(found)
    assert f"rewrite {found.number} of {found.total}: cleanup/wrong-sign (planted.py:" in text
    assert "Tanh" in found.before
    assert "Add" in found.after
    path = tmp_path / "cleanup.wrong-sign.txt"
    path.write_text(found.case, "utf-8")
    (case,) = read_file(path)
    assert (case.verb, case.rule) == ("fires", "cleanup/wrong-sign")
    assert [n.op_type for n in parse_text(case.text).graph][:2] == ["Sub", "Tanh"]


def test_bisect_names_the_rewrite_that_crashes(plant, model) -> None:
    plant(crash)
    found = bisect(model, Crashes())
    assert (found.rule, found.number) == ("cleanup/crash", found.total)
    assert found.node.startswith("Tanh")
    assert found.fault.startswith("ZeroDivisionError: planted")


def test_bisect_refuses_what_is_not_a_fault_of_rewriting(model) -> None:
    with pytest.raises(InputError, match="not there after all"):
        bisect(model, Differs())
    with pytest.raises(InputError, match="there before any rewrite"):
        bisect(model, lambda *_: "always")


def test_reduce_leaves_a_few_nodes(plant, model) -> None:
    plant(wrong_sign)
    seen = []
    found = reduce(model, Differs(), progress=seen.append)
    verify(found.model)
    assert [n.op_type for n in found.model.graph] == ["Sub", "Tanh"]
    assert len(found.model.graph.outputs) == 1
    assert found.nodes == (12, 2)
    assert "12 nodes became 2" in str(found)
    assert seen
    assert not found.out_of_time
    assert len(model.graph) == 12


def test_reduce_keeps_the_kind_of_crash(plant, model) -> None:
    plant(crash)
    found = reduce(model, Crashes(like=ZeroDivisionError))
    assert [n.op_type for n in found.model.graph] == ["Sub", "Tanh"]
    assert found.fault == "ZeroDivisionError: planted"


def test_reduce_stops_in_time(plant, model) -> None:
    plant(wrong_sign)
    found = reduce(model, Differs(), seconds=0)
    assert found.out_of_time
    assert "time ran out" in str(found)


def test_reduce_needs_a_fault(model) -> None:
    with pytest.raises(InputError, match="expected a model with the fault"):
        reduce(model, Differs())


CHECK = f'{sys.executable} -c "import sys, onnx; m = onnx.load(sys.argv[1]); sys.exit({{}})"'


def test_a_command_may_be_the_judge(model) -> None:
    one_relu = CHECK.replace("{}", "sum(n.op_type == 'Relu' for n in m.graph.node) < 2")
    found = bisect(model, Fails(one_relu))
    assert found.rule == "cleanup/idempotent"
    assert found.fault == "the command ended with 1"


def test_a_command_that_is_none_is_refused(model) -> None:
    with pytest.raises(InputError, match="got an empty one"):
        Fails(" ")
    with pytest.raises(InputError, match="'no-such-command' was not found"):
        Fails("no-such-command")(model, None)
    slow = Fails(f'{sys.executable} -c "import time; time.sleep(60)"', timeout=0.2)
    assert slow(model, 0) == "the command took longer than 0 s"
