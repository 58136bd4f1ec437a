"""Graphs of torch's tracer as programs that can be exported: weights as constants, sizes as sizes.

torch hands weights, sizes and numbers over as arguments of the graph. Weights and numbers become
constants; a size is asked of the tensor that has it; what is left are the inputs.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.node import map_arg

from addax.errors import ExportError

_GIVEN = ("placeholder", "get_attr")


@dataclass
class Graph:
    """One graph, and what each of its arguments is, by position.

    `sizes` says for a size which argument has it, and at which axis. `numbers` are baked in by
    value. `outputs` are the positions of tensors among the results; `rest` computes the others.
    `fixed` tells that the graph holds for one set of shapes only; the export finds it out.
    """

    module: torch.fx.GraphModule
    weights: tuple[int, ...]
    tensors: tuple[int, ...]
    sizes: dict[int, tuple[int, int]]
    numbers: tuple[int, ...]
    outputs: tuple[int, ...]
    rest: torch.fx.GraphModule
    fixed: bool = False

    @classmethod
    def of(cls, module: torch.fx.GraphModule) -> "Graph":
        """Read the notes that torch's tracer left on the arguments."""
        nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
        weights, tensors, scalars = [], [], []
        for position, node in enumerate(nodes):
            if "_dynamo_static_input_type" in (node.meta.get("tensor_dict") or {}):
                weights.append(position)
            elif _is_tensor(node) and not _is_number(node):
                tensors.append(position)
            else:
                scalars.append(position)
        sizes = {
            position: place
            for position in scalars
            for place in [_axis(nodes[position], [(i, nodes[i]) for i in tensors])]
            if place is not None
        }
        results = _results(module.graph)
        outputs = tuple(
            place for place, r in enumerate(results) if _is_tensor(r) and r.op != "placeholder"
        )
        rest = _only(module, [p for p in range(len(results)) if p not in outputs])
        numbers = tuple(position for position in scalars if position not in sizes)
        return cls(module, tuple(weights), tuple(tensors), sizes, numbers, outputs, rest)

    def __len__(self) -> int:
        return sum(node.op.startswith("call") for node in self.module.graph.nodes)

    def inputs(self, args: tuple[Any, ...]) -> list[torch.Tensor]:
        """The arguments that stay inputs."""
        return [args[position] for position in self.tensors]

    def results(self, args: tuple[Any, ...], outputs: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        """All that the graph returns, given the tensors that were computed."""
        rest = self.rest(*args)
        found = dict(zip(self.outputs, outputs, strict=True))
        others = iter(rest)
        count = len(outputs) + len(rest)
        return tuple(found[p] if p in found else next(others) for p in range(count))

    def state(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Something that is another after a weight was changed in place or set anew."""
        return tuple(_version(args[position]) for position in self.weights)

    def key(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the exported program holds for, beside the weights."""
        numbers = tuple(_number(args[position]) for position in self.numbers)
        return numbers + (tuple(t.shape for t in self.inputs(args)) if self.fixed else ())

    def export(self, args: tuple[Any, ...]) -> torch.export.ExportedProgram:
        """The graph with these weights and numbers, as a program of its inputs.

        Raises:
            ExportError: If it writes to what it was given, draws random numbers, has no tensor
                among its results, or a number that depends on one.
        """
        if not self.outputs:
            raise ExportError("the graph computes no tensor")
        if any(_is_tensor(n) for n in self.rest.graph.nodes if n.op not in _GIVEN):
            raise ExportError("a number among its results depends on what is in a tensor")
        inputs = tuple(value.detach() for value in self.inputs(args))
        vary = [self._varying(position) for position in self.tensors]
        automatic = torch.export.Dim.AUTO
        dynamic = tuple(dict.fromkeys(axes, automatic) or None for axes in vary)
        with torch.no_grad():
            program = torch.export.export(
                self._frozen(args), inputs, dynamic_shapes=dynamic, strict=False
            )
        _require_pure(program)
        self.fixed = self.fixed or _fixes(program, vary)
        return program

    def _varying(self, position: int) -> list[int]:
        """The axes of an argument whose sizes vary, as far as torch's tracer knows."""
        nodes = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        shape = nodes[position].meta["example_value"].shape
        return [axis for axis, size in enumerate(shape) if not isinstance(size, int)]

    def _frozen(self, args: tuple[Any, ...]) -> torch.fx.GraphModule:
        """The graph over its inputs alone."""
        old = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        graph, holder = torch.fx.Graph(), torch.nn.Module()
        new: dict[torch.fx.Node, Any] = {
            old[position]: graph.placeholder(f"x{position}") for position in self.tensors
        }
        for position in self.weights:
            new[old[position]] = _hold(graph, holder, f"weight_{position}", args[position])
        for position, (source, axis) in self.sizes.items():
            place = (new[old[source]], axis)
            new[old[position]] = graph.call_function(torch.ops.aten.sym_size.int, place)
        for position in self.numbers:
            new[old[position]] = _number(args[position])
        for node in self.module.graph.nodes:
            if node.op == "get_attr":
                held = operator.attrgetter(str(node.target))(self.module)
                new[node] = _hold(graph, holder, f"held_{node.name}", held)
            elif _reads_number(node) and not isinstance(new[node.args[0]], torch.fx.Node):
                new[node] = new[node.args[0]]
            elif node.op not in {"placeholder", "output"}:
                given, named = map_arg((node.args, node.kwargs), new.__getitem__)
                new[node] = graph.create_node(node.op, node.target, given, named)
        results = _results(self.module.graph)
        graph.output(tuple(new[results[place]] for place in self.outputs))
        return torch.fx.GraphModule(holder, graph).eval()


def _hold(graph: torch.fx.Graph, holder: torch.nn.Module, name: str, value: Any) -> torch.fx.Node:
    """Keep a tensor, or a graph that an operator takes, in the module; returns who reads it."""
    if isinstance(value, torch.Tensor):
        holder.register_buffer(name, value.detach())
    else:
        setattr(holder, name, value)
    return graph.get_attr(name)


def _results(graph: torch.fx.Graph) -> tuple[Any, ...]:
    (node,) = graph.find_nodes(op="output")
    return tuple(node.args[0])


def _only(module: torch.fx.GraphModule, places: Sequence[int]) -> torch.fx.GraphModule:
    """What computes some of the results, for the same arguments."""
    graph = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    graph.graph_copy(module.graph, copies)
    results = _results(module.graph)
    kept = tuple(results[place] for place in places)
    graph.output(map_arg(kept, copies.__getitem__))
    graph.eliminate_dead_code()
    return torch.fx.GraphModule(module, graph)


def _is_tensor(node: Any) -> bool:
    return isinstance(node, torch.fx.Node) and isinstance(
        node.meta.get("example_value"), torch.Tensor
    )


def _reads_number(node: torch.fx.Node) -> bool:
    return node.op == "call_method" and node.target == "item"


def _is_number(node: torch.fx.Node) -> bool:
    """Whether a tensor among the arguments stands for a Python number."""
    return bool(node.users) and all(_reads_number(user) for user in node.users)


def _number(arg: Any) -> Any:
    return arg.item() if isinstance(arg, torch.Tensor) else arg


def _axis(
    node: torch.fx.Node, tensors: Sequence[tuple[int, torch.fx.Node]]
) -> tuple[int, int] | None:
    """The first tensor with an axis whose size is this argument, and that axis."""
    size = node.meta.get("example_value")
    if not isinstance(size, torch.SymInt):
        return None
    for position, tensor in tensors:
        for axis, other in enumerate(tensor.meta["example_value"].shape):
            if isinstance(other, torch.SymInt) and other.node.expr == size.node.expr:
                return position, axis
    return None


def _version(tensor: torch.Tensor) -> tuple[int, int | None]:
    if tensor.is_inference():  # torch does not count what is written to these
        return tensor.data_ptr(), None
    return tensor.data_ptr(), tensor._version  # noqa: SLF001 - the documented counter of writes


def _require_pure(program: torch.export.ExportedProgram) -> None:
    """Refuse what a graph of ONNX cannot do.

    Raises:
        ExportError: If the program writes to its inputs or weights, or draws random numbers.
    """
    operators = [n.target for n in program.graph.nodes if hasattr(n.target, "_schema")]
    for target in operators:
        if torch.Tag.nondeterministic_seeded in target.tags:
            raise ExportError(f"it draws random numbers ({target})")
    if any(target._schema.is_mutable for target in operators):  # noqa: SLF001 - what operators tell
        signature = program.run_decompositions({}).graph_signature
        if written := {**signature.buffers_to_mutate, **signature.user_inputs_to_mutate}:
            raise ExportError(f"it writes to {', '.join(map(str, written.values()))}, in place")


def _fixes(program: torch.export.ExportedProgram, vary: Sequence[Sequence[int]]) -> bool:
    """Whether an axis that was to vary has got one size."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = [nodes[name] for name in program.graph_signature.user_inputs if name in nodes]
    return any(
        isinstance(node.meta["val"].shape[axis], int)
        for node, axes in zip(inputs, vary, strict=True)
        for axis in axes
    )
