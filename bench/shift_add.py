"""Weights in 4, 3 and 2 bits: quality at equal bytes, ours beside the ways that others round.

    python -m bench.shift_add [--quick] [--seed N] [--networks NAME ...] [--bits B ...]
                              [--fits FOLDER]

Networks: two language models (perplexity), MiniLM (Spearman on STS-B), DeiT-Tiny (top-1), each with
its block's linear layers rounded and all else in float32; calibration and judging data are
disjoint. `same` is the share of the decisions (next token, nearest sentence, class) that the
original network takes, `error` the difference of all outputs relative to them, `layers` the mean
relative error of a layer's output. `bits/weight` counts scales. Decoded weights are judged in
torch; the rows of ONNX Runtime's quantizers, and `addax, ONNX`, are judged as the files that they
are.

Rivals: to the nearest; GPTQ with clip search, columns in the order of importance and as many
columns for a scale as ours; ONNX Runtime's MatMulNBits quantizer and its GPTQ (4 bits alone);
ShiftAddLLM's layouts of scales. `--quick` is the smallest network at 2 bits, and the
best rival alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench import zoo
from bench.measure import arguments, emit_json, table
from bench.weight_only import (
    Judged,
    Network,
    Rounded,
    methods,
    mixed_methods,
    optimized,
    runtime,
    tasks,
)

BITS = (4, 3, 2)
MIXED = 2.2
QUICK = ("nearest, group", "GPTQ, group", "addax, integer program", "addax")


def row(network: Network, bits: float | None, method: str, size: int, judged: Judged) -> dict:
    """One row of the table."""
    return {
        "network": network.task.entry.name,
        "bits": bits,
        "method": method,
        "bits/weight": 8 * size / network.size,
        "kB": size / 1000,
        network.task.metric: judged.score,
        "same": judged.same,
        "error": judged.error,
    }


def rounded_row(network: Network, bits: float, method: str, made: Rounded) -> dict:
    """The row of weights that torch judges."""
    found = row(network, bits, method, made.bytes, network.judge_rounded(made))
    return found | {"layers": network.layer_error(made)}


def runtime_rows(network: Network, bits: int) -> Iterator[dict[str, Any]]:
    """ONNX Runtime's quantizers."""
    for gptq in (False, True):
        if bits in runtime.BITS and not (gptq and bits != 4):
            proto = runtime.quantized(network, bits, gptq=gptq)
            name = "ONNX Runtime, GPTQ" if gptq else "ONNX Runtime"
            judged = network.judge(runtime.predict(proto))
            yield row(network, bits, name, runtime.packed_bytes(proto), judged)


def rows(network: Network, sizes: list[float], quick: bool) -> Iterator[dict[str, Any]]:
    """The original, then every method at every size."""
    exact = network.judge(zoo.torch_predict(network.model))
    yield row(network, 32, "float32", 4 * network.size, exact)
    for bits in sizes:
        named = mixed_methods() if bits == MIXED else methods(int(bits))
        for name, method in named.items():
            if quick and name not in QUICK:
                continue
            yield rounded_row(network, bits, name, method(network))
        judged, size = optimized(network, bits)
        yield row(network, bits, "addax, ONNX", size, judged)
        if bits != MIXED and not quick:
            yield from runtime_rows(network, int(bits))


def main(argv: list[str] | None = None) -> None:
    """Round, judge, print."""
    parser = arguments("shift_add", "Weights in few bits: quality at equal bytes.")
    parser.add_argument("--networks", choices=list(tasks.NAMES), nargs="+", help="default: all")
    parser.add_argument("--bits", type=float, nargs="+", help=f"default {BITS} and {MIXED}")
    parser.add_argument("--fits", type=Path, help="keep our fits here, to go on after a stop")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = options.networks or (["llama-stories260k"] if options.quick else list(tasks.NAMES))
    sizes = options.bits or ([2.0] if options.quick else [*map(float, BITS), MIXED])
    made = []
    for task in tasks.available(names):
        network = Network(task, quick=options.quick, seed=options.seed, fits=options.fits)
        found = list(rows(network, sizes, options.quick))
        table(
            network.task.entry.name, [{k: v for k, v in r.items() if k != "network"} for r in found]
        )
        made += found
    emit_json("shift_add", {"rows": made}, seed=options.seed)


if __name__ == "__main__":
    main()
