"""Rules with faults, planted into the exact pipeline for a test."""

import dataclasses
from collections.abc import Callable

import onnx_ir as ir
import pytest

from addax import plan
from addax.ir import Exact, Op, rule
from addax.passes import _family, _pipeline
from addax.passes._family import families


def _shape(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    return op.Tanh(op.Sub(x, y))


@rule("cleanup/wrong-sign", match=_shape, exact=Exact.REASSOCIATED)
def wrong_sign(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """A rule that is wrong: tanh(x - y) -> tanh(x + y)."""
    return op.Tanh(op.Add(x, y))


@rule("cleanup/crash", match=_shape, exact=Exact.BITWISE)
def crash(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """A rule that raises."""
    raise ZeroDivisionError("planted")


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Adds a rule to the family `cleanup`."""

    def add(planted: object) -> None:
        known = dict(families())
        cleanup = known["cleanup"]
        known["cleanup"] = dataclasses.replace(cleanup, rules=(*cleanup.rules, planted))
        for module in (_family, _pipeline, plan):
            monkeypatch.setattr(module, "families", lambda: known)

    return add
