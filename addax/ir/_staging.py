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
    undo: list[tuple[str, str]] = []
    backups = [_beside(path) for path in paths[:-1]]  # nothing can fail after the last one
    try:
        for name, path, backup in zip(temporary, paths, [*backups, ""], strict=True):
            if not os.path.lexists(path):
                undo.append((path, name))
            elif backup:
                with contextlib.suppress(OSError):  # a file system without hard links
                    os.link(path, backup, follow_symlinks=False)
                    undo.append((backup, path))
            os.replace(name, path)
    except BaseException:
        for source, target in undo:
            if os.path.lexists(source):
                os.replace(source, target)
        raise
    finally:
        _remove(backups)


def _remove(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
