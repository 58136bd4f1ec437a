"""ONNX Runtime's own quantizers, on a model in memory."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

LINEAR = ("MatMul", "Gemm")
Predict = Callable[[np.ndarray], np.ndarray]
Batch = np.ndarray | tuple[np.ndarray, ...]


class _Reader(CalibrationDataReader):
    def __init__(self, names: Sequence[str], batches: Sequence[Batch]) -> None:
        inputs = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
        self._feeds = iter([dict(zip(names, arrays, strict=True)) for arrays in inputs])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def static(
    proto: onnx.ModelProto,
    batches: Sequence[Batch],
    *,
    linear_only: bool = True,
    weights: QuantType = QuantType.QInt8,
    activations: QuantType = QuantType.QUInt8,
    **options: object,
) -> onnx.ModelProto:
    """Ranges of activations from calibration data, in QDQ form.

    Args:
        proto: In float32.
        batches: To calibrate on; a tuple where there are several inputs.
        linear_only: Products alone, with outputs in float: its fastest form on a CPU; or all.
        weights: Their type.
        activations: Their type.
        options: More of its `extra_options`.
    """
    extra: dict[str, object] = {"OpTypesToExcludeOutputQuantization": list(LINEAR), **options}
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "float.onnx"), Path(folder, "made.onnx")
        _prepare(proto, source)
        quantize_static(
            source,
            made,
            _Reader([port.name for port in proto.graph.input], batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LINEAR) if linear_only else None,
            per_channel=True,
            weight_type=weights,
            activation_type=activations,
            extra_options=extra if linear_only else options,
        )
        return onnx.load(made)


def dynamic(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Ranges of activations at run time; products by constant weights alone."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "float.onnx"), Path(folder, "made.onnx")
        _prepare(proto, source)
        quantize_dynamic(
            source,
            made,
            op_types_to_quantize=list(LINEAR),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(made)


def _prepare(proto: onnx.ModelProto, path: Path) -> None:
    onnx.save(proto, path.with_suffix(".plain.onnx"))
    quant_pre_process(path.with_suffix(".plain.onnx"), path, skip_symbolic_shape=True)


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """On one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def predict(proto: onnx.ModelProto, images: np.ndarray, size: int = 64) -> np.ndarray:
    """The first output on all images, in batches."""
    runner = session(proto)
    name = proto.graph.input[0].name
    parts = [images[i : i + size] for i in range(0, len(images), size)]
    return np.concatenate([runner.run(None, {name: part})[0] for part in parts])
