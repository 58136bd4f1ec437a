"""Modules and exported programs of torch to a graph of our own."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir
import torch

from addax.errors import ExportError, OptionError
from addax.frontend._examples import Examples, dynamic_shapes_of, try_out
from addax.frontend._exported import FindName, adopt
from addax.frontend._exporter import check_opset, export
from addax.frontend._opset import TARGET
from addax.ir import collector

logger = logging.getLogger(__name__)


def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    opset: int = TARGET,
) -> ir.Model:
    """Export a module by running it once on example inputs. It is left as it was.

    A module in training mode is exported as in evaluation, with a line in the log. The weights
    are copies: training on does not change the model. Each node's origin is the place in the
    module; outputs are called `output`, or after their keys in a dict or dataclass.

    Args:
        module: An `nn.Module`, or the `ExportedProgram` of one in evaluation mode.
        example_inputs: A tensor, a tuple or list of arguments, or a dict of them by name.
        kwargs: Further arguments by name.
        dynamic_shapes: Which dimensions may vary, as `torch.export.export` takes it, or
            `{0: "batch"}` for that axis of every tensor. Nothing varies by default.
        opset: The operator set to write, 18 to 25. Gelu is one node from 20 on, RMS norm and
            attention from 23 on, which fewer runtimes know.

    Raises:
        InputError: If the module does not run on the example inputs.
        ExportError: If it cannot be exported; says where, and what to do.
        OptionError: If `dynamic_shapes` or `opset` does not fit.
    """
    check_opset(opset)
    if isinstance(module, torch.export.ExportedProgram):
        if dynamic_shapes is not None:
            raise OptionError(
                "the dimensions of an ExportedProgram are settled: pass dynamic_shapes to "
                "torch.export.export"
            )
        refuse_training(module.graph_module)
        with collector.paused():
            return adopt(export(module, None, None, opset))
    return export_module(module, example_inputs, kwargs, dynamic_shapes, opset)


def export_module(
    module: torch.nn.Module,
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
    opset: int,
    find_name: FindName | None = None,
) -> ir.Model:
    """`from_torch` for modules; `find_name` may name what a node came from."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            f"{module.original_name} was compiled by torch.jit, which cannot be exported: pass "
            "the module that it was made from"
        )
    module = getattr(module, "_orig_mod", module)  # inside what torch.compile returns
    examples = Examples.of(module, example_inputs, kwargs)
    shapes = dynamic_shapes_of(examples, dynamic_shapes)
    with _evaluating(module), collector.paused():
        try_out(module, examples)
        program = export(module, examples, shapes, opset)
        return adopt(program, find_name, examples.names.signature)


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module and its children in evaluation mode; each gets its own mode back."""
    # Bare modules are folders: torch.fx makes them, always in training mode.
    modules = [child for child in module.modules() if type(child) is not torch.nn.Module]
    training = [child for child in modules if child.training]
    if training:
        logger.warning(
            "%s is in training mode; exported as in evaluation mode", type(module).__name__
        )
    for child in training:
        child.training = False
    try:
        yield
    finally:
        for child in training:
            child.training = True


def refuse_training(graph_module: torch.fx.GraphModule) -> None:
    """Refuse a traced graph that drops at random, or normalizes by its batch.

    Raises:
        ExportError: If it does; names the node.
    """
    for node in graph_module.graph.nodes:
        if _trains(node):
            raise ExportError(
                f"the graph was traced in training mode (node {node.name!r}): call .eval() on "
                "the module before tracing it"
            )


def _trains(node: torch.fx.Node) -> bool:
    """Whether a node is a dropout or batch norm with its training flag set."""
    target = str(node.target)
    position = 2 if "dropout" in target else 5 if "batch_norm" in target else None
    if node.op != "call_function" or position is None:
        return False
    if "training" in node.kwargs:
        return node.kwargs["training"] is True
    return "aten." in target and len(node.args) > position and node.args[position] is True
