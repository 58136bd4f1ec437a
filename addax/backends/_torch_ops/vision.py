"""Sampling of images: grids, regions of interest, suppression of overlapping boxes."""

import math

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Ints, Scalar, Tensor

OPS = Converters()

_SAMPLING = {"linear": "bilinear", "cubic": "bicubic"}


@OPS.op("GridSample", since=16)
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
    site: Site,
) -> Tensor:
    """`x` at the places that the grid lists, in coordinates from -1 to 1."""
    mode = _SAMPLING.get(mode, mode)
    site.require(mode != "bicubic" or site.rank(0) == 4, "torch samples cubes only bilinearly")
    return F.grid_sample(x, grid, mode, padding_mode, bool(align_corners))


@OPS.op("AffineGrid", since=20)
def affine_grid(theta: Tensor, size: Ints, *, align_corners: int = 0) -> Tensor:
    """The grid that samples an image under affine maps theta[N, 2, 3] or theta[N, 3, 4]."""
    return F.affine_grid(theta, list(size), bool(align_corners))


@OPS.op("RoiAlign", since=16)
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    site: Site,
) -> Tensor:
    """Regions of images, each sampled to one size: y[region, C, height, width]."""
    site.require(mode == "avg", "the maximum of weighted neighbours has no torch form")
    half = 0.5 if coordinate_transformation_mode == "half_pixel" else 0.0
    size = (output_height, output_width)
    arguments = (size, sampling_ratio, spatial_scale, half)
    return site.call(_roi_align, x, rois, batch_indices, *arguments)


@OPS.op("RoiAlign", since=10)
def roi_align_of_corners(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    site: Site,
) -> Tensor:
    """The same with coordinates that count from corners of pixels."""
    site.require(mode == "avg", "the maximum of weighted neighbours has no torch form")
    arguments = ((output_height, output_width), sampling_ratio, spatial_scale, 0.0)
    return site.call(_roi_align, x, rois, batch_indices, *arguments)


def _roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    size: tuple[int, int],
    ratio: int,
    scale: float,
    half: float,
) -> Tensor:
    regions = []
    for roi, batch in zip(rois * scale - half, batch_indices.tolist(), strict=True):
        left, top, right, bottom = roi.unbind()
        spans = []
        for low, high, count in ((top, bottom, size[0]), (left, right, size[1])):
            span = high - low
            # Without the half pixel, regions are at least one pixel large.
            spans.append((low, span if half else span.clamp(min=1.0), count))
        ys, xs = (_samples(low, span, count, ratio) for low, span, count in spans)
        sampled = _bilinear(x[batch], ys, xs)
        blocks = torch.unflatten(torch.unflatten(sampled, 2, (size[1], -1)), 1, (size[0], -1))
        regions.append(blocks.mean((2, 4)))
    return torch.stack(regions) if regions else x.new_zeros((0, x.size(1), *size))


def _samples(low: Tensor, span: Tensor, count: int, ratio: int) -> Tensor:
    """Coordinates of all samples along an axis, those of one bin together."""
    each = ratio if ratio > 0 else max(1, math.ceil(float(span) / count))
    steps = torch.arange(count * each, dtype=low.dtype, device=low.device)
    return low + (steps + 0.5) * span / (count * each)


def _bilinear(x: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """x[C, H, W] at every pair of coordinates; 0 further than one pixel outside."""
    for axis, places in ((1, ys), (2, xs)):
        size = x.size(axis)
        inside = (places >= -1) & (places <= size)
        near = places.clamp(0, size - 1)
        low = near.floor().long().clamp(max=size - 1)
        weight = near - low
        shape = [-1 if k == axis else 1 for k in range(3)]
        a = x.index_select(axis, low)
        b = x.index_select(axis, (low + 1).clamp(max=size - 1))
        blend = a + (b - a) * weight.reshape(shape)
        x = torch.where(inside.reshape(shape), blend, torch.zeros_like(blend))
    return x


@OPS.op("NonMaxSuppression")
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    limit: Scalar | None = None,
    iou_threshold: Scalar | None = None,
    score_threshold: Scalar | None = None,
    *,
    center_point_box: int = 0,
    site: Site,
) -> Tensor:
    """The best boxes of each class that overlap no better one: y[count, (batch, class, box)]."""
    limit = 0 if limit is None else limit
    iou = 0.0 if iou_threshold is None else iou_threshold
    arguments = (limit, iou, score_threshold, bool(center_point_box))
    return site.call(_suppressed, boxes, scores, *arguments)


def _suppressed(
    boxes: Tensor,
    scores: Tensor,
    limit: int,
    iou_threshold: float,
    score_threshold: float | None,
    centered: bool,
) -> Tensor:
    if centered:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = torch.cat([middle - half, middle + half], -1)
    low = torch.minimum(boxes[..., :2], boxes[..., 2:])
    high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    area = (high - low).prod(-1)
    kept: list[list[int]] = []
    for batch in range(scores.size(0)):
        for kind in range(scores.size(1)):
            values = scores[batch, kind]
            alive = torch.ones_like(values, dtype=torch.bool)
            if score_threshold is not None:
                alive = values > score_threshold
            chosen: list[list[int]] = []
            for k in torch.argsort(values, descending=True, stable=True).tolist():
                if len(chosen) >= int(limit) or not alive[k]:
                    continue
                chosen.append([batch, kind, k])
                shared = torch.minimum(high[batch], high[batch, k])
                shared = (shared - torch.maximum(low[batch], low[batch, k])).clamp(min=0).prod(-1)
                overlap = shared / (area[batch] + area[batch, k] - shared)
                alive = alive & ~(overlap > iou_threshold)
            kept += chosen
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1, 3)
