"""Checks that feeds fit the inputs of a graph, before anything is computed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import InputError
from addax.ir._judge.arrays import REAL, as_text, described, promoted


def checked(
    inputs: Sequence[ir.Value],
    defaults: Collection[ir.Value],
    feeds: Mapping[str, Any],
    precision: np.dtype[Any] | None,
) -> dict[ir.Value, Any]:
    """The fed values by input, promoted; inputs in `defaults` may be left out.

    Raises:
        InputError: a feed is missing or unknown, or its type, rank or a dimension does not fit:
            a static one, or a symbolic one that has another size elsewhere in the feeds.
    """
    _check_names(inputs, defaults, feeds)
    sizes: dict[str, tuple[int, str]] = {}
    values = {}
    for value in inputs:
        name = str(value.name)
        if name not in feeds:
            continue
        fed = feeds[name]
        if isinstance(value.type, ir.TensorType):
            fed = _tensor(value, fed, precision)
            _check_shape(value, fed, sizes)
        elif isinstance(fed, np.ndarray):
            fed = promoted(fed, precision)
        elif isinstance(fed, list):
            fed = [promoted(item, precision) for item in fed]
        values[value] = fed
    return values


def _check_names(
    inputs: Sequence[ir.Value], defaults: Collection[ir.Value], feeds: Mapping[str, Any]
) -> None:
    names = {value.name for value in inputs}
    extra = [name for name in feeds if name not in names]
    if extra:
        known = ", ".join(_wanted(value) for value in inputs) or "none"
        raise InputError(f"no input is named {extra[0]!r}; the model's inputs are: {known}")
    for value in inputs:
        if value.name not in feeds and value not in defaults:
            got = ", ".join(repr(name) for name in feeds) or "nothing"
            raise InputError(f"input {_wanted(value)} is missing from the feeds; got {got}")


def _tensor(value: ir.Value, fed: Any, precision: np.dtype[Any] | None) -> Any:
    if not isinstance(fed, np.ndarray | np.generic):
        raise InputError(
            f"input {_wanted(value)} takes a NumPy array, got {type(fed).__name__}; "
            "convert it with numpy.asarray"
        )
    fed = np.asarray(fed)
    if value.dtype is None:
        return promoted(fed, precision)
    if value.dtype == ir.DataType.STRING:
        if fed.dtype.kind not in "OSU":
            raise InputError(f"input {_wanted(value)} takes strings, got {described(fed)}")
        return as_text(fed)
    expected = value.dtype.numpy()
    if fed.dtype == expected:
        return promoted(fed, precision)
    if precision is not None and fed.dtype in REAL and expected in REAL:
        return promoted(fed, precision)
    raise InputError(
        f"input {_wanted(value)} got {described(fed)}; convert it with .astype('{expected.name}')"
    )


def _check_shape(value: ir.Value, fed: Any, sizes: dict[str, tuple[int, str]]) -> None:
    if value.shape is None:
        return
    if fed.ndim != len(value.shape):
        raise InputError(
            f"input {_wanted(value)} got {described(fed)}: it must have rank {len(value.shape)}"
        )
    for axis, (wanted, size) in enumerate(zip(value.shape, fed.shape, strict=True)):
        if isinstance(wanted, int):
            if size != wanted and wanted >= 0:  # some exporters write -1 for an unknown one
                raise InputError(
                    f"input {_wanted(value)} got {described(fed)}: axis {axis} must be {wanted}"
                )
        elif wanted.value is not None:
            known, where = sizes.setdefault(wanted.value, (size, str(value.name)))
            if size != known:
                raise InputError(
                    f"input {_wanted(value)} got {described(fed)}: axis {axis} is "
                    f"{wanted.value!r}, which is {known} in input {where!r}"
                )


def _wanted(value: ir.Value) -> str:
    if not isinstance(value.type, ir.TensorType):
        return f"{value.name!r}"
    dims = "?" if value.shape is None else ",".join(str(d) for d in value.shape)
    return f"{value.name!r} ({value.type.dtype.name.lower()}[{dims}])"
