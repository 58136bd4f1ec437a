"""What a train form is: a network as it is trained, and the size that it can be folded to."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from addax.ir.cost import cost_of
from addax.ir.query import constant_tensor
from addax.ir.shapes import infer_shapes

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MOVEMENT = frozenset(
    {
        *("Cast", "Concat", "Constant", "Expand", "Flatten", "Gather", "Identity", "Pad"),
        *("Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)


@dataclass(frozen=True)
class Counts:
    """What a graph computes: linear nodes, their multiplies, and the other nodes that compute.

    A dynamic dimension counts as 1, so a dynamic batch is a batch of one.
    """

    linears: int
    multiplies: int
    others: int

    @classmethod
    def of(cls, model: ir.Model) -> "Counts":
        """Count the nodes of the main graph that depend on an input; infers missing shapes."""
        infer_shapes(model)
        nodes = [node for node in model.graph if constant_tensor(node.outputs[0]) is None]
        linear = [node for node in nodes if node.op_type in LINEAR]
        others = [node for node in nodes if node.op_type not in _MOVEMENT]
        work = sum(cost_of(node).multiplies for node in linear)
        return cls(len(linear), work, len(others) - len(linear))


@dataclass(frozen=True)
class TrainForm:
    """A network in the form in which it is trained, beside the smallest that computes the same.

    Attributes:
        name: short, unique, kebab-case.
        family: the form that it belongs to.
        trained: builds the network; `build` draws its statistics.
        ideal: builds a network of the folded structure, written by hand. Its weights mean
            nothing: it is there to be counted.
        shape: the shape of its one input; the first dimension is the batch.
        is_trap: whether a fold that suggests itself would be wrong, or would cost more.
    """

    name: str
    family: str
    trained: Callable[[], nn.Module]
    ideal: Callable[[], nn.Module]
    shape: tuple[int, ...]
    is_trap: bool = False

    def build(self, seed: int = 0) -> nn.Module:
        """A new network in evaluation mode, its weights and statistics drawn from the seed."""
        return _drawn(self.trained, zlib.crc32(self.name.encode()) + seed)

    def build_ideal(self) -> nn.Module:
        """A new network of the folded structure, in evaluation mode."""
        return _drawn(self.ideal, 0)

    def inputs(self, seed: int = 0, batch: int | None = None) -> tuple[Tensor]:
        """Normally distributed inputs; a batch of the form's own size by default."""
        generator = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        shape = (batch or self.shape[0], *self.shape[1:])
        return (torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)),)


def _drawn(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = build()
        randomise(module)
    return module.eval()


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Draw what initialization leaves at 0 and 1: statistics, gains and shifts, layer scales."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            assert child.running_mean is not None
            assert child.running_var is not None
            child.running_mean.normal_(0, 0.5)
            child.running_var.uniform_(0.5, 2)
        for name, parameter in child.named_parameters(recurse=False):
            if name == "gamma" or (name == "weight" and parameter.ndim == 1):
                parameter.uniform_(0.5, 1.5)
            elif name == "bias":
                parameter.normal_(0, 0.3)
