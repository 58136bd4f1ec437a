"""What integers of 8 bits save in vision transformers at 197 tokens, on one thread.

    python -m bench.int8_latency [--quick] [--seed N] [--networks NAME ...] [--rounds N]

ViT-Tiny and ViT-Small with random weights, for speed alone, and DeiT-Tiny: as torch exports them
to float32, beside ONNX Runtime's own quantizers at their fastest (constant products alone or those
of attention too, float outputs, a scale for each output channel) and ours, for any ONNX Runtime and
with the kernels of this machine. Then the tail of attention alone, softmax times V: in float32, in
ONNX Runtime's integers, and by codes in our kernel. `over best` is against the faster of ONNX
Runtime's quantizers. `--quick` is ViT-Tiny with 2 of 12 layers and the smallest tail.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

import addax
from addax.demo.vit import VisionTransformer
from addax.frontend import to_ir
from addax.testing.cases import build
from bench import quantizers, zoo
from bench.measure import Timings, arguments, emit_json, interleave, table, timing_table
from bench.sessions import caller, one_thread

EXPORT, PEERS = "float32, torch's export", ("ORT static", "ORT dynamic")
FORMS = {
    "addax float32": ("portable", ()),
    "addax portable": ("portable", ("int8", "int8-attention")),
    "addax portable, each row": ("portable", ("int8", "int8-attention{each_row=True}")),
    "addax host, linear layers": ("host", ("int8",)),
    "addax host": ("host", ("int8", "int8-attention")),
    "addax host, log2-softmax": ("host", ("int8", "int8-attention", "log2-softmax")),
}
SHAPES = {"vit-tiny": (192, 3), "vit-small": (384, 6)}  # width, heads
NETWORKS = (*SHAPES, "deit-tiny")
TAILS = ((3, 197), (12, 197), (6, 1024))  # heads, tokens
_IMAGES, _DEPTH, _QUICK_DEPTH = 4, 12, 2
Calls = Mapping[str, Callable[[], object]]


def network(name: str, seed: int, depth: int) -> tuple[torch.nn.Module, list[np.ndarray]]:
    """A network, and images [1, 3, 224, 224] to calibrate on."""
    if name not in SHAPES:
        entry = zoo.entry(name)
        images = np.concatenate([batch.inputs[0] for batch in entry.data(_IMAGES, 1)])
        return entry.build(), [image[None] for image in images]
    dim, heads = SHAPES[name]
    torch.manual_seed(seed)
    model = VisionTransformer(
        image=224, patch=16, channels=3, classes=1000,
        dim=dim, depth=depth, heads=heads, hidden=4 * dim,
    )  # fmt: skip
    torch.nn.init.normal_(model.pos_embed, std=0.02)
    random = np.random.default_rng(seed)
    images = random.normal(size=(_IMAGES, 1, 3, 224, 224)).astype(np.float32)
    return model.eval(), list(images)


def exported(model: torch.nn.Module, image: np.ndarray) -> onnx.ModelProto:
    """As users export it."""
    made = torch.onnx.export(
        model, (torch.from_numpy(image),), dynamo=True, optimize=True, verbose=False
    )
    if made is None:
        raise RuntimeError("torch.onnx.export gave no program")
    buffer = io.BytesIO()
    made.save(buffer)
    return onnx.load_from_string(buffer.getvalue())


def contenders(name: str, seed: int, depth: int) -> Calls:
    """A call of one image for each form."""
    model, images = network(name, seed, depth)
    proto, one = exported(model, images[0]), images[0]
    rivals = {
        EXPORT: proto,
        PEERS[0]: quantizers.static(proto, images),
        PEERS[1]: quantizers.dynamic(proto),
    }
    calls = {form: caller(ir.from_proto(rival), one) for form, rival in rivals.items()}
    source = to_ir(model, torch.from_numpy(one))
    for form, (target, allow) in FORMS.items():
        data = images if allow else None
        ours = addax.optimize(source, target=target, allow=allow, calibration=data, progress=False)
        calls[form] = caller(ours, one)
    return calls


def tail(heads: int, tokens: int, seed: int) -> Calls:
    """Softmax times V, one call for each form."""
    square, wide = f"1,{heads},{tokens},{tokens}", f"1,{heads},{tokens},64"
    model = build(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[{square}] scores, float[{wide}] values) => (float[{wide}] y) {{
            p = Softmax(scores)
            y = MatMul(p, values)
        }}""",
        [],
    )
    random = np.random.default_rng(seed)
    shapes = {"scores": (1, heads, tokens, tokens), "values": (1, heads, tokens, 64)}
    feeds = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    feeds["scores"] *= 2
    calls = {}
    for form, target, allow in (
        ("float32", "portable", ()),
        ("ORT integers", "portable", ("int8-attention",)),
        ("addax host, log2-softmax", "host", ("log2-softmax",)),
    ):
        data = [feeds] if allow else None
        made = addax.optimize(model, target=target, allow=allow, calibration=data, progress=False)
        calls[form] = one_thread(made).bound(feeds)
    return calls


def over(timings: Timings, baseline: str) -> dict[str, float]:
    """How many times as fast as the baseline each contender is, medians over the rounds."""
    return {n: 1 / timings.ratio(n, baseline).p50 for n in timings.names if n != baseline}


def measured(calls: Calls, title: str, rounds: int) -> dict[str, Any]:
    """Times and ratios of a network or a tail, printed and for the line of JSON."""
    timings = interleave(calls, rounds=rounds, min_time=0.05)
    baseline = timings.names[0]
    timing_table(title, timings, baseline=baseline)
    figures: dict[str, Any] = {"timings": timings.figures(baseline)}
    figures["over float32"] = over(timings, baseline)
    peers = [name for name in timings.names if name.startswith("ORT")]
    best = min(peers, key=lambda name: timings.seconds(name).p50)
    figures["best"], figures["over best"] = best, over(timings, best)
    return figures


def ratios(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each form of each network or tail."""
    for what, one in found.items():
        for form, times in one["over float32"].items():
            best = one["over best"].get(form, 1.0)
            yield {"what": what, "form": form, "over float32": times, "over best": best}


def main(argv: list[str] | None = None) -> None:
    """Quantize, time, print."""
    parser = arguments("int8_latency", "Integers of 8 bits in vision transformers: latency.")
    parser.add_argument("--networks", choices=NETWORKS, nargs="*", help="default: all")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    quick: bool = options.quick
    names = NETWORKS if options.networks is None else options.networks
    rounds, depth = (3, _QUICK_DEPTH) if quick else (options.rounds, _DEPTH)
    figures: dict[str, Any] = {"networks": {}, "tails": {}}
    for name in names[:1] if quick else names:
        calls = contenders(name, options.seed, depth)
        figures["networks"][name] = measured(calls, f"{name}, one image", rounds)
    for heads, tokens in TAILS[:1] if quick else TAILS:
        place = f"{heads} heads, {tokens} tokens"
        calls = tail(heads, tokens, options.seed)
        figures["tails"][place] = measured(calls, f"softmax times V, {place}", rounds)
    rows = [
        {
            "what": what,
            "form": form,
            "over float32": times,
            "over best": found["over best"].get(form, 1.0),
        }
        for kind in figures.values()
        for what, found in kind.items()
        for form, times in found["over float32"].items()
    ]
    table("times as fast", rows)
    emit_json("int8_latency", figures, seed=options.seed)


if __name__ == "__main__":
    main()
