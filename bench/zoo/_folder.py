"""Where the real models and data are, and what of them is there."""

import os
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """The data folder: `$ADDAX_DATA`, or `../shared/data` beside the repository's root."""
    chosen = os.environ.get("ADDAX_DATA")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[3] / "shared" / "data"


def needs(*names: str) -> Callable[[], str]:
    """A function that says which of these files of the data folder are missing; empty if none."""

    def missing() -> str:
        absent = [name for name in names if not (folder() / name).exists()]
        return f"{folder()} lacks {', '.join(absent)} (set ADDAX_DATA)" if absent else ""

    return missing
