"""Tables from ops to their meanings: NumPy functions found by domain, name and opset.

A kernel's positional parameters are the op's inputs in order (absent ones are `None`), its
keyword-only parameters the op's attributes; it returns an array, a list (a sequence), `None` (an
empty optional), or a tuple of these where the op may have several outputs. It never writes to its
inputs, and may return views of them. What it raises, the step that called it says again with the
node's name and its inputs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Site:
    """What a kernel may ask about the node that it computes, by a parameter named `site`."""

    outputs: int
    """How many outputs the node lists, trailing unused ones included."""
    opset: int
    """The version of the node's domain."""
    opsets: Mapping[str, int]
    """The versions of all domains that the body imports."""
    precision: np.dtype[Any] | None
    """What floating tensors are computed in; `None`: in their own types."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One op's meaning from one opset on."""

    call: Callable[..., Any]
    since: int
    attributes: frozenset[str]
    required: frozenset[str]
    sited: bool


class Kernels:
    """The kernels of one domain."""

    def __init__(self, domain: str = "") -> None:
        self.domain = domain
        self._kernels: dict[str, list[Kernel]] = {}

    def __iter__(self) -> Iterator[tuple[str, Kernel]]:
        for name, kernels in self._kernels.items():
            for kernel in kernels:
                yield name, kernel

    def op(self, *names: str, since: int = 1) -> Callable[[Call], Call]:
        """Decorator: the function is what the ops `names` mean from opset `since` on."""

        def register(call: Call) -> Call:
            for name in names:
                self.add(name, call, since=since)
            return call

        return register

    def add(self, name: str, call: Callable[..., Any], *, since: int = 1) -> None:
        """Registers a function or ufunc as the meaning of op `name` from opset `since` on."""
        attributes: frozenset[str] = frozenset()
        required = attributes
        if isinstance(call, FunctionType):
            code = call.__code__
            first = code.co_argcount
            attributes = frozenset(code.co_varnames[first : first + code.co_kwonlyargcount])
            required = attributes - frozenset(call.__kwdefaults__ or ())
        kernel = Kernel(
            call, since, attributes - {"site"}, required - {"site"}, "site" in attributes
        )
        kernels = self._kernels.setdefault(name, [])
        kernels.append(kernel)
        kernels.sort(key=lambda k: k.since)

    def find(self, name: str, opset: int) -> Kernel | None:
        """The kernel for op `name` at `opset`: the youngest that is not newer."""
        for kernel in reversed(self._kernels.get(name, ())):
            if kernel.since <= opset:
                return kernel
        return None
