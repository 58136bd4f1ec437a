"""A trained network of bits, shifts and two experts: as a module, optimized, and routed."""

import copy
from dataclasses import dataclass, field

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import addax
from addax.backends.to_ort import to_ort
from addax.demo import load_model
from addax.frontend.layers import (
    ArgmaxRouter,
    BinaryAttention,
    BinaryLinearAttention,
    Mixture,
    Shifts,
    balance_loss,
    convert,
    freeze,
)
from addax.runtime.session import Session

pytest.importorskip("sklearn")
digit_training = pytest.importorskip("bench.digit_training")

MARGIN = 2e-6  # of its layer's largest number: what is nearer to a threshold may round to its side
TOLERANCE = 2e-5  # of the largest logit


@dataclass(frozen=True)
class Case:
    """A frozen network, images, and what was made of the network, by target."""

    model: nn.Module
    images: torch.Tensor
    made: dict[str, addax.Optimized] = field(default_factory=dict)

    def routed(self, target: str = "host") -> addax.Optimized:
        if target not in self.made:
            self.made[target] = routed(self.model, self.images, target)
        return self.made[target]


def trained(start: nn.Module, epochs: int, data) -> nn.Module:
    """The two stages of the paper, each tuned, and frozen."""
    torch.manual_seed(0)
    model = convert(start, BinaryAttention()).model
    digit_training.train(model, data, epochs, seed=0)
    plan = {"blocks.*.attn.*": Shifts(), "blocks.*.mlp": Mixture((6.0, 4.0))}
    model = convert(model, plan).model
    digit_training.train(model, data, epochs, seed=1, more_loss=lambda: 0.01 * balance_loss(model))
    return freeze(model)


@pytest.fixture(scope="module", params=["small", pytest.param("demo", marks=pytest.mark.slow)])
def case(request):
    torch.set_num_threads(1)
    data = digit_training.task()
    if request.param == "demo":
        return Case(trained(load_model(), 6, data), data.test_images)
    small = digit_training.untrained(0, dim=32, heads=2, hidden=32, depth=1)
    return Case(trained(small, 1, data), data.test_images[::10])


def changed(model: nn.Module, change) -> nn.Module:
    """A copy after `change` of the weights [2, D] and biases [2] of its routers."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, ArgmaxRouter):
                change(module.logits.weight, module.logits.bias)
    return made


def sent(model: nn.Module, expert: int) -> nn.Module:
    """A copy that sends every token to one expert."""
    return changed(model, lambda _, bias: bias[expert].add_(1e4))


def alike(weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Logits that are equal for every token."""
    weight[1], bias[1] = weight[0], bias[0]


def routed(model: nn.Module, images: torch.Tensor, target: str) -> addax.Optimized:
    return addax.optimize(
        model,
        images[:2],
        dynamic_shapes={0: "batch"},
        allow=("route-experts{dispatch=0}",),
        target=target,
        progress=False,
    )


def by_bodies(made: addax.Optimized):
    """What the operators of a model say they compute, in standard ones and without rounding."""
    session = Session(to_ort(made.model), threads=1)
    return lambda images: session.run({session.inputs[0].name: images})[session.outputs[0].name]


@torch.no_grad()
def clear(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Which images have no number that lies at the threshold of a bit or between two experts."""
    far = torch.ones(len(images), dtype=torch.bool)

    def look(numbers: torch.Tensor) -> None:
        size = numbers.abs().flatten(1)
        far.logical_and_(size.amin(dim=1) > MARGIN * size.amax(dim=1))

    handles = []
    for module in model.modules():
        if isinstance(module, BinaryLinearAttention):
            coded = 2 * module.heads * module.width
            hook = lambda _, __, y, coded=coded: look(y[..., :coded])  # noqa: E731
            handles.append(module.qkv.register_forward_hook(hook))
        elif isinstance(module, ArgmaxRouter) and not torch.equal(*module.logits.weight):
            hook = lambda _, __, y: look(y[..., 0] - y[..., 1])  # noqa: E731
            handles.append(module.logits.register_forward_hook(hook))
    model(images)
    for handle in handles:
        handle.remove()
    return far


def assert_same(model: nn.Module, made, images: torch.Tensor) -> None:
    """The same logits for every image, but for numbers that lie at a threshold."""
    with torch.no_grad():
        expected, far = model(images), clear(model, images)
    assert far.double().mean() > 0.9
    actual = torch.cat([torch.as_tensor(made(part)) for part in images.split(600)])
    difference = (actual - expected).abs().amax(dim=1) / expected.abs().max()
    assert difference[far].max() <= TOLERANCE


def agreement(model: nn.Module, made, images: torch.Tensor) -> float:
    """The share of images that are given the same class."""
    with torch.no_grad():
        expected = model(images).argmax(dim=1).numpy()
    return float((np.asarray(made(images.numpy())).argmax(axis=1) == expected).mean())


def test_optimized_it_says_the_same_of_every_image(case):
    made = addax.optimize(case.model, case.images[:2], dynamic_shapes={0: "batch"}, progress=False)
    assert_same(case.model, made, case.images)


def test_routed_it_says_the_same_of_every_image(case):
    made = case.routed()
    ops = [node.op_type for node in made.model.graph]
    assert ops.count("RoutedMoE") == 2 * len(case.model.blocks)
    assert_same(case.model, by_bodies(made), case.images)


def test_other_numbers_of_images(case):
    made = by_bodies(case.routed())
    for count in (1, 3, 64):
        assert_same(case.model, made, case.images[-count:])
    assert made(case.images[:0]).shape == (0, 10)


@pytest.mark.parametrize("target", ["host", pytest.param("portable", marks=pytest.mark.slow)])
def test_in_eight_bits_it_says_nearly_the_same(case, target):
    """As kernels and ONNX Runtime's products round the activations of the Shift expert."""
    made = case.routed(target)
    assert agreement(case.model, made, case.images) > 0.95
    for count in (0, 1, 3):
        assert made(case.images[:count]).shape == (count, 10)


@pytest.mark.slow
@pytest.mark.parametrize("expert", [0, 1])
@pytest.mark.parametrize("target", ["host", "portable"])
def test_an_expert_without_a_token(case, expert, target):
    one_sided, images = sent(case.model, expert), case.images[:360]
    made = routed(one_sided, images, target)
    assert agreement(one_sided, made, images) > 0.95
    if expert == 0:
        assert_same(one_sided, made, images)
    elif target == "host":
        assert_same(one_sided, by_bodies(made), images)


@pytest.mark.slow
def test_of_equal_logits_the_first_counts(case):
    equal, first = changed(case.model, alike), sent(case.model, 0)
    images = case.images[:360]
    with torch.no_grad():
        assert torch.equal(equal(images), first(images))
    assert_same(first, by_bodies(routed(equal, images, "host")), images)


def test_the_file_runs_without_addax(case, tmp_path):
    path = tmp_path / "mixture.onnx"
    case.routed().save(path)
    session = onnxruntime.InferenceSession(path.read_bytes())
    name = session.get_inputs()[0].name
    assert_same(case.model, lambda x: session.run(None, {name: x.numpy()})[0], case.images[:200])
