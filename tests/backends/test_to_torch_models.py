"""Trained networks that torch exported and to_torch brings back, on the data they were made for."""

import copy
from typing import Any

import pytest
import torch

from addax.backends.to_torch import to_torch
from tests.ir.test_evaluate_models import DATA, deit, inputs, llama, mobilenet, resnet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}"),
]


@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("load", [deit, resnet, mobilenet, llama])
def test_a_trained_model(load, opset):
    torch.set_num_threads(1)
    net, words, shape = load()
    net.eval()
    x = torch.from_numpy(inputs(words, shape))
    batch = {0: torch.export.Dim("N")}
    program = exported(net, torch.from_numpy(inputs(words, (2, *shape[1:]))), batch, opset)
    module = to_torch(program.model)
    with torch.no_grad():
        expected, got = net(x), module(x)
    assert expected.shape == got.shape
    assert float((expected - got).abs().max()) <= 1e-5 * float(expected.abs().max())
    weights = dict(module.named_parameters())
    own = {id(p): name for name, p in net.named_parameters()}
    tied = {name for name, p in net.named_parameters(remove_duplicate=False)} - set(own.values())
    assert weights.keys() <= set(own.values()) | tied
    assert len(weights) == len(own)


def exported(net: Any, example: torch.Tensor, batch: Any, opset: int) -> Any:
    return torch.onnx.export(
        net,
        (example,),
        dynamo=True,
        optimize=False,
        opset_version=opset,
        dynamic_shapes=(batch,),
        verbose=False,
    )


def test_training_moves_the_loss_as_in_the_original():
    """Three steps of gradient descent on both networks give the same losses."""
    torch.set_num_threads(1)
    net, _, _ = resnet()
    net.eval()
    x = torch.from_numpy(inputs(None, (16, 3, 32, 32)))
    labels = torch.arange(16) % 10
    module = to_torch(exported(net, x[:2], {0: torch.export.Dim("N")}, 20).model)
    assert losses(copy.deepcopy(net), x, labels) == pytest.approx(
        losses(module, x, labels), rel=1e-4
    )


def losses(module: Any, x: torch.Tensor, labels: torch.Tensor) -> list[float]:
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    found = []
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(module(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    return found
