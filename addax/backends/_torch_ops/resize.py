"""Images and other grids in another size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.interpolation import interpolated
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Floats, Ints, Tensor

OPS = Converters()

_MODES = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear"}


@dataclass(frozen=True, slots=True)
class Target:
    """What an axis becomes: how many elements, and how many for one of the input."""

    axis: int
    count: Any
    scale: Any


@OPS.op("Resize", since=11)
def resize(
    x: Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: Ints | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    site: Site,
) -> Tensor:
    """`x` in another size, by scales or by sizes."""
    numbers = tuple(site.axis(a) for a in (range(site.rank(0)) if axes is None else axes))
    own = site.sizes(0, x)
    if sizes:
        targets = _by_sizes(site, own, numbers, sizes, keep_aspect_ratio_policy)
    elif scales:
        targets = _by_scales(site, own, numbers, scales)
    else:
        site.decline("it has neither scales nor sizes")
    cropping = coordinate_transformation_mode == "tf_crop_and_resize"
    moved = [t for t in targets if cropping or not _is_identity(t, own)]
    simple = not (antialias or exclude_outside or cropping) and cubic_coeff_a == -0.75
    spatial = _spatial(moved, own)
    idiom = None
    if simple and spatial:
        idiom = _idiom(site, mode, coordinate_transformation_mode, nearest_mode, spatial, own)
    if idiom is not None:
        by_size = {"size": tuple(t.count for t in spatial)}
        scales = tuple(t.scale for t in spatial)
        by_scale = {"scale_factor": scales, "recompute_scale_factor": False}
        return F.interpolate(x, **(by_size if sizes else by_scale), **idiom)
    for target in moved:
        window = (0.0, 1.0)
        if cropping and roi:
            place = numbers.index(target.axis)
            window = (roi[place], roi[place + len(numbers)])
        x = site.call(
            interpolated,
            x,
            target.axis,
            target.count,
            target.scale,
            mode=mode,
            coordinates=coordinate_transformation_mode,
            rounding=nearest_mode,
            cubic=cubic_coeff_a,
            antialias=bool(antialias),
            exclude_outside=bool(exclude_outside),
            window=window,
            outside=extrapolation_value,
        )
    return x


def _spatial(moved: Sequence[Target], own: Sequence[int]) -> list[Target]:
    """What every spatial axis becomes, if only such axes change; else nothing."""
    changed = {target.axis: target for target in moved}
    if not 3 <= len(own) <= 5 or not changed or min(changed) < 2:
        return []
    return [changed.get(axis, Target(axis, own[axis], 1.0)) for axis in range(2, len(own))]


def _is_identity(target: Target, own: Sequence[int]) -> bool:
    same = isinstance(target.scale, float) and math.isclose(target.scale, 1.0)
    counts = target.count, own[target.axis]
    return same and (not all(isinstance(n, int) for n in counts) or counts[0] == counts[1])


def _by_scales(site: Site, own: Sequence[int], axes: Sequence[int], scales: Floats) -> list[Target]:
    targets = []
    for axis, scale in zip(axes, scales, strict=True):
        size: Any = own[axis]
        known = isinstance(scale, float)
        if known and isinstance(size, int):
            count: Any = int(size * scale)
        elif known and scale == int(scale):
            count = site.as_size(size if scale == 1 else size * int(scale))
        else:
            count = site.call(_floor_product, size, scale)
        targets.append(Target(axis, count, scale))
    return targets


def _floor_product(size: int, scale: float) -> int:
    # int() would freeze a size that torch's compilers keep symbolic.
    return _to_integer(size * scale)


_to_integer: Callable[..., int] = torch.sym_int


def _by_sizes(
    site: Site, own: Sequence[int], axes: Sequence[int], sizes: Sequence[int], policy: str
) -> list[Target]:
    if policy == "stretch":
        shape = site.shape(0) or ()
        same = [
            shape[a] is not None and site.size_name(n) == shape[a]
            for a, n in zip(axes, sizes, strict=True)
        ]
        return [
            Target(a, n, 1.0 if is_same else n / own[a])
            for a, n, is_same in zip(axes, sizes, same, strict=True)
        ]
    if not all(isinstance(n, int) for n in (*sizes, *own)):
        site.decline(f"sizes with aspect ratio policy {policy!r} must be constants")
    choose = min if policy == "not_larger" else max
    scale = choose(n / own[a] for a, n in zip(axes, sizes, strict=True))
    return [Target(a, int(scale * own[a] + 0.5), scale) for a in axes]


def _idiom(
    site: Site,
    mode: str,
    coordinates: str,
    rounding: str,
    spatial: Sequence[Target],
    own: Sequence[int],
) -> dict[str, Any] | None:
    """The arguments with which `torch.nn.functional.interpolate` does the same, if any."""
    count = len(spatial)
    if not site.dtype(0).is_floating_point() or site.dtype(0) == ir.DataType.BFLOAT16:
        return None
    if mode == "nearest":
        fits = coordinates == "asymmetric" and rounding == "floor"
        return {"mode": "nearest"} if fits else None
    name = "bicubic" if (mode, count) == ("cubic", 2) else _MODES.get((mode, count))
    if name is None:
        return None
    if coordinates == "align_corners":
        whole = all(isinstance(t.count, int) and t.count == t.scale * own[t.axis] for t in spatial)
        return {"mode": name, "align_corners": True} if whole else None
    single = any(isinstance(t.count, int) and t.count == 1 for t in spatial)
    halves = coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and not single)
    return {"mode": name, "align_corners": False} if halves else None


@OPS.op("Resize", since=10)
@OPS.op("Upsample", since=9)
def resize_by_scales(x: Tensor, scales: Floats, *, mode: str = "nearest", site: Site) -> Tensor:
    """`x` in a size that its own and the scales determine."""
    return resize(
        x,
        scales=scales,
        coordinate_transformation_mode="asymmetric",
        mode=mode,
        nearest_mode="floor",
        site=site,
    )


@OPS.op("Upsample", since=7)
def upsample_by_attribute(
    x: Tensor, *, scales: Sequence[float], mode: str = "nearest", site: Site
) -> Tensor:
    """The same with constant scales."""
    return resize_by_scales(x, scales, mode=mode, site=site)
