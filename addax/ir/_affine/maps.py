"""The kinds of affine maps: diagonal, dense, convolution."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from addax.ir._affine.tensors import Tensor


@dataclass(frozen=True, eq=False)
class Diagonal:
    """s x: one number (`axis` None, s of one element) or one for each place of an axis, s[n].

    With `scale` None it is the identity.
    """

    scale: Tensor | None = None
    axis: int | None = None

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.scale is None


IDENTITY = Diagonal()


@dataclass(frozen=True, eq=False)
class Dense:
    """x[..., K] W[K, N]."""

    weight: Tensor
    axis: int

    def with_weight(self, weight: Tensor) -> "Dense":
        """The same with another matrix."""
        return Dense(weight, self.axis)


@dataclass(frozen=True, eq=False)
class Convolution:
    """ONNX's Conv on x[B, I, *spatial] with W[O, I / groups, *taps].

    `begins` and `ends` are the zero pads; `is_movement` marks a zero pad, which multiplies nothing.
    """

    weight: Tensor
    strides: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    is_movement: bool = False

    def with_weight(self, weight: Tensor) -> "Convolution":
        """The same with another kernel."""
        return replace(self, weight=weight, is_movement=False)

    @property
    def taps(self) -> tuple[int, ...]:
        """The kernel's extent."""
        return self.weight.shape[2:]

    @property
    def inputs(self) -> int:
        """Input channels."""
        return self.weight.shape[1] * self.groups

    @property
    def is_pointwise(self) -> bool:
        """Whether each position sees itself alone: 1 x 1, stride 1, no pads."""
        return not self.is_padded and set(self.taps) == set(self.strides) == {1}

    @property
    def is_padded(self) -> bool:
        """Whether zeros are put around the input."""
        return any((*self.begins, *self.ends))


Affine: TypeAlias = Diagonal | Dense | Convolution
