"""GPTQ as strong as it is known to be: clip search, columns ordered by importance, static groups.

Source: Frantar et al., "GPTQ", 2022 (arXiv 2210.17323), with `act-order` and `static-groups` of its
code; the clip of each group is searched with the columns' second moments as weights.
"""

import torch
from torch import Tensor

from bench.weight_only._nearest import grid

DAMPING = 0.01
BLOCK = 128


def gptq(weights: Tensor, hessian: Tensor, bits: int, group: int) -> Tensor:
    """weights[N, K] on uniform grids of `group` columns, each column's error given to later ones.

    Args:
        weights: Float64 [N, K].
        hessian: Second moments of the input, float64 [K, K].
        bits: Of a code.
        group: Columns that share a scale and a zero point.
    """
    columns = weights.shape[1]
    moments = hessian.diagonal().clone()
    dead = moments == 0
    moments[dead] = 1
    grids = [
        grid(part, bits, importance, clip=True)
        for part, importance in zip(weights.split(group, 1), moments.split(group), strict=True)
    ]
    order = torch.argsort(moments, descending=True, stable=True)
    damped = hessian + torch.diag(dead.double() + DAMPING * moments.mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped[order][:, order]))
    factor = torch.linalg.cholesky(inverse, upper=True)
    rest, made = weights[:, order].clone(), torch.empty_like(weights)
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        errors = torch.empty_like(rest[:, start:end])
        for k in range(start, end):
            column = rest[:, k : k + 1]
            level = grids[int(order[k]) // group].nearest(column)
            made[:, k : k + 1] = level
            error = (column - level) / factor[k, k]
            errors[:, k - start : k - start + 1] = error
            rest[:, k:end] -= error * factor[k, k:end]
        rest[:, end:] -= errors @ factor[start:end, end:]
    return made[:, torch.argsort(order)]
