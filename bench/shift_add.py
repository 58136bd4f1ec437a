"""Weights in 4, 3 and 2 bits: quality at equal bytes, ours beside the ways that others round.

    python -m bench.shift_add [--quick] [--seed N] [--networks NAME ...] [--bits B ...]
                              [--methods NAME ...] [--fits FOLDER]

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

from collections.abc import Callable, Iterator
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
OPTIMIZED = "addax, ONNX"
QUICK = ("nearest, group", "GPTQ, group", "addax, integer program", "addax", OPTIMIZED)


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


def rows(
    network: Network, sizes: list[float], wanted: Callable[[str], bool]
) -> Iterator[dict[str, Any]]:
    """The original, then every wanted method at every size."""
    exact = network.judge(zoo.torch_predict(network.model))
    yield row(network, 32, "float32", 4 * network.size, exact)
    for bits in sizes:
        named = mixed_methods() if bits == MIXED else methods(int(bits))
        for name, method in named.items():
            if wanted(name):
                yield rounded_row(network, bits, name, method(network))
        if wanted(OPTIMIZED):
            judged, size = optimized(network, bits)
            yield row(network, bits, OPTIMIZED, size, judged)
        if bits != MIXED and wanted("ONNX Runtime"):
            yield from runtime_rows(network, int(bits))


def told(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows, each printed as it comes: a whole table takes its time."""
    for found in rows:
        line = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
        print(*(f"{k} {v}" for k, v in line.items()), sep=", ", flush=True)
        yield found


def main(argv: list[str] | None = None) -> None:
    """Round, judge, print."""
    parser = arguments("shift_add", "Weights in few bits: quality at equal bytes.")
    parser.add_argument("--networks", choices=list(tasks.NAMES), nargs="+", help="default: all")
    parser.add_argument("--bits", type=float, nargs="+", help=f"default {BITS} and {MIXED}")
    parser.add_argument("--methods", nargs="+", help="rows of these names alone; default: all")
    parser.add_argument("--fits", type=Path, help="keep our fits here, to go on after a stop")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = options.networks or (["llama-stories260k"] if options.quick else list(tasks.NAMES))
    sizes = options.bits or ([2.0] if options.quick else [*map(float, BITS), MIXED])
    methods_asked = options.methods or (QUICK if options.quick else None)

    def wanted(name: str) -> bool:
        return methods_asked is None or name in methods_asked

    made = []
    for task in tasks.available(names):
        network = Network(task, quick=options.quick, seed=options.seed, fits=options.fits)
        found = list(told(rows(network, sizes, wanted)))
        table(
            network.task.entry.name, [{k: v for k, v in r.items() if k != "network"} for r in found]
        )
        made += found
    emit_json("shift_add", {"rows": made}, seed=options.seed)


if __name__ == "__main__":
    main()
