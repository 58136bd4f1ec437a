"""Tables of converters: plain functions on torch tensors, found by op and opset.

A converter's positional parameters are the op's inputs in order, and their annotations say in which
form it takes each; its keyword-only parameters are the op's attributes with their defaults. It is
called once, on proxies, and what it does to them becomes the graph. A parameter named `site` is
what it may ask about the node.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

__all__ = [
    "Constant",
    "Converter",
    "Converters",
    "Floats",
    "Form",
    "Ints",
    "Number",
    "Scalar",
    "Sizes",
    "Tensor",
]


class Form(Enum):
    """In which form a converter takes an input."""

    TENSOR = "a tensor"
    NUMBER = "a Python number where the input is a scalar constant, else a tensor"
    SCALAR = "a Python number, read from the tensor while the graph runs if need be"
    INTS = "Python integers, read from the tensor while the graph runs if need be"
    SIZES = "a tuple of such integers, or a recorded list where their number is unknown"
    FLOATS = "Python numbers, read from the tensor while the graph runs if need be"
    CONSTANT = "an array that is known while converting"


Number = Annotated[Any, Form.NUMBER]
Scalar = Annotated[Any, Form.SCALAR]
Ints = Annotated[Sequence[Any], Form.INTS]
Sizes = Annotated[Any, Form.SIZES]
Floats = Annotated[Sequence[Any], Form.FLOATS]
Constant = Annotated[np.ndarray, Form.CONSTANT]

Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Converter:
    """What one op means in torch from one opset on."""

    call: Callable[..., Any]
    since: int
    forms: tuple[Form, ...]
    needed: tuple[int, ...]
    rest: Form | None
    attributes: frozenset[str]
    required: frozenset[str]
    sited: bool
    defaults: Mapping[str, float]
    """Those defaults that ONNX stores in 32 bits."""

    def form(self, index: int) -> Form | None:
        """The form of input number `index`; None where the op takes no such input."""
        return self.forms[index] if index < len(self.forms) else self.rest


class Converters:
    """The converters of one family, or of all."""

    def __init__(self) -> None:
        self._converters: dict[tuple[str, str], list[Converter]] = {}

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Converter]]:
        for key, converters in self._converters.items():
            for converter in converters:
                yield key, converter

    def op(self, *names: str, since: int = 1, domain: str = "") -> Callable[[Call], Call]:
        """Decorator: the function is what the ops `names` mean from opset `since` on."""

        def register(call: Call) -> Call:
            converter = _inspected(call, since)
            for name in names:
                self._insert((domain, name), converter)
            return call

        return register

    def add(self, name: str, call: Callable[..., Any], *, inputs: int = 1, since: int = 1) -> None:
        """Make a torch function of `inputs` tensors the meaning of op `name`."""
        forms = (Form.TENSOR,) * inputs
        nothing: frozenset[str] = frozenset()
        self._insert(
            ("", name),
            Converter(call, since, forms, tuple(range(inputs)), None, nothing, nothing, False, {}),
        )

    def include(self, other: "Converters") -> None:
        """Take over every converter of another family."""
        for key, converter in other:
            self._insert(key, converter)

    def _insert(self, key: tuple[str, str], converter: Converter) -> None:
        known = self._converters.setdefault(key, [])
        known.append(converter)
        known.sort(key=lambda c: c.since)

    def find(self, domain: str, op_type: str, opset: int) -> Converter | None:
        """The converter for an op at an opset: the youngest that is not newer."""
        known = self._converters.get((domain, op_type), ())
        return next((c for c in reversed(known) if c.since <= opset), None)


def _inspected(call: Callable[..., Any], since: int) -> Converter:
    hints = get_type_hints(call, include_extras=True)
    forms: list[Form] = []
    needed: list[int] = []
    rest = None
    attributes, required = set(), set()
    defaults: dict[str, float] = {}
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            attributes.add(name)
            if parameter.default is parameter.empty:
                required.add(name)
            elif isinstance(parameter.default, float):
                defaults[name] = float(np.float32(parameter.default))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = _form(hints[name])
        else:
            if type(None) not in get_args(hints[name]):
                needed.append(len(forms))
            forms.append(_form(hints[name]))
    return Converter(
        call,
        since,
        tuple(forms),
        tuple(needed),
        rest,
        frozenset(attributes - {"site"}),
        frozenset(required - {"site"}),
        "site" in attributes,
        defaults,
    )


def _form(hint: Any) -> Form:
    """The form that an annotation asks for, optional or not."""
    if get_origin(hint) is Annotated:
        return next(item for item in get_args(hint) if isinstance(item, Form))
    inner = (_form(part) for part in get_args(hint) if part is not type(None))
    return next(inner, Form.TENSOR)
