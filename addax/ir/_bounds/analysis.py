"""Evaluates a model in float64 with an error bound for every element of every value."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError, EvaluationError, UnsupportedOpError
from addax.ir._bounds.number import Bounded, rounding
from addax.ir._bounds.table import Context, Errors, Rule
from addax.ir._judge.arrays import REAL, Array, decode, promoted
from addax.ir._judge.meaning import Body, attribute_value, meaning
from addax.ir._judge.program import label
from addax.ir._judge.table import Site

_FAMILIES = ("elementwise", "linear", "composed", "quantized")
_PRECISION = np.dtype(np.float64)
_MOST_TRIPS = 10_000

Attributes = Mapping[str, ir.Attr]
Environment = dict[ir.Value, Any]  # a `Bounded`, a list of them for a sequence, or None
Constants = Callable[[ir.TensorProtocol], bool]


@cache
def _rules() -> dict[tuple[str, str], Rule]:
    tables = [
        table
        for family in _FAMILIES
        for table in import_module(f"addax.ir._bounds.{family}").TABLES
    ]
    return {(table.domain, name): rule for table in tables for name, rule in table.by_op.items()}


class Analysis:
    """One model. `is_given` says of a constant whether it is exact, rather than rounded once."""

    def __init__(self, model: ir.Model, is_given: Constants) -> None:
        self._functions = model.functions
        self._opsets = model.opset_imports
        self._graph = model.graph
        self._is_given = is_given

    def run(self, feeds: Mapping[str, Array]) -> list[Bounded | None]:
        """The graph's outputs for feeds that fit its inputs.

        Raises:
            EvaluationError: A node failed.
            UnsupportedOpError: A node has no meaning, or nobody analysed its errors.
        """
        scope = Scope(self, {}, self._opsets, {})
        inputs = [self._fed(value, feeds) for value in self._graph.inputs]
        with np.errstate(all="ignore"):
            return scope.run(self._graph, self._graph.inputs, inputs)

    def _fed(self, value: ir.Value, feeds: Mapping[str, Array]) -> Bounded | None:
        if value.name is None or value.name not in feeds:
            return None if value.const_value is None else self.constant(value.const_value)
        array = np.asarray(feeds[value.name])
        dtype = array.dtype if value.dtype is None else value.dtype.numpy()
        return Bounded(promoted(array, _PRECISION), None, np.dtype(dtype))

    def constant(self, tensor: ir.TensorProtocol) -> Bounded:
        """A constant and, unless it was given, the rounding that it went through."""
        dtype = np.dtype(tensor.dtype.numpy())
        value = decode(tensor, _PRECISION)
        if dtype not in REAL or self._is_given(tensor):
            return Bounded(value, None, dtype)
        return Bounded(value, rounding(np.abs(value), dtype), dtype)

    def function(
        self, function: ir.Function, attributes: Attributes, inputs: Sequence[Bounded | None]
    ) -> list[Bounded | None]:
        """A call of a function."""
        bound = {name: attr for name, attr in function.attributes.items() if attr.value is not None}
        bound |= {name: attr for name, attr in attributes.items() if name in function.attributes}
        scope = Scope(self, bound, {**self._opsets, **function.opset_imports}, {})
        missing = [None] * (len(function.inputs) - len(inputs))
        return scope.run(function.graph, function.inputs, [*inputs, *missing])

    def meaning(self, node: ir.Node, attributes: Attributes, site: Site) -> Any:
        """What to call on the node's inputs, or the body to run."""
        return meaning(node, attributes, site, self._functions)


