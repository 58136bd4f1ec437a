"""Modules really run in torch, beside the graphs that they were exported to."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import UnsupportedOpError
from addax.ir.tolerance import bounds, judged


def is_module(model: Any) -> bool:
    """Whether this is a module of torch or an exported program."""
    torch = sys.modules.get("torch")  # whoever holds a module has loaded torch
    return torch is not None and isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def tensors(inputs: Any) -> Any:
    """Example inputs with arrays as tensors, in containers of the same kind."""
    import torch

    if isinstance(inputs, Mapping):
        return {name: tensors(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(tensors(value) for value in inputs)
    return torch.from_numpy(inputs.copy()) if isinstance(inputs, np.ndarray) else inputs


def run_apart(
    module: Any, inputs: Any, graph: ir.Model, feeds: Mapping[str, np.ndarray]
) -> str | None:
    """How what torch computes differs from the exported graph by more than rounding; None if not.

    The bound is the graph's own, in its own formats (`addax.ir.tolerance.bounds`).
    """
    import torch
    from torch.utils import _pytree as pytree

    try:
        known = bounds(graph, feeds)
    except UnsupportedOpError:
        return None  # `compare` reports it
    given = tensors(inputs)
    with torch.no_grad(), evaluation(module) as run:
        if isinstance(given, Mapping):
            results = run(**given)
        else:
            results = run(*given) if isinstance(given, tuple | list) else run(given)
    leaves = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    if len(leaves) != len(graph.graph.outputs):
        return None  # the exporter leaves out what is no tensor, or twice the same
    for value, leaf in zip(graph.graph.outputs, leaves, strict=True):
        name = str(value.name)
        expected, allowed = known[name]
        actual = leaf.detach().cpu().to(torch.float64).numpy()
        margins = judged({name: expected}, {name: actual}, {name: allowed})
        if apart := margins.disagreement or margins.lone_nan:
            return f"torch itself computes something else than the exported graph: {apart}"
    return None


@contextlib.contextmanager
def evaluation(module: Any) -> Iterator[Any]:
    """The module in eval mode, its buffers kept; afterwards every part is in its old mode."""
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        yield module.module()
        return
    modes = [(part, part.training) for part in module.modules()]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        for part, _ in modes:
            part.training = False
        yield lambda *args, **kwargs: torch.func.functional_call(module, buffers, args, kwargs)
    finally:
        for part, mode in modes:
            part.training = mode
