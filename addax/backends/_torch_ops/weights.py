"""torch tensors of ONNX tensors, without a copy where that can surprise nobody else."""

from collections.abc import Hashable, Sequence

import numpy as np
import onnx_ir as ir
import torch

from addax.backends._torch_ops.dtypes import NARROW, torch_dtype
from addax.errors import ModelFileError, UnsupportedOpError

_SAME_BITS = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}


def to_tensor(tensor: ir.TensorProtocol) -> torch.Tensor:
    """The torch tensor of an ONNX tensor.

    External data is mapped privately: pages are read when touched, and training changes neither the
    file nor the model. Everything else is copied once, for the model keeps its own.

    Raises:
        UnsupportedOpError: torch has no such element type.
        ModelFileError: external data is missing or too short.
    """
    dtype = torch_dtype(tensor.dtype)
    if dtype is None:
        raise UnsupportedOpError(
            f"tensor {tensor.name!r} has elements of type {tensor.dtype.name}, which torch has "
            "not; cast it to another type before the conversion"
        )
    if isinstance(tensor, ir.ExternalTensor) and _can_be_mapped(tensor, dtype):
        return _mapped(tensor, dtype)
    array = np.asarray(tensor.numpy())
    if tensor.dtype in NARROW:
        array = array.astype(np.int8 if dtype == torch.int8 else np.uint8)
    return _viewed(np.array(array, order="C"), dtype, tuple(array.shape))


def place(tensor: ir.TensorProtocol) -> Hashable:
    """What two tensors have in common that are one: their memory, or their place in a file."""
    layout = (tensor.dtype, tuple(tensor.shape))
    if isinstance(tensor, ir.ExternalTensor):
        return (str(tensor.path), tensor.offset, *layout)
    raw = getattr(tensor, "raw", None)
    if isinstance(raw, np.ndarray) and raw.size:
        return (raw.ctypes.data, raw.strides, *layout)
    return (id(tensor), *layout)


def _can_be_mapped(tensor: ir.ExternalTensor, dtype: torch.dtype) -> bool:
    aligned = (tensor.offset or 0) % dtype.itemsize == 0
    return aligned and tensor.dtype not in NARROW and tensor.size > 0


def _mapped(tensor: ir.ExternalTensor, dtype: torch.dtype) -> torch.Tensor:
    shape = [int(str(d)) for d in tensor.shape]
    try:
        raw = np.memmap(
            tensor.path,
            dtype=np.uint8,
            mode="c",
            offset=tensor.offset or 0,
            shape=(tensor.nbytes,),
        )
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"tensor {tensor.name!r} needs {tensor.nbytes} bytes at offset {tensor.offset or 0} of "
            f"{tensor.location!r}: {error}; put the complete data file beside the model"
        ) from error
    return torch.from_numpy(raw).view(dtype).reshape(shape)


def _viewed(array: np.ndarray, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    """A tensor on the memory of an array whose type NumPy itself may not know."""
    if dtype == torch.bool or dtype.is_complex:
        return torch.from_numpy(array)
    bits = array.reshape(-1).view(_SAME_BITS[array.dtype.itemsize])
    return torch.from_numpy(bits).view(dtype).reshape(shape)
