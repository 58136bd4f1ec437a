"""ONNX Runtime's own quantizers, as they come and behind our fold."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxruntime.quantization import QuantType

import addax
from bench import quantizers
from bench.integers._judge import Form, Predict
from bench.integers._own import FOLD, Source
from bench.integers._tasks import Task

Made = Callable[[], addax.Optimized]
STATIC: dict[str, dict[str, Any]] = {
    "W8A8": {},
    "W8A8, all operators": {"linear_only": False},
    "W4A8": {"weights": QuantType.QInt4},
}


def runner(proto: onnx.ModelProto) -> Predict:
    """A model on one thread."""
    session, names = quantizers.session(proto), [port.name for port in proto.graph.input]

    def predict(*inputs: np.ndarray) -> np.ndarray:
        return session.run(None, dict(zip(names, inputs, strict=True)))[0]

    return predict


def rival_forms(task: Task, source: Source, quick: bool) -> Iterator[Form]:
    """How each is made, on the network as it is and behind the fold where there is one.

    Static: products alone, with outputs in float, its fastest form; all operators, as it comes;
    weights of 4 bits. Dynamic: products by constant weights.
    """
    bases = {"": cache(source.made)}
    if task.folds:
        bases["fold, "] = cache(partial(source.made, FOLD))
    for before, made in bases.items():
        for name, options in STATIC.items():
            if not (quick and options):
                yield f"{before}ORT static {name}", partial(_static, task, made, options)
        yield f"{before}ORT dynamic W8A8", partial(_dynamic, made)


def _static(task: Task, made: Made, options: dict[str, Any]) -> Predict:
    return runner(quantizers.static(ir.to_proto(made().model), task.calibration, **options))


def _dynamic(made: Made) -> Predict:
    return runner(quantizers.dynamic(ir.to_proto(made().model)))
