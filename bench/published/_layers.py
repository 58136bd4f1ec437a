"""Linear layers and attention whose inputs and weights are rounded."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from addax.demo.vit import Attention
from bench.published._grids import Grid

# Of an input and the weights that it meets, how it is rounded.
FitInput = Callable[[Tensor, Tensor], Grid]
# Of weights, an input and the same input rounded: the weights, rounded.
FitWeights = Callable[[Tensor, Tensor, Tensor], Tensor]
FitTensor = Callable[[Tensor], Grid]


class Rounded(nn.Module):
    """A tensor on its way, rounded as the first one that came demands."""

    def __init__(self, fit: FitTensor) -> None:
        super().__init__()
        self.fit = fit
        self.grid: Grid | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            self.grid = self.fit(x)
        return self.grid(x)


class RoundedLinear(nn.Module):
    """A linear layer or convolution; input and weights are fitted on what comes first."""

    def __init__(
        self, plain: nn.Linear | nn.Conv2d, fit_input: FitInput, fit_weights: FitWeights
    ) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.fit_input, self.fit_weights = fit_input, fit_weights
        self.grid: Grid | None = None
        self.rounded: Tensor | None = None
        self.product = functional.linear
        if isinstance(plain, nn.Conv2d):
            self.product = partial(functional.conv2d, stride=plain.stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            self.grid = self.fit_input(x, self.weight)
        inputs = self.grid(x)
        if self.rounded is None:
            self.rounded = self.fit_weights(self.weight, x, inputs)
        return self.product(inputs, self.rounded, self.bias)


class RoundedAttention(nn.Module):
    """Attention whose query, key, value and shares are rounded; sums and Softmax are float."""

    def __init__(
        self,
        plain: Attention,
        linear: Callable[[nn.Linear, bool], RoundedLinear],
        uniform: FitTensor,
        shares: FitTensor,
    ) -> None:
        super().__init__()
        self.heads, self.scale = plain.heads, plain.scale
        self.qkv, self.proj = linear(plain.qkv, True), linear(plain.proj, False)
        self.query, self.key, self.value = (Rounded(uniform) for _ in range(3))
        self.shares = Rounded(shares)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = self.query(q) @ self.key(k).transpose(-2, -1) * self.scale
        mixed = self.shares(scores.softmax(dim=-1)) @ self.value(v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
