"""Layers of shifts, bits and experts through torch.export and ONNX, for any batch."""

import io
from collections.abc import Callable

import onnxruntime
import pytest
import torch
from torch import nn

import addax
from addax.frontend import to_ir
from addax.frontend.layers import (
    BinaryLinearAttention,
    MixtureFeedForward,
    MixtureLinear,
    ShiftLinear,
    freeze,
)

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "PS": lambda: ShiftLinear(8, 6),
    "Q": lambda: ShiftLinear(8, 6, kind="Q"),
    "signs": lambda: BinaryLinearAttention(8, 2),
    "hash": lambda: BinaryLinearAttention(8, 2, hashing=4, anchors=5),
    "linear": lambda: MixtureLinear(8, 6),
    "feed-forward": lambda: MixtureFeedForward(8, 12),
}
layers = pytest.mark.parametrize("name", LAYERS)


def built(name: str, frozen: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layer = LAYERS[name]().eval()
    return freeze(layer) if frozen else layer


def batches() -> list[torch.Tensor]:
    """Other sizes than the example's; zeros, and tokens that are all the same."""
    torch.manual_seed(1)
    return [torch.randn(1, 5, 8), torch.randn(7, 5, 8), torch.zeros(3, 5, 8), torch.ones(3, 5, 8)]


@layers
@pytest.mark.parametrize("frozen", [True, False])
def test_torch_export_computes_the_same(name, frozen):
    layer = built(name, frozen)
    program = torch.export.export(
        layer, (torch.randn(2, 5, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    with torch.no_grad():
        for x in batches():
            assert torch.equal(program.module()(x), layer(x))


@layers
def test_onnx_runtime_computes_the_same(name):
    """Of plain nodes: nothing of it knows addax."""
    layer = built(name)
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        layer, (torch.randn(2, 5, 8),), dynamic_shapes=dynamic, dynamo=True, verbose=False
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    with torch.no_grad():
        for x in batches():
            (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            assert torch.allclose(torch.from_numpy(y), layer(x), atol=1e-6)


@layers
def test_optimized_it_computes_the_same(name):
    layer = built(name)
    made = addax.optimize(layer, torch.randn(2, 5, 8), dynamic_shapes={0: "batch"}, progress=False)
    with torch.no_grad():
        for x in batches():
            assert torch.allclose(made(x), layer(x), atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "feed-forward"])
def test_a_mixture_is_a_choice_between_rows(name):
    """What `addax.passes` looks for: no NonZero, no shape that depends on data."""
    model = to_ir(built(name), torch.randn(2, 5, 8))
    ops = [node.op_type for node in model.graph]
    assert ops.count("ArgMax") == 1
    assert ops.count("Where") == (1 if name == "linear" else 2)
    assert not {"NonZero", "ScatterND", "Exp", "Log", "Round"} & set(ops)


@pytest.mark.parametrize("expert", [None, 0, 1])
@pytest.mark.parametrize("name", ["linear", "feed-forward"])
def test_routed_it_computes_the_same_but_for_eight_bits(name, expert):
    """Also where one expert gets every token, and where logits are equal."""
    layer = built(name)
    if expert is not None:
        with torch.no_grad():
            layer.router.logits.weight.zero_()
            layer.router.logits.bias.copy_(torch.tensor([0.0, 1.0 * expert]))
    made = addax.optimize(
        layer,
        torch.randn(2, 5, 8),
        dynamic_shapes={0: "batch"},
        allow=("route-experts{dispatch=0}",),
        target="portable",
        progress=False,
    )
    ops = [node.op_type for node in made.model.graph]
    assert ops.count("Compress") == 2
    assert ops.count("MatMulIntegerToFloat") == (1 if name == "linear" else 2)
    with torch.no_grad():
        for x in batches():
            expected = layer(x)
            assert (made(x) - expected).norm() <= 0.02 * expected.norm()


def test_attention_on_signs_is_one_operator():
    torch.manual_seed(0)
    layer = freeze(BinaryLinearAttention(32, 2))
    made = addax.optimize(layer, torch.randn(2, 5, 32), dynamic_shapes={0: "batch"}, progress=False)
    ops = [node.op_type for node in made.model.graph]
    assert ops == ["MatMul", "Add", "BinaryLinearAttention", "MatMul", "Add"]
    with torch.no_grad():
        for x in (torch.randn(3, 7, 32)[:, :5], torch.zeros(1, 5, 32)):
            assert torch.allclose(made(x), layer(x), atol=1e-5)


def test_an_export_has_no_gate_and_no_residue():
    """Though gradients are on where a program is traced."""
    layer = built("linear", frozen=False)
    program = torch.export.export(layer, (torch.randn(2, 8),))
    called = {str(node.target) for node in program.graph.nodes}
    assert not {"aten.softmax.int", "aten.gather.default", "aten.detach.default"} & called
    assert "aten.where.self" in called
