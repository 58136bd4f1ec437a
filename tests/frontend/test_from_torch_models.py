"""Trained models of torch, exported with a batch that varies, against ONNX Runtime."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from addax.frontend import to_ir
from addax.ir.origin import origin
from addax.ir.verify import verify

DATA = Path(__file__).resolve().parents[2] / "../shared/data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}"),
]


def definition(name):
    spec = importlib.util.spec_from_file_location(name, DATA / "loaders" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def deit():
    net = definition("vit").deit_tiny()
    net.load_state_dict(load_file(DATA / "models/deit_tiny_patch16_224.safetensors"))
    return net.eval(), torch.randn(1, 3, 224, 224), torch.randn(3, 3, 224, 224), {0: "batch"}


def resnet():
    net = definition("resnet_cifar").ResNetC(3)
    net.load_state_dict(load_file(DATA / "models/cifar10_resnet20_bn.safetensors"))
    return net.eval(), torch.randn(1, 3, 32, 32), torch.randn(5, 3, 32, 32), {0: "batch"}


def mobilenet():
    net = definition("mobilenet").MNetV1()
    net.load_state_dict(load_file(DATA / "models/mobilenetv1_025_imagenet_bn.safetensors"))
    return net.eval(), torch.randn(2, 3, 224, 224), torch.randn(1, 3, 224, 224), {0: "batch"}


def llama():
    net, (*_, words, _) = definition("tinyllama").load(DATA / "models/stories260K.bin")
    shapes = {0: "batch", 1: "time"}
    return net, torch.randint(words, (2, 16)), torch.randint(words, (3, 40)), shapes


PLACES = {
    deit: ("blocks.11.attn.qkv", "linear"),
    resnet: ("layer3.2.conv2", "conv2d"),
    mobilenet: ("stage3.1.3", "conv2d"),
    llama: ("blocks.4.w2", "linear"),
}


@pytest.mark.parametrize("make", PLACES)
def test_numbers_shapes_and_places(make):
    torch.manual_seed(0)
    net, example, other, shapes = make()
    model = to_ir(net, example, dynamic_shapes=shapes)
    verify(model)
    assert list(shapes.values()) == [
        dim.value for dim in model.graph.inputs[0].shape if not isinstance(dim, int)
    ]
    places = {(where.module, where.op) for where in map(origin, model.graph) if where}
    assert PLACES[make] in places
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    for inputs in (example, other):
        with torch.no_grad():
            expected = net(inputs).numpy()
        (actual,) = session.run(["output"], {session.get_inputs()[0].name: inputs.numpy()})
        assert np.abs(expected - actual).max() <= 1e-5 * np.abs(expected).max()
        np.testing.assert_array_equal(expected.argmax(-1), actual.argmax(-1))
