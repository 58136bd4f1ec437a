"""Rewrite families: found in this folder, ordered by phase, named as callers and pipelines do.

A family is a module with `RULES`, or with `run(model, context) -> bool` for what needs a view
of the whole graph, or both. Nothing is registered by hand: the file is the registration.
"""

import dataclasses
import enum
import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import onnx_ir as ir

import addax.passes
from addax.errors import InvalidGraphError, OptionError
from addax.ir.rule import Exact, Rule
from addax.ir.statistics import CALIBRATION, Calibration

_RAN = "families that ran"


class Phase(enum.IntEnum):
    """When a family runs; each phase reaches its fixed point before the next begins."""

    CANONICAL = 1  # one spelling for each idea, whatever exporter it came from
    FOLD = 2  # exact rewrites that make the network cheaper
    APPROXIMATE = 3  # only families that the caller allowed
    LOWER = 4  # to dialect ops with packed weights
    TARGET = 5  # what this target has no kernel for goes back to its body


Run = Callable[..., bool]


@dataclass(frozen=True)
class Family:
    """One rewrite family: its name in kebab-case, its phase, its rules, its options.

    One that is `by_name` does not run unless asked for, however exact it is; one that has to be
    asked for needs calibration data unless it says otherwise, and `brings` others with it.
    """

    name: str
    phase: Phase
    rules: tuple[Rule, ...]
    run: Run | None
    doc: str
    after: tuple[str, ...] = ()
    options: type[Any] | None = None
    by_name: bool = False
    needs_calibration: bool = True
    brings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the module's docstring."""
        return self.doc.partition("\n")[0]

    @property
    def is_exact(self) -> bool:
        """Whether it runs by default, without being allowed by name."""
        return (
            not self.by_name
            and self.phase is not Phase.APPROXIMATE
            and all(rule.exact is not Exact.APPROXIMATE for rule in self.rules)
        )


def family_of(module: ModuleType) -> Family:
    """Read a module as a family.

    Raises:
        InvalidGraphError: If it exports neither `RULES` nor `run`, or misnames a rule.
    """
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    rules: tuple[Rule, ...] = getattr(module, "RULES", ())
    run: Run | None = getattr(module, "run", None)
    if not rules and run is None:
        raise InvalidGraphError(f"pass {name!r} exports neither RULES nor run(model, context)")
    misnamed = [rule.name for rule in rules if rule.family != name]
    if misnamed:
        raise InvalidGraphError(
            f"rules of pass {name!r} must be called '{name}/...', but it has {misnamed}"
        )
    return Family(
        name,
        getattr(module, "PHASE", Phase.FOLD),
        rules,
        run,
        (module.__doc__ or "").strip(),
        getattr(module, "AFTER", ()),
        getattr(module, "Options", None),
        getattr(module, "BY_NAME", False),
        getattr(module, "NEEDS_CALIBRATION", True),
        getattr(module, "BRINGS", ()),
    )


@functools.cache
def families() -> dict[str, Family]:
    """Every family of this folder by name, in the order in which they run."""
    found = [
        family_of(importlib.import_module(f"{addax.passes.__name__}.{info.name}"))
        for info in pkgutil.iter_modules(addax.passes.__path__)
        if not info.ispkg and not info.name.startswith("_")
    ]
    ordered: dict[str, Family] = {}
    waiting = sorted(found, key=lambda family: (family.phase, family.name))
    while waiting:
        ready = next((f for f in waiting if not set(f.after) & {w.name for w in waiting}), None)
        if ready is None:
            names = ", ".join(family.name for family in waiting)
            raise InvalidGraphError(f"passes that each ask to run after another: {names}")
        waiting.remove(ready)
        ordered[ready.name] = ready
    return ordered


def make_options(family: Family, given: dict[str, Any]) -> Any:
    """The family's options with `given` ones set.

    Raises:
        OptionError: If the family has no such option.
    """
    known = (
        {}
        if family.options is None
        else {field.name: field for field in dataclasses.fields(family.options)}
    )
    unknown = set(given) - set(known)
    if unknown:
        raise OptionError(
            f"pass {family.name!r} has no option {', '.join(sorted(unknown))}; "
            f"it has {', '.join(known) or 'none'}"
        )
    return None if family.options is None else family.options(**given)


@dataclass
class Context:
    """What a whole-graph `run` gets beside the model.

    `driver` is the only door to changing the graph, so that every change is counted, announced
    and charged, and wakes the local rules; `options` are the family's own; `facts` plain data
    that the caller collected (calibration statistics, cost tables).
    """

    driver: Any
    options: Any
    statistics: Any
    limits: Any
    instrument: Any
    facts: dict[str, Any]
    model: ir.Model

    def is_first(self, family: str) -> bool:
        """Whether `family` asks for the first time in this pipeline.

        What an approximate family made may look like what it looks for: it runs once, not to a
        fixed point.
        """
        ran: set[str] = self.facts.setdefault(_RAN, set())
        first = family not in ran
        ran.add(family)
        return first

    def calibration(self, family: str) -> Calibration:
        """The calibration data that `family` cannot do without.

        Raises:
            OptionError: There is none.
        """
        found: Calibration | None = self.facts.get(CALIBRATION)
        if found is None:
            raise OptionError(f"{family} needs calibration=batches of real inputs")
        return found


def is_number(value: object) -> bool:
    """Whether an option is a number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
