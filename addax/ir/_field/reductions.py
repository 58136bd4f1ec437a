"""Reductions over the field: what the operators of ONNX that reduce axes have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from addax.ir._field.residues import Residues
from addax.ir._field.table import FieldSite
from addax.ir._judge.ops.layout import numbers
from addax.ir._judge.table import Kernels


def add_reduction(
    kernels: Kernels, name: str, call: Callable[[Residues, tuple[int, ...], FieldSite], Residues]
) -> None:
    """Add an operator that reduces the axes that `call` is told, which stay with size 1."""

    def reduction(
        x: Any,
        where: Any = None,
        /,
        *,
        axes: Sequence[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
        site: FieldSite,
    ) -> Any:
        x = np.asarray(x)
        chosen = numbers(where) if where is not None else numbers(axes or ())
        if not chosen and noop_with_empty_axes:
            return call(x[None], (0,), site)[0]
        chosen = chosen or tuple(range(x.ndim))
        result = call(x, chosen, site)
        return result if keepdims else np.squeeze(result, chosen)

    kernels.add(name, reduction)
