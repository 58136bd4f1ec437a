"""What holds for every trainable layer: checkpoints, gradients, modes, export and folding."""

import copy
import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import addax
from addax.frontend import layers, to_ir
from addax.passes._family import families
from tests.frontend.layers.examples import EXAMPLES, MAPS, UNJOINED, Example
from tests.soundness import check

ALL = (*EXAMPLES, *UNJOINED)
LINEAR = ("Conv", "Gemm", "MatMul")
BATCH = {0: "batch"}


class SideBySide(nn.Module):
    """All layers, each with an input and an output of its own: one export for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(example.build() for example in ALL)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


@dataclass(frozen=True)
class Folded:
    """The layers as exported and as optimized, and what both say for one example and for two."""

    inputs: tuple[Tensor, ...]
    graph: ir.Model
    model: ir.Model
    expected: list[tuple[Tensor, ...]]
    found: list[tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def folded() -> Folded:
    module = SideBySide().eval()
    inputs = tuple(example.input() for example in ALL)
    graph = to_ir(module, inputs, dynamic_shapes=BATCH)
    made = addax.optimize(graph, progress=False)
    batches = [tuple(x[:count] for x in inputs) for count in (1, 2)]
    with torch.no_grad():
        expected = [module(*batch) for batch in batches]
    return Folded(inputs, graph, made.model, expected, [made(*batch) for batch in batches])


@pytest.mark.parametrize("example", ALL, ids=str)
def test_a_checkpoint_brings_everything_back(example: Example) -> None:
    module, other = example.build(0), example.build(1)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = example.input()
    assert torch.equal(module(x), other(x))


@pytest.mark.parametrize("example", ALL, ids=str)
def test_every_trained_weight_has_a_gradient(example: Example) -> None:
    module = example.build().train()
    module(example.input()).square().sum().backward()
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    dead = [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    # Softmax does not see what all scores of a row have in common: the biases of the keys.
    assert [name for name in dead if not name.startswith("key.")] == []


@pytest.mark.parametrize("example", ALL, ids=str)
def test_gradients_are_those_of_the_function(example: Example) -> None:
    module = example.build().double()
    if isinstance(getattr(module, "act", None), nn.ReLU):
        module.act = nn.Tanh()  # a difference across a kink is no slope
    x = example.input(dtype=torch.float64)[:1].requires_grad_(True)
    direction = example.input(seed=2, dtype=torch.float64)[:1]
    (gradient,) = torch.autograd.grad(module(x).sin().sum(), x)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (module(x + s * direction).sin().sum() for s in (step, -step))
    slope = (ahead - behind) / (2 * step)
    assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("example", ALL, ids=str)
def test_evaluation_depends_on_no_other_example(example: Example) -> None:
    module, x = example.build(), example.input()
    assert torch.allclose(module(x)[:1], module(x[:1]), atol=1e-6)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_training_moves_the_statistics_and_evaluation_does_not(example: Example) -> None:
    module, x = example.build(), example.input()
    before = copy.deepcopy(dict(module.named_buffers()))
    module(x)
    assert all(torch.equal(before[name], value) for name, value in module.named_buffers())
    module.train()(x)
    moved = [n for n, v in module.named_buffers() if not torch.equal(before[n], v)]
    assert moved == [name for name in before if "running" in name or "num_batches" in name]


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.shape == MAPS], ids=str)
def test_a_convolution_block_is_one_convolution_up_to_the_border(example: Example) -> None:
    """What it says of single pixels is all that it says of their sum."""
    module = example.build().double()
    module.act = nn.Identity()
    x = example.input(dtype=torch.float64)
    size = x[0].numel()
    with torch.no_grad():
        zero = module(torch.zeros_like(x[:1]))
        answers = module(torch.eye(size, dtype=torch.float64).reshape(size, *x.shape[1:])) - zero
        expected = torch.einsum("nf,fohw->nohw", x.reshape(len(x), size), answers) + zero
        assert torch.allclose(module(x), expected, atol=1e-12)
    # One bias for every place, borders included: no convolution has another.
    assert torch.allclose(zero, zero[..., :1, :1].expand_as(zero), atol=1e-12)


def test_every_exact_pass_keeps_their_function_for_any_batch(folded: Folded) -> None:
    names = [value.name for value in folded.graph.graph.inputs]
    larger = [torch.cat([x, x[:1]]).numpy() for x in folded.inputs]
    check(folded.graph, dict(zip(names, larger, strict=True)))


@pytest.mark.parametrize("number", range(len(ALL)), ids=[str(example) for example in ALL])
def test_the_optimized_network_says_the_same(folded: Folded, number: int) -> None:
    for expected, found in zip(folded.expected, folded.found, strict=True):
        assert expected[number].shape == found[number].shape
        difference = (expected[number] - found[number]).abs().max()
        assert difference < 1e-5 * expected[number].abs().max()


@pytest.mark.skipif(
    not {"branch-consolidation", "channel-idle"} <= families().keys(),
    reason="the families that merge branches are not installed",
)
@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[str(e) for e in EXAMPLES])
def test_folds_to_the_plain_layer(folded: Folded, number: int) -> None:
    found = [node.op_type for node in _cone(folded.model.graph.outputs[number])]
    # Beside the two products of an attention; maps of one input may be one, then there are fewer.
    linear = sum(op in LINEAR for op in found) - 2 * found.count("Softmax")
    assert 1 <= linear <= EXAMPLES[number].ideal


def _cone(value: ir.Value | None) -> Iterator[ir.Node]:
    """The nodes that a value is computed by."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        node = None if (one := waiting.pop()) is None else one.producer()
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            waiting.extend(node.inputs)
            yield node


def test_the_package_loads_without_torch() -> None:
    script = "import addax, addax.frontend, sys; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "False\n"


def test_every_public_name_is_there() -> None:
    assert all(hasattr(layers, name) for name in layers.__all__)
