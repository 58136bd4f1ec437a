"""The judge in float64 against torch in double on trained models that torch exported."""

import copy
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from addax.ir.evaluate import Judge

DATA = Path(__file__).resolve().parents[2] / "../shared/data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}"),
]

NEAR = {"llama": 1e-7}
"""Of the largest output, 1e-12 elsewhere: its plain-torch code holds numbers, such as the root of
the head's size, that the exporter rounds to float32."""


def definition(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DATA / "loaders" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def deit() -> tuple[Any, Any, tuple[int, ...]]:
    net = definition("vit").deit_tiny()
    net.load_state_dict(load_file(DATA / "models/deit_tiny_patch16_224.safetensors"))
    return net, None, (8, 3, 224, 224)


def resnet() -> tuple[Any, Any, tuple[int, ...]]:
    net = definition("resnet_cifar").ResNetC(3)
    net.load_state_dict(load_file(DATA / "models/cifar10_resnet20_bn.safetensors"))
    return net, None, (100, 3, 32, 32)


def mobilenet() -> tuple[Any, Any, tuple[int, ...]]:
    net = definition("mobilenet").MNetV1()
    net.load_state_dict(load_file(DATA / "models/mobilenetv1_025_imagenet_bn.safetensors"))
    return net, None, (4, 3, 224, 224)


def llama() -> tuple[Any, Any, tuple[int, ...]]:
    net, (*_, words, _) = definition("tinyllama").load(DATA / "models/stories260K.bin")
    return net, words, (2, 64)


def inputs(words: int | None, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(0)
    if words is not None:
        return rng.integers(0, words, shape)
    return rng.standard_normal(shape).astype(np.float32)


def cost(call: Any) -> float:
    costs = []
    for _ in range(3):
        start = time.thread_time()
        call()
        costs.append(time.thread_time() - start)
    return min(costs)


@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("load", [deit, resnet, mobilenet, llama])
def test_a_trained_model(load, opset):
    torch.set_num_threads(1)
    net, words, shape = load()
    net.eval()
    x = inputs(words, shape)
    example = torch.from_numpy(inputs(words, (2, *shape[1:])))
    program = torch.onnx.export(
        net,
        (example,),
        dynamo=True,
        optimize=False,
        opset_version=opset,
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )
    judge = Judge(program.model, precision=np.float64)
    net = copy.deepcopy(net).double()  # a copy: the exported model shares the weights
    for module in net.modules():
        if hasattr(module, "eps"):
            module.eps = float(np.float32(module.eps))  # as ONNX stores it
    given = torch.from_numpy(x).double() if words is None else torch.from_numpy(x)
    with torch.no_grad():
        expected = net(given).numpy()
        theirs = cost(lambda: net(given))
    feeds = {judge.inputs[0].name: x}
    (got,) = judge.run(feeds).values()
    assert got.dtype == np.float64
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert error <= NEAR.get(load.__name__, 1e-12)
    ours = cost(lambda: judge.run(feeds))
    assert ours <= 3 * theirs + 0.01, f"torch {theirs:.3f} s, judge {ours:.3f} s"
    (own,) = Judge(program.model).run(feeds).values()
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
