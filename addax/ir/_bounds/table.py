"""Tables from operators to their error analysis.

A rule takes the node at hand (`Context`), its inputs with their errors and its outputs as already
evaluated; it returns the error bound of each output, None for "exact".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from addax.ir._bounds.number import Bounded
from addax.ir._judge.arrays import REAL, Array

Inputs = Sequence[Bounded | None]
Errors = Sequence[Array | None]


@dataclass(frozen=True, slots=True)
class Context:
    """One node: its operator on arrays, its attributes, the format of its first output."""

    call: Callable[..., Any]
    attributes: Mapping[str, Any]
    dtype: np.dtype[Any]
    name: str
    opset: int

    def on(self, arrays: Sequence[Any]) -> Any:
        """The operator on other arrays; its first output."""
        made = self.call(*arrays)
        return made[0] if isinstance(made, tuple) else made

    def given(self, name: str, default: Any) -> Any:
        """An attribute's value, or `default`."""
        return self.attributes.get(name, default)


Rule = Callable[[Context, Inputs, Sequence[Array]], Errors]


class Rules:
    """The error analyses of one domain."""

    def __init__(self, domain: str = "") -> None:
        self.domain = domain
        self.by_op: dict[str, Rule] = {}

    def op(self, *names: str) -> Callable[[Rule], Rule]:
        """Decorator: the function analyses the ops `names`."""

        def register(rule: Rule) -> Rule:
            self.by_op.update(dict.fromkeys(names, rule))
            return rule

        return register


def is_real(value: Bounded | None) -> bool:
    """Whether the value holds real numbers, rather than integers or truth values."""
    return value is not None and value.dtype in REAL


def magnitudes(inputs: Inputs) -> list[Any]:
    """The operands, reals replaced by their magnitudes."""
    return [None if b is None else b.magnitude if is_real(b) else b.value for b in inputs]


def errors(inputs: Inputs) -> list[Any]:
    """The operands, reals replaced by their error bounds."""
    return [None if b is None else b.errors if is_real(b) else b.value for b in inputs]


def unsure(inputs: Inputs) -> bool:
    """Whether an integer or truth value among the inputs may have come out differently."""
    return any(b is not None and not b.is_exact and not is_real(b) for b in inputs)
