"""How fast proofs are, what they see, and how often optimizers are wrong.

    python -m bench.verification [--quick] [--seed N] [--part NAME ...]

Parts: `instances` (one rewrite proved), `networks` (a whole network proved), `ulps` (one ulp in one
weight seen), `pair` (one function as two super-resolution networks), `overhead`
(`optimize(verify=True)` beside `optimize`), `random` (random graphs through addax and its peers).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from addax.api import optimize
from addax.demo import load_images, load_model
from addax.frontend import to_ir
from addax.ir.certificate import replay
from addax.ir.equivalence import compare
from addax.ir.interpret import nearest
from addax.ir.model import clone
from addax.ir.proof import prove_equal, prove_rewrite
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._pipeline import run_pipeline
from addax.testing.strategies.arrays import FINITE, feeds_for
from addax.testing.strategies.graphs import assemble
from bench import zoo
from bench.measure import arguments, emit_json, interleave, table
from bench.outcomes import OUTCOMES, Judge, Optimizer
from bench.peers import TOOLS

Networks = Iterator[tuple[str, ir.Model]]


def networks(quick: bool) -> Networks:
    """The demo's transformer, and with data at hand trained networks, as they were exported."""
    yield "digits-vit", to_ir(load_model(), torch.from_numpy(load_images("test")[0][:2]))
    for entry in zoo.entries():
        if not quick or entry.name == "cifar-resnet20":
            yield entry.name, imported(entry)


def imported(entry: Any) -> ir.Model:
    """A network of the zoo as addax reads it."""
    return to_ir(entry.build(), entry.example_inputs(), dynamic_shapes=entry.dynamic_shapes)


class _Prover(Instrument):
    """Proves every rewrite before it is committed, with the time that takes."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.verdicts: Counter[str] = Counter()
        self.seconds: list[float] = []

    def on_rewrite(self, rewrite: Rewrite) -> None:
        matched = nearest(rewrite.matcher.rule, rewrite.root).nodes
        began = time.thread_time()
        proof = prove_rewrite(rewrite.replacement, self.model, matched=matched)
        self.seconds.append(time.thread_time() - began)
        self.verdicts[proof.verdict] += 1


def instances(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds to prove one rewrite, over all rewrites of each network."""
    rows = []
    for name, model in networks(quick):
        prover = _Prover(model)
        run_pipeline(model, instruments=[prover])
        spent = 1e3 * np.array(prover.seconds)
        rows.append(
            {
                "network": name,
                "rewrites": len(spent),
                **{v: prover.verdicts[v] for v in ("proved", "unproved", "unsupported", "refuted")},
                "median ms": float(np.median(spent)),
                "mean ms": float(np.mean(spent)),
                "p90 ms": float(np.percentile(spent, 90)),
            }
        )
    table("one rewrite proved, CPU time", rows)
    return rows


def whole(quick: bool) -> list[dict[str, Any]]:
    """Seconds to prove a network equal to itself, node by node over the field."""
    rows = []
    for name, model in networks(quick):
        began = time.thread_time()
        proof = prove_equal(model, clone(model))
        rows.append(
            {
                "network": name,
                "nodes": len(model.graph),
                "verdict": proof.verdict,
                "chance of error": proof.error_probability,
                "cpu s": time.thread_time() - began,
            }
        )
    table("a whole network proved, at two random points", rows)
    return rows


def overhead(quick: bool) -> list[dict[str, Any]]:
    """`optimize(verify=True)` beside `optimize`, from the module and from its graph."""
    rows = []
    for entry in zoo.entries():
        if entry.name not in ({"cifar-resnet20"} if quick else {"deit-tiny", "llama-stories260k"}):
            continue
        module, graph = entry.build(), imported(entry)
        inputs = {"example_inputs": entry.example_inputs(), "dynamic_shapes": entry.dynamic_shapes}
        for source, model, given in (("module", module, inputs), ("graph", graph, {})):
            timings = interleave(
                {
                    "plain": lambda m=model, g=given: optimize(m, **g),
                    "verified": lambda m=model, g=given: optimize(m, verify=True, **g),
                },
                rounds=2 if quick else 5,
                min_time=0,
            )
            rows.append(
                {
                    "network": entry.name,
                    "from": source,
                    "plain, cpu s": timings.seconds("plain", "cpu").p50,
                    "verified, cpu s": timings.seconds("verified", "cpu").p50,
                    "ratio": timings.ratio("verified", "plain", "cpu"),
                }
            )
        made = optimize(graph, verify=True)
        assert made.certificate is not None
        began = time.thread_time()
        found = replay(graph, made.model, made.certificate)
        rows[-1] |= {"replay, cpu s": time.thread_time() - began, "holds": found.is_complete}
    table("optimize(verify=True) beside optimize", rows)
    return [{k: getattr(v, "p50", v) for k, v in row.items()} for row in rows]


