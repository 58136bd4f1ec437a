"""ONNX Runtime's own weight quantizers, on torch's export of the network."""

import contextlib
import copy
import functools
import io
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import (
    GPTQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from bench import zoo
from bench.models import exported
from bench.weight_only._network import Network

BITS = (2, 4, 8)
BLOCK, SMALL_BLOCK = 128, 32
PACKED = ("MatMulNBits",)


class _Reader(CalibrationDataReader):
    """Calibration data by the names of the inputs."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds
        self.rest = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.feeds)

    def __deepcopy__(self, memo: object) -> "_Reader":
        # The quantizer copies its reader, and an iterator cannot be copied.
        return _Reader(self.feeds)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and the log of the quantizers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _others(proto: onnx.ModelProto, network: Network) -> list[str]:
    """The products with constants that are none of the network's layers."""
    shapes = {(part.in_features, part.out_features) for part in network.layers.values()}
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    return [node.name for node in products if sizes.get(node.input[1]) not in shapes]


@functools.cache
def _exported(network: Network) -> onnx.ModelProto:
    """Torch's export of a network, made once."""
    with quiet():
        proto: onnx.ModelProto = ir.to_proto(exported(network.task.entry, network.model))
    return proto


def quantized(network: Network, bits: int, *, gptq: bool = False) -> onnx.ModelProto:
    """The network with its layers as MatMulNBits; GPTQ has 4 bits alone."""
    proto = _exported(network)
    names = [value.name for value in proto.graph.input]
    feeds = [dict(zip(names, arrays, strict=True)) for arrays in network.calibration]
    config: Any = None
    # Its GPTQ fails where a row has an odd number of blocks.
    fails = any(part.in_features % (2 * BLOCK) for part in network.layers.values())
    block = SMALL_BLOCK if gptq and fails else BLOCK
    if gptq:
        config = GPTQWeightOnlyQuantConfig(_Reader(feeds), actorder=True, mse=True)
    with quiet():
        maker = MatMulNBitsQuantizer(
            copy.deepcopy(proto),
            bits=bits,
            block_size=block,
            nodes_to_exclude=_others(proto, network),
            algo_config=config,
        )
        maker.process()
    made: onnx.ModelProto = maker.model.model
    return made


def packed_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of the quantized layers' codes, scales and zero points."""
    sizes = {tensor.name: len(tensor.SerializeToString()) for tensor in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type in PACKED]
    return sum(sizes[name] for node in nodes for name in node.input[1:] if name in sizes)


def predict(proto: onnx.ModelProto) -> zoo.Predict:
    """A model as a function of arrays, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_inputs()]

    def run(*inputs: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])

    return run
