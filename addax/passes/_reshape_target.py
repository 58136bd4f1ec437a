"""How a known shape is spelt as the constant target of a Reshape.

One spelling for each shape: numbers where the size is a number; -1 for the one that is not; 0,
which copies, where several are not and each stands where the input has the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from addax.ir import Op, decline, require

Dims = Sequence[int | str | None]
_NO_SPELLING = "several sizes of the shape are known only at run time"


class Target(NamedTuple):
    """The target of a Reshape: its elements, and `allowzero`."""

    sizes: tuple[int, ...]
    allow_zero: bool = False

    def apply(self, op: Op, x: ir.Value) -> ir.Value:
        """Reshape(x, target)."""
        require(op.opset >= 5, "the target is an attribute before opset 5", x)
        if not self.allow_zero:
            return op.Reshape(x, list(self.sizes))
        require(op.opset >= 14, "a size of zero cannot be written before opset 14", x)
        return op.Reshape(x, list(self.sizes), allowzero=1)


def spell(after: Dims | None, before: Dims | None, free: int | None = None) -> Target | None:
    """The target that gives an input of shape `before` the shape `after`; None if there is none.

    A -1 beside sizes that are not known would be ambiguous if one of them were zero. It is
    written there only if the network itself had a -1, at the axis `free`: then no other size can
    be zero, but for the one at that axis.
    """
    if after is None:
        return None
    sizes = [d if isinstance(d, int) else -1 for d in after]
    named = [i for i, size in enumerate(sizes) if size == -1]
    if not named:
        return Target(tuple(sizes), 0 in sizes)
    if 0 in sizes:  # it would copy, and leave -1 undetermined
        return None
    if len(named) > 1:
        dims = () if before is None else before
        for i in named:
            if i < len(dims) and after[i] is not None and after[i] == dims[i]:
                sizes[i] = 0
        left = [i for i in named if sizes[i] == -1]
        if left and (len(left) > 1 or free is None or (free not in left and free in named)):
            return None
    return Target(tuple(sizes))


def must_spell(after: Dims | None, before: Dims | None, free: int | None = None) -> Target:
    """The same; declines the rule if there is no such target."""
    target = spell(after, before, free)
    if target is None:
        decline("shape unknown" if after is None else _NO_SPELLING)
    return target
