"""A layer's node again, with packed codes in the place of its weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir import Op, attribute, constant, static_shape
from addax.ir.dialect import DOMAIN
from addax.ir.numbers import PackedBinary, PackedCodebook
from addax.passes._shift.sites import Site

Packed = PackedBinary | PackedCodebook
Product = Callable[[ir.Value], ir.Value]


def operator_of(packed: Packed) -> str:
    """The dialect op that holds these constants."""
    return "BinaryMatMul" if isinstance(packed, PackedBinary) else "CodebookMatMul"


def lower(
    op: Op, site: Site, parts: tuple[Packed, ...], offset: np.ndarray | None = None
) -> ir.Value:
    """rows(x) W^T + offset + bias, W being the sum of what `parts` hold; shaped as `root` is."""

    def product(rows: ir.Value) -> ir.Value:
        first, *rest = (
            _product(op, rows, packed, site.weight.name or "weight") for packed in parts
        )
        for made in rest:
            first = op.Add(first, made)
        return first

    return lower_by(op, site, product, offset)


def lower_by(op: Op, site: Site, product: Product, offset: np.ndarray | None = None) -> ir.Value:
    """product(rows(x)) + offset + bias, product giving [..., N]; shaped as `root` is."""
    y = product(_rows(op, site))
    if offset is not None and site.x.dtype is not None:
        stored = offset.astype(site.x.dtype.numpy())
        y = op.Add(y, op.initializer(stored, f"{site.weight.name}.offset"))
    bias = _bias(op, site)
    y = y if bias is None else op.Add(y, bias)
    if not site.view.kernel:
        return y
    count = len(site.view.kernel)
    made: ir.Value = op.Transpose(y, perm=[0, count + 1, *range(1, count + 1)])
    return made


def _product(op: Op, rows: ir.Value, packed: Packed, name: str) -> ir.Value:
    domain = op.domain(DOMAIN)
    attributes: dict[str, Any] = {"group": packed.group}
    constants: list[tuple[str, np.ndarray]]
    if isinstance(packed, PackedBinary):
        constants = [("planes", packed.planes)]
    else:
        attributes["bits"] = packed.bits
        constants = [("codes", packed.codes), ("table", packed.table)]
    constants += [("multipliers", packed.multipliers), ("scale", packed.scale)]
    values = [op.initializer(array, f"{name}.{what}") for what, array in constants]
    made: ir.Value = getattr(domain, operator_of(packed))(rows, *values, **attributes)
    return made


def _rows(op: Op, site: Site) -> ir.Value:
    """The input as [..., K]: `View.rows` in operators."""
    view, x = site.view, site.x
    if not view.kernel:
        return x
    count = len(view.kernel)
    spatial = list(range(2, 2 + count))
    if view.is_pointwise:
        if set(view.strides) != {1}:
            ends = [np.iinfo(np.int64).max] * count
            x = op.Slice(x, [0] * count, ends, spatial, list(view.strides))
        return op.Transpose(x, perm=[0, *spatial, 1])
    dims = static_shape_of_image(x)
    sizes = [d // k for d, k in zip(dims[1:], view.kernel, strict=True)]
    whole = [n * k for n, k in zip(sizes, view.kernel, strict=True)]
    if whole != list(dims[1:]):
        x = op.Slice(x, [0] * count, whole, spatial)
    pairs = [d for n, k in zip(sizes, view.kernel, strict=True) for d in (n, k)]
    parts = op.Reshape(x, [0, dims[0], *pairs])
    fronts = [2 + 2 * axis for axis in range(count)]
    turned = op.Transpose(parts, perm=[0, *fronts, 1, *(axis + 1 for axis in fronts)])
    return op.Reshape(turned, [0, *sizes, dims[0] * int(np.prod(view.kernel))])


def static_shape_of_image(x: ir.Value) -> tuple[int, ...]:
    """Channels and spatial sizes of an image whose batch may be anything."""
    known = static_shape(x)
    dims = x.shape if known is None else known
    return tuple(d for d in list(dims or ())[1:] if isinstance(d, int))


def _bias(op: Op, site: Site) -> ir.Value | None:
    """What is added to [..., N]: a convolution's bias, or beta C of a Gemm."""
    bias = site.bias
    if bias is None or site.view.kernel:
        return bias
    beta = attribute(site.root, "beta", 1.0)
    array = constant(bias)
    if beta == 1:
        return bias
    numpy = site.x.dtype.numpy() if site.x.dtype is not None else np.float32
    factor = op.initializer(np.asarray(beta, numpy), "beta")
    return op.Mul(bias, factor) if array is None else op.Mul(factor, bias)
