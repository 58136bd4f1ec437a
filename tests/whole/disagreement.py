"""How far apart two runs are, and how far apart they may be where no error analysis exists."""

import numpy as np
import onnx_ir as ir

from addax.ir.model import scopes

DRAWS = 3


def worst(expected, actual, allowed):
    """The element furthest beyond what is allowed, or None: (output, index, before, after)."""
    found, excess = None, 0.0
    for name, before in expected.items():
        after = actual[name]
        if before.dtype.kind in "OSUb":
            apart = (before != after).astype(float)
        else:
            a, b = before.astype(np.float64), after.astype(np.float64)
            with np.errstate(all="ignore"):
                apart = np.abs(a - b) - allowed[name]
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, apart)
            apart = np.where(np.isnan(apart), np.inf, apart)
        if apart.size and apart.max() > excess:
            at = np.unravel_index(int(np.argmax(apart)), apart.shape)
            found, excess = (name, at, before[at], after[at]), float(apart[at])
    return found


def moved(model, feeds, load):
    """How far the outputs go when each number that goes in is another one that it was rounded from.

    Backward error: what a node rounds is as if its inputs had been others, by half a step of the
    narrowest format. So the largest movement of some draws, once for each node of the model.
    """
    step = max(float(np.finfo(d).eps) for d in formats(model))
    rng = np.random.default_rng(0)
    base = load(model).run(feeds)
    largest = {name: np.zeros(()) for name in base}
    for _ in range(DRAWS):
        other = model.clone()
        for value in constants(other):
            value.const_value = ir.tensor(nudged(value.const_value.numpy(), step, rng))
        outputs = load(other).run({n: nudged(a, step, rng) for n, a in feeds.items()})
        for name, array in outputs.items():
            if array.dtype.kind == "f":
                apart = np.abs(array.astype(np.float64) - base[name].astype(np.float64))
                largest[name] = np.maximum(largest[name], apart.max(initial=0.0))
    nodes = sum(1 for scope in scopes(model) for _ in scope)
    return {name: nodes * size for name, size in largest.items()}


def nudged(array, step, rng):
    if array.dtype.kind != "f":
        return array
    largest = float(np.finfo(array.dtype).max)
    noise = 1 + step * rng.uniform(-1, 1, array.shape)
    nearby = np.clip(array.astype(np.float64) * noise, -largest, largest)
    return np.where(np.isfinite(array), nearby, array).astype(array.dtype)


def constants(model):
    values = [v for graph in model.graphs() for v in graph.initializers.values()]
    known = [v for v in values if v.const_value is not None and v.dtype in FLOATS]
    return [v for v in known if v.const_value.size > 1]  # a scalar may be an exponent


FLOATS = {ir.DataType.FLOAT16: np.float16, ir.DataType.FLOAT: np.float32}


def formats(model):
    values = [v for s in scopes(model) for n in s for v in (*n.inputs, *n.outputs) if v is not None]
    return {FLOATS[v.dtype] for v in values if v.dtype in FLOATS}
