"""`freeze`: a trained network of shifts and mixtures in the form in which it runs."""

import copy

from torch import nn

from addax.frontend.layers.router import Router
from addax.frontend.layers.shift_linear import ShiftLinear

__all__ = ["freeze"]


def freeze(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose shift maps and routers are as they are; computes the same.

    Each `ShiftLinear` becomes an `nn.Linear` whose weights are powers of two times their row's
    scale, exactly, so that an export has plain weights in place of what rounds them. Each `Router`
    becomes an `ArgmaxRouter`. The model itself stays as it is.
    """
    made = copy.deepcopy(model).eval()
    new: dict[int, nn.Module] = {}
    for name, module in list(made.named_modules(remove_duplicate=False)):
        if not isinstance(module, ShiftLinear | Router):
            continue
        frozen = new.setdefault(id(module), module.freeze())
        if not name:
            return frozen
        made.set_submodule(name, frozen)
    return made
