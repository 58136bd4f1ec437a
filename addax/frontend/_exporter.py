"""The one call of torch's exporter, without its chatter, its errors said shortly."""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from addax.errors import AddaxError, ExportError, OptionError
from addax.frontend._examples import Examples, first_line, place

logger = logging.getLogger(__name__)

_OPSETS = range(18, 26)  # what the exporter writes


def check_opset(opset: int) -> None:
    """Refuse operator sets that the exporter does not write.

    Raises:
        OptionError: If it does not.
    """
    if opset not in _OPSETS:
        raise OptionError(
            f"opset={opset!r} cannot be exported; expected {_OPSETS.start} to {_OPSETS.stop - 1}"
        )


def export(
    module: torch.nn.Module | torch.export.ExportedProgram,
    examples: Examples | None,
    dynamic_shapes: Any,
    opset: int,
) -> torch.onnx.ONNXProgram:
    """Run torch's exporter; `examples` is None for a program that has been traced already.

    Raises:
        ExportError: If the module cannot be traced, or an operator has no translation.
        OptionError: If `dynamic_shapes` does not fit.
    """
    args, kwargs = (examples.args, examples.kwargs) if examples else ((), {})
    if args and not kwargs:
        args = (*args, {})  # else a dict at the end would be taken for the keywords
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                args,
                kwargs=kwargs,
                dynamic_shapes=dynamic_shapes,
                opset_version=opset,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # the exporter passes on whatever the module raises
        raise _explain(error, module, dynamic_shapes) from error
    if program is None:
        raise ExportError("torch.onnx.export returned nothing: expected torch 2.7 or later")
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says at every export, and nothing else."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed")

    registration.addFilter(keep)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            warnings.filterwarnings(
                "ignore",
                r"# The axis name: (.+) will not be used, .* with another axis: \1\.",
                UserWarning,
            )
            yield
    finally:
        registration.removeFilter(keep)


def _explain(error: BaseException, module: Any, dynamic_shapes: Any) -> AddaxError:
    """What went wrong, from the innermost error that the exporter passes on."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text, name = first_line(cause), type(module).__name__
    if dynamic_shapes is not None and re.search(
        "dynamic_shapes|user-specified|[Cc]onstraints violated|dynamic shape", str(cause)
    ):
        lines = " ".join(str(cause).split("For more information")[0].split())
        return OptionError(f"dynamic_shapes={dynamic_shapes!r} does not fit {name}: {lines}")
    node = re.search(r"Error when translating node %(\w+)", _chain(error))
    where = f" (node {node[1]})" if node else ""
    if operator := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(cause)):
        return ExportError(
            f"{name} uses {operator[1]}, which has no translation to ONNX{where}: write it with "
            "other operators"
        )
    if isinstance(module, torch.nn.Module):
        where = where or place(cause, module)
    if "data-dependent" in str(cause):
        return ExportError(
            f"{name} decides by the values of a tensor{where}, so it is not one graph: use "
            f"torch.where or torch.cond instead of if and while ({text})"
        )
    return ExportError(f"{name} cannot be exported{where}: {type(cause).__name__}: {text}")


def _chain(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return "\n".join(texts)
