"""The linear layers of a network: their weights, the second moments of what they read."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]


def linears(model: nn.Module, skip: Iterable[str] = ()) -> dict[str, nn.Linear]:
    """The linear layers by name, without those in `skip`."""
    found = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    return {name: part for name, part in found.items() if name not in set(skip)}


@contextmanager
def _watched(layers: Mapping[str, nn.Linear], sums: dict[str, Tensor]) -> Iterator[dict[str, int]]:
    """Within, each call of a layer adds x^T x to its sum and the tokens to the counts it yields."""
    counts = dict.fromkeys(layers, 0)

    def hook(name: str):
        def add(layer: nn.Module, inputs: Inputs) -> None:
            del layer
            x = inputs[0].flatten(0, -2)
            sums[name] += (x.T @ x).double()
            counts[name] += len(x)

        return add

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def second_moments(
    model: nn.Module, layers: Mapping[str, nn.Linear], batches: Iterable[Inputs]
) -> dict[str, Tensor]:
    """The mean of x x^T over all tokens that each layer reads, float64 [K, K]."""
    sums = {
        name: torch.zeros(part.in_features, part.in_features, dtype=torch.float64)
        for name, part in layers.items()
    }
    with _watched(layers, sums) as counts:
        for inputs in batches:
            model(*inputs)
    return {name: total / counts[name] for name, total in sums.items()}


@torch.no_grad()
def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a network with other weights[N, K] in the layers of these names."""
    copied = copy.deepcopy(model)
    for name, value in weights.items():
        layer = copied.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(value)
    return copied


def output_error(weights: Tensor, made: Tensor, hessian: Tensor) -> float:
    """Root mean square of a layer's output error relative to its output's."""
    weights = weights.detach().double()
    off = made.double() - weights
    wrong, right = (off @ hessian * off).sum(), (weights @ hessian * weights).sum()
    return float((wrong / right).clamp(min=0).sqrt())
