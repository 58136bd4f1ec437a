"""Which layers are to become codes, and why the others stay as they are."""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from addax.errors import OptionError
from addax.ir import constant
from addax.ir.origin import origin
from addax.ir.query import constant_tensor
from addax.passes._shift.sites import Site, View, read, readers

SMALLEST_INNER = 32  # columns that a group of codes has at least
_NAMED = 3  # layers named in a note that is about many


@dataclass(frozen=True, eq=False)
class Target:
    """A layer: weights, and every node that reads them."""

    name: str
    sites: tuple[Site, ...]

    @property
    def size(self) -> tuple[int, int]:
        """N, K."""
        return self.sites[0].size

    @property
    def stored_bytes(self) -> int:
        """Of the weights as they are."""
        tensor = constant_tensor(self.sites[0].weight)
        return 0 if tensor is None else tensor.nbytes

    def matrix(self) -> np.ndarray:
        """The weights, float64[N, K]."""
        return self.sites[0].matrix()

    def refreshed(self) -> "Target":
        """The layer as the model has it now: what came before it may have been replaced."""
        again = (read(site.root) for site in self.sites if site.root.graph is not None)
        return Target(self.name, tuple(site for site in again if isinstance(site, Site)))


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that read the same rows, so that one observation serves them all."""

    targets: tuple[Target, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those whose rows are observed."""
        return self.targets[0].sites

    def refreshed(self) -> "Group":
        """The layers as the model has them now, without those that are gone."""
        again = (target.refreshed() for target in self.targets)
        return Group(tuple(target for target in again if target.sites))


@dataclass(frozen=True)
class Wanted:
    """Which layers are wanted.

    Attributes:
        smallest: Weights that a layer must have to be worth it.
        skip, include: Names, or parts of names, of layers, nodes or weights, with * and ?; what is
            included is treated though something else reads its weights too.
        only: Whole names of layers; no others are treated. None for all.
    """

    smallest: int
    skip: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None


def check_only(family: str, only: object) -> None:
    """Make sure that `only` of a family's options is a tuple of names, or None.

    Raises:
        OptionError: It is something else.
    """
    if only is None or (isinstance(only, tuple) and all(isinstance(name, str) for name in only)):
        return
    raise OptionError(
        f"{family}: only must be a tuple of names of layers, such as ('head',), or None; "
        f"got {only!r}"
    )


def find_targets(model: ir.Model, wanted: Wanted) -> tuple[list[Target], dict[str, list[str]]]:
    """The layers to treat in the order in which they run, and the names of others by reason."""
    found: dict[tuple[ir.Value, View], list[Site]] = {}
    left: dict[str, list[str]] = {}
    for node in model.graph.all_nodes():
        site = read(node)
        if isinstance(site, str):
            if _is_large(node, wanted.smallest):
                name = _module(node) or node.name or getattr(node.inputs[1], "name", "")
                left.setdefault(site, []).append(str(name))
        elif site is not None and _is_worth_it(site, wanted.smallest):
            found.setdefault((site.weight, site.view), []).append(site)
    modules = [_module(sites[0].root) for sites in found.values()]
    targets = []
    for (weight, _), sites in found.items():
        module = _module(sites[0].root)
        name = module if module and modules.count(module) == 1 else str(weight.name)
        if wanted.only is not None and name not in wanted.only:
            continue
        target = Target(name, tuple(sites))
        reason = _reason(target, model, wanted)
        if reason:
            left.setdefault(reason, []).append(name)
        else:
            targets.append(target)
    return targets, left


def describe_left(left: dict[str, list[str]], family: str = "shift-add") -> Iterator[str]:
    """A line for each reason."""
    for reason, names in left.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"{family}, unchanged: {', '.join(names[:_NAMED])}{more}: {reason}"


def grouped(targets: Iterable[Target]) -> list[Group]:
    """Layers that read the same rows of the same value together, in order."""
    groups: dict[object, list[Target]] = {}
    for target in targets:
        site = target.sites[0]
        alone = len(target.sites) > 1
        rows = (site.x, site.view.kernel, site.view.strides)
        groups.setdefault(target if alone else rows, []).append(target)
    return [Group(tuple(members)) for members in groups.values()]


def _reason(target: Target, model: ir.Model, wanted: Wanted) -> str:
    """Why a layer is to stay as it is; empty if it is not."""
    site = target.sites[0]
    names = [target.name, str(site.weight.name), *(str(s.root.name) for s in target.sites)]
    if any(_fits(name, wanted.skip) for name in names):
        return "skip= names it"
    if any(each.root.graph is not model.graph for each in target.sites):
        return "it is inside control flow"
    every = readers(site.weight)
    if (every is None or len(every) > len(target.sites)) and not any(
        _fits(name, wanted.include) for name in names
    ):
        return (
            "something else reads its weights too, as where an embedding is tied to the head: "
            "codes would come beside them; include= treats it all the same"
        )
    stored = constant(site.weight)
    if stored is None or not np.isfinite(stored).all():
        return "its weights hold NaN or infinity"
    return "its weights are all 0" if not np.any(stored) else ""


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(name, pattern if set(pattern) & set("*?[") else f"*{pattern}*")
        for pattern in patterns
    )


def _module(node: ir.Node) -> str:
    found = origin(node)
    return "" if found is None else found.module


def _is_worth_it(site: Site, smallest: int) -> bool:
    outputs, inner = site.size
    return inner >= SMALLEST_INNER and outputs * inner >= smallest


def _is_large(node: ir.Node, smallest: int) -> bool:
    tensor = constant_tensor(node.inputs[1])
    return tensor is not None and tensor.size >= smallest
