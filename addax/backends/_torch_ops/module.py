"""An fx GraphModule out of a recording."""

from collections.abc import Hashable
from typing import Any

import torch

from addax.backends._torch_ops.recorder import Recorder, Weight
from addax.backends._torch_ops.weights import place, to_tensor


def build(recorder: Recorder, outputs: Any) -> torch.fx.GraphModule:
    """The module that computes `outputs` (a proxy, or a tuple of them); now weights are read.

    Raises:
        ModelFileError: external data is missing or too short.
    """
    graph = recorder.graph
    graph.output(recorder.create_arg(outputs))
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    graph.lint()
    used = {str(node.target) for node in graph.nodes if node.op in ("get_attr", "call_module")}
    weights = {path: weight for path, weight in recorder.weights.items() if path in used}
    attributes: dict[str, Any] = dict(_tensors(weights))
    attributes.update((path, m) for path, m in recorder.modules.items() if path in used)
    module = torch.fx.GraphModule(attributes, graph)
    for path, weight in weights.items():
        if not weight.persistent:
            parent, _, name = path.rpartition(".")
            module.get_submodule(parent).register_buffer(name, attributes[path], persistent=False)
    return module.eval()


def _tensors(weights: dict[str, Weight]) -> dict[str, torch.Tensor]:
    """The tensors by path; constants that share memory, or a place in a file, share a tensor."""
    made: dict[Hashable, torch.Tensor] = {}
    tensors = {}
    for path, weight in weights.items():
        key = (place(weight.tensor), weight.trainable)
        if key not in made:
            tensor = to_tensor(weight.tensor)
            made[key] = torch.nn.Parameter(tensor) if weight.trainable else tensor
        tensors[path] = made[key]
    return tensors
