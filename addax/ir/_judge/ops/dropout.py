"""Dropout, which outside training is the identity."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._judge.arrays import Array
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)


@KERNELS.op("Dropout", since=12)
def dropout(
    x: Array,
    ratio: Array | None = None,
    training_mode: Array | None = None,
    *,
    seed: int | None = None,
    site: Site,
) -> Any:
    """X, and a mask that keeps all of it.

    Raises:
        UnsupportedOpError: it is in training mode, hence random.
    """
    del seed
    share = 0.5 if ratio is None else float(ratio.item())
    return _kept(x, share if training_mode is not None and training_mode.item() else 0.0, site)


@KERNELS.op("Dropout")
def dropout_by_attributes(
    x: Array,
    *,
    ratio: float = 0.5,
    is_test: int = 0,
    consumed_inputs: Sequence[int] = (),
    site: Site,
) -> Any:
    """Dropout before opset 12; before opset 7 it trained unless told that it is a test."""
    del consumed_inputs
    return _kept(x, ratio if site.opset < 7 and not is_test else 0.0, site)


def _kept(x: Array, ratio: float, site: Site) -> Any:
    if ratio:
        raise UnsupportedOpError(
            f"Dropout in training mode with ratio {ratio:g} is random: its result is not a "
            "function of the inputs; export the model for inference"
        )
    mask = np.ones(x.shape, dtype=np.bool_ if site.opset >= 10 else x.dtype)
    return (x, mask)[: max(site.outputs, 1)]
