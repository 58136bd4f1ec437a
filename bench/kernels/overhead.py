"""What a call of a custom op costs besides its kernel: tiny layers, beside a tiny built-in op."""

import numpy as np

from addax.runtime.kernels import Kernels
from bench.kernels import layers
from bench.kernels.layers import Size
from bench.measure import interleave

_LAYERS = 1000
_SIZE = Size(rows=1, outputs=64, inner=128)


def overhead(kernels: Kernels) -> dict[str, float]:
    """Microseconds a node, of 64x128 weights whose kernel takes next to nothing, in the cache."""
    contenders = {
        "ort fp32": layers.fp32,
        "ort int4": layers.n_bits(4),
        "codebook 4 bits": layers.codebook(4),
        "binary 2": layers.binary(2),
    }
    loaded = {
        name: layers.load(make, _SIZE, kernels, seed=0, cold=_LAYERS * 4096)
        for name, make in contenders.items()
    }
    timings = interleave({name: one.call for name, one in loaded.items()}, rounds=20)
    return {
        name: float(np.median(timings.cpu[name])) / one.count * 1e6 for name, one in loaded.items()
    }
