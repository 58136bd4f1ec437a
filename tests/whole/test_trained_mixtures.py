"""A trained network of bits, shifts and two experts: as a module, optimized, and routed."""

import copy
from dataclasses import dataclass, field

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import addax
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

    def routed(self, target: str = "portable") -> addax.Optimized:
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


def sent(model: nn.Module, weight: float, bias: tuple[float, float]) -> nn.Module:
    """A copy whose routers have their weights times `weight`, and this bias."""
    made = copy.deepcopy(model)
    for module in made.modules():
        if isinstance(module, ArgmaxRouter):
            with torch.no_grad():
                module.logits.weight.mul_(weight)
                module.logits.bias.copy_(torch.tensor(bias))
    return made


def routed(model: nn.Module, images: torch.Tensor, target: str = "portable") -> addax.Optimized:
    return addax.optimize(
        model,
        images[:2],
        dynamic_shapes={0: "batch"},
        allow=("route-experts{dispatch=0}",),
        target=target,
        progress=False,
    )


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
        elif isinstance(module, ArgmaxRouter) and module.logits.weight.any():
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


def operators(made: addax.Optimized) -> list[str]:
    return [node.op_type for node in made.model.graph if node.domain == "addax"]


def test_optimized_it_says_the_same_of_every_image(case):
    made = addax.optimize(case.model, case.images[:2], dynamic_shapes={0: "batch"}, progress=False)
    assert_same(case.model, made, case.images)


def test_routed_it_says_the_same_of_every_image(case):
    made = case.routed()
    assert operators(made).count("RoutedMoE") == 2 * len(case.model.blocks)
    assert_same(case.model, made, case.images)


def test_other_numbers_of_images(case):
    made = case.routed()
    for count in (1, 3, 64):
        assert_same(case.model, made, case.images[-count:])
    assert made(case.images[:0]).shape == (0, 10)


@pytest.mark.slow
@pytest.mark.parametrize("expert", [0, 1])
@pytest.mark.parametrize("target", ["portable", "host"])
def test_an_expert_without_a_token(case, expert, target):
    one_sided = sent(case.model, 0.0, (1.0 - expert, 1.0 * expert))
    images = case.images[:200]
    made = routed(one_sided, images, target)
    if target == "portable" or expert == 0:
        assert_same(one_sided, made, images)
    else:
        # Kernels round the activations of the Shift expert to int8.
        assert agreement(one_sided, made, images) > 0.95


@pytest.mark.slow
def test_of_equal_logits_the_first_counts(case):
    equal = sent(case.model, 0.0, (0.0, 0.0))
    first = sent(case.model, 0.0, (1.0, 0.0))
    images = case.images[:200]
    with torch.no_grad():
        assert torch.equal(equal(images), first(images))
    assert_same(first, routed(equal, images), images)


def test_in_the_kernel_it_says_nearly_the_same(case):
    made = case.routed("host")
    assert operators(made).count("RoutedMoE") == 2 * len(case.model.blocks)
    assert agreement(case.model, made, case.images) > 0.95


def test_the_file_runs_without_addax(case, tmp_path):
    path = tmp_path / "mixture.onnx"
    case.routed().save(path)
    session = onnxruntime.InferenceSession(path.read_bytes())
    name = session.get_inputs()[0].name
    assert_same(case.model, lambda x: session.run(None, {name: x.numpy()})[0], case.images[:200])


def agreement(model: nn.Module, made, images: torch.Tensor) -> float:
    """The share of images that are given the same class."""
    with torch.no_grad():
        expected = model(images).argmax(dim=1).numpy()
    return float((np.asarray(made(images.numpy())).argmax(axis=1) == expected).mean())
