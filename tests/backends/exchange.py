"""Values between ONNX's tests, NumPy and torch."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import torch

from addax.backends._torch_ops.weights import to_tensor


def parsed(text: str) -> ir.Model:
    """The model of an ONNX text; `<ir_version..., opset_import...>` may be left out."""
    if not text.lstrip().startswith("<"):
        text = f'<ir_version: 10, opset_import: ["": 20]>\n{text}'
    return ir.from_proto(onnx.parser.parse_model(text))


def as_torch(value: Any) -> Any:
    """A fed value as torch has it; sequences are lists, absent values None."""
    if value is None or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, list):
        return [as_torch(item) for item in value]
    if isinstance(value, onnx.TensorProto):
        return to_tensor(ir.from_proto(value))
    return to_tensor(ir.tensor(np.asarray(value)))


def as_numpy(value: Any) -> Any:
    """A torch value as NumPy has it, in the types of ml_dtypes where NumPy lacks one."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [as_numpy(item) for item in value]
    value = value.detach()
    name = str(value.dtype).removeprefix("torch.")
    if hasattr(ml_dtypes, name):
        bits = value.view(torch.uint8 if value.dtype.itemsize == 1 else torch.int16)
        return bits.numpy().view(getattr(ml_dtypes, name))
    return value.numpy()


def assert_same(expected: Any, got: Any, rtol: float, atol: float) -> None:
    """Equal structure, shape and type; numbers within what is allowed, or two steps of the type."""
    if isinstance(expected, list) or expected is None:
        assert isinstance(got, type(expected))
        for one, other in zip(expected or [], got or [], strict=True):
            assert_same(one, other, rtol, atol)
        return
    if isinstance(expected, onnx.TensorProto):
        expected = ir.from_proto(expected).numpy()
    expected = np.asarray(expected)
    assert expected.shape == got.shape
    narrow = expected.dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)
    assert narrow or expected.dtype == got.dtype
    if expected.dtype.kind not in "biu" and expected.dtype.itemsize >= 2 and expected.size:
        step = float(ml_dtypes.finfo(expected.dtype).eps)
        finite = np.abs(expected.astype(np.complex128))
        rtol = max(rtol, 2 * step)
        atol = max(atol, 4 * step * finite[np.isfinite(finite)].max(initial=0.0))
    work = np.complex128 if expected.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):  # NaN in a type of one byte
        got, expected = got.astype(work), expected.astype(work)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
