"""Graph modules of torch.fx to a graph of our own; the names of their nodes survive as origins."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch

from addax.frontend._exporter import check_opset
from addax.frontend._opset import TARGET
from addax.frontend.from_torch import export_module, refuse_training

_MARK = "addax"  # any note makes torch keep track of what becomes of a node


def from_fx(
    graph_module: torch.fx.GraphModule,
    example_inputs: Any = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    opset: int = TARGET,
) -> ir.Model:
    """Export a graph module. It is left as it was.

    Each node's origin names the node of the graph module that it came from, and the module
    path that the tracer noted there. Arguments as those of `from_torch`.

    Raises:
        InputError, ExportError, OptionError: As `from_torch`.
    """
    check_opset(opset)
    refuse_training(graph_module)
    traced = torch.fx.GraphModule(graph_module, copy.deepcopy(graph_module.graph))
    for node in traced.graph.nodes:
        node.meta[_MARK] = node.name
    return export_module(
        traced, example_inputs, kwargs, dynamic_shapes, opset, _find_name(traced.graph)
    )


def _find_name(graph: torch.fx.Graph) -> Callable[[torch.fx.Node], str | None]:
    """A function from nodes that torch made of `graph` to the names of what they came from."""

    def find(node: torch.fx.Node) -> str | None:
        pending = list(node.meta.get("from_node", ()))
        while pending:
            source = pending.pop()
            if source.graph_id == id(graph):
                name: str = source.name
                return name
            pending += source.from_node
        return None

    return find
