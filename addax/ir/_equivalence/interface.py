"""Whether two models can be compared at all: the same inputs and outputs, and no chance in them."""

from collections.abc import Iterator

import onnx_ir as ir

from addax.errors import InputError
from addax.ir.model import clone
from addax.ir.origin import describe
from addax.ir.query import scalar

_RANDOM = frozenset(
    {
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip


def check_interfaces(a: ir.Model, b: ir.Model) -> None:
    """Refuse models whose inputs or outputs differ.

    Raises:
        InputError: They differ in number, names, the order of outputs, element types, ranks or
            fixed sizes. An overridable initializer is no input here.
    """
    for side, left, right in (
        ("inputs", inputs(a), inputs(b)),
        ("outputs", list(a.graph.outputs), list(b.graph.outputs)),
    ):
        if side == "inputs":
            left, right = sorted(left, key=_name), sorted(right, key=_name)
        fits = len(left) == len(right) and all(map(_alike, left, right))
        if not fits:
            raise InputError(
                f"expected models with the same {side}, got {_listed(left)} and {_listed(right)}; "
                "a comparison needs the same names, element types and sizes"
            )


def inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that have no value of their own."""
    return [value for value in model.graph.inputs if value.const_value is None]


def _name(value: ir.Value) -> str:
    return str(value.name)


def _alike(a: ir.Value, b: ir.Value) -> bool:
    if a.name != b.name or (None not in (a.dtype, b.dtype) and a.dtype != b.dtype):
        return False
    if a.shape is None or b.shape is None:
        return True
    return len(a.shape) == len(b.shape) and all(
        i == j
        for i, j in zip(a.shape, b.shape, strict=True)
        if isinstance(i, int) and isinstance(j, int)
    )


def _listed(values: list[ir.Value]) -> str:
    return "[" + ", ".join(map(_described, values)) + "]"


def _described(value: ir.Value) -> str:
    dtype = "?" if value.dtype is None else value.dtype.name.lower()
    dims = "?" if value.shape is None else ",".join(str(d) for d in value.shape)
    return f"{value.name}: {dtype}[{dims}]"


def deterministic(model: ir.Model) -> ir.Model:
    """The model, or a copy without what draws random numbers for no output.

    Raises:
        InputError: An operator that draws random numbers, or Dropout in training, can reach an
            output; names the node.
    """
    live = dict.fromkeys(_live(model))
    for node in live:
        if _draws(node, model):
            raise InputError(
                f"{describe(node)} draws random numbers, so two runs of the same model differ and "
                "no comparison can say anything; export the model in evaluation mode"
            )
    idle = [place for place, node in enumerate(model.graph) if node not in live]
    if not any(_draws(model.graph[place], model) for place in idle):
        return model
    copy = clone(model)
    copy.graph.remove([copy.graph[place] for place in idle], safe=True)
    return copy


def _draws(node: ir.Node, model: ir.Model) -> bool:
    key = (node.domain, node.op_type, node.overload)
    return key not in model.functions and is_random(node)


def is_random(node: ir.Node) -> bool:
    """Whether a node's result differs from run to run."""
    if node.domain not in {"", "ai.onnx"}:
        return False
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        return scalar(node.inputs[2]) is None or bool(scalar(node.inputs[2]))
    return node.op_type in _RANDOM


def _live(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes that outputs depend on, those of subgraphs and functions included."""
    waiting = list(model.graph.outputs)
    seen: set[ir.Node] = set()
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [value for value in node.inputs if value is not None]
        for attribute in node.attributes.values():
            for body in _bodies(attribute):
                waiting.extend(body.outputs)
        function = model.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            waiting.extend(function.outputs)


def _bodies(attribute: ir.Attr) -> list[ir.Graph]:
    if attribute.is_ref():
        return []
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.value]
    return list(attribute.value) if attribute.type == ir.AttributeType.GRAPHS else []
