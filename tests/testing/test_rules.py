"""A sound rule passes the laws; each planted defect is caught by the law that it breaks."""

import re
from typing import Any

import onnx_ir as ir
import pytest

from addax.errors import InputError
from addax.ir.rule import Exact, Op, rule
from addax.testing import check_rule
from addax.testing.cases import read_text

HEAD = '<ir_version: 10, opset_import: ["": 20]>\n'
FIRES = f"""
# fires: two scales become one
{HEAD}g (float[N,4] x) => (float[N,4] y) <float[4] a, float[4] b> {{ t = Mul(x, a) y = Mul(t, b) }}
"""
DECLINES = f"""
# declines: b is not constant
{HEAD}g (float[N,4] x, float[4] b) => (float[N,4] y) <float[4] a> {{ t = Mul(x, a) y = Mul(t, b) }}
"""


def scales(op: Op, x: Any, a: Any, b: Any) -> Any:
    return op.Mul(op.Mul(x, a), b)


def made(build: Any, match: Any = scales, exact: Exact = Exact.REASSOCIATED) -> Any:
    return rule("user/scales", match=match, exact=exact)(build)


def right(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> Any:
    from addax.ir.query import const

    const(a, "a")
    const(b, "b")
    return op.Mul(x, op.Mul(a, b))


def wrong_sign(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> Any:
    return op.Mul(x, op.Neg(op.Mul(a, b)))


def a_percent(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> Any:
    return op.Mul(x, op.Mul(op.Mul(a, b), 1.01))


def endless(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> Any:
    return op.Mul(op.Mul(x, b), a)


def breaks_the_interface(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> Any:
    op.root.graph.inputs[0].name = "renamed"
    return right(op, x, a, b)


def test_a_sound_rule_passes():
    assert check_rule(made(right), cases=FIRES + DECLINES) >= 6


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (wrong_sign, "no rewrite is refuted"),
        (a_percent, "no rewrite is refuted"),
        (endless, "it ends"),
        (breaks_the_interface, "the result is well formed with the same interface"),
    ],
)
def test_a_defect_is_caught(build: Any, law: str):
    with pytest.raises(AssertionError, match=law) as caught:
        check_rule(made(build), cases=FIRES)
    text = str(caught.value)
    assert "user/scales" in text
    assert "# fires: two scales become one" in text
    assert f"check_rule({build.__name__}, cases='''# fires: " in text


def test_a_dropped_guard_is_caught():
    def differences(op: Op, x: Any, a: Any, b: Any) -> Any:
        return op.Sub(op.Sub(x, a), b)

    def unguarded(op: Op, x: ir.Value, a: ir.Value, b: ir.Value) -> Any:
        return op.Sub(x, op.Add(a, b))

    with pytest.raises(AssertionError, match="the case says that it declines, but it fired"):
        check_rule(made(unguarded, differences), cases=DECLINES.replace("Mul", "Sub"))


def test_a_rule_that_does_not_fire_is_caught():
    def never(op: Op, x: Any, a: Any, b: Any) -> Any:
        return op.Add(op.Mul(op.Mul(x, a), b), 12345.0)

    with pytest.raises(AssertionError, match="declined: the pattern does not match"):
        check_rule(made(right, never), cases=FIRES)
    with pytest.raises(AssertionError, match="fired on no case and on none of 3 random models"):
        check_rule(made(right, never), random_models=3)


def test_bits_that_were_promised_are_demanded():
    with pytest.raises(AssertionError, match="the numbers agree"):
        check_rule(made(right, exact=Exact.BITWISE), cases=FIRES)


def test_the_reproducer_reads_as_cases():
    with pytest.raises(AssertionError) as caught:
        check_rule(made(wrong_sign), cases=FIRES)
    found = re.search(r"cases='''(.*?)'''", str(caught.value), re.DOTALL)
    (case,) = read_text(found[1], "user/scales")
    with pytest.raises(AssertionError, match="no rewrite is refuted"):
        check_rule(made(wrong_sign), cases=[case])


def test_what_is_no_rule_and_no_case_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a rule, as the decorator addax"):
        check_rule(right)
    with pytest.raises(InputError, match="cases: expected blocks of ONNX text that begin with"):
        check_rule(made(right), cases="g (float x) => (float y) {}")
    (tmp_path / "scales.txt").write_text(FIRES)
    with pytest.raises(InputError, match=r"expected a case file to be called <family>\.<rule>"):
        check_rule(made(right), cases=tmp_path / "scales.txt")
