"""Ops that run programs: If, Loop, Scan, SequenceMap, and calls of functions.

A maker compiles the node's subgraphs and returns what to call on the node's inputs followed by the
values that the subgraphs capture, and those values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir._judge.arrays import promoted_type
from addax.ir._judge.program import Program, Watch, label

if TYPE_CHECKING:
    from addax.ir._judge.compiler import Scope

Made: TypeAlias = tuple[Callable[..., Any], list[ir.Value]]


def called(program: Program) -> Callable[..., Any]:
    """A call of a function: trailing absent inputs may be left out."""
    count = len(program.inputs)

    def call(*inputs: Any, watch: Watch | None) -> tuple[Any, ...]:
        if len(inputs) > count:
            raise ValueError(f"the function takes {count} inputs, got {len(inputs)}")
        return tuple(program.run([*inputs, *[None] * (count - len(inputs))], (), watch))

    return call


def _required(node: ir.Node, attributes: Mapping[str, ir.Attr], name: str) -> ir.Attr:
    if name not in attributes:
        raise InvalidGraphError(f"{label(node)}: required attribute {name!r} is missing")
    return attributes[name]


def _body(node: ir.Node, attributes: Mapping[str, ir.Attr], name: str, scope: "Scope") -> Program:
    return scope.subgraph(_required(node, attributes, name).as_graph())


def _if(node: ir.Node, attributes: Mapping[str, ir.Attr], scope: "Scope") -> Made:
    then = _body(node, attributes, "then_branch", scope)
    other = _body(node, attributes, "else_branch", scope)
    cut = 1 + len(then.captures)

    def call(*values: Any, watch: Watch | None) -> tuple[Any, ...]:
        if truth(values[0]):
            return tuple(then.run((), values[1:cut], watch))
        return tuple(other.run((), values[cut:], watch))

    return call, [value for value, _ in (*then.captures, *other.captures)]


def _loop(node: ir.Node, attributes: Mapping[str, ir.Attr], scope: "Scope") -> Made:
    body = _body(node, attributes, "body", scope)
    given = len(node.inputs)
    carried = len(body.inputs) - 2
    empties = _empties(attributes["body"].as_graph().outputs[1 + carried :], scope)

    def call(*values: Any, watch: Watch | None) -> tuple[Any, ...]:
        limit, condition, *state = values[:given]
        captured = values[given:]
        trips = None if limit is None else int(limit.item())
        going = condition is None or truth(condition)
        scans: list[list[Any]] = [[] for _ in empties]
        count = 0
        while going and (trips is None or count < trips):
            arguments = [np.asarray(count), np.asarray(going), *state]
            again, *results = body.run(arguments, captured, watch)
            going = truth(again)
            state = results[:carried]
            for scan, value in zip(scans, results[carried:], strict=True):
                scan.append(value)
            count += 1
        return (*state, *_stacked(scans, empties))

    return call, [value for value, _ in body.captures]


def _scan(node: ir.Node, attributes: Mapping[str, ir.Attr], scope: "Scope") -> Made:
    body = _body(node, attributes, "body", scope)
    scanned = _required(node, attributes, "num_scan_inputs").as_int()
    states = len(body.inputs) - scanned
    made = len(body.outputs) - states
    empties = _empties(attributes["body"].as_graph().outputs[states:], scope)
    old = scope.opset(node) < 9
    given = len(node.inputs)

    def numbers(name: str, count: int) -> Sequence[int]:
        return attributes[name].as_ints() if name in attributes else [0] * count

    backward = numbers("directions" if old else "scan_input_directions", scanned)
    axes = numbers("scan_input_axes", scanned)
    out_backward = numbers("scan_output_directions", made)
    out_axes = numbers("scan_output_axes", made)

    def scan(state: list[Any], sequences: list[Any], captured: Sequence[Any], watch: Any) -> Any:
        rows = [np.moveaxis(x, axis, 0) for x, axis in zip(sequences, axes, strict=True)]
        rows = [x[::-1] if back else x for x, back in zip(rows, backward, strict=True)]
        scans: list[list[Any]] = [[] for _ in range(made)]
        for items in zip(*rows, strict=True):
            results = body.run([*state, *map(np.asarray, items)], captured, watch)
            state = results[:states]
            for kept, value in zip(scans, results[states:], strict=True):
                kept.append(value)
        stacks = _stacked(scans, empties)
        stacks = [x[::-1] if back else x for x, back in zip(stacks, out_backward, strict=True)]
        return (*state, *(np.moveaxis(x, 0, a) for x, a in zip(stacks, out_axes, strict=True)))

    def call(*values: Any, watch: Watch | None) -> tuple[Any, ...]:
        inputs, captured = list(values[:given]), values[given:]
        if not old:
            return tuple(scan(inputs[:states], inputs[states:], captured, watch))
        lengths, *inputs = inputs  # opset 8: a batch axis, and a length for each row of it
        rows = []
        for b in range(len(inputs[0])):
            stop = None if lengths is None else int(lengths[b])
            sequences = [x[b][:stop] for x in inputs[states:]]
            rows.append(scan([x[b] for x in inputs[:states]], sequences, captured, watch))
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    return call, [value for value, _ in body.captures]


def _sequence_map(node: ir.Node, attributes: Mapping[str, ir.Attr], scope: "Scope") -> Made:
    body = _body(node, attributes, "body", scope)
    given = len(node.inputs)

    def call(*values: Any, watch: Watch | None) -> tuple[Any, ...]:
        first, *others = values[:given]
        outputs: list[list[Any]] = [[] for _ in body.outputs]
        for k, item in enumerate(first):
            arguments = [item, *(x[k] if isinstance(x, list) else x for x in others)]
            for kept, value in zip(
                outputs, body.run(arguments, values[given:], watch), strict=True
            ):
                kept.append(value)
        return tuple(outputs)

    return call, [value for value, _ in body.captures]


MAKERS: Mapping[str, Callable[[ir.Node, Mapping[str, ir.Attr], "Scope"], Made]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}


def truth(condition: Any) -> bool:
    """The truth of a tensor of one element."""
    return bool(condition.item())


def _empties(outputs: Sequence[ir.Value], scope: "Scope") -> list[Any]:
    """What a scan output is when the body never ran: zero rows of its declared type and shape."""
    empties = []
    for value in outputs:
        dtype = np.float32 if value.dtype is None else value.dtype.numpy()
        dims = [] if value.shape is None else [d if isinstance(d, int) else 0 for d in value.shape]
        empties.append(np.empty((0, *dims), promoted_type(dtype, scope.compiler.precision)))
    return empties


def _stacked(scans: Sequence[list[Any]], empties: Sequence[Any]) -> list[Any]:
    return [np.stack(s) if s else empty for s, empty in zip(scans, empties, strict=True)]
