"""Instructions of the kernels' inner loops, for processors that are not here to be timed.

    python -m bench.instructions [--quick] [--seed N] [--sets NAME ...] [--kernels NAME ...]

Read from the assembly that the product's own code generator writes: the innermost loop that takes
products, all of its instructions, loads and the branch too. A product is one weight times one
activation, or its share of a sum that was looked up. `tokens` meet a weight in one block, 1 as in
decoding, or the most that the set has registers for; weight bits meet all of them. `stack` counts
the instructions that touch the stack: sums or pointers that found no register. `runs` is how often
LLVM unrolled the loop.

Instructions are no times: one that shuffles 64 bytes counts as one that adds two integers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from addax.backends import targets
from addax.backends.target import InstructionSet
from addax.backends.targets import vocabulary
from bench.measure import arguments, emit_json, table

_X86, _ARM = "x86_64-linux-gnu", "aarch64-linux-gnu"
SETS: Mapping[str, tuple[InstructionSet, str]] = {
    **{isa.name: (isa, _X86) for isa in (targets.AVX512, targets.AVX2, targets.SCALAR)},
    **{isa.name: (isa, _ARM) for isa in (targets.NEON_DOT, targets.NEON)},
}
# Bytes that an instruction multiplies and sums. AVX2 sums in two steps, the first of which counts.
_SUMMED = {"vpdpbusd": 64, "vpmaddubsw": 32, "sdot": 16, "usdot": 16, "smull": 8, "smull2": 8}
_SUMMED |= {"imull": 1}
_BRANCH = re.compile(r"\s+(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s.*?(\.LBB\w+)")


@dataclass(frozen=True)
class Loop:
    """What one step of a kernel's inner loop takes in, for each row and token.

    Attributes:
        columns: Columns of the weights.
        bits: Of a weight as the loop reads it.
        most: The most tokens in a block, where the kernel limits them.
        looked_up: Four columns are one byte of a table.
    """

    columns: int
    bits: int
    most: int = 8
    looked_up: bool = False


KERNELS = {
    "codebook4_few": Loop(8, 4),
    "codebook2_few": Loop(16, 2),
    "binary1_few": Loop(32, 1, looked_up=True),
    "int8": Loop(4, 8),
    "codebook4_many": Loop(4, 8, most=4),
    "log_code_attention": Loop(4, 8),
}
QUICK = ("codebook4_few", "binary1_few")


def inner_loops(assembly: str) -> list[list[str]]:
    """The instructions of each innermost loop of the first function."""
    body = assembly.partition(".Lfunc_begin0:")[2].partition(".Lfunc_end0")[0].splitlines()
    labels = {line.partition(":")[0]: i for i, line in enumerate(body) if line.startswith(".LBB")}
    ends: dict[int, int] = {}
    for i, line in enumerate(body):
        back = _BRANCH.match(line)
        if back and labels[back[1]] <= i:
            ends[labels[back[1]]] = i
    spans = list(ends.items())
    inner = [
        (start, end)
        for start, end in spans
        if not any(start < other and last <= end for other, last in spans)
    ]
    return [
        [line.strip() for line in body[start : end + 1] if re.match(r"\s+[a-z]", line)]
        for start, end in inner
    ]


def summed(loop: Sequence[str]) -> int:
    """Bytes that a loop multiplies and sums."""
    made = sum(_SUMMED.get(line.split()[0], 0) for line in loop)
    if not made:  # bytes as int16, in pairs
        made = sum(16 for line in loop if line.startswith("vpmaddwd"))
    return made


def figures(name: str, kernel: str, tokens: int | None) -> dict[str, Any]:
    """A row of the table; `tokens` None for as many as the set takes."""
    from addax.backends.kernels.catalogue import KERNELS as CATALOGUE
    from addax.backends.tvm.builder import function
    from addax.backends.tvm.objects import assembly, llvm

    isa, triple = SETS[name]
    known, loop = vocabulary(isa), KERNELS[kernel]
    known.tokens = min(known.tokens if tokens is None else tokens, loop.most)
    entry = CATALOGUE[kernel]
    made = function(kernel, entry.parameters, lambda k: entry.body(k, known))
    text = assembly({kernel: made}, llvm(triple, isa))
    best = max(inner_loops(text), key=lambda lines: (summed(lines), len(lines)))
    weights = known.beside(known.tokens) * known.lanes * loop.columns
    bytes_ = weights * known.tokens // (4 if loop.looked_up else 1)
    if loop.looked_up and isa is targets.SCALAR:
        bytes_ //= 4  # it adds four before it multiplies
    runs = summed(best) / bytes_
    products = weights * known.tokens * runs
    return {
        "set": name,
        "kernel": kernel,
        "tokens": known.tokens,
        "instructions": len(best),
        "runs": runs,
        "per 64 products": len(best) * 64 / products,
        "per 256 weight bits": len(best) * 256 / (weights * runs * loop.bits),
        "stack": sum(bool(re.search(r"\b(?:[re]sp|sp)\b", line)) for line in best),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments("instructions", "instructions of the kernels' inner loops")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS))
    options = parser.parse_args(argv)
    kernels = options.kernels or (QUICK if options.quick else list(KERNELS))
    rows = [
        figures(name, kernel, tokens)
        for kernel in kernels
        for name in options.sets
        for tokens in (1, None)
    ]
    for kernel in kernels:
        some = [row for row in rows if row["kernel"] == kernel]
        table(kernel, [{k: v for k, v in row.items() if k != "kernel"} for row in some])
    emit_json("instructions", {"loops": rows}, seed=options.seed)


if __name__ == "__main__":
    main()
