"""What recurrent layers compute, while the graph runs.

Plain layers run in torch's fused kernels, others step by step. Names follow ONNX: `w` and `r` are
the weights of input and state, `b` the biases of both, `h` the state, `c` the cell, `p` the
peepholes. A direction or gate is a leading axis or block of these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import Tensor

Function = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Function] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}
DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
_ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Where torch's gates stand among ONNX's."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One direction of a layer."""

    w: Tensor
    r: Tensor
    b: Tensor
    p: Tensor | None
    functions: tuple[Function, ...]
    clip: float | None
    linear_before_reset: bool

    def limited(self, x: Tensor) -> Tensor:
        """What goes into an activation."""
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


def run_layer(
    kind: str,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    rest: tuple[Tensor | None, ...],
    activations: Sequence[str],
    clip: float | None,
    direction: str,
    layout: int,
    linear_before_reset: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """All states y[T, direction, batch, H], the last ones, and for LSTM the last cells.

    `rest` is b, lengths, h, c, p. With `layout` 1 the batch comes first.
    """
    b, lengths, h, c, p = rest
    if layout:
        x = x.transpose(0, 1)
        h, c = (None if state is None else state.transpose(0, 1) for state in (h, c))
    count, size = w.size(0), r.size(-1)
    nothing = x.new_zeros((count, x.size(1), size))
    h, c = nothing if h is None else h, nothing if c is None else c
    b = x.new_zeros((count, 2 * w.size(1))) if b is None else b
    plain = tuple(activations) == DEFAULTS[kind] * count and clip is None
    plain = plain and lengths is None and p is None and direction != "reverse"
    if plain and (kind != "GRU" or linear_before_reset):
        y, last, cell = _fused(kind, x, w, r, b, h, c)
    else:
        each = len(activations) // count
        ways = []
        for k in range(count):
            functions = tuple(FUNCTIONS[name] for name in activations[k * each : (k + 1) * each])
            peep = None if p is None else p[k]
            one = Cell(w[k], r[k], b[k], peep, functions, clip, linear_before_reset)
            ways.append(_one_way(kind, one, x, h[k], c[k], lengths, direction == "reverse" or k))
        y = torch.stack([way[0] for way in ways], 1)
        last = torch.stack([way[1] for way in ways])
        cell = torch.stack([way[2] for way in ways])
    if layout:
        y, last, cell = y.permute(2, 0, 1, 3), last.transpose(0, 1), cell.transpose(0, 1)
    return y, last, cell


def _fused(
    kind: str, x: Tensor, w: Tensor, r: Tensor, b: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    weights = []
    for k in range(w.size(0)):
        for part in (w[k], r[k], *b[k].chunk(2)):
            gates = part.chunk(len(_ORDER[kind]))
            weights.append(torch.cat([gates[g] for g in _ORDER[kind]]))
    two = w.size(0) == 2
    # cuDNN keeps what the backward pass needs only in training, which without dropout is the same.
    training = torch.is_grad_enabled()
    if kind == "LSTM":
        y, last, cell = torch.lstm(x, (h, c), weights, True, 1, 0.0, training, two, False)
    else:
        function = torch.gru if kind == "GRU" else torch.rnn_tanh
        y, last = function(x, h, weights, True, 1, 0.0, training, two, False)
        cell = last
    return torch.unflatten(y, 2, (w.size(0), -1)).transpose(1, 2), last, cell


def _one_way(
    kind: str,
    cell: Cell,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    lengths: Tensor | None,
    backward: bool | int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction; beyond its length a sequence keeps its state and returns zeros."""
    step = _STEPS[kind]
    turns = range(x.size(0))
    made: list[Tensor] = [h] * len(turns)
    for t in reversed(turns) if backward else turns:
        new_h, new_c = step(cell, x[t], h, c)
        if lengths is None:
            made[t], h, c = new_h, new_h, new_c
            continue
        alive = (t < lengths)[:, None]
        made[t] = torch.where(alive, new_h, torch.zeros_like(new_h))
        h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
    return torch.stack(made) if made else x.new_zeros((0, *h.shape)), h, c


def _rnn_step(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    inner, outer = cell.b.chunk(2)
    gate = F.linear(x, cell.w, inner) + F.linear(h, cell.r, outer)
    return cell.functions[0](cell.limited(gate)), c


def _gru_step(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    f, g = cell.functions
    (wz, wr, wh), (rz, rr, rh) = cell.w.chunk(3), cell.r.chunk(3)
    bz, br, bh, cz, cr, ch = cell.b.chunk(6)
    update = f(cell.limited(F.linear(x, wz, bz) + F.linear(h, rz, cz)))
    reset = f(cell.limited(F.linear(x, wr, br) + F.linear(h, rr, cr)))
    if cell.linear_before_reset:
        inner = F.linear(x, wh, bh) + reset * F.linear(h, rh, ch)
    else:
        inner = F.linear(x, wh, bh) + F.linear(reset * h, rh, ch)
    return (1 - update) * g(cell.limited(inner)) + update * h, c


def _lstm_step(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    f, g, last = cell.functions
    inner, outer = cell.b.chunk(2)
    gates = F.linear(x, cell.w, inner) + F.linear(h, cell.r, outer)
    i, o, forget, new = gates.chunk(4, dim=1)
    pi, po, pf = (0.0, 0.0, 0.0) if cell.p is None else cell.p.chunk(3)
    i, forget = f(cell.limited(i + pi * c)), f(cell.limited(forget + pf * c))
    c = forget * c + i * g(cell.limited(new))
    return f(cell.limited(o + po * c)) * last(c), c


_STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}
