"""The few pieces that train forms are made of."""

import torch
from torch import Tensor, nn


def conv_bn(
    inputs: int,
    outputs: int,
    size: int | tuple[int, int],
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    padding: int | tuple[int, int] | None = None,
) -> nn.Sequential:
    """A convolution without bias, by default padded to keep the size, and its batch norm."""
    kernel = size if isinstance(size, tuple) else (size, size)
    if padding is None:
        padding = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding, dilation=dilation, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Sum(nn.Module):
    """Branches that read one value, added."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branches' results."""
        total: Tensor = self.branches[0](x)
        for branch in list(self.branches)[1:]:
            total = total + branch(x)
        return total


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """Add the input to the body's result."""
        return x + self.body(x)


class LayerScale(nn.Module):
    """A trained factor for each channel; `axes` dimensions follow the channels."""

    def __init__(self, channels: int, axes: int = 0) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * axes))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of x."""
        return x * self.gamma


class TokenNorm(nn.Module):
    """Batch norm over the channels of tokens x[B, N, D], which torch wants at axis 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels of x[B, N, D]."""
        y: Tensor = self.norm(x.transpose(1, 2))
        return y.transpose(1, 2)


class Heads(nn.Module):
    """softmax(q k^T / sqrt(d)) v of one map to q, k and v: x[B, N, D] -> [B, N, heads * d].

    `projection` gives [B, N, 3 * heads * d].
    """

    def __init__(self, projection: nn.Module, heads: int) -> None:
        super().__init__()
        self.projection = projection
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D]."""
        return attend(*self.projection(x).chunk(3, dim=-1), self.heads)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention of q, k, v [B, N, heads * d], written out."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)
