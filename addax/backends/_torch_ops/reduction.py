"""Reductions over axes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Tensor

OPS = Converters()

Reduce = Callable[[Tensor, tuple[int, ...], bool, Site], Tensor]


def _reduction(name: str, function: Reduce, *, axes_are_input_since: int) -> None:
    @OPS.op(name, since=axes_are_input_since)
    def by_input(
        x: Tensor,
        axes: Ints | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
        site: Site,
    ) -> Tensor:
        if noop_with_empty_axes and not axes:
            return function(x, (), bool(keepdims), site)
        return function(x, _all_or(axes, site), bool(keepdims), site)

    @OPS.op(name)
    def by_attribute(
        x: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1, site: Site
    ) -> Tensor:
        return function(x, _all_or(axes, site), bool(keepdims), site)


def _all_or(axes: Sequence[int] | None, site: Site) -> tuple[int, ...]:
    """The axes from the front; all of them where none is given."""
    rank = site.rank(0)
    axes = tuple(axes or range(rank))
    return tuple(a + rank if isinstance(a, int) and a < 0 else a for a in axes)


def _sum(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    if not axes:
        return x
    dtype = site.dtype(0)
    # torch widens sums of integers to 64 bits.
    as_is = None if dtype.is_floating_point() else site.torch_dtype(dtype)
    return torch.sum(x, axes, keepdim=keepdims, dtype=as_is)


def _mean(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    if not axes:
        return x
    if site.dtype(0).is_floating_point():
        return torch.mean(x, axes, keepdim=keepdims)
    count = math.prod(site.sizes(0, x)[axis] for axis in axes)
    return torch.div(_sum(x, axes, keepdims, site), count, rounding_mode="trunc")


def _prod(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    dtype = site.torch_dtype(site.dtype(0))
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keepdims, dtype=dtype)
    return x


def _extreme(
    function: Callable[..., Any], neutral: Callable[[torch.dtype], float | bool]
) -> Reduce:
    def reduce(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
        if not axes:
            return x
        shape = site.static_shape(0)
        if shape is not None and 0 in shape and not all(isinstance(a, int) for a in axes):
            site.decline("the axes of an empty tensor are computed; they must be constants")
        if shape is not None and any(isinstance(a, int) and shape[a] == 0 for a in axes):
            return site.call(
                torch.full,
                _reduced(shape, axes, keepdims),
                neutral(site.torch_dtype(site.dtype(0))),
                dtype=site.torch_dtype(site.dtype(0)),
                device=x.device,
            )
        result: Tensor = function(x, axes, keepdim=keepdims)
        return result

    return reduce


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    kept = [1 if axis in axes else n for axis, n in enumerate(shape)]
    return tuple(n for axis, n in enumerate(kept) if keepdims or axis not in axes)


def _greatest(dtype: torch.dtype) -> float | bool:
    if dtype == torch.bool:
        return True
    return math.inf if dtype.is_floating_point else torch.iinfo(dtype).max


def _least(dtype: torch.dtype) -> float | bool:
    if dtype == torch.bool:
        return False
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _l1(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    return _sum(torch.abs(x), axes, keepdims, site)


def _squares(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    return _sum(torch.square(x), axes, keepdims, site)


def _l2(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    dtype = site.dtype(0)
    if not axes:
        return torch.abs(x)
    if dtype.is_floating_point():
        norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keepdim=keepdims)
        return norm
    norm = torch.linalg.vector_norm(x.double(), 2, axes, keepdim=keepdims)
    return norm.to(site.torch_dtype(dtype))


def _log_sum(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    site.require(site.dtype(0).is_floating_point(), "the logarithm of integers has no torch form")
    return torch.log(_sum(x, axes, keepdims, site))


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keepdims: bool, site: Site) -> Tensor:
    site.require(site.dtype(0).is_floating_point(), "the logarithm of integers has no torch form")
    return torch.logsumexp(x, axes, keepdim=keepdims) if axes else x


_reduction("ReduceSum", _sum, axes_are_input_since=13)
_reduction("ReduceMean", _mean, axes_are_input_since=18)
_reduction("ReduceProd", _prod, axes_are_input_since=18)
_reduction("ReduceMax", _extreme(torch.amax, _least), axes_are_input_since=18)
_reduction("ReduceMin", _extreme(torch.amin, _greatest), axes_are_input_since=18)
_reduction("ReduceL1", _l1, axes_are_input_since=18)
_reduction("ReduceL2", _l2, axes_are_input_since=18)
_reduction("ReduceSumSquare", _squares, axes_are_input_since=18)
_reduction("ReduceLogSum", _log_sum, axes_are_input_since=18)
_reduction("ReduceLogSumExp", _log_sum_exp, axes_are_input_since=18)


def _place(function: Callable[..., Tensor], name: str) -> None:
    @OPS.op(name)
    def place(
        x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0, site: Site
    ) -> Tensor:
        x = x.to(torch.int32) if site.dtype(0) == ir.DataType.BOOL else x
        if not select_last_index:
            return function(x, dim=axis, keepdim=bool(keepdims))
        turned = function(torch.flip(x, [axis]), dim=axis, keepdim=bool(keepdims))
        return site.size(x, axis) - 1 - turned


_place(torch.argmax, "ArgMax")
_place(torch.argmin, "ArgMin")
