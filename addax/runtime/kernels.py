"""Kernels for this machine: the library that ONNX Runtime loads, and which nodes it computes."""

import ctypes
import dataclasses
import functools
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import onnx_ir as ir

from addax.backends import targets
from addax.backends.kernel_code import KernelCode
from addax.backends.ort import form_of, paths_of, sources
from addax.backends.target import InstructionSet, Target
from addax.errors import BuildError
from addax.ir.dialect import DOMAIN
from addax.runtime.build import build, built
from addax.runtime.objects import generator_digest, machine_code

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found", "Kernels", KernelCode)


@dataclass(frozen=True)
class Kernels:
    """A library of kernels in a file that this machine can load."""

    path: Path

    def code_path(self, node: ir.Node) -> str | None:
        """The instruction set that a node is computed with here; None if it needs its body."""
        form = form_of(node)
        if form is None:
            return None
        found: bytes | None = _function(self.path, "addax_code_path", ctypes.c_char_p)(
            form.encode()
        )
        return None if found is None else found.decode()

    def has(self, node: ir.Node) -> bool:
        """Whether there is a kernel for a node."""
        return self.code_path(node) is not None


def host_kernels() -> Kernels:
    """The kernels for this processor, built at the first use and kept in the cache folder.

    Of the instruction sets that it has, only the best one is built, or the one that `$ADDAX_ISA`
    names.

    Raises:
        BuildError: If they cannot be built; the message says what to install.
    """
    best = best_target()
    made = build("addax", sources(paths_of(best)), lambda: machine_code(best), generator_digest())
    return Kernels(made)


def built_kernels() -> Kernels | None:
    """The kernels that `host_kernels` has in the cache; None if it would build them.

    Raises:
        BuildError: If they cannot be built.
    """
    made = built("addax", sources(paths_of(best_target())), generator_digest())
    return None if made is None else Kernels(made)


def usable_sets() -> tuple[InstructionSet, ...]:
    """The instruction sets that this processor has and addax has kernels for, the best first.

    Raises:
        BuildError: If there is no compiler, or it fails: a library asks the processor.
    """
    probe = _function(build("probe", sources(())), "addax_has_isa", ctypes.c_int)
    return tuple(isa for isa in targets.host().sets if probe(isa.name.encode()))


def best_target() -> Target:
    """This machine with the one instruction set that kernels are built for.

    Raises:
        BuildError: If there is none, or not the one that `$ADDAX_ISA` asks for.
    """
    forced = os.environ.get("ADDAX_ISA")
    usable = usable_sets()
    chosen = [isa for isa in usable if forced in (None, "", isa.name)][:1]
    if not chosen:
        names = ", ".join(isa.name for isa in usable) or "none"
        raise BuildError(
            f"expected an instruction set that addax has kernels for; this processor has {names}"
            + (f", and ADDAX_ISA asks for {forced}" if forced else "")
        )
    return dataclasses.replace(targets.host(), sets=tuple(chosen))


def host_code() -> KernelCode:
    """The machine code of the kernels for this processor, made at the first use and kept.

    As for `host_kernels`, the best instruction set or the one that `$ADDAX_ISA` names.

    Raises:
        BuildError: If it cannot be made; the message says what to install.
    """
    best = best_target()
    (data,) = machine_code(best).values()
    return KernelCode(best.sets[0], data)


def has_host_kernel() -> Callable[[ir.Node], bool]:
    """What says of a node of the dialect whether `host_kernels` serve it, and no if there are none.

    They are built when it is first asked of a node that some kernel could take.
    """

    @functools.cache
    def kernels() -> Kernels | None:
        try:
            return host_kernels()
        except BuildError:
            return None  # `kernels_for` says why, once the model is ready

    def has(node: ir.Node) -> bool:
        found = kernels() if form_of(node) is not None else None
        return found is not None and found.has(node)

    return has


def kernels_for(
    model: ir.Model, tell: Callable[[str], None] = lambda _: None
) -> tuple[Kernels | None, tuple[str, ...]]:
    """The kernels for a model's nodes of the dialect, and a line for people that says who has one.

    Without a library, or with none that serves any node, the model runs through its bodies.
    `tell` is told what takes a while: the first build on a machine.
    """
    return _serving(model, host_kernels, tell)


def code_for(
    model: ir.Model, tell: Callable[[str], None] = lambda _: None
) -> tuple[KernelCode | None, tuple[str, ...]]:
    """As `kernels_for`, for what links the kernels itself."""
    return _serving(model, host_code, tell)


def no_kernels(model: ir.Model) -> tuple[str, ...]:
    """A line for people that says which nodes run through their bodies, where all do."""
    if not dialect_nodes(model):
        return ()
    return (f"kernels: none for this target; {code_paths(model, None)}",)


def _serving(
    model: ir.Model, find: Callable[[], _Found], tell: Callable[[str], None]
) -> tuple[_Found | None, tuple[str, ...]]:
    nodes = dialect_nodes(model)
    if not nodes:
        return None, ()
    tell("building kernels")
    try:
        kernels = find()
    except BuildError as error:
        reason = str(error).splitlines()[0]
        logger.warning("no kernels, the model runs through the bodies of its ops: %s", error)
        return None, (f"kernels: {code_paths(model, None)}, because {reason}",)
    served = any(kernels.has(node) for node in nodes)
    return kernels if served else None, (f"kernels: {code_paths(model, kernels)}",)


class CodePaths(Protocol):
    """Says which nodes run where."""

    def code_path(self, node: ir.Node) -> str | None:
        """The instruction set that a node is computed with; None if it needs its body."""


def code_paths(model: ir.Model, kernels: CodePaths | None) -> str:
    """Which nodes of the dialect run where: "avx512: 48 CodebookMatMul; bodies: 2 BinaryMatMul"."""
    counts: dict[str, Counter[str]] = {}
    for node in dialect_nodes(model):
        path = kernels.code_path(node) if kernels is not None else None
        counts.setdefault(path or "bodies", Counter())[node.op_type] += 1
    return "; ".join(
        f"{path}: " + ", ".join(f"{count} {name}" for name, count in sorted(ops.items()))
        for path, ops in sorted(counts.items(), key=lambda item: (item[0] == "bodies", item[0]))
    )


def dialect_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of the dialect in the graph and its subgraphs."""
    return [node for node in model.graph.all_nodes() if node.domain == DOMAIN]


@functools.cache
def _function(library: Path, name: str, result: Any) -> Any:
    """A function of a library that takes a text."""
    function = ctypes.CDLL(str(library))[name]
    function.restype, function.argtypes = result, [ctypes.c_char_p]
    return function
