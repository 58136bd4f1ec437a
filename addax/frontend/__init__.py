"""The outside world to our graph: modules of torch, ONNX in every form."""

import os
import sys
from typing import Any

import onnx
import onnx_ir as ir

from addax.errors import OptionError

__all__ = ["STRUCTURE", "to_ir"]

STRUCTURE = "addax.structure"  # what a model's `meta` keeps of a module's form; not in files


def to_ir(
    model: Any, example_inputs: Any = None, *, kwargs: Any = None, dynamic_shapes: Any = None
) -> ir.Model:
    """Any model that addax accepts as a graph of our own; `model` is never changed.

    Args:
        model: An `nn.Module`, `fx.GraphModule`, `ExportedProgram`, a path to an ONNX file, its
            bytes, a `ModelProto` or an `onnx_ir.Model`.
        example_inputs: For a module of torch; see `addax.frontend.from_torch`.
        kwargs: Further example inputs, by name.
        dynamic_shapes: Which dimensions may vary; see `addax.frontend.from_torch`.

    Raises:
        OptionError: If `model` is none of these, or ONNX comes with options for torch.
        ModelFileError, InvalidGraphError, UnsupportedOpError: As `from_onnx`.
        ExportError, InputError: As `from_torch`.
    """
    torch = sys.modules.get("torch")  # whoever holds a module has loaded torch
    if torch is not None and isinstance(model, torch.fx.GraphModule):
        from addax.frontend.from_fx import from_fx

        return from_fx(model, example_inputs, kwargs=kwargs, dynamic_shapes=dynamic_shapes)
    if torch is not None and isinstance(model, torch.nn.Module | torch.export.ExportedProgram):
        from addax.frontend.from_torch import from_torch

        return from_torch(model, example_inputs, kwargs=kwargs, dynamic_shapes=dynamic_shapes)
    if not isinstance(
        model, str | os.PathLike | bytes | bytearray | memoryview | onnx.ModelProto | ir.Model
    ):
        raise OptionError(
            f"cannot read a model from {type(model).__module__}.{type(model).__qualname__}; "
            "expected an nn.Module, an fx.GraphModule, an ExportedProgram, the path or bytes of "
            "an ONNX file, an onnx.ModelProto or an onnx_ir.Model"
        )
    if dynamic_shapes is not None or kwargs:
        raise OptionError(
            "dynamic_shapes and kwargs are for modules of torch; an ONNX model already says "
            "which of its dimensions vary"
        )
    from addax.frontend.from_onnx import from_onnx

    return from_onnx(model)
