"""`convert`: a trained transformer in the form in which it is trained on and then folded."""

import copy
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from addax.errors import OptionError, UnsupportedOpError
from addax.frontend.layers._conversions import convert_module
from addax.frontend.layers._parts import NotReadableError
from addax.frontend.layers.plans import (
    BinaryAttention,
    Branches,
    IdleChannels,
    LowRank,
    Mixture,
    Part,
    Shifts,
)

__all__ = ["Change", "Conversion", "convert"]

_WILDCARDS = set("*?[")
# What each plan speaks of.
_FOR: dict[type, str] = {
    Branches: "a feed-forward or self-attention part",
    IdleChannels: "a feed-forward part",
    LowRank: "a linear map",
    BinaryAttention: "a self-attention part",
    Shifts: "a linear map",
    Mixture: "a feed-forward part or a linear map",
}


@dataclass(frozen=True)
class Change:
    """One module that was replaced: its name, its class before and after.

    `keeps_function` says whether the network computes the same as before, up to rounding.
    """

    name: str
    before: str
    after: str
    keeps_function: bool

    def __str__(self) -> str:
        kept = "same function" if self.keeps_function else "another function until it is trained"
        return f"{self.name}: {self.before} -> {self.after} ({kept})"


@dataclass(frozen=True)
class Conversion:
    """A converted copy of a model, and every module of it that is another now."""

    model: nn.Module
    changes: tuple[Change, ...]

    @property
    def keeps_function(self) -> bool:
        """Whether the copy computes what the model computes, up to rounding."""
        return all(change.keeps_function for change in self.changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


def convert(model: nn.Module, plan: Part | Mapping[str, Part]) -> Conversion:
    """Turn parts of a trained transformer into trainable forms that fold; the model stays as it is.

        converted = convert(vit, Branches(2))
        converted = convert(vit, {"blocks.*.mlp": IdleChannels(0.75), "head": LowRank(4)})

    Feed-forward parts (two linear maps and an activation), self-attention (`nn.MultiheadAttention`,
    a map to q, k and v and one back, or four maps) and linear maps are found by structure; what a
    module computes on random tokens decides whether it was understood.

    Args:
        model: The model; a deep copy of it is converted.
        plan: A plan (`Branches`, `IdleChannels`, `LowRank`, `BinaryAttention`, `Shifts`,
            `Mixture`) for everything that fits it, or one for each pattern of dotted module names;
            the first pattern that fits a module counts.

    Raises:
        UnsupportedOpError: If a module named in full, or all those that a pattern fits, cannot be
            converted; says which and why.
        OptionError: If the plan is none, or a pattern fits no module.
    """
    patterns = {"*": plan} if isinstance(plan, Part) else dict(plan)
    for pattern, part in patterns.items():
        if not isinstance(part, Part):
            raise OptionError(
                f"expected one of {', '.join(kind.__name__ for kind in _FOR)} for {pattern!r}; "
                f"got {part!r}"
            )
    made = copy.deepcopy(model)
    changes: dict[str, Change] = {}
    replaced: dict[int, nn.Module] = {}
    for pattern, part in patterns.items():
        changes |= _apply(made, pattern, part, changes, replaced)
    return Conversion(made, tuple(changes.values()))


def _apply(
    model: nn.Module,
    pattern: str,
    part: Part,
    before: Mapping[str, Change],
    replaced: dict[int, nn.Module],
) -> dict[str, Change]:
    """Convert what one pattern fits, in place; the changes by name."""
    generator = torch.Generator().manual_seed(getattr(part, "seed", 0))
    changes: dict[str, Change] = {}
    reasons: list[str] = []
    for name, module in _fitting(model, pattern):
        if _inside(name, before) or _inside(name, changes):
            continue
        try:
            new = replaced.get(id(module)) or _like(module, part, generator)
        except NotReadableError as reason:
            reasons.append(f"{name} ({type(module).__name__}): {reason}")
            continue
        replaced[id(module)] = new
        model.set_submodule(name, new)
        changes[name] = Change(name, type(module).__name__, type(new).__name__, _keeps(part))
    if not changes:
        _refuse(pattern, part, reasons)
    return changes


def _fitting(model: nn.Module, pattern: str) -> Iterator[tuple[str, nn.Module]]:
    """Modules by name, outer ones first; a module that stands in two places comes twice."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and fnmatch.fnmatchcase(name, pattern):
            yield name, module


def _inside(name: str, changes: Mapping[str, Change]) -> bool:
    """Whether a module, or one around it, was replaced already."""
    return any(name == done or name.startswith(f"{done}.") for done in changes)


def _like(module: nn.Module, part: Part, generator: torch.Generator) -> nn.Module:
    """The stand-in of a module: in its mode, on its device, with its number format."""
    # Weights that do not matter are drawn at construction: leave the caller's generator alone.
    with torch.random.fork_rng(devices=[]):
        new = convert_module(module, part, generator)
    weight = next(module.parameters())
    return new.to(device=weight.device, dtype=weight.dtype).train(module.training)


def _keeps(part: Part) -> bool:
    """Whether a conversion keeps the function."""
    if isinstance(part, IdleChannels):
        return part.ratio == 0
    return isinstance(part, Branches | LowRank)


def _refuse(pattern: str, part: Part, reasons: list[str]) -> None:
    """Say why nothing was converted."""
    if not reasons:
        raise OptionError(
            f"no module is called {pattern!r}, or all were converted by an earlier pattern; "
            "model.named_modules() lists the names"
        )
    shown = reasons[:1] if not _WILDCARDS & set(pattern) else _most_telling(reasons)
    raise UnsupportedOpError(f"expected {_FOR[type(part)]} at {pattern!r}; got " + "; ".join(shown))


def _most_telling(reasons: list[str]) -> list[str]:
    """The reasons of modules that came nearest: they have something to say about their maps."""
    near = [reason for reason in reasons if "has 0 linear maps" not in reason]
    return (near or reasons)[:3]
