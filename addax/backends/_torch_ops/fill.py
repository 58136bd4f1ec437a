"""Tensors made out of nothing but a shape or a range."""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Scalar, Sizes, Tensor

OPS = Converters()


@OPS.op("ConstantOfShape")
def constant_of_shape(
    shape: Sizes, *, value: ir.TensorProtocol | None = None, site: Site
) -> Tensor:
    """A tensor of one repeated element, 0.0 by default."""
    dtype = ir.DataType.FLOAT if value is None else value.dtype
    element = 0.0 if value is None else value.numpy().reshape(-1)[0].item()
    result: Tensor = site.call(
        torch.full, shape, element, dtype=site.torch_dtype(dtype), device=site.device
    )
    return result


@OPS.op("Range")
def range_(start: Scalar, limit: Scalar, delta: Scalar, *, stash_type: int = 1, site: Site) -> Any:
    """Numbers from `start` on, `delta` apart, before `limit`."""
    del stash_type
    dtype = site.torch_dtype(site.dtype(0))
    if all(isinstance(n, int) for n in (start, limit, delta)) and range(start, limit, delta):
        return site.call(torch.arange, start, limit, delta, dtype=dtype, device=site.device)
    counts = isinstance(start, int) and isinstance(delta, int) and (start, delta) == (0, 1)
    if counts and site.is_size(limit):
        return site.call(torch.arange, limit, dtype=dtype, device=site.device)
    return site.call(_range, start, limit, delta, dtype, site.device)


def _range(
    start: float, limit: float, delta: float, dtype: torch.dtype, device: torch.device | None
) -> Tensor:
    """Any range, empty ones included, which torch.arange refuses."""
    steps = -((start - limit) // delta)
    # int() would freeze a count that torch's compilers keep symbolic.
    count = _greater(int(steps) if isinstance(steps, float) else steps, 0)
    return torch.arange(count, device=device).to(dtype) * delta + start


_greater: Callable[..., Any] = torch.sym_max


@OPS.op("EyeLike")
def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0, site: Site) -> Tensor:
    """Ones on a diagonal, in the shape of `x`."""
    rows, columns = site.sizes(0, x)
    kind = site.torch_dtype(site.dtype(0) if dtype is None else dtype)
    ones = site.call(torch.ones, (rows, columns), dtype=kind, device=x.device)
    return torch.triu(torch.tril(ones, k), k)
