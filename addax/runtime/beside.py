"""Folders beside a saved model: written elsewhere as a whole, then moved file by file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from addax.errors import ModelFileError


def folder_beside(path: str | os.PathLike[str], target: str) -> Path:
    """Where the folder of the model at `path` is: `model.cuda` for `model.onnx`."""
    file = Path(path)
    return file.with_name(f"{file.stem}.{target}")


@contextmanager
def folder_filled(place: Path, target: str) -> Iterator[Path]:
    """An empty folder to write files to; at the end they replace those of their names in `place`.

    Raises:
        ModelFileError: If something cannot be written; `place` keeps the files that it had.
    """
    try:
        place.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".addax-", dir=place.parent) as text:
            folder = Path(text)
            yield folder
            for file in sorted(folder.iterdir()):
                file.replace(place / file.name)
    except OSError as error:
        raise ModelFileError(f"{place}: cannot write the kernels for {target}: {error}") from error
