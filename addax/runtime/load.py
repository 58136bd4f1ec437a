"""Models that `Optimized.save` wrote, and the library of kernels that it wrote beside them.

The model says the digest of its library. A library that is missing, damaged, or made for another
model is not loaded; the model runs without it, through the bodies of its ops.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # no stubs

from addax.backends.cache import digest_of
from addax.backends.to_ort import LIBRARY_KEY
from addax.errors import ModelFileError, OptionError
from addax.runtime.build import SUFFIX
from addax.runtime.kernels import Kernels
from addax.runtime.session import Session

if TYPE_CHECKING:
    from addax.runtime.tvm_session import TvmSession

logger = logging.getLogger(__name__)

_LIBRARIES = (".so", ".dylib", ".dll")
_METADATA = 14  # the field of ModelProto
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # how protobuf writes a field


def load(
    path: str | os.PathLike[str],
    *,
    library: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> "Session | TvmSession":
    """A saved model in ONNX Runtime, with the library of kernels that was saved beside it.

        session = addax.load("model.onnx")
        outputs = session.run({"images": images})

    In a program of your own, ask ONNX Runtime for the same thing (the file ends in `.dylib` on
    macOS, in `.dll` on Windows); without the library the model runs too, only slower:

        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library("model.addax.so")
        session = onnxruntime.InferenceSession("model.onnx", options)

    A model that was saved for the target "tvm" as `model.so` is loaded in TVM's runtime.

    Args:
        path: The ONNX file, or the library by TVM: `.so`, `.dylib` or `.dll`.
        library: A library to use in place of the one beside the model.
        threads: Threads for one operator; the runtime's default if None.

    Raises:
        ModelFileError: If there is no such file, or it is no library of ours.
        UnsupportedOpError: If the runtime cannot load the model or the `library` given.
        OptionError: If `library` or `threads` are given for a library by TVM.
        MissingPackageError: If a library by TVM is to be loaded and TVM is missing.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(f"there is no file {file}; pass the path of an ONNX model")
    if file.suffix in _LIBRARIES:
        if library is not None or threads is not None:
            raise OptionError(
                f"{file.name} is a library by TVM, which takes neither library nor threads, got "
                f"library={library!r} and threads={threads!r}; set TVM_NUM_THREADS for the threads"
            )
        from addax.runtime.tvm_session import TvmSession

        return TvmSession.load(file)
    if library is None:
        library = _intact_library(file)
    return Session(file, threads=threads, library=library)


def library_beside(path: str | os.PathLike[str]) -> Path:
    """Where the library of the model at `path` is: `model.addax.so` for `model.onnx`."""
    file = Path(path)
    return file.with_name(f"{file.stem}.addax{SUFFIX}")


def name_library(model: ir.Model, kernels: Kernels) -> None:
    """Write the digest of the library that a model shall run with among the model's metadata."""
    model.metadata_props[LIBRARY_KEY] = digest_of(kernels.path)


def save_library(kernels: Kernels, path: str | os.PathLike[str]) -> None:
    """Copy the library to where `load` looks for it; it is there whole or not at all.

    Raises:
        ModelFileError: If it cannot be written.
    """
    place = library_beside(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".addax-", dir=place.parent) as folder:
            made = Path(folder) / place.name
            shutil.copyfile(kernels.path, made)
            made.replace(place)
    except OSError as error:
        raise ModelFileError(f"{place}: cannot write the library of kernels: {error}") from error


def _intact_library(file: Path) -> Path | None:
    digest = _metadata(file).get(LIBRARY_KEY)
    if digest is None:
        return None
    place = library_beside(file)
    if not place.is_file():
        reason = f"{place.name} is not beside it"
    elif digest_of(place) != digest:
        reason = f"{place.name} is damaged, or was saved with another model"
    else:
        return place
    logger.warning("%s runs without its library of kernels, slowly: %s", file.name, reason)
    return None


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a model, read without the gigabytes that its weights may have.

    Nothing of what is malformed: the runtime says what is wrong with the file.
    """
    entries = {}
    with path.open("rb") as file, contextlib.suppress(DecodeError):
        for field, size in _fields(file):
            if field == _METADATA:
                entry = onnx.StringStringEntryProto.FromString(file.read(size))
                entries[entry.key] = entry.value
            else:
                file.seek(size, os.SEEK_CUR)
    return entries


def _fields(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Number and size of each field of a message; who asks moves past the field."""
    while (tag := _varint(file)) is not None:
        kind = tag & 7
        if kind == _DELIMITED:
            yield tag >> 3, _varint(file) or 0
        elif kind == _VARINT:
            _varint(file)
        elif kind in (_FIXED32, _FIXED64):
            file.seek(4 if kind == _FIXED32 else 8, os.SEEK_CUR)
        else:
            return


def _varint(file: BinaryIO) -> int | None:
    """An unsigned integer of seven bits a byte, lowest first; None at the end of the file."""
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
    return None
