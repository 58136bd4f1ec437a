"""Sessions of many distinct linear layers, so that each meets its weights in main memory.

Every contender gets at least `COLD` bytes of weights, one input, and an output for each layer; the
layers of one session run one after the other on one thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from addax.ir.dialect import DOMAIN, VERSION
from addax.runtime.kernels import Kernels

COLD = 96 << 20
_BLOCK = 128  # columns that share a scale, ours and theirs
_MOST_LAYERS = 4000
_VERSIONS = {"": 21, "com.microsoft": 1, DOMAIN: VERSION}


@dataclass(frozen=True)
class Size:
    """A linear layer: `rows` tokens of `inner` activations times [inner, outputs] weights."""

    rows: int
    outputs: int
    inner: int

    def __str__(self) -> str:
        return f"{self.outputs}x{self.inner}"


@dataclass(frozen=True)
class Layers:
    """A loaded contender: one call runs all `count` layers of `size_in_bytes` weights each."""

    call: Callable[[], None]
    count: int
    bytes_each: int


Maker = Callable[[np.random.Generator, Size], tuple[str, str, list[np.ndarray], dict[str, object]]]


def fp32(rng: np.random.Generator, size: Size):
    """MatMul of float32."""
    return "MatMul", "", [rng.standard_normal((size.inner, size.outputs), dtype=np.float32)], {}


def dynamic_int8(rng: np.random.Generator, size: Size):
    """DynamicQuantizeMatMul: int8 weights, activations rounded once for the whole tensor."""
    weights = rng.integers(-127, 128, (size.inner, size.outputs), dtype=np.int8)
    scale = np.full(size.outputs, 1e-2, np.float32)
    return "DynamicQuantizeMatMul", "com.microsoft", [weights, scale], {}


def n_bits(bits: int) -> Maker:
    """MatMulNBits at its best: blocks of 128, int8 activations (accuracy_level 4)."""

    def make(rng: np.random.Generator, size: Size):
        blocks = size.inner // _BLOCK
        codes = _bytes(rng, (size.outputs, blocks, _BLOCK * bits // 8))
        scale = np.full(size.outputs * blocks, 1e-2, np.float32)
        attributes = {
            "K": size.inner,
            "N": size.outputs,
            "bits": bits,
            "block_size": _BLOCK,
            "accuracy_level": 4,
        }
        return "MatMulNBits", "com.microsoft", [codes, scale], attributes

    return make


def codebook(bits: int) -> Maker:
    """CodebookMatMul with any table, groups of 128."""

    def make(rng: np.random.Generator, size: Size):
        tiles, groups = -(-size.outputs // 64), size.inner // _BLOCK
        codes = _bytes(rng, (tiles, groups, _BLOCK * bits // 32, 64, 4))
        table = np.sort(rng.integers(-127, 128, 1 << bits)).astype(np.int8)
        multipliers = _bytes(rng, (tiles, groups, 64))
        tensors = [codes, table, multipliers, _scale(size)]
        return "CodebookMatMul", DOMAIN, tensors, {"bits": bits, "group": _BLOCK}

    return make


def binary(planes: int) -> Maker:
    """BinaryMatMul of so many planes, groups of 128."""

    def make(rng: np.random.Generator, size: Size):
        tiles, groups = -(-size.outputs // 64), size.inner // _BLOCK
        codes = _bytes(rng, (tiles, groups, planes, 4, _BLOCK // 32, 16, 4))
        multipliers = _bytes(rng, (tiles, groups, planes, 64)) % (127 // planes + 1)
        tensors = [codes, multipliers.astype(np.uint8), _scale(size)]
        return "BinaryMatMul", DOMAIN, tensors, {"group": _BLOCK}

    return make


def int8(rng: np.random.Generator, size: Size):
    """Int8MatMul: int8 weights, activations rounded for each token."""
    weights = _bytes(rng, (-(-size.outputs // 64), size.inner // 4, 64, 4)).view(np.int8)
    return "Int8MatMul", DOMAIN, [weights, _scale(size)], {}


def load(make: Maker, size: Size, kernels: Kernels, *, seed: int, cold: int = COLD) -> Layers:
    """Layers of one contender in ONNX Runtime, one thread, outputs bound beforehand."""
    rng = np.random.default_rng(seed)
    op, domain, tensors, attributes = make(rng, size)
    each = sum(tensor.nbytes for tensor in tensors)
    count = max(1, min(-(-cold // each), _MOST_LAYERS))
    nodes, weights = [], []
    for layer in range(count):
        names = [f"w{layer}_{i}" for i in range(len(tensors))]
        weights += [
            numpy_helper.from_array(tensor, name)
            for tensor, name in zip(tensors, names, strict=True)
        ]
        made = helper.make_node(op, ["x", *names], [f"y{layer}"], domain=domain, **attributes)
        nodes.append(made)
        tensors = [_other(rng, tensor) for tensor in tensors]
    model = _model(nodes, weights, size, count)
    return Layers(_bound(model, size, count, kernels, seed), count, each)


def _model(
    nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto], size: Size, count: int
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [size.rows, size.inner])
    outputs = [
        helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [size.rows, size.outputs])
        for i in range(count)
    ]
    graph = helper.make_graph(nodes, "layers", [x], outputs, weights)
    opsets = [helper.make_opsetid(*item) for item in _VERSIONS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _bound(
    model: onnx.ModelProto, size: Size, count: int, kernels: Kernels, seed: int
) -> Callable[[], None]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.register_custom_ops_library(str(kernels.path))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(seed + 1).standard_normal((size.rows, size.inner), dtype=np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    for layer in range(count):
        binding.bind_output(f"y{layer}")
    return lambda: session.run_with_iobinding(binding)


def _bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _scale(size: Size) -> np.ndarray:
    return np.full(size.outputs, 1e-3, np.float32)


def _other(rng: np.random.Generator, tensor: np.ndarray) -> np.ndarray:
    """The same weights elsewhere in memory, rolled: as good as new ones, and quickly made."""
    return np.roll(tensor, int(rng.integers(1, 64)))
