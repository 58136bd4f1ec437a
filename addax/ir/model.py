"""Whole models: every graph and function in them, copies, and files."""

import os

import onnx_ir as ir

from addax.ir import collector
from addax.ir._copying import Copier
from addax.ir._pruning import prune
from addax.ir._saving import write_model
from addax.ir._scopes import roots, scopes

__all__ = ["clone", "prune", "roots", "save", "scopes"]


def clone(model: ir.Model) -> ir.Model:
    """A copy that shares nothing with `model` but the data of its weights.

    Tensors are new objects over the same memory or the same mapped file. Sorted or not,
    captured or not, the structure is the original's; metadata and notes of analyses come along.
    """
    with collector.paused():
        return Copier().model(model)


def save(
    model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None
) -> None:
    """Write a model to an ONNX file, which is there whole or not at all.

    The weights go from where they are to the file in pieces, so mapped ones need no memory.
    The bytes depend on nothing but the model. Saving over the file that the weights are mapped
    from is safe: they keep reading what was there.

    Args:
        model: Stays as it is.
        path: Where; both files are written under another name in its folder and renamed.
        external_data: Weights in a second file, named like the first with `.data` appended;
            None does so for more than 1.5 GB of weights, since one file can hold 2 GiB.

    Raises:
        ModelFileError: If a file cannot be written, or the weights do not fit into one file.
    """
    with collector.paused():
        write_model(model, os.fspath(path), external_data)
