"""Recurrent layers: RNN, GRU and LSTM."""

from collections.abc import Sequence

from addax.backends._torch_ops.recurrence import DEFAULTS, FUNCTIONS, run_layer
from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()


def _checked(
    site: Site, activations: Sequence[str] | None, alpha: object, beta: object, directions: int
) -> tuple[str, ...]:
    """The activations in lower case, for all directions."""
    default = DEFAULTS[site.node.op_type] * directions
    names = default if activations is None else tuple(name.lower() for name in activations)
    strange = [name for name in names if name not in FUNCTIONS]
    if strange:
        site.decline(f"activation {strange[0]!r} is none of {', '.join(sorted(FUNCTIONS))}")
    site.require(not alpha and not beta, "activations with parameters have no converter")
    return names


@OPS.op("RNN", since=7)
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    site: Site,
) -> tuple[Tensor, ...]:
    """The simple recurrent layer."""
    del hidden_size
    count = 2 if direction == "bidirectional" else 1
    names = _checked(site, activations, activation_alpha, activation_beta, count)
    settings = (names, clip, direction, layout)
    made = site.call(run_layer, "RNN", x, w, r, (b, lengths, h, None, None), *settings)
    return made[0], made[1]


@OPS.op("GRU", since=7)
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    site: Site,
) -> tuple[Tensor, ...]:
    """The gated recurrent layer."""
    del hidden_size
    count = 2 if direction == "bidirectional" else 1
    names = _checked(site, activations, activation_alpha, activation_beta, count)
    settings = (names, clip, direction, layout, bool(linear_before_reset))
    made = site.call(run_layer, "GRU", x, w, r, (b, lengths, h, None, None), *settings)
    return made[0], made[1]


@OPS.op("LSTM", since=7)
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
    site: Site,
) -> tuple[Tensor, ...]:
    """The layer of long short-term memory."""
    del hidden_size
    count = 2 if direction == "bidirectional" else 1
    names = _checked(site, activations, activation_alpha, activation_beta, count)
    site.require(not input_forget, "coupled input and forget gates have no converter")
    settings = (names, clip, direction, layout)
    made = site.call(run_layer, "LSTM", x, w, r, (b, lengths, h, c, p), *settings)
    return made[0], made[1], made[2]