class Scope:
    """One graph or function body while it is evaluated."""

    def __init__(
        self,
        analysis: Analysis,
        bound: Attributes,
        opsets: Mapping[str, int],
        outer: Environment,
    ) -> None:
        self._analysis, self._bound, self._opsets = analysis, bound, opsets
        self._values: Environment = dict(outer)

    def run(
        self,
        graph: ir.Graph,
        parameters: Sequence[ir.Value],
        arguments: Sequence[Bounded | None],
    ) -> list[Bounded | None]:
        """The outputs of `graph`."""
        self._values.update(zip(parameters, arguments, strict=True))
        for node in graph:
            self._node(node)
        return [self._read(value) for value in graph.outputs]

    def _read(self, value: ir.Value | None) -> Any:
        if value is None:
            return None
        if value not in self._values:
            if value.const_value is None:
                raise EvaluationError(f"value {value.name!r} is read before anything makes it")
            self._values[value] = self._analysis.constant(value.const_value)
        return self._values[value]

    def _node(self, node: ir.Node) -> None:
        attributes = self._resolved(node)
        inputs = [self._read(value) for value in node.inputs]
        special = _SPECIAL.get(node.op_type) if not node.domain else None
        if node.op_type == "Identity" and isinstance(inputs[0], list):
            special = _same
        if special is not None:
            results = special(self, node, attributes, inputs)
        else:
            results = self._call(node, attributes, inputs)
        self._values.update(zip(node.outputs, results, strict=False))

    def _resolved(self, node: ir.Node) -> dict[str, ir.Attr]:
        resolved = {}
        for name, attr in node.attributes.items():
            if not attr.is_ref():
                resolved[name] = attr
            elif (referred := str(attr.ref_attr_name)) in self._bound:
                target = self._bound[referred]
                resolved[name] = ir.Attr(name, target.type, target.value)
        return resolved

    def _call(
        self, node: ir.Node, attributes: Attributes, inputs: Sequence[Bounded | None]
    ) -> list[Bounded | None]:
        site = self._site(node)
        call = self._analysis.meaning(node, attributes, site)
        if isinstance(call, Body):
            return self._analysis.function(call.function, attributes, inputs)
        if any(isinstance(b, list) for b in inputs):
            raise UnsupportedOpError(f"{label(node)}: sequences have no error analysis")
        rule = _rules().get((node.domain, node.op_type))
        try:
            made = call(*(None if b is None else b.value for b in inputs))
        except AddaxError:
            raise
        except Exception as error:
            raise EvaluationError(
                f"{label(node)} failed: {type(error).__name__}: {error}"
            ) from error
        outputs = list(made) if isinstance(made, tuple) else [made]
        if not all(isinstance(y, np.ndarray | np.generic) for y in outputs):
            raise UnsupportedOpError(f"{label(node)}: sequences have no error analysis")
        outputs = [np.asarray(y) for y in outputs]
        dtypes = [self._dtype(node, k, inputs, y) for k, y in enumerate(outputs)]
        errors: Errors
        if rule is None:
            errors = _unknown(node, inputs, outputs)
        else:
            values = {name: attribute_value(attr, site) for name, attr in attributes.items()}
            context = Context(call, values, dtypes[0], node.op_type, site.opset)
            errors = rule(context, inputs, outputs)
        return [
            Bounded(y, _normal(error), dtype)
            for y, error, dtype in zip(outputs, errors, dtypes, strict=False)
        ]

    def _site(self, node: ir.Node) -> Site:
        opset = self._opsets.get(node.domain, self._opsets.get("", 1))
        return Site(len(node.outputs), opset, self._opsets, _PRECISION)

    def judged(self, node: ir.Node, attributes: Attributes) -> Any:
        """What the judge calls for a node."""
        return self._analysis.meaning(node, attributes, self._site(node))

    def _dtype(
        self, node: ir.Node, index: int, inputs: Sequence[Bounded | None], made: Array
    ) -> np.dtype[Any]:
        """The format that the model has the output in."""
        declared = node.outputs[index].dtype if index < len(node.outputs) else None
        if declared is not None:
            return np.dtype(declared.numpy())
        if made.dtype != _PRECISION:
            return made.dtype
        if node.op_type == "Cast":
            return np.dtype(ir.DataType(node.attributes["to"].as_int()).numpy())
        return next((b.dtype for b in inputs if b is not None and b.dtype in REAL), _FLOAT)

    def body(self, graph: ir.Graph, arguments: Sequence[Bounded | None]) -> list[Bounded | None]:
        """A subgraph, which sees this scope's values."""
        inner = Scope(self._analysis, self._bound, self._opsets, self._values)
        return inner.run(graph, graph.inputs, arguments)

    def constant(self, tensor: ir.TensorProtocol) -> Bounded:
        """A constant of this scope."""
        return self._analysis.constant(tensor)


_FLOAT = np.dtype(np.float32)


def _normal(error: Array | None) -> Array | None:
    """None for errors that are all 0: what follows is then exact as well."""
    return None if error is None or not np.any(error) else np.where(np.isnan(error), np.inf, error)


def _unknown(
    node: ir.Node, inputs: Sequence[Bounded | None], outputs: Sequence[Array]
) -> list[Array | None]:
    """Integers made of exact operands are exact; anything else needs a rule."""
    if all(b is None or b.is_exact for b in inputs) and all(y.dtype.kind != "f" for y in outputs):
        return [None] * len(outputs)
    raise UnsupportedOpError(
        f"{label(node)}: nobody has analysed the rounding errors of this operator; add a rule to "
        "addax/ir/_bounds"
    )


