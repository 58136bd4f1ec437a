"""How many tokens each expert should get, by how long it takes."""

import math
from collections.abc import Mapping
from typing import Protocol

import onnx_ir as ir
from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers.joining import at_least_one
from addax.frontend.layers.router import Router
from addax.ir.cost import PICOJOULES, Cost, cost_of

__all__ = ["LayerTimes", "balance_loss", "expert_latencies"]

_COUNTED = {"adds", "multiplies", "shifts"}


class LayerTimes(Protocol):
    """How long linear layers take on a target."""

    def seconds(self, form: str, rows: int, weights: int, stored: int) -> float:
        """Of a layer of `weights` numbers in this form, `stored` bytes, on `rows` rows."""
        ...


def balance_loss(model: nn.Module) -> Tensor:
    """The sum of the routers' losses on their last tokens, to be added to the task's, times 0.01.

        loss = functional.cross_entropy(model(x), labels) + 0.01 * balance_loss(model)

    Raises:
        OptionError: If no router has seen tokens in training mode.
    """
    losses = [
        router.loss
        for router in model.modules()
        if isinstance(router, Router) and router.loss is not None
    ]
    if not losses:
        raise OptionError(
            "expected a model with routers that was called in training mode before; "
            f"got {type(model).__name__}, in which none has a loss"
        )
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total


def expert_latencies(
    inputs: int,
    outputs: int,
    costs: Mapping[str, float] | LayerTimes = PICOJOULES,
    *,
    tokens: int = 196,
) -> tuple[float, float]:
    """What a token costs the Mult and the Shift expert of a linear map.

        expert_latencies(192, 768)                                           # energy, 45 nm
        expert_latencies(192, 768, {"multiplies": 1, "adds": 1, "shifts": 1})
        expert_latencies(192, 768, cost_table("host"))                       # time, here

    Args:
        inputs: width of the map's input.
        outputs: width of its output.
        costs: prices of one multiply, add and shift, in any unit (the default is the papers'
            energy); or a table of how long layers take, such as `addax.runtime.cost_table` has of
            a target: then Mult is a float32 layer, and Shift an int8 one, as the kernels have it.
        tokens: that are computed at once, for a table.

    Raises:
        OptionError: If the prices are of other things, or the table does not know such layers.
    """
    inputs, outputs = at_least_one("inputs", inputs), at_least_one("outputs", outputs)
    if isinstance(costs, Mapping):
        return _by_prices(inputs, outputs, costs)
    weights, count = inputs * outputs, at_least_one("tokens", tokens)
    mult = costs.seconds("fp32", count, weights, 4 * weights)
    shift = costs.seconds("int8", count, weights, weights)
    if not (math.isfinite(mult) and math.isfinite(shift)):
        raise OptionError(
            f"expected a table that knows float32 and int8 layers; got {mult} s and {shift} s"
        )
    return mult / count, shift / count


def _by_prices(inputs: int, outputs: int, prices: Mapping[str, float]) -> tuple[float, float]:
    if not _COUNTED <= prices.keys() <= PICOJOULES.keys():
        raise OptionError(
            f"expected prices of {', '.join(sorted(_COUNTED))}; got those of "
            f"{', '.join(prices) or 'nothing'}"
        )
    x, w, y = (
        ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.FLOAT))
        for name, dims in (("x", (1, inputs)), ("w", (inputs, outputs)), ("y", (1, outputs)))
    )
    mult = cost_of(ir.node("MatMul", [x, w], outputs=[y]))
    # A shift in place of each multiply, and the multiply by each row's scale.
    shift = Cost(multiplies=outputs, adds=mult.adds, shifts=mult.multiplies)
    return _price(mult, prices), _price(shift, prices)


def _price(cost: Cost, prices: Mapping[str, float]) -> float:
    return float(sum(getattr(cost, name) * price for name, price in prices.items()))
