"""The ops over the field: one family a file, each with tables `TABLES`."""

from functools import cache
from importlib import import_module

from addax.ir._judge.table import Kernel, Kernels

_FAMILIES = ("activation", "arithmetic", "fused", "linear", "logic", "norm", "order")


@cache
def find(domain: str, name: str, opset: int) -> Kernel | None:
    """The kernel for an op, or `None`."""
    for kernels in _tables():
        kernel = kernels.find(name, opset) if kernels.domain == domain else None
        if kernel is not None:
            return kernel
    return None


@cache
def _tables() -> tuple[Kernels, ...]:
    return tuple(
        table for family in _FAMILIES for table in import_module(f"{__name__}.{family}").TABLES
    )
