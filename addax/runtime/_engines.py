"""The engines that can run a model: each takes it and inputs by name, and gives outputs by name."""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.backends.to_ort import to_ort
from addax.errors import MissingPackageError
from addax.ir.evaluate import evaluate
from addax.runtime.session import Session

Feeds = Mapping[str, np.ndarray]
Engine = Callable[[ir.Model, Feeds], dict[str, Any]]


class MissingEngineError(ImportError):
    """An engine is not installed; the message says how to install it."""


def judge(model: ir.Model, feeds: Feeds) -> dict[str, Any]:
    """NumPy, each tensor in the model's own format."""
    return evaluate(model, feeds)


def ort_plain(model: ir.Model, feeds: Feeds) -> dict[str, Any]:
    """ONNX Runtime as the graph is written, on one thread."""
    return Session(to_ort(model), optimize=False, threads=1).run(feeds)


def ort_optimized(model: ir.Model, feeds: Feeds) -> dict[str, Any]:
    """ONNX Runtime with all optimizations of its own, on one thread."""
    return Session(to_ort(model), threads=1).run(feeds)


def torch(model: ir.Model, feeds: Feeds) -> dict[str, Any]:
    """The module of torch that `to_torch` makes."""
    if importlib.util.find_spec("torch") is None:
        raise MissingEngineError("not installed: pip install torch")
    import torch as runtime

    from addax.backends.to_torch import to_torch

    module = to_torch(model)
    # A copy of the arrays, since torch refuses read-only memory.
    fed = [
        runtime.from_numpy(np.array(feeds[str(v.name)])) if v.name in feeds else None
        for v in model.graph.inputs
        if v.const_value is None or v.name in feeds
    ]
    with runtime.no_grad():
        made = module(*fed)
    outputs = (made,) if len(model.graph.outputs) == 1 else made
    return {
        str(value.name): y.numpy() if isinstance(y, runtime.Tensor) else y
        for value, y in zip(model.graph.outputs, outputs, strict=True)
    }


def tvm(model: ir.Model, feeds: Feeds) -> dict[str, Any]:
    """TVM, compiled for this processor and the sizes of the feeds."""
    from addax.backends.to_tvm import to_tvm
    from addax.runtime.tvm_session import TvmSession

    try:
        library = to_tvm(model, sizes={name: array.shape for name, array in feeds.items()})
    except MissingPackageError as error:
        raise MissingEngineError(str(error)) from error
    return TvmSession(library).run(feeds)


ENGINES: dict[str, Engine] = {
    "judge": judge,
    "onnxruntime-plain": ort_plain,
    "onnxruntime": ort_optimized,
    "torch": torch,
    "tvm": tvm,
}
