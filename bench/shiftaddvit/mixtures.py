"""Mixtures of a Mult and a Shift expert beside the float32 layer that they stand for."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from addax.frontend.layers import MixtureFeedForward, MixtureLinear, freeze
from bench.measure import Timings, interleave, table
from bench.shiftaddvit.contenders import MULT_SHARE, ROUTE, Call, biased, exported, optimized
from bench.shiftaddvit.pvt import SIZES

DENSE, BOTH, PORTABLE, KERNEL = "fp32", "both experts", "standard ops", "kernel"
# [tokens, width]; the hidden layer is four times as wide.
FEED_FORWARD = (
    (197, 64), (784, 64), (3136, 64), (784, 128), (3136, 128),
    (197, 192), (784, 192), (3136, 192), (197, 384), (784, 384),
)  # fmt: skip
QUICK = ((784, 128),)


class Experts(nn.Module):
    """A feed-forward part of two experts without its router: x[B, T, D], expert[B, T]."""

    def __init__(self, mixture: MixtureFeedForward) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = mixture.fc1, mixture.act, mixture.fc2

    def forward(self, x: Tensor, expert: Tensor) -> Tensor:
        """Each token by the expert it is sent to."""
        made: Tensor = self.fc2(self.act(self.fc1(x, expert)), expert)
        return made


def feed_forward(tokens: int, dim: int, *, rounds: int, seed: int) -> dict[str, Any]:
    """A feed-forward part: times over float32's, and what choosing rows costs in the kernel.

    `dispatch` is what the routed part takes beyond its experts, each on its own share of the tokens
    in one piece, over the time of float32: router, sorting, gathering, scattering.
    """
    torch.manual_seed(seed)
    x = torch.randn(1, tokens, dim)
    dense = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)).eval()
    mixture = biased(freeze(MixtureFeedForward(dim, 4 * dim)), x)
    calls = _forms(dense, mixture, x)
    first = round(MULT_SHARE * tokens)
    for expert, count in enumerate((first, tokens - first)):
        chosen = torch.full((1, count), expert, dtype=torch.int32)
        part = Experts(mixture).eval()
        calls[f"expert {expert}"] = optimized(part, x[:, :count], chosen, allow=(ROUTE,))
    timings = interleave(calls, rounds=rounds, min_time=0.01)
    cpu = timings.cpu
    dispatch = (cpu[KERNEL] - cpu["expert 0"] - cpu["expert 1"]) / cpu[DENSE]
    return {"layer": f"{tokens}x{dim}", **_ratios(timings), "dispatch": float(np.median(dispatch))}


def linears(*, rounds: int, seed: int, quick: bool) -> list[dict[str, Any]]:
    """Every linear map of PVTv2-B0 that is a mixture in ShiftAddViT, and all of them together."""
    calls: dict[str, Call] = {}
    counts: dict[str, int] = {}
    for tokens, inputs, outputs, count in _linears():
        name = f"{tokens}x{inputs}x{outputs}"
        if quick and tokens != 196:
            continue
        torch.manual_seed(seed)
        x = torch.randn(1, tokens, inputs)
        mixture = biased(freeze(MixtureLinear(inputs, outputs)), x)
        forms = _forms(nn.Linear(inputs, outputs).eval(), mixture, x)
        calls |= {f"{form} {name}": call for form, call in forms.items()}
        counts[name] = count
    timings = interleave(calls, rounds=rounds, min_time=0.002)
    rows = []
    for name, count in counts.items():
        of_one = {form: timings.cpu[f"{form} {name}"] for form in (DENSE, BOTH, PORTABLE, KERNEL)}
        rows.append({"layer": f"{name} ({count})", **_over_dense(of_one)})
    together = {
        form: sum(timings.cpu[f"{form} {name}"] * count for name, count in counts.items())
        for form in (DENSE, BOTH, PORTABLE, KERNEL)
    }
    return [*rows, {"layer": "all", **_over_dense(together)}]


def _linears() -> Iterator[tuple[int, int, int, int]]:
    """Tokens, inputs, outputs, and how many there are; the last stage's attention is none."""
    for i, size in enumerate(SIZES):
        dim, hidden = size.dim, size.dim * size.ratio
        if i < len(SIZES) - 1:
            yield size.tokens, dim, 3 * dim, size.depth
            yield size.tokens, dim, dim, size.depth
        yield size.tokens, dim, hidden, size.depth
        yield size.tokens, hidden, dim, size.depth


def _forms(dense: nn.Module, mixture: nn.Module, x: Tensor) -> dict[str, Call]:
    return {
        DENSE: exported(dense, x),
        BOTH: exported(mixture, x),
        PORTABLE: optimized(mixture, x, target="portable", allow=(ROUTE,)),
        KERNEL: optimized(mixture, x, allow=(ROUTE,)),
    }


def _ratios(timings: Timings) -> dict[str, Any]:
    return _over_dense({form: timings.cpu[form] for form in (DENSE, BOTH, PORTABLE, KERNEL)})


def _over_dense(seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = {"fp32, us": float(np.median(seconds[DENSE])) * 1e6}
    for form in (BOTH, PORTABLE, KERNEL):
        low, middle, high = np.percentile(seconds[form] / seconds[DENSE], [10, 50, 90])
        found[form] = float(middle)
        found[f"{form}, spread"] = f"{low:.2f}-{high:.2f}"
    return found


def measure(*, rounds: int, seed: int, quick: bool) -> dict[str, Any]:
    """Print both tables; their figures."""
    sizes = QUICK if quick else FEED_FORWARD
    parts = [feed_forward(tokens, dim, rounds=rounds, seed=seed) for tokens, dim in sizes]
    table("Feed-forward parts of two experts, 40 % to Mult: time over fp32's", parts)
    layers = linears(rounds=rounds, seed=seed, quick=quick)
    table("Mixture linear maps of PVTv2-B0 (how many): time over fp32's", layers)
    return {"feed_forward": parts, "linears": layers}
