"""Shape inference across scopes: branches, loop bodies, and calls of model-local functions."""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from addax.ir._dims import UNKNOWN, Dim, same, words
from addax.ir._shape_data import ShapeData, attribute, dims

Found = tuple[ir.TypeProtocol | None, Sequence[Dim] | None]
Infer = Callable[[ir.Graph], None]

SCOPED = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def infer_scoped(node: ir.Node, infer: Infer) -> list[Found] | None:
    """Types and shapes of a control-flow node's outputs; `infer` fills in a body.

    A name from inside a loop body stands for a size that may differ at every turn, so it never
    leaves the body; neither does the shape of a carried value enter it, since it may grow.
    """
    if node.op_type == "If":
        return _infer_if(node, infer)
    if node.op_type == "Loop":
        return _infer_loop(node, infer)
    if node.op_type == "Scan" and attribute(node, "num_scan_inputs") is not None:
        return _infer_scan(node, infer)
    return None


def _body(node: ir.Node, name: str) -> ir.Graph | None:
    body = attribute(node, name)
    return body if isinstance(body, ir.Graph) else None


def _infer_if(node: ir.Node, infer: Infer) -> list[Found] | None:
    branches = [_body(node, "then_branch"), _body(node, "else_branch")]
    known = [branch for branch in branches if branch is not None]
    for branch in known:
        infer(branch)
    if len(known) != len(branches) or any(len(b.outputs) < len(node.outputs) for b in known):
        return None
    pairs = zip(known[0].outputs, known[1].outputs, strict=False)
    return [_either((a.type, dims(a)), (b.type, dims(b))) for a, b in pairs]


def _either(a: Found, b: Found) -> Found:
    """What holds of a value that is one or the other."""
    kind = a[0] if a[0] == b[0] else None
    if a[1] is None or b[1] is None or len(a[1]) != len(b[1]):
        return kind, None
    return kind, [x if same(x, y) else UNKNOWN for x, y in zip(a[1], b[1], strict=True)]


