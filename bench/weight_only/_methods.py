"""Ways to round the weights of a network to so many bits, all from the same second moments."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from addax.ir.numbers import group_for
from addax.passes.fit import (
    Choice,
    FitOptions,
    Fitted,
    Format,
    Job,
    allocate,
    allocate_by_importance,
    fit_all,
    paper_importance,
)
from bench.weight_only._gptq import gptq
from bench.weight_only._layers import output_error
from bench.weight_only._nearest import round_to_nearest, uniform_bytes
from bench.weight_only._network import Method, Network, Rounded

# What is chosen from at each size, by the error of the layer's output.
OURS = {2: ("binary2", "fitted2"), 3: ("binary3",), 4: ("fitted4",)}
MIXED_SHARE = 0.2  # of the layers' weights at 3 bits, the others at 2: 2.2 bits

Round = Callable[[Tensor, Tensor, int, int], Tensor]


def _row(columns: int) -> int:
    return columns


def _half_group(columns: int) -> int:
    """Half the columns of ours: what has a scale for so few takes more bytes than ours."""
    return group_for(columns) // 2


def _uniform(round_layer: Round, bits: int, shared: Callable[[int], int]) -> Method:
    """A uniform rival; `shared` says how many columns of so many have one scale."""

    def method(network: Network) -> Rounded:
        made, size = {}, 0
        for name, weight in network.weights.items():
            rows, columns = weight.shape
            group = shared(columns)
            made[name] = round_layer(weight, network.moments[name], bits, group)
            size += uniform_bytes(rows, columns, bits, group)
        return Rounded(made, size)

    return method


def _nearest(weight: Tensor, moments: Tensor, bits: int, group: int) -> Tensor:
    del moments
    return round_to_nearest(weight, bits, group)


@functools.cache
def fitted(network: Network, name: str, text: str, options: FitOptions) -> Fitted:
    """A layer in a format; remembered, since mixed sizes choose from the same fits."""
    weight, moments = network.weights[name].numpy(), network.moments[name].numpy()
    job = Job(name, weight, moments, Format.parse(text), options)
    return fit_all([job], folder=network.fits)[name]


def _rounded(found: dict[str, Fitted]) -> Rounded:
    weights = {name: torch.from_numpy(layer.decoded) for name, layer in found.items()}
    return Rounded(weights, sum(layer.bytes for layer in found.values()))


def best(network: Network, name: str, texts: tuple[str, ...], options: FitOptions) -> Fitted:
    """The format with the least error of the layer's output."""
    found = [fitted(network, name, text, options) for text in texts]
    return min(found, key=lambda layer: layer.output_error)


def ours(texts: tuple[str, ...], options: FitOptions) -> Method:
    """The best of some formats for each layer."""
    return lambda network: _rounded(
        {name: best(network, name, texts, options) for name in network.weights}
    )


def methods(bits: int) -> dict[str, Method]:
    """All ways to come to so many bits, by name."""
    usual = FitOptions()
    columns = FitOptions(layout="columns")
    blocks = FitOptions(layout="blocks")
    paper = (f"binary{bits}{{scales=apot3}}",)
    return {
        "nearest, row": _uniform(_nearest, bits, _row),
        "nearest, group": _uniform(_nearest, bits, group_for),
        "GPTQ, row": _uniform(gptq, bits, _row),
        "GPTQ, group": _uniform(gptq, bits, group_for),
        "GPTQ, half a group": _uniform(gptq, bits, _half_group),
        "ShiftAddLLM's columns": ours(paper, columns),
        "ShiftAddLLM's blocks": ours(paper, blocks),
        "addax, not compensated": ours(OURS[bits], FitOptions(compensate=False)),
        "addax": ours(OURS[bits], usual),
    }


def budget(network: Network) -> float:
    """Bytes of 2.2 bits a weight: 80 % at 2 bits and 20 % at 3, with their scales."""
    sizes = {
        bits: sum(best(network, name, OURS[bits], FitOptions()).bytes for name in network.weights)
        for bits in (2, 3)
    }
    return (1 - MIXED_SHARE) * sizes[2] + MIXED_SHARE * sizes[3]


def _spread(choices: dict[str, list[Choice]], limit: float) -> dict[str, int]:
    """The bits of each layer as the integer program spreads them."""
    plan = allocate(choices, max_bytes=limit)
    return {name: int(choice.label) for name, choice in plan.items()}


def mixed(network: Network) -> Rounded:
    """2.2 bits a weight, spread by measured errors of the layers' outputs."""
    fits = {
        name: {bits: best(network, name, texts, FitOptions()) for bits, texts in OURS.items()}
        for name in network.weights
    }
    choices = {
        name: [
            Choice(str(bits), layer.bytes, layer.output_error**2) for bits, layer in sizes.items()
        ]
        for name, sizes in fits.items()
    }
    spread = _spread(choices, budget(network))
    return _rounded({name: fits[name][bits] for name, bits in spread.items()})


def mixed_by_importance(network: Network) -> Rounded:
    """2.2 bits a weight, spread as ShiftAddLLM does: the layers that its criterion ranks first."""
    importance = {
        name: paper_importance(weight.numpy(), network.moments[name].numpy())
        for name, weight in network.weights.items()
    }
    sizes = {name: weight.numel() for name, weight in network.weights.items()}
    shares = {2: 1 - MIXED_SHARE, 3: MIXED_SHARE}
    spread = allocate_by_importance(importance, shares, sizes)
    return _rounded(
        {name: best(network, name, OURS[bits], FitOptions()) for name, bits in spread.items()}
    )


def mixed_gptq(network: Network) -> Rounded:
    """GPTQ at 2.2 bits a weight, spread in the same way by its own errors."""
    sizes = {bits: _uniform(gptq, bits, group_for) for bits in OURS}
    choices: dict[str, list[Choice]] = {name: [] for name in network.weights}
    made: dict[int, dict[str, Tensor]] = {}
    for bits, method in sizes.items():
        made[bits] = dict(method(network).weights)
        for name, weight in network.weights.items():
            size = uniform_bytes(*weight.shape, bits, group_for(weight.shape[1]))
            error = output_error(weight, made[bits][name], network.moments[name])
            choices[name].append(Choice(str(bits), size, error**2))
    low, high = (sum(layer[i].bytes for layer in choices.values()) for i in (0, 1))
    spread = _spread(choices, (1 - MIXED_SHARE) * low + MIXED_SHARE * high)
    size = sum(
        uniform_bytes(*network.weights[name].shape, bits, group_for(network.weights[name].shape[1]))
        for name, bits in spread.items()
    )
    return Rounded({name: made[bits][name] for name, bits in spread.items()}, size)


def mixed_methods() -> dict[str, Method]:
    """The ways to 2.2 bits."""
    return {
        "GPTQ, group, integer program": mixed_gptq,
        "addax, ShiftAddLLM's criterion": mixed_by_importance,
        "addax, integer program": mixed,
    }
