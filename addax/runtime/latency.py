"""How long a layer takes with the weights it had and with the codes that it got.

Each is a model of one node in ONNX Runtime, on one thread; what is timed is CPU time of that
thread, which other programs of the machine disturb least. The two take turns, so that neither
finds its weights in the nearest cache only because nothing else ran. Predictions are those of
`addax.backends.rates`.
"""

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.backends.ort import form_of
from addax.backends.rates import FLOAT, predict
from addax.backends.to_ort import to_ort
from addax.ir.dialect import DOMAIN, VERSION
from addax.ir.query import constant_tensor, known_dtype, shape
from addax.ir.statistics import Layer
from addax.runtime.kernels import Kernels
from addax.runtime.session import Session

BODIES = "bodies"  # the code path of what has no kernel
_SECONDS = 0.02  # that calls of a contender take together, if three do not take longer
_FEWEST, _MOST = 3, 40  # calls of each
_FINE = 1e-6  # seconds that a clock must tell apart
_MOST_ROWS = 512  # of more rows so many are timed: each takes as long as the others
_OPSET = 20

Pair = tuple[float, float]


def describe_latency(
    layers: Sequence[Layer],
    places: Sequence[Sequence[ir.Node]],
    kernels: Kernels | None,
    *,
    measure: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Layer, ...]:
    """The layers with their rows, code paths, predictions and, if wanted, measured latencies.

    Args:
        layers: What became of the layers of a model.
        places: For each layer the nodes that multiply by its codes; those that were erased since
            do not count. A layer that has none left stays as it is.
        kernels: Kernels of this machine; None if the nodes run through their bodies.
        measure: Whether layers are run, for a tenth of a second each; equal ones once.
        tell: Called with what is done now.
    """
    taken: dict[tuple[Any, ...], Pair] = {}
    described = []
    for layer, nodes in zip(layers, places, strict=True):
        parts = []
        for node in nodes:
            if node.graph is None:
                continue
            path = None if kernels is None else kernels.code_path(node)
            measured = None
            if measure:
                key = (path, *_kind(layer, node))
                if key not in taken:
                    tell(f"measuring {layer.name}")
                    taken[key] = _measured(layer, node, None if path is None else kernels)
                measured = taken[key]
            parts.append((path or BODIES, _rows(node), _predicted(layer, node, path), measured))
        described.append(_with_parts(layer, parts) if parts else layer)
    return tuple(described)


def _with_parts(layer: Layer, parts: Sequence[tuple[str, int, Pair | None, Pair | None]]) -> Layer:
    """The layer with what its nodes take together."""
    paths, rows, predicted, measured = zip(*parts, strict=True)
    predicted_before, predicted_after = _sums(predicted)
    measured_before, measured_after = _sums(measured)
    return dataclasses.replace(
        layer,
        rows=sum(rows),
        code_path=", ".join(dict.fromkeys(paths)),
        predicted_before=predicted_before,
        predicted_after=predicted_after,
        measured_before=measured_before,
        measured_after=measured_after,
    )


def _sums(pairs: Iterable[Pair | None]) -> Pair | tuple[None, None]:
    known = list(pairs)
    found = [pair for pair in known if pair is not None]
    if len(found) < len(known):
        return None, None
    return sum(old for old, _ in found), sum(new for _, new in found)


def _rows(node: ir.Node) -> int:
    """Of the input, in one evaluation; dimensions known only at run time count as 1."""
    dims = (shape(node.inputs[0]) or ())[:-1]
    return max(1, math.prod(dim for dim in dims if isinstance(dim, int)))


def _kind(layer: Layer, node: ir.Node) -> tuple[Any, ...]:
    """Equal for nodes that take the same time."""
    constants = tuple((v.dtype, str(v.shape)) for v in node.inputs[1:] if v is not None)
    attributes = tuple(sorted((name, str(value)) for name, value in node.attributes.items()))
    sizes = layer.outputs, layer.inputs, _rows(node), known_dtype(node.inputs[0])
    return node.op_type, *sizes, constants, attributes


def _predicted(layer: Layer, node: ir.Node, path: str | None) -> Pair | None:
    form = form_of(node)
    if path is None or form is None:
        return None
    rows, weights = _rows(node), layer.outputs * layer.inputs
    before = predict(path, FLOAT, rows, weights, layer.bytes_before)
    after = predict(path, form, rows, weights, layer.bytes_after)
    return None if before is None or after is None else (before, after)


def _measured(layer: Layer, node: ir.Node, kernels: Kernels | None) -> Pair:
    """Microseconds of a MatMul of that size, and of the node; without kernels, of its body."""
    kind, rows = known_dtype(node.inputs[0]).numpy(), _rows(node)
    timed = min(rows, _MOST_ROWS)
    x = np.random.default_rng(0).standard_normal((timed, layer.inputs)).astype(kind)
    weights = ir.tensor(np.full((layer.inputs, layer.outputs), 0.5, kind))
    plain = _alone(ir.Node("", "MatMul", []), x, [weights])
    codes = to_ort(_alone(node, x, [constant_tensor(value) for value in node.inputs[1:]]))
    library = None if kernels is None else kernels.path
    before, after = _in_turns(
        Session(plain, threads=1).bound({"x": x}),
        Session(codes, threads=1, library=library).bound({"x": x}),
    )
    return before * rows / timed, after * rows / timed


def _alone(node: ir.Node, x: np.ndarray, tensors: Sequence[ir.TensorProtocol | None]) -> ir.Model:
    """A model of a node like this one, that multiplies `x` by constants."""
    fed = ir.Value(name="x", type=ir.TensorType(ir.DataType.from_numpy(x.dtype)))
    fed.shape = ir.Shape(x.shape)
    constants = [
        ir.Value(
            name=f"w{place}",
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
        )
        for place, tensor in enumerate(tensors)
        if tensor is not None
    ]
    made = ir.Node(node.domain, node.op_type, [fed, *constants], node.attributes.values())
    made.outputs[0].name = "y"
    made.outputs[0].type = fed.type
    graph = ir.Graph(
        [fed],
        made.outputs,
        nodes=[made],
        initializers=constants,
        name="layer",
        opset_imports={"": _OPSET, DOMAIN: VERSION},
    )
    return ir.Model(graph, ir_version=10)


def _in_turns(*calls: Callable[[], None]) -> Pair:
    """The median microseconds of each of two calls."""
    for call in calls:
        call()
    now, taken = _clock(), tuple[list[float], list[float]](([], []))
    while len(taken[0]) < _FEWEST or (len(taken[0]) < _MOST and max(map(sum, taken)) < _SECONDS):
        for call, times in zip(calls, taken, strict=True):
            began = now()
            call()
            times.append(now() - began)
    before, after = (1e6 * statistics.median(times) for times in taken)
    return before, after


@functools.cache
def _clock() -> Callable[[], float]:
    """CPU time of this thread; elapsed time where the system counts that in milliseconds."""
    fine = time.get_clock_info("thread_time").resolution <= _FINE
    return time.thread_time if fine else time.perf_counter
