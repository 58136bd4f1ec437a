"""ONNX back to torch: an `fx.GraphModule` that agrees with the graph and can be trained."""

import onnx_ir as ir
import torch

from addax.backends._torch_ops.module import build
from addax.backends._torch_ops.translation import Problem, Translation
from addax.backends.to_ort import to_ort
from addax.errors import UnsupportedOpError
from addax.ir.shapes import infer_shapes
from addax.ir.verify import verify

__all__ = ["to_torch"]

_SHOWN = 20


def to_torch(model: ir.Model) -> torch.fx.GraphModule:
    """The model as a torch module that calls torch's own functions, one or a few for each node.

    Arguments are the graph's inputs in order, under their names as far as these are identifiers.
    Inputs that have an initializer come last and may be left out (before version 4 of the IR, where
    every weight is such an input, they are no arguments). A graph with one output returns its
    tensor, any other a tuple in order.

    Floating initializers that are weights are parameters, everything else is a buffer; both are
    found under the initializers' names (`blocks.0.attn.qkv.weight`) where torch can have such
    attributes, and under the name with other characters replaced by `_` where not. Initializers
    that nothing reads are left out. Constants of Constant nodes are buffers outside the state dict.
    The module shares no memory with the model: external data is mapped privately, the rest copied.

    The module is in eval mode, and means the same in train mode: what differs between the two, such
    as batch statistics and dropout, is settled in an ONNX graph.

    Every fx node is named after the value that it makes, and has the node's origin, where it has
    one, in `meta["origin"]`. `module.meta["onnx"]` holds the names of inputs and outputs and, by
    attribute path, of initializers.

    Sizes that the model fixes are fixed in the module; those that it leaves open stay open: the
    result can be exported by `torch.export` with dynamic shapes, and compiled. Tensors that the
    graph makes out of nothing live where the first argument lives.

    Two things are torch's: random ops follow `torch.manual_seed`, not their seed, and rows of a
    trainable matrix are looked up by `embedding`, which refuses negative indices.

    Raises:
        UnsupportedOpError: nodes have no meaning in torch; lists all of them, before weights are
            read.
        InvalidGraphError: the graph is not well formed, or contradicts itself.
        ModelFileError: external data is missing or too short.
    """
    model = to_ort(model)  # a copy, in which every op of the dialect has its body
    verify(model)
    infer_shapes(model)
    graph = model.graph
    translation = Translation(model)
    recorder, outputs = translation.run(graph)
    if translation.problems:
        raise UnsupportedOpError(_listed(translation.problems))
    module = build(recorder, outputs[0] if len(outputs) == 1 else tuple(outputs))
    module.meta["onnx"] = {
        "inputs": [v.name for v in graph.inputs if not v.is_initializer()],
        "outputs": [v.name for v in graph.outputs],
        "initializers": {
            path: weight.name for path, weight in recorder.weights.items() if weight.persistent
        },
    }
    return module


def _listed(problems: list[Problem]) -> str:
    count = len(problems)
    lines = [f"{count} node{'s have' if count > 1 else ' has'} no meaning in torch:"]
    lines += [f"  {problem}" for problem in problems[:_SHOWN]]
    if count > _SHOWN:
        lines.append(f"  and {count - _SHOWN} more")
    lines.append(
        "Give the model a function of that domain and name as the op's body, rewrite the node into "
        "standard ops, or run the model by addax.backends.to_ort, which needs no converter."
    )
    return "\n".join(lines)
