"""Example inputs of a torch module: brought to one form, and tried before any long work."""

import inspect
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from addax.errors import ExportError, InputError, OptionError
from addax.frontend._paths import leaves_with_paths

_TORCH = os.path.dirname(torch.__file__)


@dataclass(frozen=True)
class Examples:
    """Arguments of a module's `forward`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: inspect.BoundArguments

    @classmethod
    def of(
        cls, module: torch.nn.Module, given: Any, kwargs: Mapping[str, Any] | None
    ) -> "Examples":
        """The arguments in what a caller passed: a tensor, a sequence, or a dict by name.

        Raises:
            InputError: If `forward` does not take them, or they are not tensors.
        """
        signature = inspect.signature(module.forward)
        what = f"{type(module).__name__}.forward{signature}"
        if given is None and not kwargs and signature.parameters:
            raise InputError(
                f"{what} is exported by running it once: pass example_inputs, a tensor or a "
                "tuple or dict of tensors"
            )
        args, named = _arguments(given)
        named |= kwargs or {}
        try:
            bound = signature.bind(*args, **named)
        except TypeError as error:
            if isinstance(given, dict) and not kwargs and _takes(signature, given):
                args, named = (given,), {}
                bound = signature.bind(given)
            else:
                raise InputError(f"{what} does not take these example inputs: {error}") from None
        _require_tensors(bound, what)
        return cls(args, named, bound)


def _require_tensors(bound: inspect.BoundArguments, what: str) -> None:
    for name, value in bound.arguments.items():
        for path, leaf in leaves_with_paths(value):
            if not isinstance(leaf, torch.Tensor | bool | int | float | str | None):
                raise InputError(
                    f"example input {name + pytree.keystr(path)!r} of {what} is a "
                    f"{type(leaf).__module__}.{type(leaf).__qualname__}; expected a tensor "
                    "(torch.from_numpy makes one of an array)"
                )


def _arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if given is None:
        return (), {}
    if isinstance(given, dict) and all(isinstance(key, str) for key in given):
        return (), dict(given)
    if isinstance(given, tuple | list):
        return tuple(given), {}
    return (given,), {}


def _takes(signature: inspect.Signature, given: Any) -> bool:
    """Whether `given` can be the one argument of a function."""
    try:
        signature.bind(given)
    except TypeError:
        return False
    return True


def try_out(module: torch.nn.Module, examples: Examples) -> None:
    """Run a module once as it is, so that a wrong input is told from a module of its own ways.

    Buffers that it writes to are copies; so is the state of the random generator.

    Raises:
        InputError: If it fails; says where.
        ExportError: If it returns what a graph cannot.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            results = torch.func.functional_call(module, buffers, examples.args, examples.kwargs)
    except Exception as error:  # whatever a user's module raises
        shapes = pytree.tree_map_only(torch.Tensor, _describe, dict(examples.names.arguments))
        raise InputError(
            f"{type(module).__name__} does not run on its example inputs {shapes}: "
            f"{first_line(error)}{place(error, module)}; pass inputs that it takes"
        ) from error
    for path, leaf in leaves_with_paths(results):
        if not isinstance(leaf, torch.Tensor | None):
            raise ExportError(
                f"{type(module).__name__} returns a {type(leaf).__qualname__} as "
                f"output{pytree.keystr(path)}; "
                "a graph returns tensors only: wrap the module in one that leaves it out"
            )


class _describe:  # noqa: N801 - used like a function; a class prints without quotes
    """A tensor for people: its type and shape."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._text = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"

    def __repr__(self) -> str:
        return self._text


def first_line(error: BaseException) -> str:
    """What an error says, without the advice that follows."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def place(error: BaseException, module: torch.nn.Module) -> str:
    """Where in a user's module an error came from: ` in blocks.0.attn (vit.py:31)`, or nothing."""
    names = {id(child): name for name, child in module.named_modules()}
    inner, line = "", ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        owner = names.get(id(frame.f_locals.get("self")))
        inner = owner or inner
        if owner is not None and not path.startswith((_TORCH, "<")):
            line = f"{os.path.basename(path)}:{number}"
    where = " ".join(filter(None, (inner, f"({line})" if line else "")))
    return f" in {where}" if where else ""


def dynamic_shapes_of(examples: Examples, given: Any) -> Any:
    """`dynamic_shapes` as torch takes it; `{0: "batch"}` is short for that axis of every tensor.

    Raises:
        OptionError: If the short form is about other things than axes and names.
    """
    if not isinstance(given, dict) or not any(isinstance(key, int) for key in given):
        return given
    for axis, name in given.items():
        if not isinstance(axis, int) or axis < 0 or not isinstance(name, str):
            raise OptionError(
                f"dynamic_shapes={given!r}: expected axes and their names, such as "
                '{0: "batch"}, or what torch.export.export takes'
            )

    def spec(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        return {axis: name for axis, name in given.items() if axis < leaf.dim()} or None

    return pytree.tree_map(spec, dict(examples.names.arguments))
