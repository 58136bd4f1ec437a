"""What a module of torch takes and returns, where that is more than tensors in a row.

A graph has inputs and outputs, one after another. A module takes them by position, by keyword and
inside dicts, and returns dicts, tuples and classes of its own (any that `torch.utils._pytree`
knows, so those of transformers). The frontend notes the form in `model.meta[STRUCTURE]`.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch.utils import _pytree as pytree

from addax.errors import InputError
from addax.frontend import STRUCTURE


@dataclass(frozen=True)
class Leaf:
    """What a place in a tree holds: a tensor, or always the same thing."""

    is_tensor: bool
    kept: Any = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of `forward`: the form of its value, and which leaves are inputs."""

    name: str
    form: pytree.TreeSpec
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class Structure:
    """The form of a module's arguments and results.

    `parameters` are in the order of the graph's inputs; None if the arguments have no names.
    """

    results: pytree.TreeSpec
    leaves: tuple[Leaf, ...]
    signature: inspect.Signature | None
    parameters: tuple[Parameter, ...] | None

    def restore(self, values: Sequence[Any]) -> Any:
        """The results as the module returns them, of the graph's outputs."""
        outputs = iter(values)
        leaves = [next(outputs) if leaf.is_tensor else leaf.kept for leaf in self.leaves]
        return pytree.tree_unflatten(leaves, self.results)

    def is_plain(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]
    ) -> bool:
        """Whether arguments are tensors, each an input of the graph: by name, or all in order.

        Arguments by position are the module's where these are known: it may have others in between.
        """
        if args and self.parameters is not None:
            return False
        values = (*args, *kwargs.values())
        return kwargs.keys() <= set(names) and all(hasattr(value, "shape") for value in values)

    def inputs(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """The graph's inputs in order, of the arguments of a call of the module.

        Raises:
            InputError: If they have another form than those that the module was exported with.
        """
        if self.signature is None or self.parameters is None:
            raise InputError(
                "expected tensors or arrays, by position or by the names of the graph's inputs: "
                "how the module takes others is not known of an ExportedProgram"
            )
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"expected arguments that fit {self.signature}: {error}") from None
        bound.apply_defaults()
        given = dict(bound.arguments)
        found: list[Any] = []
        for parameter in self.parameters:
            found += _inputs(parameter, given.pop(parameter.name))
        for name, value in given.items():
            default = self.signature.parameters[name].default
            if not (value is default or _same(value, default)):
                raise InputError(
                    f"argument {name!r} was left out when the model was exported, so that it "
                    f"cannot be set; got {type(value).__name__}: export with it among the "
                    "example inputs"
                )
        return found


def _inputs(parameter: Parameter, value: Any) -> Iterator[Any]:
    leaves, form = pytree.tree_flatten(value)
    if form != parameter.form:
        raise InputError(
            f"argument {parameter.name!r} has the form {form}; the model was exported with "
            f"{parameter.form}: pass the same"
        )
    for leaf, known in zip(leaves, parameter.leaves, strict=True):
        if known.is_tensor:
            yield leaf
        elif not _same(leaf, known.kept):
            raise InputError(
                f"argument {parameter.name!r} was {known.kept!r} when the model was exported, and "
                f"is part of it; got {leaf!r}: export again with that"
            )


def _same(value: Any, kept: Any) -> bool:
    return type(value) is type(kept) and bool(value == kept)


def note_structure(
    model: ir.Model,
    program: torch.export.ExportedProgram,
    signature: inspect.Signature | None = None,
) -> None:
    """Note on a model the form of what its module takes and returns, if the graph kept it."""
    spec = program.call_spec.out_spec
    outputs = [s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    if spec is None or spec.num_leaves != len(outputs):
        return
    leaves = tuple(_leaf(output.arg) for output in outputs)
    if sum(leaf.is_tensor for leaf in leaves) != len(model.graph.outputs):
        return
    parameters = None if signature is None else _parameters(model, program, signature)
    model.meta[STRUCTURE] = Structure(spec, leaves, signature, parameters)


def _leaf(argument: Any) -> Leaf:
    if isinstance(argument, torch.export.graph_signature.ConstantArgument):
        return Leaf(is_tensor=False, kept=argument.value)
    return Leaf(is_tensor=True)


def _parameters(
    model: ir.Model, program: torch.export.ExportedProgram, signature: inspect.Signature
) -> tuple[Parameter, ...] | None:
    """The parameters that example inputs were given for; None if some have no name."""
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    inputs = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    spec = program.call_spec.in_spec
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return None
    if spec is None or spec.num_leaves != len(inputs):
        return None
    leaves = [_leaf(argument.arg) for argument in inputs]
    if sum(leaf.is_tensor for leaf in leaves) != len(model.graph.inputs):
        return None
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    named = dict(zip(signature.parameters, args, strict=False)) | kwargs
    flat = {name: pytree.tree_flatten(value) for name, value in named.items()}
    return tuple(Parameter(name, form, tuple(found)) for name, (found, form) in flat.items())
