"""Tokens a second of language models that read one token at a time, weights in few bits.

    python -m bench.decode [--quick] [--seed N] [--networks NAME ...] [--tokens N] [--rounds N]

One sequence, one thread, ONNX Runtime for every contender, keys and values of earlier tokens as
inputs and outputs: the same loop and the same graph, as addax simplifies it exactly, with other
weights. Each round a contender writes `--tokens` tokens; the ratio is of time over ONNX Runtime's
int4 (MatMulNBits, blocks of 128, accuracy level 4), which rounds activations to int8 as our kernels
do. `codes` names the code that ran: an instruction set, or `bodies` where no kernel could be built.

`llama-prose` is the trained network, in few bits by `addax.optimize` without calibration: speed
does not depend on it. `random-141m` has 141 million weights that do not fit a cache, and codes at
random; `random-12m` is the same for `--quick`. Energy is that of the arithmetic alone, of one
token after 64 others, by the papers' prices for 45 nm: a model, not a measurement.

Weights are read faster from huge pages, which allocators of different contenders get or not: with
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1` in the environment all have them; `huge_pages` in the last
line says whether it was there.
"""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

import addax
from addax.backends.to_ort import to_ort
from addax.ir.cost import total_cost, weight_bytes
from addax.runtime.kernels import code_paths, kernels_for
from addax.runtime.session import Session
from bench.measure import Timings, arguments, emit_json, interleave, table
from bench.weight_only import decoder, head_of, runtime, with_random_codes
from bench.zoo import prose, tinystories

FORMATS = {"2 bits, binary": ("binary", 2), "2 bits, table": ("codebook", 2)}
FORMATS |= {"3 bits, binary": ("binary", 3), "4 bits, table": ("codebook", 4)}
LARGE = {"dim": 2048, "layers": 3, "heads": 16, "groups": 4, "hidden": 5632, "vocabulary": 512}
SMALL = {"dim": 1024, "layers": 1, "heads": 8, "groups": 2, "hidden": 2816, "vocabulary": 512}
NETWORKS: dict[str, Callable[[], tinystories.Llama]] = {
    "llama-prose": prose.llama_prose,
    "random-141m": lambda: tinystories.Llama(**LARGE).eval(),
    "random-12m": lambda: tinystories.Llama(**SMALL).eval(),
}
RIVAL = "ONNX Runtime int4"
PAST = 64


@dataclass(frozen=True)
class Contender:
    """A network that decodes; `codes` is the code that computes its weights' products."""

    step: decoder.Step
    codes: str
    bytes: int
    picojoules: float | None


def stepper(session: Session) -> decoder.Step:
    """One step in ONNX Runtime: arrays in the order of the inputs, and of the outputs."""
    names = [port.name for port in session.inputs]
    return lambda arrays: list(session.run(dict(zip(names, arrays, strict=True))).values())


def compiled(model: ir.Model) -> Contender:
    """A graph of ours with its kernels."""
    kernels, _ = kernels_for(model)
    plain = to_ort(model, has_kernel=kernels.has) if kernels else to_ort(model)
    session = Session(plain, threads=1, library=kernels.path if kernels else None)
    energy = total_cost(model, {"past": PAST}).energy
    codes = code_paths(model, kernels) or "float32"
    return Contender(stepper(session), codes, weight_bytes(model), energy)


def int4(model: ir.Model) -> Contender:
    """ONNX Runtime's own, the head left in float32 as everywhere."""
    proto: onnx.ModelProto = ir.to_proto(to_ort(model))
    results = {value.name for value in proto.graph.output}
    heads = [node.name for node in proto.graph.node if results & set(node.output)]
    maker = MatMulNBitsQuantizer(
        proto, bits=4, block_size=128, accuracy_level=4, nodes_to_exclude=heads
    )
    with runtime.quiet():
        maker.process()
    made = ir.from_proto(maker.model.model)
    return Contender(stepper(Session(made, threads=1)), "MatMulNBits", weight_bytes(made), None)


def contenders(name: str, model: tinystories.Llama) -> dict[str, Contender]:
    """All ways to run a network."""
    module, example = decoder.Decoder(model).eval(), decoder.example(model)
    shapes = decoder.dynamic_shapes(model)
    exact = addax.optimize(module, example, dynamic_shapes=shapes, progress=False)
    made = {"float32": compiled(exact.model), RIVAL: int4(exact.model)}
    for label, (kind, bits) in FORMATS.items():
        if name == "llama-prose":
            text = f"{kind}{bits}" if kind == "binary" else f"fitted{bits}"
            fast = addax.optimize(
                module,
                example,
                dynamic_shapes=shapes,
                allow=(f"shift-add{{bits={text!r},skip={head_of(exact.model)!r}}}",),
                progress=False,
            )
            made[f"addax {label}"] = compiled(fast.model)
        else:
            made[f"addax {label}"] = compiled(with_random_codes(exact.model, kind, bits))
    return made


def rows(
    name: str, made: dict[str, Contender], timings: Timings, count: int
) -> Iterator[dict[str, Any]]:
    """One row a contender."""
    for label, one in made.items():
        yield {
            "network": name,
            "contender": label,
            "codes": one.codes,
            "MB": one.bytes / 1e6,
            "tokens/s": count / timings.seconds(label).p50,
            f"time over {RIVAL}": None if label == RIVAL else str(timings.ratio(label, RIVAL)),
            "energy, uJ": None if one.picojoules is None else one.picojoules / 1e6,
        }


def main(argv: list[str] | None = None) -> None:
    """Decode, print."""
    parser = arguments("decode", "Tokens a second of language models, weights in few bits.")
    parser.add_argument("--networks", choices=list(NETWORKS), nargs="+", help="default: the large")
    parser.add_argument("--tokens", type=int, default=32, help="in one round (default 32)")
    parser.add_argument("--rounds", type=int, help="default 20")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    usual = ["random-12m"] if options.quick else ["random-141m"]
    if not options.quick and not prose.missing():
        usual.insert(0, "llama-prose")
    rounds = options.rounds or (3 if options.quick else 20)
    found: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    for name in options.networks or usual:
        model = NETWORKS[name]()
        made = contenders(name, model)
        write = {
            label: functools.partial(decoder.generate, one.step, model, [1], options.tokens)
            for label, one in made.items()
        }
        timings = interleave(write, rounds=rounds, min_time=0.0)
        lines = list(rows(name, made, timings, options.tokens))
        shown = [{k: v for k, v in line.items() if k != "network"} for line in lines]
        table(f"{name}, {options.tokens} tokens ({timings.clock()} time)", shown)
        figures[name] = timings.figures(RIVAL)
        found += lines
    huge = "hugetlb" in os.environ.get("GLIBC_TUNABLES", "")
    result = {"rows": found, "timings": figures, "huge_pages": huge}
    emit_json("decode", result, seed=options.seed)


if __name__ == "__main__":
    main()
