"""Algebra of convolution kernels W[O, I / g, *k]: groups, dilation, embedding, composition."""

from collections.abc import Sequence
from typing import Any

from addax.ir._affine.tensors import Tensor, multiplied, reshaped


def with_groups(w: Tensor, groups: int, wanted: int) -> Tensor:
    """The kernel of the same map with fewer groups, `wanted`, which divides `groups`.

    What crosses the old groups is zero.
    """
    if groups == wanted:
        return w
    factor = groups // wanted
    rows, columns, *taps = w.shape
    each = rows // groups
    shape = (rows, columns * factor, *taps)

    def build(op: Any) -> Any:
        tiled = op.Tile(w.build(op), [1, factor, *[1] * len(taps)])
        row = op.Mod(op.Div(op.Range(0, rows, 1), each), factor)
        column = op.Div(op.Range(0, columns * factor, 1), columns)
        same = op.Equal(op.Unsqueeze(row, [1]), op.Unsqueeze(column, [0]))
        mask = op.Reshape(op.CastLike(same, tiled), [rows, columns * factor, *[1] * len(taps)])
        return op.Mul(tiled, mask)

    return Tensor(shape, build)


def undilated(w: Tensor, dilations: Sequence[int]) -> Tensor:
    """The kernel of the same map with dilation 1: zeros between its taps."""
    if all(d == 1 for d in dilations):
        return w
    head, taps = w.shape[:2], w.shape[2:]
    wide = tuple((k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True))

    def build(op: Any) -> Any:
        x, shape = w.build(op), list(w.shape)
        for place, (k, d) in enumerate(zip(taps, dilations, strict=True)):
            axis = 2 + place
            x = op.Unsqueeze(x, [axis + 1])
            pads = [0] * (2 * len(shape) + 2)
            pads[len(shape) + 1 + axis + 1] = d - 1
            x = op.Pad(x, pads)
            shape[axis] = k * d
            x = op.Slice(op.Reshape(x, shape), [0], [wide[place]], [axis])
            shape[axis] = wide[place]
        return x

    return Tensor((*head, *wide), build)


def embedded(w: Tensor, before: Sequence[int], size: Sequence[int]) -> Tensor:
    """The kernel with zeros around it: `before` its taps, to `size` in all."""
    after = [s - b - k for s, b, k in zip(size, before, w.shape[2:], strict=True)]
    if not any((*before, *after)):
        return w
    pads = [0, 0, *before, 0, 0, *after]
    return Tensor((*w.shape[:2], *size), lambda op: op.Pad(w.build(op), pads))


def point(s: Tensor, groups: int, place: Sequence[int], taps: Sequence[int]) -> Tensor:
    """The kernel that scales each channel by s[C]: one tap at `place`, zeros elsewhere."""
    (channels,) = s.shape
    each = channels // groups
    ones = [1] * len(taps)

    def build(op: Any) -> Any:
        row = op.Mod(op.Range(0, channels, 1), each)
        same = op.Equal(op.Unsqueeze(row, [1]), op.Unsqueeze(op.Range(0, each, 1), [0]))
        scale = op.Reshape(s.build(op), [channels, 1])
        tap = op.Mul(op.CastLike(same, scale), scale)
        return op.Reshape(tap, [channels, each, *ones])

    single = Tensor((channels, each, *ones), build)
    return embedded(single, place, taps)


def composed(
    second: Tensor, first: Tensor, groups: int, strides: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    """The kernel of a convolution after a convolution with equal groups.

    W[o, i, p] = sum_(m, t) W2[o, m, t] W1[m, i, p - t d2 s1], which is a convolution of the first
    kernel, its input channels as batch, with the second one turned round.

    Args:
        second: W2[O, M / g, *k2].
        first: W1[M, I / g, *k1], of dilation 1.
        groups: g of both.
        strides: s1, of the first.
        dilations: d2, of the second.
    """
    steps = [s * d for s, d in zip(strides, dilations, strict=True)]
    reach = [(k - 1) * step for k, step in zip(second.shape[2:], steps, strict=True)]
    taps = tuple(k + r for k, r in zip(first.shape[2:], reach, strict=True))
    axes = list(range(2, len(second.shape)))

    def build(op: Any) -> Any:
        perm = [1, 0, *axes]
        images = op.Transpose(first.build(op), perm=perm)
        turned = op.Slice(
            second.build(op), [-1] * len(axes), [-(1 << 31)] * len(axes), axes, [-1] * len(axes)
        )
        y = op.Conv(images, turned, group=groups, dilations=steps, pads=[*reach, *reach])
        return op.Transpose(y, perm=perm)

    return Tensor((second.shape[0], first.shape[1], *taps), build)


def scaled_inputs(w: Tensor, s: Tensor, groups: int) -> Tensor:
    """The kernel after its input channels were scaled by s[I]."""
    rows, columns, *taps = w.shape
    ones = [1] * len(taps)
    parts = reshaped(w, (groups, rows // groups, columns, *taps))
    scales = reshaped(s, (groups, 1, columns, *ones))
    return reshaped(multiplied(parts, scales), w.shape)


def scaled_outputs(w: Tensor, s: Tensor) -> Tensor:
    """The kernel with its output channels scaled by s[O]."""
    return multiplied(w, reshaped(s, (w.shape[0], *[1] * (len(w.shape) - 1))))
