"""What a rewrite rule is: a pattern, a build function, and what the rewrite promises.

    @rule("family/variant", match=pattern, exact=Exact.REASSOCIATED)
    def build(op, x, w): ...

The pattern is a plain function that is traced once (`addax.ir.match`); the build function
receives the bound values and returns the replacement, or declines with a reason.
"""

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import onnx_ir as ir


class Exact(enum.Enum):
    """What a rewrite promises about the numbers.

    BITWISE: every element equal (NaN where it was NaN; zeros of either sign are equal).
    REASSOCIATED: equal over the reals; in floating point within the error bound of the
        operations involved, since a constant was folded or a sum reordered.
    APPROXIMATE: within the bound of the number format, and measured on calibration data;
        runs only when the caller allows the family by name.
    """

    BITWISE = "bitwise"
    REASSOCIATED = "reassociated"
    APPROXIMATE = "approximate"


class Decline(Exception):  # noqa: N818 - a decision, not an error: the driver counts it and goes on
    """A rule's guard said no. Not an error: the driver counts the reason and moves on."""

    def __init__(self, reason: str, values: tuple[ir.Value | None, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.values = values


def decline(reason: str, *values: ir.Value | None) -> NoReturn:
    """Refuse the match at hand, for `reason`, pointing at the values at fault."""
    raise Decline(reason, values)


def require(condition: object, reason: str, *values: ir.Value | None) -> None:
    """Refuse the match at hand unless `condition` holds."""
    if not condition:
        raise Decline(reason, values)


class Op(Protocol):
    """What a rule's functions see as `op`: `op.Add(x, y)` makes an Add of the standard domain.

    In a pattern it matches such a node, in a build function it makes one. The other members
    exist in build functions only.
    """

    @property
    def root(self) -> ir.Node:
        """The node at the pattern's root, whose outputs are replaced."""

    @property
    def opset(self) -> int:
        """The version of the standard domain that the graph imports."""

    @property
    def in_function(self) -> bool:
        """Whether the root belongs to a model-local function, which has no initializers."""

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        """Match or make a node of this operator."""

    def domain(self, name: str) -> "Op":
        """The same for the operators of another domain."""

    def initializer(self, array: np.ndarray, name: str = "") -> ir.Value:
        """A new constant."""

    def exact(self, value: ir.Value) -> np.ndarray:
        """The float64 array of a constant that this build function has computed or was given."""

    def inline(self, body: ir.Graph) -> tuple[ir.Value, ...]:
        """The outputs of a subgraph of the root, whose nodes are to move to the root's graph."""

    def contents(self, value: ir.Value) -> tuple[int | str | None, ...] | None:
        """The elements of an integer tensor of rank 0 or 1: numbers, names of sizes, or None."""

    def source(self, name: str) -> tuple[ir.Value, int] | None:
        """The first input of the model with an axis whose size is called `name`, and that axis."""


@dataclass(frozen=True)
class EveryNode:
    """A pattern for rules about many operators: the nodes for which `condition` holds.

    The build function then takes `op` alone and asks `op.root`. The condition is asked at every
    visit of every node, or of every node of the standard operators `ops`: keep it cheap.
    """

    condition: Callable[[ir.Node], bool]
    ops: frozenset[str] | None = None


Match = Callable[..., Any]
Pattern = Match | EveryNode
Build = Callable[..., Any]


@dataclass(frozen=True)
class Rule:
    """One rewrite: where any of `patterns` matches, `build` makes the replacement.

    `name` is `family/variant`, the same string in reports, metadata, cases and on the
    command line. `where` is `file.py:line` of the build function.
    """

    name: str
    patterns: tuple[Pattern, ...]
    build: Build
    exact: Exact = Exact.REASSOCIATED
    where: str = field(default="", compare=False)

    @property
    def family(self) -> str:
        """The part of the name before the slash: what callers allow and pipelines list."""
        return self.name.partition("/")[0]

    @property
    def summary(self) -> str:
        """The first line of the build function's docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]

    def __call__(self, *args: Any) -> Any:
        """Call the build function, so that a decorated rule still reads as the function it is."""
        return self.build(*args)


def rule(
    name: str, *, match: Pattern | tuple[Pattern, ...], exact: Exact
) -> Callable[[Build], Rule]:
    """Declare the decorated build function to be the right side of a rule.

    Args:
        name: `family/variant` in kebab-case.
        match: The left side, or several spellings of it; each is a function `(op, x, ...)`
            whose parameters are the values it binds.
        exact: What the rewrite promises.
    """
    patterns = match if isinstance(match, tuple) else (match,)

    def declare(build: Build) -> Rule:
        code = build.__code__
        where = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
        return Rule(name, patterns, build, exact, where)

    return declare
