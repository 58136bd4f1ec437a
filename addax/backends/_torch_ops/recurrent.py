"""Recurrent layers: RNN, GRU and LSTM.

Plain layers run in torch's fused kernels, others step by step. Names follow ONNX: W and R are the
weights of input and state, B their biases, H the state, C the cell, P the peepholes.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Tensor

OPS = Converters()

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}
_DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
_ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Where torch's gates stand among ONNX's."""


def _checked(
    site: Site, activations: Sequence[str] | None, alpha: object, beta: object, directions: int
) -> tuple[str, ...]:
    """The activations in lower case, for all directions."""
    default = _DEFAULTS[site.node.op_type] * directions
    names = default if activations is None else tuple(name.lower() for name in activations)
    strange = [name for name in names if name not in _FUNCTIONS]
    if strange:
        site.decline(f"activation {strange[0]!r} is none of {', '.join(sorted(_FUNCTIONS))}")
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
    made = site.call(run_layer, "RNN", (x, w, r, b, lengths, h, None, None), *settings)
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
    made = site.call(run_layer, "GRU", (x, w, r, b, lengths, h, None, None), *settings)
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
    made = site.call(run_layer, "LSTM", (x, w, r, b, lengths, h, c, p), *settings)
    return made[0], made[1], made[2]


def run_layer(
    kind: str,
    tensors: tuple[Tensor | None, ...],
    activations: Sequence[str],
    clip: float | None,
    direction: str,
    layout: int,
    linear_before_reset: bool = False,
) -> tuple[Tensor, ...]:
    """All states y[T, direction, batch, H], the last ones, and for LSTM the last cells.

    With `layout` 1 the batch comes first.
    """
    x, w, r, b, lengths, h, c, p = tensors
    if x is None or w is None or r is None:
        raise TypeError("a recurrent layer needs an input and two weights")
    if layout:
        x = x.transpose(0, 1)
        h = None if h is None else h.transpose(0, 1)
        c = None if c is None else c.transpose(0, 1)
    count, size = w.size(0), r.size(-1)
    state = x.new_zeros((count, x.size(1), size))
    h, c = state if h is None else h, state if c is None else c
    b = x.new_zeros((count, 2 * w.size(1))) if b is None else b
    plain = tuple(activations) == _DEFAULTS[kind] * count and clip is None
    plain = plain and lengths is None and p is None and direction != "reverse"
    if plain and (kind != "GRU" or linear_before_reset):
        y, last, cell = _fused(kind, x, w, r, b, h, c)
    else:
        steps = _STEPS[kind]
        made = []
        for k in range(count):
            given = activations[k * len(_DEFAULTS[kind]) : (k + 1) * len(_DEFAULTS[kind])]
            functions = [_FUNCTIONS[name] for name in given]
            weights = (w[k], r[k], b[k], None if p is None else p[k])
            backward = direction == "reverse" or k == 1
            made.append(
                _one_way(
                    lambda *step, w=weights, f=functions: steps(
                        *step, *w, f, clip, linear_before_reset
                    ),
                    x,
                    h[k],
                    c[k],
                    lengths,
                    backward,
                )
            )
        y, last, cell = (torch.stack(part, dim) for part, dim in zip(zip(*made), (1, 0, 0)))
    if layout:
        y, last, cell = y.permute(2, 0, 1, 3), last.transpose(0, 1), cell.transpose(0, 1)
    return y, last, cell


def _fused(
    kind: str, x: Tensor, w: Tensor, r: Tensor, b: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    weights = []
    for k in range(w.size(0)):
        both = b[k].chunk(2)
        for part in (w[k], r[k], *both):
            gates = part.chunk(len(_ORDER[kind]))
            weights.append(torch.cat([gates[g] for g in _ORDER[kind]]))
    two = w.size(0) == 2
    if kind == "LSTM":
        y, last, cell = torch.lstm(x, (h, c), weights, True, 1, 0.0, False, two, False)
    else:
        function = torch.gru if kind == "GRU" else torch.rnn_tanh
        y, last = function(x, h, weights, True, 1, 0.0, False, two, False)
        cell = last
    return y.unflatten(2, (w.size(0), -1)).transpose(1, 2), last, cell


def _one_way(
    step: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    lengths: Tensor | None,
    backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction; beyond its length a sequence keeps its state and returns zeros."""
    turns = range(x.size(0))
    made: list[Tensor] = [h] * len(turns)
    for t in reversed(turns) if backward else turns:
        new_h, new_c = step(x[t], h, c)
        if lengths is None:
            made[t], h, c = new_h, new_h, new_c
            continue
        alive = (t < lengths)[:, None]
        made[t] = torch.where(alive, new_h, torch.zeros_like(new_h))
        h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
    return torch.stack(made) if made else x.new_zeros((0, *h.shape)), h, c


def _limited(x: Tensor, clip: float | None) -> Tensor:
    return x if clip is None else x.clamp(-clip, clip)


Functions = Sequence[Callable[[Tensor], Tensor]]


def _rnn_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    p: Tensor | None,
    functions: Functions,
    clip: float | None,
    _: bool,
) -> tuple[Tensor, Tensor]:
    inner, outer = b.chunk(2)
    h = functions[0](_limited(F.linear(x, w, inner) + F.linear(h, r, outer), clip))
    return h, c


def _gru_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    p: Tensor | None,
    functions: Functions,
    clip: float | None,
    linear_before_reset: bool,
) -> tuple[Tensor, Tensor]:
    f, g = functions
    (wz, wr, wh), (rz, rr, rh) = w.chunk(3), r.chunk(3)
    bz, br, bh, cz, cr, ch = b.chunk(6)
    update = f(_limited(F.linear(x, wz, bz) + F.linear(h, rz, cz), clip))
    reset = f(_limited(F.linear(x, wr, br) + F.linear(h, rr, cr), clip))
    if linear_before_reset:
        inner = F.linear(x, wh, bh) + reset * F.linear(h, rh, ch)
    else:
        inner = F.linear(x, wh, bh) + F.linear(reset * h, rh, ch)
    return (1 - update) * g(_limited(inner, clip)) + update * h, c


def _lstm_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    p: Tensor | None,
    functions: Functions,
    clip: float | None,
    _: bool,
) -> tuple[Tensor, Tensor]:
    f, g, last = functions
    inner, outer = b.chunk(2)
    i, o, forget, cell = (F.linear(x, w, inner) + F.linear(h, r, outer)).chunk(4, dim=1)
    pi, po, pf = (0.0, 0.0, 0.0) if p is None else p.chunk(3)
    i, forget = f(_limited(i + pi * c, clip)), f(_limited(forget + pf * c, clip))
    c = forget * c + i * g(_limited(cell, clip))
    return f(_limited(o + po * c, clip)) * last(c), c


_STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}