def own_type(kind: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    """A type that no other value holds: assigning to `value.dtype` changes tensor types."""
    return ir.TensorType(kind.dtype) if isinstance(kind, ir.TensorType) else kind


def _declare(value: ir.Value, kind: ir.TypeProtocol | None, shape: Sequence[Dim] | None) -> None:
    if value.type is None:
        value.type = own_type(kind)
    if value.shape is None and shape is not None:
        value.shape = ir.Shape(shape)


def _infer_loop(node: ir.Node, infer: Infer) -> list[Found] | None:
    body = _body(node, "body")
    if body is None:
        return None
    initial = node.inputs[2:]
    formal = list(body.inputs)
    for value, dtype in zip(formal, (ir.DataType.INT64, ir.DataType.BOOL), strict=False):
        _declare(value, ir.TensorType(dtype), ())
    for value, first in zip(formal[2:], initial, strict=False):
        if first is not None:
            _declare(value, first.type, None)
    infer(body)
    found: list[Found] = []
    for i, last in enumerate(list(body.outputs)[1 : len(node.outputs) + 1]):
        if i >= len(initial):
            found.append((last.type, _stacked(last, 0, UNKNOWN, set())))
            continue
        first = initial[i]
        if first is None or isinstance(first.type, ir.SequenceType | ir.OptionalType):
            found.append((last.type, None))
        else:
            found.append(_either((first.type, dims(first)), (last.type, dims(last))))
    return found


def _infer_scan(node: ir.Node, infer: Infer) -> list[Found] | None:
    body = _body(node, "body")
    if body is None or len(node.inputs) != len(body.inputs):
        return None  # the form before opset 9, with its sequence lengths
    states = len(node.inputs) - int(attribute(node, "num_scan_inputs"))
    axes = attribute(node, "scan_input_axes") or (0,) * len(node.inputs)
    length: Dim = UNKNOWN
    for i, (value, actual) in enumerate(zip(body.inputs, node.inputs, strict=True)):
        known = dims(actual)
        if i >= states and known is not None:
            axis = axes[i - states] % len(known)
            length = known[axis]
            known = (*known[:axis], *known[axis + 1 :])
        _declare(value, None if actual is None else actual.type, known)
    infer(body)
    outer = {word for v in node.inputs for d in dims(v) or () for word in words(d)}
    placed = attribute(node, "scan_output_axes") or (0,) * len(node.outputs)
    found: list[Found] = []
    for i, last in enumerate(list(body.outputs)[: len(node.outputs)]):
        if i < states:
            found.append((last.type, dims(node.inputs[i])))
        else:
            found.append((last.type, _stacked(last, placed[i - states], length, outer)))
    return found


def _stacked(value: ir.Value, axis: int, length: Dim, outer: set[str]) -> Sequence[Dim] | None:
    """The shape of a body's output over all turns: a new axis; names only from outside."""
    known = dims(value)
    if known is None:
        return None
    inner = [d if words(d) <= outer else UNKNOWN for d in known]
    inner.insert(axis if axis >= 0 else axis + len(inner) + 1, length)
    return inner


class Calls:
    """Calls of model-local functions, inferred through a copy of the body, once a signature."""

    def __init__(self, data: ShapeData) -> None:
        self._data = data
        self._known: dict[tuple[object, ...], list[Found]] = {}
        self._running: set[ir.OperatorIdentifier] = set()

    def infer(self, node: ir.Node, function: ir.Function, infer: Infer) -> list[Found] | None:
        """Types and shapes of the outputs of `node`, which calls `function`."""
        if function.identifier() in self._running:
            return None  # recursion: `verify` reports it
        signature = self._signature(node, function)
        if signature is not None and signature in self._known:
            return self._known[signature]
        self._running.add(function.identifier())
        try:
            found = self._through_body(node, function, infer)
        finally:
            self._running.discard(function.identifier())
        if signature is not None:
            self._known[signature] = found
        return found

    def _signature(self, node: ir.Node, function: ir.Function) -> tuple[object, ...] | None:
        """All that the outputs' shapes can depend on; None if that includes more than numbers."""
        parts: list[object] = [id(function)]
        for value in node.inputs:
            if value is None:
                parts.append(None)
            elif value.type is None or isinstance(value.type, ir.TensorType):
                parts.append((value.dtype, dims(value), self._data.of(value)))
            else:
                return None
        for name, attr in sorted(node.attributes.items()):
            if not isinstance(attr.value, int | float | str | tuple):
                return None
            parts.append((name, attr.value))
        return tuple(parts)

    def _through_body(self, node: ir.Node, function: ir.Function, infer: Infer) -> list[Found]:
        body = function.clone()
        for formal, actual in zip(body.inputs, node.inputs, strict=False):
            known = dims(actual)
            formal.type = None if actual is None else own_type(actual.type)
            formal.shape = None if known is None else ir.Shape(known)
            self._data.set(formal, self._data.of(actual))
        _resolve_attributes(body, node.attributes)
        infer(body.graph)
        outer = {word for v in node.inputs for d in dims(v) or () for word in words(d)}
        found: list[Found] = []
        for value in list(body.outputs)[: len(node.outputs)]:
            shape = dims(value)
            if shape is not None:
                shape = tuple(d if words(d) <= outer else UNKNOWN for d in shape)
            found.append((value.type, shape))
        return found


def _resolve_attributes(body: ir.Function, given: Mapping[str, ir.Attr]) -> None:
    """Put the call's attributes, or the function's defaults, in place of references to them."""
    for node in body.all_nodes():
        for name, attr in list(node.attributes.items()):
            if attr.ref_attr_name is None:
                continue
            actual = given.get(attr.ref_attr_name) or body.attributes.get(attr.ref_attr_name)
            if actual is None or actual.value is None:
                del node.attributes[name]
            else:
                node.attributes[name] = ir.Attr(name, actual.type, actual.value)
