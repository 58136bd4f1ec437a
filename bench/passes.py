"""Speed of the rewriting core beside onnxslim, onnxsim, onnxscript's optimizer and ONNX Runtime's.

    python -m bench.passes [--quick] [--seed N]

Four questions: what does a node cost, and does that grow with the graph; does a nested redex go
to one node; what do rules cost that never apply; how long from bytes to bytes on a Llama graph,
and how many nodes are left. Memory for weights in files, and equal bytes for every hash seed, are
asked of child processes.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from addax.ir.match import RuleSet
from addax.ir.rewriter import Rewriter
from addax.ir.rule import Exact, Rule, rule
from addax.ir.shapes import infer_shapes
from addax.passes._driver import Driver, Limits
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.passes._statistics import Statistics
from bench import graphs
from bench.measure import arguments, emit_json, interleave, peak_memory, table, timing_table
from bench.peers import TOOLS


def _nodes(data: bytes) -> int:
    return len(onnx.load_from_string(data).graph.node)


_ROOTS = ("Add", "Mul", "MatMul", "Relu", "Tanh", "Transpose", "Identity", "Cast")
_ABOVE = ("Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "Log", "Neg", "Not", "Round")


def _idle_rules(count: int) -> tuple[Rule, ...]:
    """Rules rooted at the operators that the graph is full of, whose patterns never match.

    Each looks for an operator above its root, and a scalar above that, which are not there.
    """

    def make(number: int) -> Rule:
        root = _ROOTS[number % len(_ROOTS)]
        above = _ABOVE[number // len(_ROOTS) % len(_ABOVE)]

        def pattern(op: Any, x: Any, y: Any) -> Any:
            inner = getattr(op, above)(op.Mul(x, 1.5 + number))
            return getattr(op, root)(*((inner, y) if root in _ROOTS[:3] else (inner,)))

        return rule(f"idle/r{number}", match=pattern, exact=Exact.BITWISE)(lambda op, x: x)

    return tuple(make(number) for number in range(count))


def fixed_point(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Microseconds a node to the fixed point, and the exponent of its growth with the graph.

    Thread CPU time of rewriting alone: shapes are inferred before, as they are at import.
    """
    rows, costs = [], []
    for size in sizes:
        proto = graphs.mixed(size)
        samples = []
        for _ in range(rounds + 1):
            model = ir.from_proto(proto)
            infer_shapes(model)
            began = time.thread_time()
            statistics = run_pipeline(model)
            samples.append((time.thread_time() - began) / size * 1e6)
        costs.append(float(np.median(samples[1:])))
        rows.append(
            {
                "nodes": size,
                "us a node": costs[-1],
                "us a visit": costs[-1] * size / statistics.visits,
                "rewrites": statistics.applied,
                "left": len(model.graph),
            }
        )
    table("to the fixed point: a mixed graph with a redex in every second place", rows)
    exponent = float(np.polyfit(np.log(sizes), np.log(np.multiply(sizes, costs)), 1)[0])
    return {"rows": rows, "growth_exponent": exponent}


def nested(depth: int) -> dict[str, Any]:
    """How many nodes each tool leaves of redexes nested `depth` deep (one is possible)."""
    data = graphs.onion(depth).SerializeToString()
    left = {name: _attempt(lambda tool=tool: _nodes(tool(data))) for name, tool in TOOLS.items()}
    table(f"nested redexes, {depth} nodes", [{"tool": n, "nodes left": c} for n, c in left.items()])
    return left


def _attempt(measure: Callable[[], int]) -> int | str:
    """The figure, or the failure's kind: a rival that breaks is a row of the table."""
    try:
        return measure()
    except Exception as error:
        return type(error).__name__


