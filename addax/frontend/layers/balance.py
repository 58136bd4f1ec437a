"""How many tokens each expert should get, by how long it takes."""

from collections.abc import Mapping

import onnx_ir as ir
from torch import Tensor, nn

from addax.errors import OptionError
from addax.frontend.layers.joining import at_least_one
from addax.frontend.layers.router import Router
from addax.ir.cost import PICOJOULES, Cost, cost_of

__all__ = ["balance_loss", "expert_latencies"]


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
    inputs: int, outputs: int, prices: Mapping[str, float] = PICOJOULES
) -> tuple[float, float]:
    """What a token costs the Mult and the Shift expert of a linear map, by the cost model.

    Args:
        inputs: width of the map's input.
        outputs: width of its output.
        prices: of one multiply, add, shift and table read, in any unit. The default is the papers'
            energy; for latency give the times of your target, or measured latencies of the experts
            in place of this function.

    Raises:
        OptionError: If the prices are of other things.
    """
    inputs, outputs = at_least_one("inputs", inputs), at_least_one("outputs", outputs)
    if prices.keys() != PICOJOULES.keys():
        raise OptionError(
            f"expected prices of {', '.join(PICOJOULES)}; got those of "
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
