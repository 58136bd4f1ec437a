"""Hard values with the gradient of soft ones."""

import torch
from torch import Tensor

_LEAST_SIZE = 1e-3  # of a token whose numbers are compared with their own size


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard`, bit for bit, with the gradient of `soft`, which must be finite."""
    return hard.detach() + (soft - soft.detach())


def learning() -> bool:
    """Whether gradients are asked for: an exported graph needs none."""
    return torch.is_grad_enabled() and not torch.compiler.is_exporting()


def bits(x: Tensor) -> Tensor:
    """1[x > 0] of x[..., M], as numbers.

    The gradient is that of clamp((x / r + 1) / 2, 0, 1), r the root mean square of the last axis,
    itself held fixed: numbers on either side of the threshold learn, as long as they are near it.
    The papers' clamp(x, 0, 1) has no gradient for any bit that is 0.
    """
    hard = (x > 0).to(x.dtype)
    if not learning():
        return hard
    size = x.detach().square().mean(dim=-1, keepdim=True).sqrt().clamp_min(_LEAST_SIZE)
    return straight_through(hard, (0.5 * x / size + 0.5).clamp(0, 1))
