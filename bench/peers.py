"""The optimizers that people use today, each from bytes of an ONNX file to bytes of another."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import onnxscript.optimizer
import onnxsim
import onnxslim

from addax.passes._pipeline import run_pipeline


def _addax(data: bytes) -> bytes:
    model = ir.from_proto(onnx.load_from_string(data))
    run_pipeline(model)
    return ir.to_proto(model).SerializeToString()


def _onnxslim(data: bytes) -> bytes:
    return onnxslim.slim(onnx.load_from_string(data), model_check=False).SerializeToString()


def _onnxsim(data: bytes) -> bytes:
    return onnxsim.simplify(onnx.load_from_string(data), check_n=0)[0].SerializeToString()


def _onnxscript(data: bytes) -> bytes:
    made = onnxscript.optimizer.optimize(ir.from_proto(onnx.load_from_string(data)))
    return ir.to_proto(made).SerializeToString()


def _onnxruntime(data: bytes) -> bytes:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "out.onnx")
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


TOOLS: dict[str, Callable[[bytes], bytes]] = {
    "addax": _addax,
    "onnxslim": _onnxslim,
    "onnxsim": _onnxsim,
    "onnxscript": _onnxscript,
    "onnxruntime": _onnxruntime,
}
