"""Branches and loops over graphs, which run as modules of their own."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()


class Branch(torch.nn.Module):
    """Runs one of two graphs; under torch's compilers as `torch.cond`."""

    def __init__(self, then: torch.nn.Module, otherwise: torch.nn.Module) -> None:
        super().__init__()
        self.then = then
        self.otherwise = otherwise

    def forward(self, condition: Tensor, *captured: Any) -> Any:
        """The outputs of the graph that the condition picks, on the captured values."""
        condition = condition.reshape(())
        if torch.compiler.is_compiling():
            return torch.cond(condition, self.then, self.otherwise, captured)
        return self.then(*captured) if condition else self.otherwise(*captured)


@OPS.op("If")
def branch(
    condition: Tensor, *, then_branch: ir.Graph, else_branch: ir.Graph, site: Site
) -> tuple[Any, ...]:
    """One of two graphs; one that is known now is recorded in place."""
    known = site.integers(0)
    if known is not None and known.is_static:
        return site.inline(then_branch if known.items[0] else else_branch)
    captured = site.captures(then_branch, else_branch)
    module = Branch(site.module(then_branch, captured), site.module(else_branch, captured))
    return _unpacked(site, site.run(module, condition, *site.tensors(captured)))


def _unpacked(site: Site, results: Any) -> tuple[Any, ...]:
    return tuple(results[k] for k in range(len(site.node.outputs)))


class Loop(torch.nn.Module):
    """Runs a graph again and again: ONNX's Loop.

    The body takes the turn's number, whether to go on, the carried and the captured values; it
    returns whether to go on, the carried values, and one tensor for each stack.
    """

    def __init__(
        self,
        body: torch.nn.Module,
        carried: int,
        stacks: Sequence[tuple[tuple[int, ...], torch.dtype]],
    ) -> None:
        super().__init__()
        self.body = body
        self.carried = carried
        self.stacks = tuple(stacks)

    def forward(self, trips: Tensor | None, go: Tensor | None, *values: Any) -> tuple[Any, ...]:
        """The carried values after the last turn, and what each turn returned, stacked."""
        state, captured = values[: self.carried], values[self.carried :]
        made: list[list[Tensor]] = [[] for _ in self.stacks]
        limit = None if trips is None else int(trips)
        turn = 0
        while (limit is None or turn < limit) and (go is None or bool(go)):
            number = torch.tensor(turn, dtype=torch.int64)
            going = torch.tensor(True) if go is None else go
            next_go, *results = self.body(number, going, *state, *captured)
            go = None if go is None else next_go
            state = tuple(results[: self.carried])
            for stack, item in zip(made, results[self.carried :], strict=True):
                stack.append(item)
            turn += 1
        stacked = [
            torch.stack(items) if items else torch.empty((0, *shape), dtype=dtype)
            for items, (shape, dtype) in zip(made, self.stacks, strict=True)
        ]
        return (*state, *stacked)


@OPS.op("Loop")
def loop(
    trips: Tensor | None = None,
    condition: Tensor | None = None,
    *initial: Tensor,
    body: ir.Graph,
    site: Site,
) -> tuple[Any, ...]:
    """A graph run until its condition or a number of turns ends it."""
    captured = site.captures(body)
    turn = site.module(body, captured)
    stacks = [_stack(site, value) for value in body.outputs[len(initial) + 1 :]]
    module = Loop(turn, len(initial), stacks)
    return _unpacked(site, site.run(module, trips, condition, *initial, *site.tensors(captured)))


def _stack(site: Site, value: ir.Value) -> tuple[tuple[int, ...], torch.dtype]:
    """The shape and type of an element of a stack, for a loop that never turns."""
    if value.dtype is None:
        site.decline(
            f"the element type of output {value.name!r} of the body is unknown: declare it"
        )
    shape = value.shape or ()
    return tuple(d if isinstance(d, int) else 0 for d in shape), site.torch_dtype(value.dtype)


class Scan(torch.nn.Module):
    """Runs a graph on the slices of tensors, from one to the next: ONNX's Scan.

    The body takes the states, a slice of each sequence, and the captured values; it returns the
    states and one tensor for each stack.
    """

    def __init__(
        self,
        body: torch.nn.Module,
        states: int,
        inputs: Sequence[tuple[int, bool]],
        outputs: Sequence[tuple[int, bool]],
    ) -> None:
        super().__init__()
        self.body = body
        self.states = states
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def forward(self, *values: Any) -> tuple[Any, ...]:
        """The last states, and what each turn returned, stacked; (axis, reversed) describe each."""
        state = values[: self.states]
        count = self.states + len(self.inputs)
        sequences, captured = values[self.states : count], values[count:]
        parts = []
        for sequence, (axis, is_reversed) in zip(sequences, self.inputs, strict=True):
            slices = torch.unbind(sequence, axis)
            parts.append(slices[::-1] if is_reversed else slices)
        made: list[list[Tensor]] = [[] for _ in self.outputs]
        for turn in zip(*parts, strict=True):
            results = self.body(*state, *turn, *captured)
            state = tuple(results[: self.states])
            for stack, item in zip(made, results[self.states :], strict=True):
                stack.append(item)
        stacked = [
            torch.stack(items[::-1] if is_reversed else items, axis)
            for items, (axis, is_reversed) in zip(made, self.outputs, strict=True)
        ]
        return (*state, *stacked)


@OPS.op("Scan", since=9)
def scan(
    *values: Tensor,
    body: ir.Graph,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
    site: Site,
) -> tuple[Any, ...]:
    """A graph run on each slice of its inputs in turn."""
    states = len(values) - num_scan_inputs
    stacks = len(body.outputs) - states
    captured = site.captures(body)
    module = Scan(
        site.module(body, captured),
        states,
        _described(num_scan_inputs, scan_input_axes, scan_input_directions),
        _described(stacks, scan_output_axes, scan_output_directions),
    )
    return _unpacked(site, site.run(module, *values, *site.tensors(captured)))


def _described(
    count: int, axes: Sequence[int] | None, directions: Sequence[int] | None
) -> list[tuple[int, bool]]:
    axes = axes or (0,) * count
    directions = directions or (0,) * count
    return [(axis, bool(way)) for axis, way in zip(axes, directions, strict=True)]
