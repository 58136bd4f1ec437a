"""Networks as they are trained, folded: multiplies, real weights in parts, latency; peers beside.

    python -m bench.reparam [--quick] [--seed N] [--part NAME ...] [--size NAME ...]
        [--network NAME ...]

Parts: `forms` (the train forms of `bench.train_forms`: multiplies over those of the hand-folded
structure, for addax and its peers; only a result that is judged the same has a ratio), `weights`
(trained weights split into branches, recovered), `feed-forward`, `transformers` (latency of idle
channels at the sizes of ViT-Tiny, -Small and -Base), `depth` (latency of 12 layers in 6, 4 and 3
blocks of branches). `--size` and `--network` take some of the sizes and networks alone.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

import addax
from addax.backends.to_ort import to_ort
from addax.demo.vit import Mlp, VisionTransformer
from addax.errors import AddaxError
from addax.frontend import to_ir
from addax.frontend.layers import ChannelIdleFeedForward, ParallelAttention, ParallelFeedForward
from addax.ir.shapes import infer_shapes
from addax.passes._pipeline import Pipeline, run_pipeline
from bench import zoo
from bench.measure import arguments, emit_json, interleave, table
from bench.models import runtime_predict
from bench.outcomes import OUTCOMES, Judge
from bench.peers import TOOLS
from bench.splits import split
from bench.train_forms import FORMS, Counts, TrainForm, form
from bench.train_forms._form import randomise

QUICK = ("repvgg", "dbb", "repmixer", "lora-mlp", "idle-where", "depth-joined-layer", "trap-border")
SPLITS = (
    *((f"cifar-resnet{n}", style) for n in (20, 56) for style in ("RepVGG", "MobileOne", "DBB")),
    *(("mobilenet-v1-025", style) for style in ("RepVGG", "MobileOne", "DBB")),
    *(("deit-tiny", style) for style in ("LoRA", "depth")),
)
NETWORKS = tuple(dict.fromkeys(name for name, _ in SPLITS))
WIDTHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
TOKENS, LAYERS = 197, 12
IDLE = 0.75
BRANCHES = {6: 2, 4: 3, 3: 4}  # blocks: branches of each, 12 layers in all
# Measured by the papers: RePaViT on a GPU at batch 128, depth on a mobile CPU.
PAPERS = {"tiny": "", "small": "1.23", "base": "1.58"}


def counted(data: bytes) -> Counts:
    """Count what a tool made; the runtime's fused operators are spelled out first."""
    model = ir.from_proto(onnx.load_from_string(data))
    infer_shapes(model)
    run_pipeline(model, Pipeline.parse("canonicalize-fused"))
    return Counts.of(model)