def idle_rules(size: int, count: int, rounds: int) -> dict[str, Any]:
    """What `count` rules cost that never apply."""
    proto = graphs.mixed(size)
    base = tuple(r for step in Pipeline.exact().steps for r in step.family.rules)
    sets = {"own": RuleSet(base), f"own and {count} idle": RuleSet((*base, *_idle_rules(count)))}

    def runner(rules: RuleSet) -> Callable[[], None]:
        def run() -> None:
            model = ir.from_proto(proto)
            infer_shapes(model)
            Driver(Rewriter(model), rules, Statistics(), Limits(1 << 30)).run()

        return run

    timings = interleave({name: runner(rules) for name, rules in sets.items()}, rounds=rounds)
    timing_table(f"rules that never apply, {size} nodes", timings, "own")
    return {"ratio": timings.ratio(f"own and {count} idle", "own", "cpu").p50}


def end_to_end(layers: int, rounds: int) -> dict[str, Any]:
    """From bytes to bytes on a Llama graph: time, and nodes left."""
    data = graphs.llama(layers).SerializeToString()
    left = {name: _attempt(lambda tool=tool: _nodes(tool(data))) for name, tool in TOOLS.items()}
    contenders = {
        name: (lambda tool=tool: tool(data))
        for name, tool in TOOLS.items()
        if isinstance(left[name], int)
    }
    timings = interleave(contenders, rounds=rounds, min_time=0)
    rows = [
        {
            "tool": name,
            "cpu s": timings.seconds(name, "cpu").p50,
            "times addax": timings.ratio(name, "addax", "cpu"),
            "nodes left": left[name],
        }
        for name in contenders
    ]
    table(f"Llama, {layers} layers, {_nodes(data)} nodes, bytes to bytes", rows)
    ratios = {name: timings.ratio(name, "addax", "cpu").p50 for name in contenders}
    return {"nodes": _nodes(data), "left": left, "times_addax": ratios}


def memory(gigabytes: float) -> dict[str, Any]:
    """Peak memory of a child that optimizes and saves a model with weights in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.onnx"
        weights = graphs.write_large(path, gigabytes)
        idle = peak_memory([sys.executable, "-c", "import addax.api, onnxruntime"])
        code = f"import addax; addax.optimize({str(path)!r}).save({str(path) + '.out'!r})"
        busy = peak_memory([sys.executable, "-c", code])
    if busy.status:
        raise RuntimeError(f"the child that optimizes failed: {busy.output}")
    row = {
        "weights, GB": weights / 1e9,
        "above the interpreter, MB": (busy.bytes - idle.bytes) / 1e6,
        "seconds": busy.seconds - idle.seconds,
    }
    table("weights in a file", [row])
    return row


def hash_seeds(count: int) -> dict[str, Any]:
    """How many different outputs `count` hash seeds give; one is right."""
    code = (
        "import hashlib, onnx_ir as ir\n"
        "from addax.passes._pipeline import run_pipeline\n"
        "from bench import graphs\n"
        "for proto in (graphs.mixed(2000), graphs.llama(2)):\n"
        "    model = ir.from_proto(proto)\n"
        "    run_pipeline(model)\n"
        "    print(hashlib.sha256(ir.to_proto(model).SerializeToString()).hexdigest())\n"
    )
    outputs = {
        subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in range(count)
    }
    table("byte-identical output", [{"hash seeds": count, "different outputs": len(outputs)}])
    return {"seeds": count, "different": len(outputs)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench."""
    given = arguments("passes", __doc__ or "").parse_args(argv)
    quick = given.quick
    figures = {
        "fixed_point": fixed_point([1000, 4000] if quick else [1000, 5000, 10000, 50000], 2),
        "nested": nested(200 if quick else 2000),
        "idle_rules": idle_rules(1000, 1000, 3 if quick else 5),
        "end_to_end": end_to_end(2 if quick else 32, 2 if quick else 3),
        "memory": memory(0.2 if quick else 2.4),
        "hash_seeds": hash_seeds(2 if quick else 4),
    }
    emit_json("passes", figures, seed=given.seed)


if __name__ == "__main__":
    main()
