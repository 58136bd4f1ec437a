"""RepQuant's ranges for each channel behind a norm, learned for the layer that reads it.

Source: RepQuant (arXiv 2402.05628), "learnable per-channel dual clipping": a factor for the lower
and one for the upper end of each channel. Its text says no more that could be read here, so the
loss (the layer's output, weights in float32), the start (nearly everything) and the steps are ours.
"""

import torch
from torch import Tensor

from bench.published._grids import Uniform

TOKENS, STEPS, RATE, START = 512, 100, 0.05, 4.0


def _through(x: Tensor) -> Tensor:
    """Rounded, with the gradient of what was not."""
    return x + (x.round() - x).detach()


@torch.enable_grad()
def dual_clipping(x: Tensor, weights: Tensor, bits: int) -> Uniform:
    """Grid of each channel of x[..., C] by the error of x weights[O, C]^T."""
    rows = x.detach().reshape(-1, x.shape[-1])
    low, high = rows.amin(0), rows.amax(0)
    some = rows[:: max(1, len(rows) // TOKENS)]
    # |e W^T| = |e L| with L L^T = W^T W, which is smaller.
    product = (weights.detach().T @ weights.detach()).double()
    product += 1e-9 * product.diagonal().mean() * torch.eye(len(product))
    factor = torch.linalg.cholesky(product).float()
    ends = torch.full((2, len(low)), START, requires_grad=True)
    optimizer = torch.optim.Adam([ends], lr=RATE)
    least, best = torch.inf, ends.detach().clone()
    for _ in range(STEPS):
        under, over = ends.sigmoid() * torch.stack([low, high])
        scale = ((over - under) / (2**bits - 1)).clamp(min=1e-9)
        zero = _through(-under / scale)
        codes = (_through(some / scale) + zero).clamp(0, 2**bits - 1)
        loss = (((codes - zero) * scale - some) @ factor).square().mean()
        if (found := loss.item()) < least:
            least, best = found, ends.detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    under, over = best.sigmoid() * torch.stack([low, high])
    return Uniform.between(under, over, bits)