def _export(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bytes:
    """What torch's exporter makes of a network by default."""
    with torch.no_grad():
        made = module(*inputs)
    outputs = [f"y{i}" for i in range(len(made) if isinstance(made, tuple) else 1)]
    names = {"input_names": ["x"], "output_names": outputs}
    program = torch.onnx.export(module, inputs, dynamo=True, optimize=True, verbose=False, **names)
    assert program is not None
    return program.model_proto.SerializeToString()


def _fused(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bytes:
    """torch's own fusion of a traced module, exported."""
    return _export(fuse(module), inputs)


def _addax(data: bytes) -> bytes:
    made = addax.optimize(data, progress=False).model
    return ir.to_proto(to_ort(made)).SerializeToString()


def _row(found: TrainForm, seed: int) -> dict[str, Any]:
    """One form: multiplies over the ideal's for each tool, or what went wrong."""
    module, inputs = found.build(seed), found.inputs(seed)
    best = Counts.of(to_ir(found.build_ideal(), inputs))
    data = _export(module, inputs)
    name = onnx.load_from_string(data).graph.input[0].name
    referee = Judge(data, {name: inputs[0].numpy()})
    tools: dict[str, Callable[[], bytes]] = {
        "export": lambda: data,
        **{name: partial(tool, data) for name, tool in (TOOLS | {"addax": _addax}).items()},
        "torch.fx": lambda: _fused(module, inputs),
    }
    row: dict[str, Any] = {"form": found.name}
    for tool, make in tools.items():
        try:
            result: bytes | str = make()
        except Exception as error:  # the tools' errors have no common class
            result = type(error).__name__
        outcome, _ = referee.outcome(result)
        if isinstance(result, str) or outcome != "same":
            row[tool] = outcome
            continue
        row[tool] = counted(result).multiplies / best.multiplies
    return row


def forms(quick: bool, seed: int) -> dict[str, Any]:
    """Multiplies over the ideal's, for every form and tool; the geometric mean of what is right.

    A column counts each outcome of `bench.outcomes`.
    """
    rows = []
    for found in map(form, QUICK) if quick else FORMS:
        rows.append(_row(found, seed))
        print(f"{found.name}: addax {rows[-1]['addax']}", file=sys.stderr, flush=True)
    table("multiplies over those of the hand-folded structure", rows)
    tools = [key for key in rows[0] if key != "form"]
    summary = []
    for tool in tools:
        ratios = [row[tool] for row in rows if isinstance(row[tool], float)]
        summary.append(
            {
                "tool": tool,
                "geometric mean of same": float(np.exp(np.mean(np.log(ratios))))
                if ratios
                else None,
                "worst": max(ratios, default=None),
                "at the ideal": sum(ratio <= 1 for ratio in ratios),
                "same": len(ratios),
                **{said: sum(row[tool] == said for row in rows) for said in OUTCOMES[1:]},
            }
        )
    table(f"{len(rows)} train forms", summary)
    return {"forms": rows, "summary": summary}


def recover(name: str, style: str, limit: int, seed: int) -> dict[str, Any]:
    """One network of the zoo in the style's branches, folded, beside the network itself."""
    entry = zoo.entry(name)
    trained = entry.build()
    branched = split(trained, style, seed)
    examples = entry.example_inputs()
    plain = addax.optimize(trained, examples, progress=False).model
    read = to_ir(branched, examples)
    before = Counts.of(read)
    began = time.thread_time()
    made = addax.optimize(read, progress=False).model
    seconds = time.thread_time() - began
    fixed = {"limit": limit, "batch": len(examples[0])}
    agreement = zoo.compare(
        entry, zoo.torch_predict(trained), runtime_predict(to_ort(made)), **fixed
    )
    best, after = Counts.of(plain), Counts.of(made)
    return {
        "network": name,
        "branches": style,
        "linears": f"{before.linears} -> {after.linears} ({best.linears})",
        "multiplies": before.multiplies / best.multiplies,
        "folded": after.multiplies / best.multiplies,
        "is_recovered": (after.linears, after.multiplies) == (best.linears, best.multiplies),
        "same": agreement.same,
        "difference": agreement.difference,
        "s": seconds,
    }


def weights(quick: bool, seed: int, networks: Sequence[str] = NETWORKS) -> list[dict[str, Any]]:
    """Trained weights in parts: are size, multiplies and predictions the original's again?"""
    known = zoo.missing()
    chosen = [pair for pair in SPLITS if pair[0] in networks and pair[0] not in known]
    rows = []
    for pair in chosen[: 1 if quick else None]:
        rows.append(recover(*pair, 10 if quick else 100, seed))
        print(*pair, f"recovered: {rows[-1]['is_recovered']}", file=sys.stderr, flush=True)
    table("trained weights in branches: folded over the original", rows)
    return rows


def latency(title: str, modules: dict[str, nn.Module], example: torch.Tensor, rounds: int) -> Any:
    """Each network as exported, and folded by addax, in ONNX Runtime on one thread."""
    calls: dict[str, Callable[[], object]] = {}
    array = example.numpy()
    for name, module in modules.items():
        read = to_ir(module.eval(), example)
        calls[f"{name}, trained"] = partial(runtime_predict(to_ort(read)), array)
        made = addax.optimize(read, progress=False).model
        calls[f"{name}, folded"] = partial(runtime_predict(to_ort(made)), array)
    timings = interleave(calls, rounds=rounds)
    rows = []
    for name in modules:
        own = timings.ratio(f"{name}, trained", f"{name}, folded")
        base = timings.ratio(f"{next(iter(modules))}, folded", f"{name}, folded")
        ms = timings.seconds(f"{name}, folded").p50 * 1e3
        rows.append({"network": name, "folded, ms": ms, "faster than trained": own})
        rows[-1]["faster than the first"] = base
    table(f"{title} ({timings.clock()} time, one thread)", rows)
    return [{key: asdict(v) if hasattr(v, "p50") else v for key, v in r.items()} for r in rows]


def drawn(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with drawn weights and statistics, in evaluation mode."""
    torch.manual_seed(seed)
    module = build()
    randomise(module)
    return module.eval()


def feed_forward(quick: bool, seed: int, sizes: Sequence[str] = tuple(WIDTHS)) -> dict[str, Any]:
    """The feed-forward part alone, x[1, 197, D], plain and with three quarters idle."""
    found = {}
    for size in sizes[: 1 if quick else None]:
        dim, _ = WIDTHS[size]
        idle = partial(ChannelIdleFeedForward, dim, 4 * dim, idle_ratio=IDLE)
        modules = {
            "plain": drawn(partial(Mlp, dim, 4 * dim), seed),
            "idle": drawn(idle, seed),
        }
        title = f"feed-forward part of ViT-{size}, {IDLE:.0%} idle"
        found[size] = latency(title, modules, torch.randn(1, TOKENS, dim), 5 if quick else 30)
    return found


def transformer(size: str, depth: int, **parts: Any) -> nn.Module:
    """A vision transformer of 197 tokens."""
    dim, heads = WIDTHS[size]
    sizes = {"image": 224, "patch": 16, "channels": 3, "classes": 1000}
    made = VisionTransformer(**sizes, dim=dim, heads=heads, hidden=4 * dim, depth=depth, **parts)
    for block in made.blocks:
        if isinstance(block.mlp, ChannelIdleFeedForward):
            block.norm2 = nn.Identity()  # the layer brings its own
    return made


def transformers(quick: bool, seed: int, sizes: Sequence[str] = tuple(WIDTHS)) -> dict[str, Any]:
    """Whole vision transformers, plain and with three quarters of the channels idle."""
    found = {}
    depth = 2 if quick else LAYERS
    idle = partial(ChannelIdleFeedForward, idle_ratio=IDLE)
    for size in sizes[: 1 if quick else None]:
        modules = {
            "plain": drawn(partial(transformer, size, depth), seed),
            "idle": drawn(partial(transformer, size, depth, mlp=idle), seed),
        }
        paper = f"; the paper's on a GPU: {PAPERS[size]}x" if PAPERS[size] else ""
        title = f"ViT-{size}, {depth} layers, {IDLE:.0%} idle{paper}"
        found[size] = latency(title, modules, torch.randn(1, 3, 224, 224), 3 if quick else 15)
    return found


def depth(quick: bool, seed: int) -> list[dict[str, Any]]:
    """ViT-Tiny of 12 layers, and as 6, 4 and 3 blocks of 2, 3 and 4 joined branches."""
    layers = 3 if quick else LAYERS
    modules = {f"{layers} layers": drawn(partial(transformer, "tiny", layers), seed)}
    for blocks, branches in list(BRANCHES.items())[2 if quick else 0 :]:
        attention = partial(ParallelAttention, branches=branches, joining=1.0)
        layer = partial(ParallelFeedForward, branches=branches, joining=1.0)
        build = partial(transformer, "tiny", blocks, attention=attention, mlp=layer)
        modules[f"{blocks} blocks of {branches}"] = drawn(build, seed)
    title = "ViT-Tiny, depth in branches; the paper's on a mobile CPU: up to 37 % less time"
    found: list[dict[str, Any]] = latency(
        title, modules, torch.randn(1, 3, 224, 224), 3 if quick else 15
    )
    return found


PARTS: dict[str, Callable[[bool, int], Any]] = {
    "forms": forms,
    "weights": weights,
    "feed-forward": feed_forward,
    "transformers": transformers,
    "depth": depth,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and end with a line of JSON."""
    parser = arguments("reparam", __doc__ or "")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", nargs="+", choices=WIDTHS, default=list(WIDTHS))
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    narrowed: dict[str, Callable[[bool, int], Any]] = {
        "transformers": partial(transformers, sizes=options.size),
        "feed-forward": partial(feed_forward, sizes=options.size),
        "weights": partial(weights, networks=options.network),
    }
    figures = {}
    for part in options.part:
        try:
            figures[part] = (PARTS | narrowed)[part](options.quick, options.seed)
        except AddaxError as error:
            figures[part] = f"{type(error).__name__}: {error}"
            print(f"{part}: {figures[part]}", file=sys.stderr)
    emit_json("reparam", figures, seed=options.seed)


if __name__ == "__main__":
    main()
