"""What an optimizer makes of a model: the same, another function, a file that fails, a crash.

Every tool runs in a process of its own, since some end the process when they fail, and is given
`PATIENCE` seconds a model. What it returns is judged by the float64 evaluator within the rounding
of both models, and by ONNX Runtime, which must run the result if it ran the original.
"""

import multiprocessing
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from addax.errors import AddaxError
from addax.ir.rule import Exact
from addax.ir.tolerance import disagreement
from bench.peers import TOOLS

OUTCOMES = ("same", "wrong", "does not run", "other interface", "crashed", "not judged")
PATIENCE = 20.0
_STARTS, _READY = 300.0, "ready"

Feeds = Mapping[str, np.ndarray]


class Optimizer:
    """One tool in a process of its own, which is started again when it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(self.name, there), daemon=True
        )
        self._process.start()
        there.close()
        if not self._here.poll(_STARTS) or self._here.recv() != _READY:
            raise RuntimeError(f"{self.name} did not start within {_STARTS:.0f} s")

    def __call__(self, data: bytes) -> bytes | str:
        """The optimized file, or what went wrong in a few words."""
        try:
            self._here.send(data)
            if self._here.poll(PATIENCE):
                answer: bytes | str = self._here.recv()
                return answer
            said = f"took longer than {PATIENCE:.0f} s"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            said = "ended the process"
        self.close()
        self._start()
        return said

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._here.close()


def _serve(name: str, parent: Connection) -> None:
    """Optimize what comes until the parent is gone."""
    tool = TOOLS[name]
    parent.send(_READY)
    while True:
        try:
            data = parent.recv()
        except EOFError:
            return
        try:
            answer: bytes | str = tool(data)
        except Exception as error:  # the tools' errors have no common class
            answer = f"{type(error).__name__}: {error}".splitlines()[0]
        parent.send(answer)


class Judge:
    """A model and feeds that everybody's result is compared with."""

    def __init__(self, data: bytes, feeds: Feeds) -> None:
        self.proto = onnx.load_from_string(data)
        self.model = ir.from_proto(self.proto)
        self.feeds = feeds
        self.outputs = run(data, feeds)

    @property
    def is_usable(self) -> bool:
        """Whether the model is valid, runs, and can be judged against itself."""
        if self.outputs is None:
            return False
        try:
            return disagreement(self.model, self.model, self.feeds, Exact.REASSOCIATED) is None
        except AddaxError:
            return False

    def outcome(self, result: bytes | str) -> tuple[str, str]:
        """One of `OUTCOMES`, and what there is to say about it."""
        if isinstance(result, str):
            return "crashed", result
        proto = onnx.load_from_string(result)
        for side in ("input", "output"):
            before, after = _interface(self.proto, side), _interface(proto, side)
            if before != after:
                return "other interface", f"{side}s {before} became {after}"
        if run(result, self.feeds) is None:
            return "does not run", "ONNX Runtime runs the original and not the result"
        try:
            model = ir.from_proto(proto)
            found = disagreement(self.model, model, self.feeds, Exact.REASSOCIATED)
        except AddaxError as error:
            return "not judged", str(error)
        return ("same", "") if found is None else ("wrong", str(found))


def _interface(proto: onnx.ModelProto, side: str) -> list[tuple[str, Any]]:
    held = {tensor.name for tensor in proto.graph.initializer}
    values = getattr(proto.graph, side)
    return [(v.name, v.type.tensor_type.elem_type) for v in values if v.name not in held]


def run(data: bytes, feeds: Feeds) -> list[np.ndarray] | None:
    """The outputs in ONNX Runtime without optimizations; None if it does not run the model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        outputs: list[np.ndarray] = session.run(None, dict(feeds))
    except Exception:  # its errors have no common class
        return None
    return outputs