def _lost(values: Sequence[Bounded | None]) -> list[Bounded | None]:
    return [
        None if b is None else Bounded(b.value, np.full(b.value.shape, np.inf), b.dtype)
        for b in values
    ]


Inputs = Sequence[Bounded | None]


def _constant(scope: Scope, node: ir.Node, attributes: Attributes, inputs: Inputs) -> Any:
    del inputs
    (name, attr), *_ = attributes.items()
    if name == "value":
        return [scope.constant(attr.as_tensor())]
    fields = {"value_float": np.float32, "value_floats": np.float32}
    if name not in fields and not name.startswith("value_int"):
        raise UnsupportedOpError(f"{label(node)}: a constant {name} has no error analysis")
    return [scope.constant(ir.tensor(np.asarray(attr.value, fields.get(name, np.int64))))]


def _if(scope: Scope, node: ir.Node, attributes: Attributes, inputs: Inputs) -> Any:
    del node
    condition = inputs[0]
    taken = condition is not None and bool(condition.value.item())
    results = scope.body(attributes["then_branch" if taken else "else_branch"].as_graph(), ())
    return results if condition is None or condition.is_exact else _lost(results)


def _loop(scope: Scope, node: ir.Node, attributes: Attributes, inputs: Inputs) -> Any:
    body = attributes["body"].as_graph()
    limit, going = inputs[0], inputs[1] if len(inputs) > 1 else None
    state = list(inputs[2:])
    carried = len(body.inputs) - 2
    scans: list[list[Bounded]] = [[] for _ in body.outputs[1 + carried :]]
    unsure = any(b is not None and not b.is_exact for b in (limit, going))
    trips = None if limit is None else int(limit.value.item())
    count = 0
    while (going is None or bool(going.value.item())) and (trips is None or count < trips):
        if count == _MOST_TRIPS:
            raise UnsupportedOpError(f"{label(node)} runs more than {_MOST_TRIPS} times")
        flag = Bounded(np.asarray(True), None, np.dtype(np.bool_))
        number = Bounded(np.asarray(count), None, np.dtype(np.int64))
        going, *results = scope.body(body, [number, flag, *state])
        unsure = unsure or (going is not None and not going.is_exact)
        state = results[:carried]
        for scan, value in zip(scans, results[carried:], strict=True):
            if value is not None:
                scan.append(value)
        count += 1
    stacks = [
        _stacked(scan, value)
        for scan, value in zip(scans, body.outputs[1 + carried :], strict=True)
    ]
    results = [*state, *stacks]
    return _lost(results) if unsure else results


def _stacked(rows: Sequence[Bounded], declared: ir.Value) -> Bounded:
    if rows:
        return Bounded(
            np.stack([row.value for row in rows]),
            _normal(np.stack([row.errors for row in rows])),
            rows[0].dtype,
        )
    dtype = _FLOAT if declared.dtype is None else np.dtype(declared.dtype.numpy())
    dims = (
        [] if declared.shape is None else [d if isinstance(d, int) else 0 for d in declared.shape]
    )
    return Bounded(promoted(np.empty((0, *dims), dtype), _PRECISION), None, dtype)


def _split_to_sequence(scope: Scope, node: ir.Node, attributes: Attributes, inputs: Inputs) -> Any:
    """The parts of a tensor, each with the errors of its elements."""
    x, sizes = inputs[0], inputs[1] if len(inputs) > 1 else None
    call = scope.judged(node, attributes)
    if x is None or (sizes is not None and not sizes.is_exact):
        raise UnsupportedOpError(f"{label(node)}: sizes that may be rounded have no error analysis")
    operands = () if sizes is None else (sizes.value,)
    values, errors = (call(array, *operands) for array in (x.value, x.errors))
    return [[Bounded(y, _normal(e), x.dtype) for y, e in zip(values, errors, strict=True)]]


def _same(scope: Scope, node: ir.Node, attributes: Attributes, inputs: Inputs) -> Any:
    del scope, node, attributes
    return list(inputs)


def _sequence_at(scope: Scope, node: ir.Node, attributes: Attributes, inputs: Inputs) -> Any:
    del scope, attributes
    sequence: Any = inputs[0]
    place = inputs[1]
    if not isinstance(sequence, list) or place is None or not place.is_exact:
        raise UnsupportedOpError(f"{label(node)}: this sequence has no error analysis")
    return [sequence[int(place.value.item())]]


_SPECIAL: Mapping[str, Callable[..., Any]] = {
    "Constant": _constant,
    "If": _if,
    "Loop": _loop,
    "SequenceAt": _sequence_at,
    "SplitToSequence": _split_to_sequence,
}