def ulps(quick: bool, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Changes of one weight by one unit in the last place, and how many were seen."""
    rows = []
    for name, model in networks(quick):
        count = 4 if quick else 12
        seen = sum(_is_seen(model, rng) for _ in range(count))
        rows.append({"network": name, "weights changed": count, "seen": seen})
    table("one weight moved by one ulp", rows)
    return rows


def _is_seen(model: ir.Model, rng: np.random.Generator) -> bool:
    """Whether the proof tells a model from one with a weight moved; weights of 0 are not drawn."""
    changed = clone(model)
    weights = [v for v in changed.graph.initializers.values() if _is_weight(v)]
    value = weights[int(rng.integers(len(weights)))]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    alive = np.flatnonzero(array)
    place = alive[int(rng.integers(alive.size))]
    array.flat[place] = np.nextafter(array.flat[place], array.dtype.type(np.inf))
    value.const_value = ir.tensor(array)
    return prove_equal(model, changed).verdict != "proved"


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    return (
        tensor is not None
        and tensor.dtype is ir.DataType.FLOAT
        and bool(value.uses())
        and bool(np.count_nonzero(tensor.numpy()))
    )


def pair(rng: np.random.Generator) -> dict[str, Any]:
    """A network with a global residual, and its equivalent without: judged on real images.

    They are one function once the image is clipped to 0..1, which the second one does by itself.
    """
    entries = {e.name: e for e in zoo.entries() if e.name.startswith("ecbsr")}
    if len(entries) < 2:
        return {"skipped": "the pair is not at hand"}
    models = {name: _clipped(imported(entry)) for name, entry in entries.items()}
    (images, _) = next(iter(entries["ecbsr-residual"].data(2, 2)))
    (a, b) = models["ecbsr-residual"], models["ecbsr-plain"]
    feeds = [{str(a.graph.inputs[0].name): images[0][..., :48, :48]}]
    equal = compare(a, b, feeds=feeds)
    changed = clone(b)
    weights = [v for v in changed.graph.initializers.values() if _is_weight(v)]
    value = weights[int(rng.integers(len(weights)))]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array.flat[int(np.argmax(np.abs(array)))] *= np.float32(1.01)
    value.const_value = ir.tensor(array)
    unequal = compare(a, changed, feeds=feeds)
    rows = [
        {"pair": "as published", "verdict": equal.verdict, "detail": equal.detail},
        {"pair": "one weight 1 % larger", "verdict": unequal.verdict, "detail": unequal.detail},
    ]
    table("one function as two super-resolution networks", rows)
    return {"published": equal.verdict, "changed": unequal.verdict}


def _clipped(model: ir.Model) -> ir.Model:
    """The model with its output clipped to 0..1."""
    (y,) = model.graph.outputs
    bounds = [ir.Value(name=n, const_value=ir.tensor(np.float32(x), name=n)) for n, x in _BOUNDS]
    for bound in bounds:
        model.graph.register_initializer(bound)
    node = ir.Node("", "Clip", [y, *bounds], num_outputs=1)
    clipped = node.outputs[0]
    clipped.name, clipped.type, clipped.shape = "clipped", y.type, y.shape
    model.graph.append(node)
    model.graph.outputs[0] = clipped
    return model


_BOUNDS = (("level_0", 0.0), ("level_1", 1.0))


def random_graphs(count: int, rng: np.random.Generator) -> dict[str, Any]:
    """Random models through addax and its peers: how many results are wrong, invalid or crashes.

    The same models, feeds and judge for all. A model that the evaluator or ONNX Runtime cannot run
    is drawn again.
    """
    optimizers = {name: Optimizer(name) for name in TOOLS}
    counts = {name: Counter[str]() for name in TOOLS}
    left = dict.fromkeys(TOOLS, 0)
    examples: dict[str, dict[str, str]] = {name: {} for name in TOOLS}
    drawn = judged = 0
    while judged < count:
        drawn += 1
        genes = [rng.bytes(16) for _ in range(2 + int(rng.integers(10)))]
        model = assemble(genes[0], genes[1:])
        feeds = feeds_for(model.graph.inputs, _KINDS[drawn % len(_KINDS)], drawn, {"N": 2})
        data = ir.to_proto(model).SerializeToString()
        judge = Judge(data, feeds)
        if not judge.is_usable:
            continue
        judged += 1
        for name, optimizer in optimizers.items():
            result = optimizer(data)
            outcome, detail = judge.outcome(result)
            counts[name][outcome] += 1
            if outcome != "same":
                examples[name].setdefault(f"{outcome}: {detail[:100]}", f"model {drawn}")
            elif isinstance(result, bytes):
                left[name] += len(onnx.load_from_string(result).graph.node)
    for optimizer in optimizers.values():
        optimizer.close()
    rows = [
        {
            "tool": name,
            **{outcome: counts[name][outcome] for outcome in OUTCOMES},
            "nodes left a model": left[name] / max(counts[name]["same"], 1),
        }
        for name in TOOLS
    ]
    table(f"{judged} random models of {drawn} drawn", rows)
    for name, found in examples.items():
        for line, where in list(found.items())[:_EXAMPLES]:
            print(f"  {name}, {where}: {line}")
    return {"models": judged, "drawn": drawn, "rows": rows}


_KINDS = FINITE
_EXAMPLES = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench."""
    parser = arguments("verification", __doc__ or "")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="only this part")
    given = parser.parse_args(argv)
    rng = np.random.default_rng(given.seed)
    figures = {
        name: part(given.quick, rng)
        for name, part in PARTS.items()
        if given.part is None or name in given.part
    }
    emit_json("verification", figures, seed=given.seed)


PARTS: dict[str, Callable[[bool, np.random.Generator], Any]] = {
    "instances": lambda quick, _: instances(quick),
    "networks": lambda quick, _: whole(quick),
    "overhead": lambda quick, _: overhead(quick),
    "ulps": ulps,
    "pair": lambda _, rng: pair(rng),
    "random": lambda quick, rng: random_graphs(40 if quick else 5000, rng),
}


if __name__ == "__main__":
    main()
