"""Multi-head self-attention with parallel branches that merge into one."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from addax.errors import OptionError
from addax.frontend.layers.branch_affine import branch_affines
from addax.frontend.layers.joining import JoinedBranches, add_up, at_least_one

__all__ = ["ParallelAttention"]


class ParallelAttention(JoinedBranches):
    """Softmax self-attention in B parallel branches of h heads: x[N, T, D] -> [N, T, D].

        q_b, k_b, v_b = Wq_b x_b + ..., Wk_b x_b + ..., Wv_b x_b + ...   x_b = g_b * x + s_b
        A_bh          = softmax(q_bh k_bh' / sqrt(d))                    d = D / h
        y             = sum_b sum_h A_bh v_bh Wo_bh + c

    where q, k and v of all branches are joined, each as `JoinedBranches.joining` says, before the
    products with each other; heads and branches are summed, never concatenated, so that any two
    can be joined. At joining = 1 there is one attention whose four weights are sums over the
    branches, which `addax.optimize` merges. Joining q k' instead, or v Wo, is a different function.

    Args:
        dim: width D of a token, a multiple of `heads`.
        heads: attention heads h of each branch.
        branches: number B of branches.
        affine: give each branch a scale g_b[D] and shift s_b[D] of the input, which is normalized
            once, outside.
        joining: 0..1.
        dropout: share of the attention weights that training sets to zero.
        bias: whether q, k and v have biases.
        blockwise: compute A_bh v_bh Wo_bh for each head alone, as written above; otherwise the
            heads of a branch go through Wo_b side by side, the same sum in one product.

    Source: arXiv 2511.19718, attention written blockwise; attention itself: arXiv 1706.03762.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        branches: int,
        *,
        affine: bool = False,
        joining: float = 0.0,
        dropout: float = 0.0,
        bias: bool = True,
        blockwise: bool = False,
    ) -> None:
        super().__init__(branches, joining)
        dim, heads = at_least_one("dim", dim), at_least_one("heads", heads)
        if dim % heads:
            raise OptionError(f"expected dim to be a multiple of heads; got {dim} and {heads}")
        self.heads = heads
        self.blockwise = blockwise
        self.affine = branch_affines(dim, branches, affine)
        self.query = nn.ModuleList(nn.Linear(dim, dim, bias=bias) for _ in range(branches))
        self.key = nn.ModuleList(nn.Linear(dim, dim, bias=bias) for _ in range(branches))
        self.value = nn.ModuleList(nn.Linear(dim, dim, bias=bias) for _ in range(branches))
        self.drop = nn.Dropout(dropout)
        self.proj = nn.ModuleList(nn.Linear(dim, dim) for _ in range(branches))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend over the tokens of x[N, T, D].

        `mask`, if given, is added to the scores [N, h, T, T]; minus infinity hides a token.
        """
        inputs = [affine(x) for affine in self.affine]
        queries, keys, values = (
            self.join([linear(part) for linear, part in zip(linears, inputs, strict=True)])
            for linears in (self.query, self.key, self.value)
        )
        mixed = [self._attend(*qkv, mask) for qkv in zip(queries, keys, values, strict=True)]
        if len(mixed) == 1:
            mixed = mixed * self.branches
        pairs = zip(self.proj, mixed, strict=True)
        return add_up([self._project(cast("nn.Linear", proj), part) for proj, part in pairs])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The heads' mixtures of values [N, h, T, d] from q, k, v[N, T, D]."""
        q, k, v = (
            part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (query, key, value)
        )
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores + mask
        mixed: Tensor = self.drop(scores.softmax(dim=-1)) @ v
        return mixed

    def _project(self, proj: nn.Linear, mixed: Tensor) -> Tensor:
        """The sum over heads of mixed[N, h, T, d] times Wo_h[d, D], plus the bias."""
        if not self.blockwise:
            return functional.linear(mixed.transpose(1, 2).flatten(2), proj.weight, proj.bias)
        blocks = proj.weight.t().reshape(self.heads, -1, len(proj.weight))
        y: Tensor = (mixed @ blocks).sum(dim=1) + proj.bias
        return y
