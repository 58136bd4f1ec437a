"""What is made once and kept: files in the user's cache folder, under the digest of their origin.

A file is made in a folder of its own and that folder is renamed, so that two processes may make
the same thing at once and nobody ever sees half of it. Its digest lies beside it and is checked
each time: what was damaged is made anew.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

_DIGEST = "sha256"
_ATTEMPTS = 3


def cache_folder() -> Path:
    """Where files are kept: `$ADDAX_CACHE`, or the system's folder for caches of this user."""
    if chosen := os.environ.get("ADDAX_CACHE"):
        return Path(chosen)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        base = home / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "addax"


def key_of(parts: Iterable[bytes | str]) -> str:
    """The SHA-256 of a sequence of texts; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kept(key: str, name: str) -> Path | None:
    """The file `name` under `key` if it was made before and is whole."""
    path = cache_folder() / key[:32] / name
    return path if _is_whole(path) else None


def cached(key: str, name: str, make: Callable[[Path], None]) -> Path:
    """The file `name` under `key`, made now if it is not there or not whole.

    Args:
        key: The digest of everything that the file is made of (`key_of`).
        name: Its name.
        make: Writes the file to the path it is given.

    Raises:
        OSError: If the cache folder cannot be written.
    """
    folder = cache_folder() / key[:32]
    for _ in range(_ATTEMPTS):
        if _is_whole(folder / name):
            return folder / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        try:
            make(made / name)
            (made / _DIGEST).write_text(digest_of(made / name), "ascii")
            _replace(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    if _is_whole(folder / name):
        return folder / name
    raise PermissionError(f"expected to replace the damaged {folder}; remove that folder")


def _is_whole(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return digest_of(path) == (path.parent / _DIGEST).read_text("ascii")
    return False


def _replace(made: Path, folder: Path) -> None:
    """Rename a folder to where there may be a damaged one, or one that another process made."""
    with contextlib.suppress(OSError):
        made.rename(folder)
        return
    name = next(path.name for path in made.iterdir() if path.name != _DIGEST)
    if _is_whole(folder / name):
        return
    # Renamed before it is removed, so that nobody sees a folder that is half gone.
    aside = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent))
    with contextlib.suppress(OSError):
        folder.rename(aside / "old")
        made.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
