"""Weights that stay in their files: checked when the model is read, mapped once for each file.

A mapped tensor reads the file that was there when it was opened, also after the file has been
replaced, so a model may be saved over the files that it was loaded from.
"""

import mmap
import os
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import ModelFileError

_CHUNK = 8 << 20  # bytes of a file in memory at a time while its tensors are copied


class DataFile:
    """One external-data file, open and mapped; shared by every tensor that lies in it."""

    __slots__ = ("_map", "data", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        self.data = memoryview(b"")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size:  # an empty file cannot be mapped
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self.data = memoryview(self._map)

    def chunks(self, start: int, length: int) -> Iterator[memoryview]:
        """The bytes of a range in pieces; pages are let go again once a piece has been used."""
        end = start + length
        while start < end:
            # Pieces end on page boundaries, so that each page is let go exactly once.
            stop = min(end, (start + _CHUNK) // mmap.PAGESIZE * mmap.PAGESIZE)
            yield self.data[start:stop]
            if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
                first = start // mmap.PAGESIZE * mmap.PAGESIZE
                self._map.madvise(mmap.MADV_DONTNEED, first, stop - first)
            start = stop


class MappedTensor(ir.ExternalTensor):
    """A tensor in a range of a mapped file; its array is a read-only view of the file."""

    __slots__ = ("_decoded", "file")

    def __init__(self, declared: ir.ExternalTensor, file: DataFile) -> None:
        super().__init__(
            declared.location,
            declared.offset,
            declared.length,
            declared.dtype,
            shape=declared.shape,
            name=declared.name,
            doc_string=declared.doc_string,
            metadata_props=dict(declared.metadata_props),
            base_dir=declared.base_dir,
        )
        self.file = file
        self._decoded: np.ndarray | None = None

    @property
    def start(self) -> int:
        """The first byte of the tensor in its file."""
        return self.offset or 0

    def chunks(self) -> Iterator[memoryview]:
        """The tensor's bytes in pieces of a few megabytes that do not stay in memory."""
        return self.file.chunks(self.start, self.nbytes)

    def numpy(self) -> np.ndarray:
        """The array: a view of the file, or unpacked where elements are less than a byte."""
        if self._decoded is None:
            data = self.file.data[self.start : self.start + self.nbytes]
            raw = np.frombuffer(data, np.uint8)
            if self.dtype.bitwidth < 8:
                packed = ir.PackedTensor(raw, self.dtype, shape=self.shape)
                self._decoded = packed.numpy()
            else:
                element = self.dtype.numpy().newbyteorder("<")
                self._decoded = raw.view(element).reshape(self.shape.numpy())
        return self._decoded

    def __array__(self, dtype: Any = None) -> np.ndarray:
        return self.numpy().__array__(dtype)

    def tobytes(self) -> bytes:
        """A copy of the tensor's bytes."""
        return bytes(self.file.data[self.start : self.start + self.nbytes])

    def tofile(self, file: Any) -> None:
        """Append the tensor's bytes to an open binary file, a few megabytes at a time."""
        for chunk in self.chunks():
            file.write(chunk)


class Folder:
    """Opens the external tensors of one model, and refuses what its folder does not hold."""

    def __init__(self, path: str, *real_paths: str) -> None:
        """`real_paths` are further folders that links may lead to."""
        self._path = path
        self._allowed = (os.path.realpath(path), *real_paths)
        self._files: dict[str, DataFile] = {}

    def open(self, tensor: ir.ExternalTensor) -> MappedTensor:
        """The tensor, mapped, once its file has been found to hold it.

        Raises:
            ModelFileError: If the file lies outside the folder, is missing or too short, or if
                the length does not fit the tensor's shape.
        """
        location = os.fspath(tensor.location)
        file = self._files.get(location)
        if file is None:
            file = self._files[location] = self._open_file(location, tensor)
        _check_range(tensor, file)
        return MappedTensor(tensor, file)

    def _open_file(self, location: str, tensor: ir.ExternalTensor) -> DataFile:
        where = f"tensor {tensor.name!r} keeps its data in {location!r}"
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or os.path.isabs(location) or ".." in parts:
            raise ModelFileError(
                f"{where}; expected a path inside the model's folder, neither absolute nor with "
                "'..': save the model again with its data beside it"
            )
        path = os.path.join(self._path, location)
        real = os.path.realpath(path)
        if not any(_is_inside(real, folder) for folder in self._allowed):
            raise ModelFileError(
                f"{where}, a link out of the model's folder (to {real}): replace the link by the "
                "file itself"
            )
        return _open(real, where)


class Folders:
    """Opens the external tensors of a model that was built in memory.

    Each lies in the folder that it names; one that names none is the builder's own affair.
    """

    def __init__(self) -> None:
        self._folders: dict[str, Folder] = {}
        self._files: dict[str, DataFile] = {}

    def open(self, tensor: ir.ExternalTensor) -> MappedTensor:
        """The tensor, mapped.

        Raises:
            ModelFileError: As `Folder.open`.
        """
        base = os.fspath(tensor.base_dir)
        if base:
            return self._folders.setdefault(base, Folder(base)).open(tensor)
        path = os.fspath(tensor.location)
        if path not in self._files:
            self._files[path] = _open(path, f"tensor {tensor.name!r} keeps its data in {path!r}")
        _check_range(tensor, self._files[path])
        return MappedTensor(tensor, self._files[path])


def _open(path: str, where: str) -> DataFile:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelFileError(f"{where}, which is not a file: {path}")
        return DataFile(path)
    except FileNotFoundError:
        raise ModelFileError(f"{where}, and {path} does not exist: put the file there") from None
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"{where}, and {path} cannot be read: {error}") from error


def _is_inside(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath((path, folder)) == folder
    except ValueError:  # another drive
        return False


def _check_range(tensor: ir.ExternalTensor, file: DataFile) -> None:
    """Refuse a tensor whose declared bytes are not in its file, or not as many as it needs."""
    name = f"tensor {tensor.name!r}"
    dims = list(tensor.shape.numpy())
    if tensor.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        raise ModelFileError(f"{name} of type {tensor.dtype} cannot lie in an external file")
    if min(dims, default=0) < 0:
        raise ModelFileError(f"{name} has a negative dimension: {dims}")
    start = tensor.offset or 0
    needed = tensor.nbytes
    declared = needed if tensor.length is None else tensor.length
    if declared != needed:
        raise ModelFileError(
            f"{name} of type {tensor.dtype} and shape {dims} needs "
            f"{needed} bytes, but its length in {file.path} is given as {declared}: "
            "the model and the file do not belong together"
        )
    if start + needed > len(file.data):
        raise ModelFileError(
            f"{name} needs bytes {start} to {start + needed} of {file.path}, which has only "
            f"{len(file.data)}: the file is truncated or belongs to another model"
        )


def chunks(tensor: ir.TensorProtocol) -> Iterator[memoryview]:
    """The bytes of any tensor but strings, as ONNX stores them, piece by piece.

    A mapped file stays out of memory but for the piece in use; an array is not copied.
    """
    if isinstance(tensor, MappedTensor):
        yield from tensor.chunks()
        return
    if isinstance(tensor, ir.Tensor) and isinstance(tensor.raw, np.ndarray):
        array = tensor.raw
        little = array.dtype.newbyteorder("<") == array.dtype
        if little and tensor.dtype.bitwidth == 8 * array.itemsize:
            yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            return
    yield memoryview(tensor.tobytes())
