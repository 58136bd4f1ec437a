"""Results in a folder, by what the job is: a fit that was interrupted goes on where it was."""

import hashlib
import json
import os
import tempfile
import zipfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from addax.errors import ModelFileError
from addax.ir.numbers import BinaryCodes, Codebook, CodebookCodes, Multipliers
from addax.passes.fit._format import Format
from addax.passes.fit._job import Fitted, Job

_METHOD = "1"  # another number where the same job would give other codes than before


def digest(job: Job) -> str:
    """What the result of a job depends on, as text; its name is no part of it."""
    made = hashlib.blake2b(digest_size=16)
    made.update(repr((_METHOD, str(job.format), astuple(job.options))).encode())
    for array in (job.weights, job.hessian):
        if array is None:
            made.update(b"none")
            continue
        array = np.ascontiguousarray(array)
        made.update(repr((array.dtype.str, array.shape)).encode())
        made.update(array.data)
    return made.hexdigest()


class Cache:
    """Fitted layers in a folder, a file each, written in one step.

    Raises:
        ModelFileError: The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelFileError(
                f"expected a folder for fitted layers that can be made, got {self.folder}: {error}"
            ) from error

    def load(self, job: Job) -> Fitted | None:
        """The result of this job, if it is there and whole."""
        try:
            with np.load(self._path(job), allow_pickle=False) as stored:
                return _restored(job, dict(stored))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # missing, or cut short by what stopped the last run: fitted again

    def save(self, job: Job, fitted: Fitted) -> None:
        """Keep a result; another process that writes the same file writes the same."""
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **_stored(fitted))
            Path(name).replace(self._path(job))
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise ModelFileError(
                f"layer {job.name!r} could not be kept in {self.folder}: {error}; free some space, "
                "or fit without a folder"
            ) from error

    def _path(self, job: Job) -> Path:
        return self.folder / f"{digest(job)}.npz"


def _stored(fitted: Fitted) -> dict[str, Any]:
    codes = fitted.codes
    arrays: dict[str, Any] = {}
    facts: dict[str, Any] = {
        name: getattr(fitted, name)
        for name in ("weight_error", "output_error", "bytes", "seconds", "notes")
    }
    if fitted.dense is not None:
        arrays["dense"] = fitted.dense
    if codes is not None:
        facts["group"] = codes.group
        if codes.multipliers is not None:
            arrays |= {"row": codes.multipliers.scale, "integers": codes.multipliers.integers}
    if isinstance(codes, BinaryCodes):
        facts["columns"] = codes.signs.shape[1:]
        arrays |= {"signs": np.packbits(codes.signs, axis=None), "scale": codes.alpha}
    elif codes is not None:
        facts |= {"book": codes.book.name, "table": codes.book.table}
        arrays |= {"codes": codes.codes, "scale": codes.scale}
    return arrays | {"facts": np.array(json.dumps(facts))}


def _restored(job: Job, stored: dict[str, Any]) -> Fitted:
    facts = json.loads(str(stored["facts"]))
    multipliers = None
    if "row" in stored:
        multipliers = Multipliers(stored["row"], stored["integers"])
    codes: BinaryCodes | CodebookCodes | None = None
    if "signs" in stored:
        shape = (len(job.weights), *facts["columns"])
        signs = np.unpackbits(stored["signs"], count=int(np.prod(shape))).astype(bool)
        codes = BinaryCodes(signs.reshape(shape), stored["scale"], facts["group"], multipliers)
    elif "codes" in stored:
        book = Codebook(facts["book"], tuple(facts["table"]))
        codes = CodebookCodes(book, stored["codes"], stored["scale"], facts["group"], multipliers)
    kept: Format = job.format
    return Fitted(
        job.name,
        kept,
        codes,
        facts["weight_error"],
        facts["output_error"],
        facts["bytes"],
        facts["seconds"],
        tuple(facts["notes"]),
        stored.get("dense"),
    )
