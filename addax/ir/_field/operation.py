"""One node over the field: lifts constants, calls the kernel, says what came out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import CO_VARKEYWORDS
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from addax.errors import InvalidGraphError, UnsupportedOpError
from addax.ir._field.constants import lifted
from addax.ir._field.element import Field, Kind, element
from addax.ir._field.ops import find
from addax.ir._field.residues import PRIME
from addax.ir._field.table import ADDS, COSTLY, FRESH, MOVEMENT, OPAQUE, PRODUCTS, SUMS, FieldSite
from addax.ir._judge.meaning import Body, attribute_value, meaning
from addax.ir._judge.program import label
from addax.ir._judge.reference import is_attribute
from addax.ir._judge.table import Kernel


class Lifting:
    """Floating arrays as elements; the constants of a program are lifted once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[np.ndarray, Field]] = {}

    def __call__(self, x: Any) -> Any:
        """`x` with every floating array in it lifted; anything else as it is."""
        if isinstance(x, list):
            return [self(item) for item in x]
        if isinstance(x, Field) and x.dtype != np.int64:
            raise UnsupportedOpError("a loop stacks computed values beside constants")
        if type(x) is not np.ndarray or x.dtype != np.float64:
            return x
        if x.flags.writeable:
            return element(lifted(x))
        known = self._known.get(id(x))
        if known is None:
            # The array is kept beside its image, so that its id stays its own.
            known = self._known[id(x)] = (x, element(lifted(x)))
        return known[1]


@dataclass(slots=True)
class Operation:
    """What to call on a node's inputs, be they elements or concrete."""

    node: ir.Node
    attributes: Mapping[str, ir.Attr]
    site: FieldSite
    lift: Lifting
    kernel: Kernel | None
    values: dict[str, Any] = field(default_factory=dict)
    _judged: Any = None

    @classmethod
    def of(
        cls, node: ir.Node, attributes: Mapping[str, ir.Attr], site: FieldSite, lift: Lifting
    ) -> "Operation":
        """The operation of a node.

        Raises:
            UnsupportedOpError: the field has a kernel for the op, but not with these attributes.
            InvalidGraphError: a required attribute is missing.
        """
        domain = "" if node.domain == "ai.onnx" else node.domain
        kernel = find(domain, node.op_type, site.opset)
        made = cls(node, attributes, site, lift, kernel)
        if kernel is not None:
            # Runtimes ignore misspelt attributes, and so does the judge.
            attributes = {
                name: attr
                for name, attr in attributes.items()
                if name in kernel.attributes or is_attribute(domain, node.op_type, name)
            }
            _check(node, attributes, kernel)
            made.values = {n: attribute_value(attr, site) for n, attr in attributes.items()}
            if kernel.sited:
                made.values["site"] = site
        return made

    def __call__(self, *inputs: Any) -> Any:
        """The outputs: elements where an input is one or floating, else the judge's."""
        op = self.node.op_type
        given = tuple(map(self.lift, inputs))
        elements = [x for x in given if isinstance(x, Field)]
        if op in OPAQUE:
            return self._concrete(*given)
        if not elements and not any(isinstance(x, list) for x in given):
            return self._concrete(*inputs)
        if self.kernel is None and op in MOVEMENT and not self.node.domain:
            return self._moved(given, elements)
        if self.kernel is None:
            self._refuse()
        made, asked = self._computed(self.kernel, given)
        pure = not asked and all(x.pure for x in elements)
        degree = self._degree(elements)
        results = made if isinstance(made, tuple) else (made,)
        marked = tuple(_marked(r, pure, degree) for r in results)
        return marked if isinstance(made, tuple) else marked[0]

    def _computed(self, kernel: Kernel, given: tuple[Any, ...]) -> tuple[Any, bool]:
        """What the kernel makes of elements, and whether an oracle was asked for it.

        Most nodes of a rewritten graph compute what they did before: the long ones are looked up.
        """
        oracle, key = self.site.oracle, None
        if self.node.op_type in COSTLY and sum(np.size(x) for x in given) > _WORTH_A_LOOK:
            call = (kernel, self.site.opset, self.site.outputs, sorted(self.attributes.items()))
            key = (repr(call), *map(_digest, given))
            if key in oracle.known:
                return oracle.known[key]
        oracle.asked = False
        result = kernel.call(*given, **self.values), oracle.asked
        if key is not None:
            oracle.learn(key, result)
        return result

    def _moved(self, given: tuple[Any, ...], elements: list[Field]) -> Any:
        places = MOVEMENT[self.node.op_type]
        for place, x in enumerate(given):
            if isinstance(x, Field) and places is not None and place not in places and x.size:
                x.item()
        reduction = self.attributes.get("reduction")
        if reduction is not None and reduction.value not in {"none", "add"}:
            raise UnsupportedOpError(
                f"{label(self.node)}: reduction {reduction.value!r} has no meaning over a field"
            )
        parts = elements or [item for x in given if isinstance(x, list) for item in x]
        kinds: set[Kind] = {x.kind for x in parts if isinstance(x, Field)}
        if len(kinds) > 1:
            raise UnsupportedOpError(f"{label(self.node)} mixes conditions and numbers")
        made = self._concrete(*(_plain(x) for x in given))
        pure, degree = all(x.pure for x in elements), self._degree(elements)
        kind: Kind = kinds.pop() if kinds else "real"
        results = made if isinstance(made, tuple) else (made,)

        def mark(result: Any) -> Any:
            if isinstance(result, list):
                return [mark(item) for item in result]
            x = np.asarray(result)
            x = x % PRIME if self.node.op_type in ADDS else x
            return element(x, kind, pure=pure, degree=degree)

        marked = tuple(map(mark, results))
        return marked if isinstance(made, tuple) else marked[0]

    def _refuse(self) -> NoReturn:
        raise UnsupportedOpError(
            f"{label(self.node)} has no meaning over a field; compare the models by "
            "evaluation instead"
        )

    def _degree(self, elements: list[Field]) -> float:
        degrees = [x.degree for x in elements] or [0.0]
        op = self.node.op_type
        if op in FRESH:
            return 1.0
        if op == "CastLike":
            return degrees[0]  # the other operand says only which format
        if op in PRODUCTS:
            return max(sum(degrees[:2]) + 1.0, *degrees)
        return max(degrees) if op in SUMS else sum(degrees) + 1.0

    def _concrete(self, *inputs: Any) -> Any:
        if self._judged is None:
            found = meaning(self.node, self.attributes, self.site, {})
            if isinstance(found, Body):
                self._refuse()
            self._judged = found
        return self._judged(*inputs)


