"""Networks in ONNX Runtime as benches time them: on one thread, with the kernels they have."""

from collections.abc import Callable
from typing import Any

import numpy as np

import addax
from addax.backends.to_ort import to_ort
from addax.runtime.session import Session


def one_thread(network: Any) -> Session:
    """A session of what `addax.optimize` made, or of a graph, which has no kernels."""
    kernels = network.kernels if isinstance(network, addax.Optimized) else None
    graph = network.model if isinstance(network, addax.Optimized) else network
    if kernels is None:
        return Session(to_ort(graph), threads=1)
    return Session(to_ort(graph, has_kernel=kernels.has), threads=1, library=kernels.path)


def caller(network: Any, feed: np.ndarray) -> Callable[[], object]:
    """A call of a network of one input, to be timed."""
    session = one_thread(network)
    return session.bound({session.inputs[0].name: feed})
