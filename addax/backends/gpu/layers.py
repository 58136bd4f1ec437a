"""What a host does for each linear layer of a model: which kernels, with which arguments."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.backends.ort import form_of
from addax.ir.dialect import DOMAIN
from addax.ir.query import attribute, constant_tensor, shape

MANY_FROM = 16  # rows; not measured, since either kernel is right for any number of rows
_TABLE = 64  # entries: the kernels read a table of that size
_WEIGHTS = {
    "BinaryMatMul": ("codes", "multipliers", "scale"),
    "CodebookMatMul": ("codes", "table", "multipliers", "scale"),
    "Int8MatMul": ("codes", "scale"),
}

Argument = int | str | dict[str, str]


@dataclass(frozen=True)
class Step:
    """One launch.

    Attributes:
        kernel: Its name, without `addax_`.
        arguments: By parameter: a number; "x", "y", "q" or "s" for memory; "rows" for the rows of
            x; or {"tensor": name} for weights.
    """

    kernel: str
    arguments: Mapping[str, Argument]


@dataclass(frozen=True)
class Layer:
    """A node that kernels compute: x float[rows, K] becomes y float[rows, N].

    Attributes:
        node: The name of the node.
        op: Its operator.
        x: The value that it reads.
        y: The value that it makes.
        few: The launches for few rows, in order.
        many: The launches from `MANY_FROM` rows on.
        memory: Bytes that "q" and "s" take for each row.
    """

    node: str
    op: str
    x: str
    y: str
    few: tuple[Step, Step]
    many: tuple[Step, Step]
    memory: Mapping[str, int]

    @property
    def kernels(self) -> set[str]:
        """The names of all kernels that it may launch."""
        return {step.kernel for step in (*self.few, *self.many)}

    def as_json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        described: dict[str, Any] = {"node": self.node, "op": self.op, "x": self.x, "y": self.y}
        described["bytes_for_each_row"] = dict(self.memory)
        for name, steps in (("few", self.few), ("many", self.many)):
            described[name] = [
                {"kernel": f"addax_{step.kernel}", "arguments": dict(step.arguments)}
                for step in steps
            ]
        return described | {"many_from_rows": MANY_FROM}


def has_kernel(node: ir.Node) -> bool:
    """Whether a grid of threads computes a node."""
    return node.op_type in _WEIGHTS and form_of(node) is not None


def layers_of(model: ir.Model) -> tuple[list[Layer], dict[str, np.ndarray]]:
    """Every node that kernels compute, and the weights as kernels read them, by tensor's name."""
    nodes = [n for n in model.graph.all_nodes() if n.domain == DOMAIN and has_kernel(n)]
    made, tensors = [], dict[str, np.ndarray]()
    for node in nodes:
        weights = dict(_weights(node))
        tensors |= dict(weights.values())
        made.append(_layer(node, {role: name for role, (name, _) in weights.items()}))
    return made, tensors


def _weights(node: ir.Node) -> Iterable[tuple[str, tuple[str, np.ndarray]]]:
    """(parameter, (name, array)) of each tensor that belongs to a node."""
    for role, value in zip(_WEIGHTS[node.op_type], node.inputs[1:], strict=True):
        tensor = constant_tensor(value)
        if value is None or tensor is None:
            continue
        array = np.ascontiguousarray(tensor.numpy())
        if role == "table":
            array = np.tile(array, _TABLE // len(array))
        elif node.op_type == "Int8MatMul" and role == "codes":
            missing = _group(node) // 4 - array.shape[1]
            array = np.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)))
        yield role, (str(value.name), array)


def _layer(node: ir.Node, tensors: Mapping[str, str]) -> Layer:
    form, columns, group = str(form_of(node)), _columns(node), _group(node)
    groups = -(-columns // group)
    sizes: dict[str, Argument] = {"rows": "rows", "groups": groups, "group": group}
    outputs = int(str((shape(node.inputs[-1]) or (0,))[0]))
    linear: dict[str, Argument] = {"q": "q", "s": "s", "y": "y", "columns": outputs}
    for role, name in tensors.items():
        linear[role] = {"tensor": name}
    linear |= sizes
    prepare: dict[str, Argument] = {"x": "x", "q": "q", "s": "s", "columns": columns, **sizes}
    names = ("int8", "int8") if form == "int8" else (f"{form}_few", f"{form}_many")
    first = "tables" if form.startswith("binary") else "quantize"
    few, many = (
        (Step(before, prepare), Step(name, linear))
        for before, name in zip((first, "quantize"), names, strict=True)
    )
    bytes_of_q = groups * group * (4 if first == "tables" else 1)
    (x, y) = (str(value.name) for value in (node.inputs[0], node.outputs[0]) if value is not None)
    memory = {"q": bytes_of_q, "s": 4 * groups}
    return Layer(str(node.name), node.op_type, x, y, few, many, memory)


def _columns(node: ir.Node) -> int:
    return int(str((shape(node.inputs[0]) or (0,))[-1]))


def _group(node: ir.Node) -> int:
    """Columns of a group; int8 weights are one, since they have one scale a token."""
    if node.op_type == "Int8MatMul":
        return -(-_columns(node) // 32) * 32
    return int(attribute(node, "group"))
