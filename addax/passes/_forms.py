"""Candidate forms of a value: sums of affine maps of other values, the cheapest few.

A value that somebody outside the affine region reads is an *exit*: it is computed anyway. Any other
value of the region can be expanded into what makes it, or be kept as a *source* that others read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from addax.ir import attribute, rank, shape
from addax.ir.affine import (
    IDENTITY,
    Affine,
    Convolution,
    Dense,
    Diagonal,
    Tensor,
    add,
    added,
    apply_to_constant,
    compose,
    feed,
    given,
    multiplies,
    reshaped,
    take,
    weights,
)
from addax.ir.cost import cost_of
from addax.ir.query import constant_tensor, producer
from addax.passes._borders import inside_borders
from addax.passes._linear_nodes import Joined, Linear, Meaning, Picked, meaning

_KEPT = 3  # candidates of each value, beside the one that is expanded all the way
_NODE = 1.0  # what a node costs beside its arithmetic


@dataclass(frozen=True, eq=False)
class Form:
    """sum_i map_i(source_i) + bias.

    `merged` are the values that it makes superfluous, `is_full` says whether every value was
    expanded that could be.
    """

    terms: dict[ir.Value, Affine]
    bias: Tensor | None = None
    merged: frozenset[ir.Value] = frozenset()
    is_full: bool = True


@dataclass(frozen=True)
class NormSource:
    """A layer normalization without scale and bias, which several with them can share."""

    node: ir.Node
    value: ir.Value


@dataclass
class Forms:
    """The forms of the values of one graph."""

    graph: ir.Graph
    norms: dict[ir.Value, NormSource] = field(default_factory=dict)
    _meanings: dict[ir.Value, Meaning] = field(default_factory=dict)
    _known: dict[ir.Value, list[Form]] = field(default_factory=dict)
    _exits: dict[ir.Value, bool] = field(default_factory=dict)
    _fillers: set[ir.Node] | None = None
    _shares: dict[ir.Value, float] = field(default_factory=dict)
    _norms_of: dict[tuple[object, ...], NormSource] = field(default_factory=dict)

    def meaning(self, value: ir.Value) -> Meaning:
        """What makes a value, if an affine node of this graph does."""
        if value not in self._meanings:
            node = value.producer()
            is_here = node is not None and node.graph is self.graph
            self._meanings[value] = self._affine(value) if is_here else None
        return self._meanings[value]

    def _affine(self, value: ir.Value) -> Meaning:
        if producer(value, "LayerNormalization") is not None:
            return self._shared_norm(value)
        return meaning(value)

    def _shared_norm(self, value: ir.Value) -> Meaning:
        """LN(x) = gamma LN_1(x) + beta, where several normalize the same x alike."""
        node = value.producer()
        x = None if node is None else node.inputs[0]
        full = rank(value)
        if node is None or x is None or full is None or not _is_plain_norm(node, full):
            return None
        options = _norm_options(node)
        key = (x, *options)
        norms = [n for n in x.consumers() if n.op_type == "LayerNormalization"]
        alike = [n for n in norms if n.inputs[0] is x and _norm_options(n) == options]
        if len(alike) < 2 or not all(_is_plain_norm(n, full) for n in alike):
            return None
        if key not in self._norms_of:
            pure = ir.Value(name="", type=value.type, shape=value.shape)
            self._norms_of[key] = self.norms[pure] = NormSource(node, pure)
        pure = self._norms_of[key].value
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        gamma = given(node.inputs[1])  # type: ignore[arg-type]  # `_is_plain_norm` looked
        shift = None if bias is None else reshaped(given(bias), (*[1] * (full - 1), gamma.size))
        return Linear(((pure, Diagonal(gamma, full - 1)),), shift)

    def is_exit(self, value: ir.Value) -> bool:
        """Whether somebody outside the region reads an affine value."""
        if value not in self._exits:
            self._exits[value] = value.is_graph_output() or any(
                node.graph is not self.graph or not self._is_affine(node)
                for node in value.consumers()
            )
        return self._exits[value]

    def sources(self, value: ir.Value) -> list[ir.Value]:
        """What an affine value is made of, constants left out."""
        found, node = self.meaning(value), value.producer()
        if isinstance(found, Linear) and not any(x in self.norms for x, _ in found.terms):
            return [x for x, _ in found.terms]
        if isinstance(found, Joined):
            return [x for x, _ in found.parts]
        if isinstance(found, Picked):
            return [found.source]
        return [] if node is None else [v for v in node.inputs if v is not None]

    def _is_affine(self, node: ir.Node) -> bool:
        if self._fillers is None:
            self._fillers = inside_borders(self.graph)
        if node in self._fillers:
            return True
        read = [v for v in node.outputs if v.uses() or v.is_graph_output()]
        return bool(read) and all(self.meaning(v) is not None for v in read)

    def of(self, value: ir.Value) -> list[Form]:
        """The cheapest forms of an affine value that expand it, the cheapest first."""
        if value not in self._known:
            self._known[value] = []  # a graph has no cycles, but may be malformed
            self._known[value] = self._cheapest(value, self._expansions(value))
        return self._known[value]

    def _cheapest(self, value: ir.Value, forms: Iterable[Form]) -> list[Form]:
        ranked = sorted(forms, key=lambda form: self.cost(value, form))
        kept = ranked[:_KEPT]
        return kept + [form for form in ranked[_KEPT:] if form.is_full][:1]

    def cost(self, value: ir.Value, form: Form) -> float:
        """What a form costs: operations, elements of constants, nodes, shares of its sources."""
        return self.operations(value, form) + sum(self._shares.get(x, 0.0) for x in form.terms)

    def operations(self, value: ir.Value, form: Form) -> float:
        """The same without what keeping its sources costs."""
        outputs = size(value)
        total = 0.0
        for mapping in form.terms.values():
            work = multiplies(mapping, outputs)
            total += work if isinstance(mapping, Diagonal) else 2 * work
            total += weights(mapping) + (0 if _is_bare(mapping) else _NODE)
        total += (len(form.terms) - 1) * (outputs + _NODE)
        if form.bias is not None:
            total += form.bias.size
            if not _goes_into_convolution(form):
                total += outputs + _NODE
        return total

    def _options(self, value: ir.Value) -> Iterator[Form]:
        """What a value can be for who reads it: a source, or expanded."""
        if self.meaning(value) is None or self.is_exit(value):
            yield Form({value: IDENTITY})
            return
        expanded = self.of(value)
        self._share(value)
        yield Form({value: IDENTITY}, is_full=False)
        for form in expanded:
            yield Form(form.terms, form.bias, form.merged | {value}, form.is_full)

    def _share(self, value: ir.Value) -> float:
        """What one reader pays for a value of the region that is kept."""
        if value in self._shares:
            return self._shares[value]
        expanded = self.of(value)
        if expanded:
            worth = min(self.cost(value, form) for form in expanded)
        else:
            inner = (x for x in self.sources(value) if self.meaning(x) is not None)
            worth = sum(self._share(x) for x in inner if not self.is_exit(x))
        self._shares[value] = worth / max(1, len(value.uses()))
        return self._shares[value]

    def _expansions(self, value: ir.Value) -> list[Form]:
        found = self.meaning(value)
        if isinstance(found, Linear):
            made = list(self._sums(found.terms, found.bias, value))
            return made + [extra for form in made for extra in self._opened(form, value)]
        if isinstance(found, Picked):
            return list(self._picked(found, value))
        return []

    def _sums(
        self, terms: Iterable[tuple[ir.Value, Affine]], bias: Tensor | None, value: ir.Value
    ) -> Iterator[Form]:
        partial = [Form({}, bias)]
        for source, mapping in terms:
            addends = [
                made
                for option in self._options(source)
                if (made := self._through(option, mapping, source)) is not None
            ]
            combined = [made for a in partial for b in addends if (made := _plus(a, b)) is not None]
            partial = self._cheapest(value, combined)
        yield from partial

    def _through(self, form: Form, mapping: Affine, source: ir.Value) -> Form | None:
        """A map after a form."""
        terms: dict[ir.Value, Affine] = {}
        for x, inner in form.terms.items():
            made = compose(mapping, inner)
            if made is None:
                return None
            terms[x] = made
        bias = form.bias
        if bias is not None:
            dims = shape(source)
            if dims is None:
                return None
            sizes = [d if isinstance(d, int) else None for d in dims]
            bias = apply_to_constant(mapping, bias, sizes, len(sizes))
            if bias is None:
                return None
        return Form(terms, bias, form.merged, form.is_full)

    def _opened(self, form: Form, value: ir.Value) -> Iterator[Form]:
        """The form with what it reads side by side taken apart: W [a, b] = W_a a + W_b b."""
        for source, mapping in form.terms.items():
            inner, inner_map = self._unordered(source, mapping)
            joined = None if inner_map is None else self.meaning(inner)
            if inner_map is None or not isinstance(joined, Joined) or self.is_exit(inner):
                continue
            parts = list(_fed(joined, inner_map))
            if any(part is None for _, part in parts):
                continue
            rest = {x: m for x, m in form.terms.items() if x is not source}
            base = Form(rest, form.bias, form.merged | {source, inner}, form.is_full)
            known = [(x, part) for x, part in parts if part is not None]
            for opened in self._sums(known, None, value):
                made = _plus(base, opened)
                if made is not None:
                    yield made

    def _unordered(self, source: ir.Value, mapping: Affine) -> tuple[ir.Value, Affine | None]:
        """A value whose channels are another's in another order, as a map of that one."""
        found = self.meaning(source)
        made: Affine | None = mapping
        while isinstance(found, Picked) and not self.is_exit(source) and made is not None:
            count = (shape(found.source) or ())[found.axis]
            if not isinstance(count, int) or sorted(found.indices) != list(range(count)):
                break
            places = {channel: place for place, channel in enumerate(found.indices)}
            is_full_map = isinstance(made, Dense | Convolution)
            order = [places[channel] for channel in range(count)]
            made = feed(made, order, found.axis) if is_full_map else None
            source = found.source
            found = self.meaning(source)
        return source, made

    def _picked(self, picked: Picked, value: ir.Value) -> Iterator[Form]:
        for form in self._options(picked.source):
            terms: dict[ir.Value, Affine] = {}
            for x, mapping in form.terms.items():
                made = take(mapping, picked.indices, picked.axis)
                if made is not None:
                    terms[x] = made
            bias = _picked_bias(form.bias, picked)
            if len(terms) == len(form.terms) and (bias is None) == (form.bias is None):
                yield Form(terms, bias, form.merged, form.is_full)


