"""Kernels of the dialect in ONNX Runtime against its own matmuls, layer by layer.

    python -m bench.kernels [--quick] [--rows 1 8 197] [--rounds N] [--seed N]

One thread, thread CPU time, contenders interleaved; each runs at least 96 MB of distinct layers in
one session, so weights come from main memory (at 197 rows one layer is enough: it is compute). All
contenders have huge pages: glibc is told to ask for them, and the bench starts itself anew so.
Rivals are ONNX Runtime's fastest forms: MatMulNBits with blocks of 128 and int8 activations
(accuracy_level 4), and DynamicQuantizeMatMul. Ours round activations for each token and 128
columns.
The roof is the speed of reading as much memory, measured in the same rounds.
"""

import os
import sys
from typing import Any

import numpy as np

from addax.backends import targets
from addax.runtime.kernels import Kernels, host_kernels
from bench.kernels import layers, memory
from bench.kernels.layers import Layers, Size
from bench.kernels.overhead import overhead
from bench.measure import Timings, arguments, emit_json, interleave, table

SIZES = ((768, 768), (3072, 768), (4096, 4096), (11008, 4096))
RIVALS = {
    "ort fp32": layers.fp32,
    "ort int4": layers.n_bits(4),
    "ort int2": layers.n_bits(2),
    "ort dynamic int8": layers.dynamic_int8,
}
OURS = {
    "codebook 4 bits": layers.codebook(4),
    "codebook 2 bits": layers.codebook(2),
    **{f"binary {planes}": layers.binary(planes) for planes in (1, 2, 3, 4)},
    "int8": layers.int8,
}
_HUGE = "glibc.malloc.hugetlb=1"
_ROOF = "read"


def main(argv: list[str] | None = None) -> None:
    """Run the bench."""
    parser = arguments("kernels", __doc__ or "")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 197])
    parser.add_argument("--sizes", nargs="+", metavar="NxK", help="weights, such as 4096x4096")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(argv)
    _with_huge_pages()
    sizes = SIZES[1:2] if options.quick else SIZES
    if options.sizes:
        sizes = tuple(tuple(map(int, text.split("x"))) for text in options.sizes)
    rows = [1] if options.quick else options.rows
    rounds = 5 if options.quick else options.rounds
    kernels = host_kernels()
    figures: dict[str, Any] = {"code path": _code_path(kernels), "overhead": overhead(kernels)}
    table("A call of a custom op, us", [figures["overhead"]])
    for count in rows:
        for outputs, inner in sizes:
            size = Size(count, outputs, inner)
            found = _measure(size, kernels, rounds, options.seed)
            figures[f"{count} rows, {size}"] = found
            title = f"{count} rows times {size} weights, us a layer ({figures['code path']})"
            table(title, [{"kernel": name, **row} for name, row in found.items()])
    emit_json("kernels", figures, seed=options.seed)


def _measure(size: Size, kernels: Kernels, rounds: int, seed: int) -> dict[str, dict[str, Any]]:
    cold = layers.COLD if size.rows <= 8 else 1
    contenders = {
        name: layers.load(make, size, kernels, seed=seed, cold=cold)
        for name, make in (RIVALS | OURS).items()
    }
    calls = {name: one.call for name, one in contenders.items()}
    calls[_ROOF] = memory.reader(layers.COLD)
    contenders[_ROOF] = Layers(calls[_ROOF], 1, layers.COLD)
    timings = interleave(calls, rounds=rounds, min_time=0)
    return {name: _row(name, one, contenders, timings) for name, one in contenders.items()}


def _row(
    name: str, one: Layers, contenders: dict[str, Layers], timings: Timings
) -> dict[str, object]:
    each = {other: timings.cpu[other] / made.count for other, made in contenders.items()}
    speed = one.bytes_each / each[name]
    roof = layers.COLD / each[_ROOF]
    row: dict[str, object] = {"us": float(np.median(each[name])) * 1e6}
    if name != _ROOF:
        for rival in ("ort int4", "ort fp32", "ort dynamic int8"):
            row[f"x {rival}"] = float(np.median(each[rival] / each[name]))
        low, high = np.percentile(each["ort int4"] / each[name], [10, 90])
        row["spread of x int4"] = f"{low:.2f}-{high:.2f}"
        row["of roof"] = float(np.median(speed / roof))
    row["GB/s"] = float(np.median(speed)) / 1e9
    return row


def _code_path(kernels: Kernels) -> str:
    best = [isa.name for isa in targets.host().sets if isa.name in str(kernels.path)]
    return (best or [targets.host().sets[0].name])[0]


def _with_huge_pages() -> None:
    """Start again with huge pages for what glibc allocates, which it reads once, at the start."""
    if sys.platform == "linux" and _HUGE not in os.environ.get("GLIBC_TUNABLES", ""):
        os.environ["GLIBC_TUNABLES"] = _HUGE
        os.execv(  # noqa: S606 (ourselves)
            sys.executable, [sys.executable, "-m", "bench.kernels", *sys.argv[1:]]
        )


if __name__ == "__main__":
    main()