_WORTH_A_LOOK = 1 << 12
"""Elements from which on a digest costs less than the kernel."""


def _digest(x: Any) -> bytes:
    """What tells one operand from all others."""
    if isinstance(x, Field):
        if x.digest is None:
            x.digest = _hashed(np.asarray(x).astype(np.uint32))
        return x.digest
    return b"" if x is None else _hashed(np.asarray(x))


def _hashed(x: Any) -> bytes:
    digest = hashlib.sha256(f"{x.dtype} {x.shape}".encode())
    digest.update(np.ascontiguousarray(x).data)
    return digest.digest()


def _plain(x: Any) -> Any:
    if isinstance(x, list):
        return [_plain(item) for item in x]
    return np.asarray(x) if isinstance(x, Field) else x


def _marked(result: Any, pure: bool, degree: float) -> Any:
    if result is None or (isinstance(result, np.ndarray) and result.dtype == np.bool_):
        return result
    kind: Kind = result.kind if isinstance(result, Field) else "real"
    return element(result, kind, pure=pure, degree=degree)


def _check(node: ir.Node, attributes: Mapping[str, ir.Attr], kernel: Kernel) -> None:
    if not kernel.call.__code__.co_flags & CO_VARKEYWORDS:
        unknown = [name for name in attributes if name not in kernel.attributes]
        if unknown:
            raise UnsupportedOpError(
                f"{label(node)}: attribute {unknown[0]!r} has no meaning over a field; known for "
                f"this op: {', '.join(sorted(kernel.attributes)) or 'none'}"
            )
    missing = sorted(kernel.required - attributes.keys())
    if missing:
        raise InvalidGraphError(f"{label(node)}: required attribute {missing[0]!r} is missing")