def _norm_options(node: ir.Node) -> tuple[float, int]:
    """What two layer normalizations of one value must agree on to be shared."""
    return attribute(node, "epsilon", 1e-5), attribute(node, "stash_type", 1)


def _is_plain_norm(node: ir.Node, full: int) -> bool:
    """Over the last axis, with constant scale and bias, and no further outputs."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return (
        attribute(node, "axis", -1) in {-1, full - 1}
        and constant_tensor(node.inputs[1]) is not None
        and (bias is None or constant_tensor(bias) is not None)
        and len(node.outputs) == 1
    )


def _is_bare(mapping: Affine) -> bool:
    return isinstance(mapping, Diagonal) and mapping.is_identity


def _goes_into_convolution(form: Form) -> bool:
    """Whether the bias is one number a channel, and a convolution takes it."""
    bias = form.bias
    return (
        bias is not None
        and any(isinstance(m, Convolution) for m in form.terms.values())
        and prod(bias.shape) == (bias.shape[1] if len(bias.shape) > 1 else 1)
    )


def _plus(a: Form, b: Form) -> Form | None:
    terms = dict(a.terms)
    for x, mapping in b.terms.items():
        made = add(terms[x], mapping) if x in terms else mapping
        if made is None:
            return None
        terms[x] = made
    bias = added(a.bias, b.bias) if a.bias is not None and b.bias is not None else a.bias or b.bias
    merged, is_full = a.merged | b.merged, a.is_full and b.is_full
    return Form(terms, bias, merged, is_full)


def _fed(joined: Joined, mapping: Affine) -> Iterator[tuple[ir.Value, Affine | None]]:
    start = 0
    for x, count in joined.parts:
        is_full_map = isinstance(mapping, Dense | Convolution)
        places = range(start, start + count)
        yield x, feed(mapping, places, joined.axis) if is_full_map else None
        start += count


def _picked_bias(bias: Tensor | None, picked: Picked) -> Tensor | None:
    if bias is None or bias.shape[picked.axis] == 1:
        return bias
    indices = list(picked.indices)
    shape_ = (*bias.shape[: picked.axis], len(indices), *bias.shape[picked.axis + 1 :])
    return Tensor(shape_, lambda op: op.Gather(bias.build(op), indices, axis=picked.axis))


def size(value: ir.Value) -> int:
    """Elements of a value; a dimension that is not known counts as 1."""
    return prod(d if isinstance(d, int) else 1 for d in shape(value) or ())


def node_cost(node: ir.Node) -> float:
    """What a node costs, by the same measure as a form."""
    work = cost_of(node)
    own = [v for v in node.inputs if v is not None and len(v.uses()) == 1]
    tensors = [constant_tensor(v) for v in own]
    read = sum(t.size for t in tensors if t is not None and t.dtype.is_floating_point())
    return work.multiplies + work.adds + read + _NODE
