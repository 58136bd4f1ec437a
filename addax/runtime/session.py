"""Sessions: feed in, outputs out, in ONNX Runtime."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from addax.errors import InputError, UnsupportedOpError
from addax.ir.model import save

_INLINE = 1 << 30  # bytes of weights; a protobuf message may not exceed two GiB


@dataclass(frozen=True)
class Port:
    """One input or output: its name, element type as ONNX Runtime writes it, and shape."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.type}{list(self.shape)}"


class Session:
    """A model loaded in ONNX Runtime.

    Args:
        model: The model, whose weights are copied into the runtime; or the path of an ONNX file.
        optimize: Whether the runtime may optimize the graph further.
        threads: Threads for one operator; the runtime's default if None.
        library: A library of kernels for the ops of the dialect, which run through their bodies
            without it.

    Raises:
        UnsupportedOpError: If the runtime cannot load the model or the library; the message is
            the runtime's.
    """

    def __init__(
        self,
        model: ir.Model | str | os.PathLike[str],
        *,
        optimize: bool = True,
        threads: int | None = None,
        library: str | os.PathLike[str] | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if not optimize:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        if threads is not None:
            options.intra_op_num_threads = threads
        if library is not None:
            _register(library, options)
        try:
            self._session = _load(model, options)
        except _RUNTIME_ERRORS as error:
            raise UnsupportedOpError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load this model: {error}"
            ) from error
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model once.

        Args:
            feeds: An array for each input, by name.

        Raises:
            InputError: If the feeds do not fit the inputs.
        """
        self._check(feeds)
        arrays = {name: np.asarray(array, order="C") for name, array in feeds.items()}
        names = [port.name for port in self.outputs]
        try:
            values = self._session.run(names, arrays)
        except _RUNTIME_ERRORS as error:
            expected = "; ".join(map(str, self.inputs))
            got = "; ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in arrays.items())
            raise InputError(
                f"the model could not run on these feeds: expected {expected}; got {got}; "
                f"ONNX Runtime says: {error}"
            ) from error
        return dict(zip(names, values, strict=True))

    def bound(self, feeds: Mapping[str, Any]) -> Callable[[], None]:
        """A call that runs the model on these feeds, with as little beside it as there can be.

        What it computes stays in the runtime: to be timed, not read.

        Args:
            feeds: An array for each input, by name.

        Raises:
            InputError: If the feeds have other names than the inputs.
        """
        self._check(feeds)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.asarray(array, order="C"))
        for port in self.outputs:
            binding.bind_output(port.name)
        return lambda: self._session.run_with_iobinding(binding)

    def _check(self, feeds: Mapping[str, Any]) -> None:
        expected = [port.name for port in self.inputs]
        missing = [name for name in expected if name not in feeds]
        extra = [name for name in feeds if name not in expected]
        if missing or extra:
            raise InputError(
                f"expected feeds for {expected}, got {list(feeds)}: "
                f"missing {missing or 'none'}, unknown {extra or 'none'}"
            )


_RUNTIME_ERRORS = (
    onnxruntime.capi.onnxruntime_pybind11_state.EPFail,
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)


def _register(library: str | os.PathLike[str], options: Any) -> None:
    try:
        options.register_custom_ops_library(os.fspath(library))
    except _RUNTIME_ERRORS as error:
        raise UnsupportedOpError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the library of kernels "
            f"{os.fspath(library)}: {error}"
        ) from error


def _load(model: ir.Model | str | os.PathLike[str], options: Any) -> Any:
    providers = ["CPUExecutionProvider"]
    if not isinstance(model, ir.Model):
        return onnxruntime.InferenceSession(os.fspath(model), options, providers=providers)
    weights = sum(
        v.const_value.nbytes
        for graph in model.graphs()
        for v in graph.initializers.values()
        if v.const_value is not None
    )
    if weights < _INLINE:
        data = ir.to_proto(model).SerializeToString()
        return onnxruntime.InferenceSession(data, options, providers=providers)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="addax-"))
        path = Path(folder) / "model.onnx"
        save(model, path)
        return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _ports(items: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(Port(item.name, item.type, tuple(item.shape)) for item in items)
