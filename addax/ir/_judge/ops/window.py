"""Windows that slide over spatial dimensions: what convolutions and pools share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from addax.ir._judge.arrays import Array


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel over `sizes`, with one entry of each field for each spatial dimension."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    ceil: bool

    @classmethod
    def of(
        cls,
        sizes: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        dilations: Sequence[int] = (),
        pads: Sequence[int] = (),
        auto_pad: str = "NOTSET",
        ceil: bool = False,
    ) -> "Window":
        """The window that the attributes of an op describe, `auto_pad` resolved.

        Raises:
            ValueError: the attributes do not have one entry for each spatial dimension.
        """
        rank = len(sizes)
        strides = tuple(strides) or (1,) * rank
        dilations = tuple(dilations) or (1,) * rank
        pads = tuple(pads) or (0,) * (2 * rank)
        if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
            raise ValueError(
                f"kernel {tuple(kernel)}, strides {strides}, dilations {dilations} and pads {pads} "
                f"do not fit {rank} spatial dimensions"
            )
        before, behind = pads[:rank], pads[rank:]
        if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
            totals = [
                max((-(-i // s) - 1) * s + (k - 1) * d + 1 - i, 0)
                for i, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
            ]
            small = tuple(t // 2 for t in totals)
            large = tuple(t - t // 2 for t in totals)
            before, behind = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
        elif auto_pad == "VALID":
            before = behind = (0,) * rank
        return cls(tuple(sizes), tuple(kernel), strides, dilations, before, behind, ceil)

    def outputs(self) -> tuple[int, ...]:
        """How many places the window has along each dimension.

        Raises:
            ValueError: the kernel does not fit into the padded input.
        """
        outputs = []
        for axis, size in enumerate(self.sizes):
            stride, before = self.strides[axis], self.before[axis]
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            room = size + before + self.behind[axis] - reach
            if room < 0:
                raise ValueError(
                    f"a kernel that reaches over {reach} does not fit into {room + reach}, "
                    f"the padded size of spatial dimension {axis}"
                )
            count = -(-room // stride) + 1 if self.ceil else room // stride + 1
            if self.ceil and (count - 1) * stride >= size + before:
                count -= 1  # the last place would lie in the padding alone
            outputs.append(count)
        return tuple(outputs)

    def after(self, outputs: Sequence[int]) -> tuple[int, ...]:
        """How much padding behind the input the places of the window reach into, if any."""
        ends = zip(outputs, self.strides, self.kernel, self.dilations, strict=True)
        reaches = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in ends]
        sizes = zip(reaches, self.before, self.sizes, strict=True)
        return tuple(max(r - b - i, 0) for r, b, i in sizes)

    def at(self, tap: Sequence[int], outputs: Sequence[int]) -> tuple[slice, ...]:
        """The elements of the padded input that one element of the kernel meets."""
        parts = zip(tap, self.dilations, self.strides, outputs, strict=True)
        return tuple(slice(t * d, t * d + s * (o - 1) + 1, s) for t, d, s, o in parts)

    def view(self, x: Array, outputs: Sequence[int]) -> Array:
        """The windows of the padded x[N, C, *D] without a copy: [N, C, *K, *O]."""
        spatial = x.strides[2:]
        return as_strided(
            x,
            (*x.shape[:2], *self.kernel, *outputs),
            (
                *x.strides[:2],
                *(step * d for step, d in zip(spatial, self.dilations, strict=True)),
                *(step * s for step, s in zip(spatial, self.strides, strict=True)),
            ),
            writeable=False,
        )


def surrounded(x: Array, before: Sequence[int], after: Sequence[int], fill: Any) -> Array:
    """x[N, C, *D] with `fill` put around its spatial dimensions; negative amounts cut."""
    if not any(before) and not any(after):
        return x
    sizes = [d + b + a for d, b, a in zip(x.shape[2:], before, after, strict=True)]
    y = np.full((*x.shape[:2], *sizes), fill, dtype=x.dtype)
    into, out_of = [slice(None)] * 2, [slice(None)] * 2
    for b, size, width in zip(before, x.shape[2:], sizes, strict=True):
        into.append(slice(max(b, 0), max(min(b + size, width), 0)))
        out_of.append(slice(max(-b, 0), max(min(width - b, size), 0)))
    y[tuple(into)] = x[tuple(out_of)]
    return y
