"""The ops: one family a file, each with a table `KERNELS`."""

from functools import cache
from importlib import import_module

from addax.ir._judge.table import Kernel, Kernels

_FAMILIES = (
    "activation",
    "arithmetic",
    "cast",
    "contrib_attention",
    "contrib_fused",
    "contrib_quantized",
    "conv",
    "dropout",
    "fill",
    "layout",
    "logic",
    "matmul",
    "norm",
    "order",
    "pool",
    "quantize",
    "recurrent",
    "reduce",
    "resize",
    "select",
    "sequence",
    "softmax",
)


def find(domain: str, name: str, opset: int) -> Kernel | None:
    """The kernel for an op, or `None`."""
    for kernels in _tables().get((domain, name), ()):
        kernel = kernels.find(name, opset)
        if kernel is not None:
            return kernel
    return None


@cache
def _tables() -> dict[tuple[str, str], list[Kernels]]:
    tables: dict[tuple[str, str], list[Kernels]] = {}
    for family in _FAMILIES:
        for kernels in import_module(f"{__name__}.{family}").TABLES:
            for name in dict(kernels):
                tables.setdefault((kernels.domain, name), []).append(kernels)
    return tables
