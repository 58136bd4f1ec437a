"""How fast ShiftAddViT is in ONNX Runtime: mixtures, attention on bits, whole networks.

    python -m bench.shiftaddvit [--quick] [--seed N] [--rounds N] [--parts NAME ...]

One thread, thread CPU time, contenders interleaved, ratios within a round; random weights. Routers
are set so that 40 % of the tokens go to the expert that multiplies, which is where the papers'
losses settle. The rival is the float32 export of torch in the same runtime. "Standard ops" is
`optimize(target="portable")`, which any ONNX Runtime runs; "kernel" is `target="host"`. Both
experts of a mixture computed for all tokens is what torch exports.
"""

from collections.abc import Callable
from typing import Any

import torch

from addax.runtime.kernels import host_kernels
from bench.measure import arguments, emit_json
from bench.shiftaddvit import attention, mixtures, networks

PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "mixtures": mixtures.measure,
    "attention": attention.measure,
    "networks": networks.measure,
}


def main(argv: list[str] | None = None) -> None:
    """Run the bench."""
    parser = arguments("shiftaddvit", __doc__ or "")
    parser.add_argument("--rounds", type=int, help="default 15; 5 with --quick")
    parser.add_argument("--parts", choices=list(PARTS), nargs="+", help="default: all")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rounds = options.rounds or (5 if options.quick else 15)
    host_kernels()
    figures: dict[str, Any] = {}
    for name in options.parts or PARTS:
        figures |= PARTS[name](rounds=rounds, seed=options.seed, quick=options.quick)
    emit_json("shiftaddvit", figures, seed=options.seed)


if __name__ == "__main__":
    main()
