"""A whole network of PVTv2-B0's shape, from softmax attention to bits and experts."""

from typing import Any

import numpy as np
import torch
from torch import nn

import addax
from addax.frontend.layers import BinaryAttention, Mixture, convert, freeze
from bench.measure import interleave, table
from bench.shiftaddvit.contenders import ROUTE, Call, biased, exported, made, own_call
from bench.shiftaddvit.pvt import IMAGE, Attention, ReducedAttention, network

SOFTMAX, POOLED = "softmax", "softmax, pooled (PVTv2-B0)"
# The last stage's attention stays softmax, as published.
ATTENTION = "stages.[012].*.attn"
LINEARS = ("stages.[012].*.attn.qkv", "stages.[012].*.attn.proj", "stages.*.mlp.fc[12]")


def forms(seed: int) -> dict[str, nn.Module]:
    """Softmax attention, linear attention, on bits, and with mixtures for linear maps."""
    softmax = network(Attention, seed)
    linear = convert(softmax, {ATTENTION: BinaryAttention(binary=False)}).model
    bits = convert(softmax, {ATTENTION: BinaryAttention()}).model
    mixed = freeze(convert(bits, {name: Mixture() for name in LINEARS}).model)
    return {
        SOFTMAX: softmax,
        POOLED: network(ReducedAttention, seed),
        "linear": linear,
        "bits": bits,
        "bits, mixtures": mixed,
    }


def measure(*, rounds: int, seed: int, quick: bool) -> dict[str, Any]:
    """Print the table; its figures."""
    networks = forms(seed)
    images = torch.randn(1, 3, IMAGE, IMAGE)
    biased(networks["bits, mixtures"], images)
    wanted = {SOFTMAX, "bits"} if quick else set(networks)
    calls: dict[str, Call] = {}
    paths: dict[str, str] = {}
    for name, model in networks.items():
        if name not in wanted:
            continue
        calls[f"{name}; export"] = exported(model, images)
        for target, allow in _settings(name, quick):
            fast = made(model, images, target=target, allow=allow)
            shown = f"{name}; addax, {target}" + (f", {', '.join(allow)}" if allow else "")
            calls[shown] = own_call(fast, images)
            paths[shown] = _paths(fast)
    cpu = interleave(calls, rounds=rounds, min_time=0).cpu
    base = cpu[f"{SOFTMAX}; export"]
    rows = []
    for name, times in cpu.items():
        low, middle, high = np.percentile(base / times, [10, 50, 90])
        row: dict[str, Any] = {"network; runtime": name, "ms": float(np.median(times)) * 1e3}
        row["times softmax"], row["spread"] = float(middle), f"{low:.2f}-{high:.2f}"
        row["kernels"] = paths.get(name, "")
        rows.append(row)
    table("Networks of PVTv2-B0's shape, one image: how many times as fast as softmax", rows)
    return {"networks": rows}


def _settings(name: str, quick: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Targets and families for a network."""
    if name == "bits, mixtures":
        return [("portable", (ROUTE,)), ("host", (ROUTE,))]
    plain: list[tuple[str, tuple[str, ...]]] = [("host", ())]
    if quick or name == "linear":
        return plain
    return [*plain, ("host", ("int8",))]


def _paths(fast: addax.Optimized) -> str:
    """Which of our operators run on which instruction set."""
    told = [note for note in fast.report.notes if note.startswith("kernels: ")]
    return told[0].removeprefix("kernels: ") if told else ""
