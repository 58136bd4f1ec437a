"""A feed-forward part with parallel branches that merge into one."""

from collections.abc import Callable

from torch import Tensor, nn

from addax.frontend.layers.branch_affine import branch_affines
from addax.frontend.layers.joining import JoinedBranches, add_up, at_least_one

__all__ = ["ParallelFeedForward"]


class ParallelFeedForward(JoinedBranches):
    """Two linear maps with an activation between, in B parallel branches: x[..., D] -> [..., D].

        h_b = W1_b (g_b * x + s_b) + c1_b            h_b[..., H],  b = 1..B
        u_b = (1 - joining) h_b + joining sum_c h_c
        y   = sum_b (W2_b act(u_b) + c2_b)

    `x` is normalized once, outside (the norm is extracted); with `affine` each branch has its own
    scale g_b[D] and shift s_b[D], without it they are 1 and 0. At joining = 1 all branches are

        y = (sum_b W2_b) act((sum_b W1_b diag(g_b)) x + c1) + c2

    which `addax.optimize` merges into two linear maps: B times fewer multiplications.

    Args:
        dim: width D of a token.
        hidden: inner width H of each branch.
        branches: number B of branches.
        affine: give each branch a scale and a shift of its own.
        joining: 0..1, see `JoinedBranches.joining`.
        activation: makes the activation, which must work on each number alone to be merged.
        dropout: share of the hidden channels that training sets to zero.
        bias: whether the linear maps have biases.

    Source: arXiv 2511.19718; the norm's affine part folded into each branch is T2 of its algebra.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        branches: int,
        *,
        affine: bool = False,
        joining: float = 0.0,
        activation: Callable[[], nn.Module] = nn.GELU,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(branches, joining)
        dim, hidden = at_least_one("dim", dim), at_least_one("hidden", hidden)
        self.affine = branch_affines(dim, branches, affine)
        self.fc1 = nn.ModuleList(nn.Linear(dim, hidden, bias=bias) for _ in range(branches))
        self.act = activation()
        self.drop = nn.Dropout(dropout)
        self.fc2 = nn.ModuleList(nn.Linear(hidden, dim, bias=bias) for _ in range(branches))

    def forward(self, x: Tensor) -> Tensor:
        """Map each token of x[..., D] alone."""
        entries = [fc1(affine(x)) for affine, fc1 in zip(self.affine, self.fc1, strict=True)]
        active = [self.drop(self.act(entry)) for entry in self.join(entries)]
        if len(active) == 1:
            active = active * self.branches
        return add_up([fc2(part) for fc2, part in zip(self.fc2, active, strict=True)])
