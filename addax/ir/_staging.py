"""Files that appear whole or not at all: written under another name, then renamed."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO

from addax.errors import ModelFileError


@contextlib.contextmanager
def staged(*paths: str) -> Iterator[tuple[BinaryIO, ...]]:
    """Open files in the folders of `paths`; they take those names if the block succeeds.

    If it fails, or is interrupted, nothing new stays and what was there is there again.

    Raises:
        ModelFileError: If a file cannot be made, written or renamed.
    """
    for path in paths:
        _check_target(path)
    temporary = [_beside(path) for path in paths]
    try:
        with contextlib.ExitStack() as opened:
            files = tuple(opened.enter_context(open(name, "xb")) for name in temporary)
            yield files
        for name, path in zip(temporary, paths, strict=True):
            with contextlib.suppress(FileNotFoundError):
                os.chmod(name, os.stat(path).st_mode & 0o777)
        _rename_all(temporary, paths)
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(
            f"cannot write {paths[-1]}: {error.strerror or error}; nothing was changed"
        ) from error
    finally:
        _remove(temporary)


def _check_target(path: str) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ModelFileError(f"cannot write {path}: there is no folder {folder}; create it first")
    if os.path.isdir(path):
        raise ModelFileError(f"cannot write {path}: it is a folder; give the name of a file in it")


def _beside(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".addax-{secrets.token_hex(8)}.tmp")


def _rename_all(temporary: list[str], paths: tuple[str, ...]) -> None:
    """Rename every file, or put back what the first renames have replaced."""
    kept: list[tuple[str, str | None]] = []
    try:
        for name, path in zip(temporary, paths, strict=True):
            if path != paths[-1]:  # nothing can fail after the last one
                kept.append((path, _keep(path)))
            os.replace(name, path)
    except BaseException:
        for path, backup in kept:
            if backup is not None:
                os.replace(backup, path)
            elif not os.path.lexists(temporary[paths.index(path)]):
                os.unlink(path)
        raise
    finally:
        _remove([backup for _, backup in kept if backup is not None])


def _keep(path: str) -> str | None:
    """Another name for the file at `path`; None if there is no file to keep."""
    if not os.path.lexists(path):
        return None
    backup = _beside(path)
    os.link(path, backup, follow_symlinks=False)
    return backup


def _remove(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
