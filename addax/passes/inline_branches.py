"""Inline branches: control flow that constants decide.

Algebra     If(true, f, g) = f and If(false, f, g) = g;
            a Loop of no iterations gives what it was given
Source      the ONNX operators' definitions
Exactness   bitwise: the same operators run on the same values
Cost        removes the branching, and the branch that is never taken

Model-local functions stay as they are: who wrote them wanted the boundary.
"""

import onnx_ir as ir

from addax.ir import Exact, Op, attribute, require, rule, scalar
from addax.passes._family import Phase

PHASE = Phase.CANONICAL


def _if(op: Op, condition: ir.Value) -> ir.Value:
    return op.If(condition)


@rule("inline-branches/if", match=_if, exact=Exact.BITWISE)
def inline_if(op: Op, condition: ir.Value) -> tuple[ir.Value, ...]:
    """If(true, f, g) -> f;  If(false, f, g) -> g."""
    taken = scalar(condition)
    require(taken is not None, "the condition is known only at run time", condition)
    return op.inline(attribute(op.root, "then_branch" if taken else "else_branch"))


def _loop(op: Op) -> ir.Value:
    return op.Loop(...)


@rule("inline-branches/loop", match=_loop, exact=Exact.BITWISE)
def remove_loop(op: Op) -> tuple[ir.Value | None, ...]:
    """Loop(0, condition, v, f), Loop(count, false, v, f) -> v."""
    count, condition, *given = op.root.inputs
    trips, goes_on = scalar(count), scalar(condition)
    is_never_run = (trips is not None and trips <= 0) or (goes_on is not None and not goes_on)
    require(is_never_run, "the body may run", count, condition)
    return tuple(given)


RULES = (inline_if, remove_loop)
