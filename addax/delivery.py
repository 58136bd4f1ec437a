"""How a model gets to where it shall run: one class for each kind of target.

    delivery = delivery_to("android-arm64")     before there is a model
    delivery.require()                          is all there that it takes?
    delivery, told = delivery.prepared(model)   with what was built for a model
    delivery.save(model, "model.onnx")

To add a kind of target is to add a class here, and its names to the table at the end.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import onnx_ir as ir

from addax.backends.gpu.languages import LANGUAGES
from addax.backends.ort.project import SYSTEMS
from addax.backends.targets import TARGETS as _MACHINES
from addax.errors import OptionError
from addax.ir.model import save

if TYPE_CHECKING:
    from addax.backends.tvm.library import Library
    from addax.runtime.kernels import Kernels
    from addax.runtime.session import Session
    from addax.runtime.tvm_session import TvmSession


@dataclass(frozen=True)
class Delivery:
    """The way to a target; what is not said otherwise is plain ONNX, run through the ops' bodies.

    Attributes:
        target: Its name, with options if it has any: "host", "tvm{tune=60}".
        kernels: The library that computes the ops of the dialect on this machine, if one does.
        library: The whole model in machine code, if it is to be.
        times_layers: Whether single layers can be timed here as the model will run them.
        in_runtime: Whether ONNX Runtime runs the model, with the operators of its own domain.
    """

    target: str
    kernels: "Kernels | None" = None
    library: "Library | None" = None
    times_layers: ClassVar[bool] = False
    in_runtime: ClassVar[bool] = True

    @property
    def where(self) -> str:
        """Where the model runs, in words."""
        return "any ONNX Runtime, through bodies in standard operators"

    def require(self) -> None:
        """Make sure that this machine has what the way to the target takes.

        Raises:
            MissingPackageError: If TVM is needed and missing; for another machine a `BuildError`.
        """

    def has_kernel(self) -> Callable[[ir.Node], bool]:
        """What says of a node of the dialect whether it will have a kernel on the target."""
        return lambda _: False

    def prepared(
        self, model: ir.Model, tell: Callable[[str], None] = lambda _: None
    ) -> tuple[Self, tuple[str, ...]]:
        """The same way with what was built for a model, and lines on which node has a kernel.

        `tell` is told what takes a while.
        """
        from addax.runtime.kernels import no_kernels

        return self, no_kernels(model)

    def session(self, model: ir.Model) -> "Session | TvmSession":
        """A model loaded on this machine in what runs it."""
        from addax.runtime.session import Session

        library = None if self.kernels is None else self.kernels.path
        return Session(self._to_ort(model), library=library)

    def save(
        self, model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None
    ) -> None:
        """Write a model and what belongs beside it; `Optimized.save` says what that is.

        Raises:
            ModelFileError: If it cannot be written.
            BuildError: If the machine code for another machine cannot be made.
        """
        save(self._to_ort(model), path, external_data=external_data)

    def _to_ort(self, model: ir.Model) -> ir.Model:
        from addax.backends.to_ort import to_ort

        kernels = self.kernels
        return to_ort(model) if kernels is None else to_ort(model, has_kernel=kernels.has)


class _Portable(Delivery):
    """To any ONNX Runtime."""

    times_layers = True


class _Host(Delivery):
    """To ONNX Runtime on this machine, with a library of kernels."""

    times_layers = True

    @property
    def where(self) -> str:
        """Here."""
        return "this machine"

    def has_kernel(self) -> Callable[[ir.Node], bool]:
        """Asks the library, which is built when it is first asked."""
        from addax.runtime import kernels

        return kernels.has_host_kernel()

    def prepared(
        self, model: ir.Model, tell: Callable[[str], None] = lambda _: None
    ) -> tuple[Self, tuple[str, ...]]:
        """With the library, if any node of the model has a kernel."""
        from addax.runtime.kernels import kernels_for

        kernels, told = kernels_for(model, tell)
        return replace(self, kernels=kernels), told

    def save(
        self, model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None
    ) -> None:
        """The model, and the library beside it, which it names."""
        if self.kernels is None:
            super().save(model, path, external_data=external_data)
            return
        from addax.runtime.load import name_library, save_library

        made = self._to_ort(model)
        name_library(made, self.kernels)
        save(made, path, external_data=external_data)
        save_library(self.kernels, path)


class _Machine(Delivery):
    """To another machine: machine code and a project that builds the library there."""

    @property
    def where(self) -> str:
        """For which processor and system."""
        return f"machine code for {_MACHINES[self.target].triple}"

    def require(self) -> None:
        """TVM makes the machine code."""
        from addax.runtime.objects import require_tvm

        require_tvm()

    def has_kernel(self) -> Callable[[ir.Node], bool]:
        """Asks the tables of its instruction sets."""
        from addax.runtime.deploy import Planned

        return Planned(_MACHINES[self.target]).has

    def prepared(
        self, model: ir.Model, tell: Callable[[str], None] = lambda _: None
    ) -> tuple[Self, tuple[str, ...]]:
        """Nothing is built before it is saved."""
        from addax.runtime.deploy import planned

        return self, planned(model, _MACHINES[self.target])

    def save(
        self, model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None
    ) -> None:
        """The model, and the project in a folder beside it."""
        from addax.runtime.deploy import save_project

        save_project(model, _MACHINES[self.target], path, external_data=external_data)


class _Gpu(Delivery):
    """To a program for GPUs: the source of the kernels, weights, and how they are launched."""

    @property
    def where(self) -> str:
        """In which files."""
        suffix = LANGUAGES[self.target].suffix
        return f"source of the kernels, .{suffix}, to launch from a program"

    def require(self) -> None:
        """TVM writes the source."""
        _require_tvm()

    def has_kernel(self) -> Callable[[ir.Node], bool]:
        """Every language has the same kernels."""
        from addax.backends.gpu.layers import has_kernel

        return has_kernel

    def prepared(
        self, model: ir.Model, tell: Callable[[str], None] = lambda _: None
    ) -> tuple[Self, tuple[str, ...]]:
        """Nothing is built before it is saved."""
        from addax.runtime.gpu import planned

        return self, planned(model, self.target)

    def save(
        self, model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None
    ) -> None:
        """The model, and the program in a folder beside it."""
        from addax.runtime.gpu import save_program

        save_program(model, self.target, path, external_data=external_data)


@dataclass(frozen=True)
class _Compiled(Delivery):
    """To this processor as a whole, in machine code by TVM."""

    in_runtime: ClassVar[bool] = False

    def __post_init__(self) -> None:
        from addax.backends.to_tvm import tuning_time

        tuning_time(self.target)

    @property
    def where(self) -> str:
        """Here."""
        return "this machine, compiled as a whole by TVM"

    def require(self) -> None:
        """TVM compiles."""
        _require_tvm()

    def has_kernel(self) -> Callable[[ir.Node], bool]:
        """The kernels of this machine are linked to the model."""
        from addax.runtime import kernels

        return kernels.has_host_kernel()

    def prepared(
        self, model: ir.Model, tell: Callable[[str], None] = lambda _: None
    ) -> tuple[Self, tuple[str, ...]]:
        """With the model compiled, and tuned if that was asked for."""
        from addax.backends.to_tvm import to_tvm, tuning_time
        from addax.runtime.kernels import code_for

        code, told = code_for(model, tell)
        tune = tuning_time(self.target)
        return replace(self, library=to_tvm(model, kernels=code, tune=tune, say=tell)), told

    def session(self, model: ir.Model) -> "Session | TvmSession":
        """The machine code in TVM's runtime."""
        if self.library is None:
            return super().session(model)
        from addax.runtime.tvm_session import TvmSession

        return TvmSession(self.library)

    def save(
        self, model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None
    ) -> None:
        """The machine code, or plain ONNX if the path ends in `.onnx`."""
        if self.library is None or os.fspath(path).endswith(".onnx"):
            super().save(model, path, external_data=external_data)
        else:
            self.library.save(path)


_KINDS: dict[str, type[Delivery]] = {
    "host": _Host,
    "portable": _Portable,
    "tvm": _Compiled,
    **dict.fromkeys(SYSTEMS, _Machine),
    **dict.fromkeys(LANGUAGES, _Gpu),
}
TARGETS = tuple(_KINDS)


def delivery_to(target: str) -> Delivery:
    """The way to a target: one of `TARGETS`, or "tvm{tune=SECONDS}".

    Raises:
        OptionError: If it has options that are not understood.
    """
    name, brace, _ = target.partition("{")
    kind = _KINDS[name]
    if brace and kind is not _Compiled:
        raise OptionError(f"target={target!r}: {name} takes no options, only tvm does")
    return kind(target)


def _require_tvm() -> None:
    from addax.backends.to_tvm import require_tvm

    require_tvm()
