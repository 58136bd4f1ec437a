"""Recurrent layers: RNN, GRU and LSTM, one step of the whole batch at a time.

x[T, B, I], w[D, G H, I], r[D, G H, H], b[D, 2 G H] -> y[T, D, B, H], with D directions and G gates.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy import special

from addax.ir._judge.arrays import Array, wide
from addax.ir._judge.ops.activation import LEAK
from addax.ir._judge.table import Kernels, Site

KERNELS = Kernels()
TABLES = (KERNELS,)

Activation: TypeAlias = Callable[[Array], Any]
Cell: TypeAlias = Callable[[Array, Sequence[Array], Array, Array, Sequence[Activation]], list[Any]]
"""(W x of a step, states, R, biases[2, G H], activations) -> new states, the hidden one first."""

_PLAIN: dict[str, Activation] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
}
_SCALED: dict[str, tuple[Callable[[Array, float, float], Any], float | None, float | None]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "elu": (lambda x, a, _: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), 1.0, None),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.20000000298023224, 0.5),
    "leakyrelu": (lambda x, a, _: np.where(x < 0, a * x, x), LEAK, None),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "thresholdedrelu": (lambda x, a, _: np.where(x < a, 0, x), 1.0, None),
}


def _activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float | None
) -> list[Activation]:
    """The activations by name; alphas and betas go, in order, to those that have one."""
    left = iter(alphas), iter(betas)
    return [_activation(name.lower(), *left, clip) for name in names]


def _activation(
    name: str, alphas: Iterator[float], betas: Iterator[float], clip: float | None
) -> Activation:
    if name in _PLAIN:
        inner = _PLAIN[name]
    elif name in _SCALED:
        scaled, alpha, beta = _SCALED[name]
        a = 0.0 if alpha is None else next(alphas, alpha)
        b = 0.0 if beta is None else next(betas, beta)

        def inner(x: Array) -> Any:
            return scaled(x, a, b)
    else:
        raise ValueError(f"activation {name!r} is unknown")
    if clip is None:
        return inner
    return lambda x: inner(np.clip(x, -clip, clip))


def _run(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None,
    lengths: Array | None,
    states: Sequence[Array | None],
    cell: Cell,
    activations: Sequence[Activation],
    direction: str,
    layout: int,
) -> list[Any]:
    """Outputs y and the last states, each with its axis of directions."""
    count, rows, hidden = r.shape
    x, w, r = wide(x), wide(w), wide(r)
    if layout:
        x = x.swapaxes(0, 1)
        states = [None if s is None else s.swapaxes(0, 1) for s in states]
    steps, batch = x.shape[:2]
    biases = np.zeros((count, 2 * rows), x.dtype) if b is None else wide(b)
    zeros = np.zeros((count, batch, hidden), x.dtype)
    starts = [zeros if s is None else wide(s) for s in states]
    ends = np.full(batch, steps) if lengths is None else lengths
    each = len(activations) // count

    outputs, finals = [], []
    for d in range(count):
        backward = direction == "reverse" or d == 1
        time = np.arange(steps)[:, None]
        order = np.where(backward & (time < ends), ends - 1 - time, time)
        scanned = np.take_along_axis(x, order[:, :, None], axis=0)
        y, last = _scan(
            np.matmul(scanned, w[d].T),
            [s[d] for s in starts],
            lambda gates, state, d=d: cell(
                gates,
                state,
                r[d],
                biases[d].reshape(2, -1),
                activations[d * each : (d + 1) * each],
            ),
            ends,
        )
        outputs.append(np.take_along_axis(y, order[:, :, None], axis=0))
        finals.append(last)
    y = np.stack(outputs, axis=1)
    lasts = [np.stack(column) for column in zip(*finals, strict=True)]
    if layout:
        return [y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in lasts)]
    return [y, *lasts]


def _scan(
    inputs: Array, states: list[Array], step: Callable[..., list[Any]], ends: Array
) -> tuple[Any, list[Array]]:
    """Hidden states after each step, 0 beyond a sequence's end, and the states at the ends."""
    y = np.zeros((len(inputs), *states[0].shape), inputs.dtype)
    for t, gates in enumerate(inputs):
        alive = (t < ends)[:, None]
        made = step(gates, states)
        states = [np.where(alive, new, old) for new, old in zip(made, states, strict=True)]
        y[t] = np.where(alive, states[0], 0)
    return y, states


def _rnn_cell(
    gates: Array, states: Sequence[Array], r: Array, b: Array, f: Sequence[Activation]
) -> list[Any]:
    return [f[0](gates + states[0] @ r.T + b[0] + b[1])]


@KERNELS.op("RNN")
def rnn(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
    site: Site,
) -> Any:
    """RNN: h' = f(W x + R h + Wb + Rb)."""
    del hidden_size, output_sequence
    f = _activations(activations or ["Tanh"] * len(w), activation_alpha, activation_beta, clip)
    made = _run(x, w, r, b, lengths, [initial_h], _rnn_cell, f, direction, layout)
    return tuple(v.astype(x.dtype, copy=False) for v in made[: site.outputs])


def _gru_cell(reset_last: int) -> Cell:
    def cell(
        gates: Array, states: Sequence[Array], r: Array, b: Array, f: Sequence[Activation]
    ) -> list[Any]:
        h = states[0]
        wb_z, wb_r, wb_h = np.split(b[0], 3)
        rb_z, rb_r, rb_h = np.split(b[1], 3)
        r_z, r_r, r_h = np.split(r, 3)
        x_z, x_r, x_h = np.split(gates, 3, axis=-1)
        z = f[0](x_z + h @ r_z.T + wb_z + rb_z)
        reset = f[0](x_r + h @ r_r.T + wb_r + rb_r)
        if reset_last:
            new = f[1](x_h + reset * (h @ r_h.T + rb_h) + wb_h)
        else:
            new = f[1](x_h + (reset * h) @ r_h.T + rb_h + wb_h)
        return [(1 - z) * new + z * h]

    return cell


@KERNELS.op("GRU")
def gru(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
    site: Site,
) -> Any:
    """GRU: h' = (1 - z) new + z h with update gate z, reset gate r inside `new`; gates z, r, h."""
    del hidden_size, output_sequence
    names = activations or ["Sigmoid", "Tanh"] * len(w)
    f = _activations(names, activation_alpha, activation_beta, clip)
    cell = _gru_cell(linear_before_reset)
    made = _run(x, w, r, b, lengths, [initial_h], cell, f, direction, layout)
    return tuple(v.astype(x.dtype, copy=False) for v in made[: site.outputs])


def _lstm_cell(coupled: int) -> Cell:
    def cell(
        gates: Array, states: Sequence[Array], r: Array, b: Array, f: Sequence[Activation]
    ) -> list[Any]:
        h, c, p = states
        p_i, p_o, p_f = np.split(p, 3, axis=-1)
        x_i, x_o, x_f, x_c = np.split(gates + h @ r.T + b[0] + b[1], 4, axis=-1)
        i = f[0](x_i + p_i * c)
        forget = 1 - i if coupled else f[0](x_f + p_f * c)
        new = forget * c + i * f[1](x_c)
        o = f[0](x_o + p_o * new)
        return [o * f[2](new), new, p]

    return cell


@KERNELS.op("LSTM")
def lstm(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    peepholes: Array | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
    site: Site,
) -> Any:
    """LSTM: c' = forget c + input g(..), h' = output h(c'); gates i, o, f, c."""
    del hidden_size, output_sequence
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * len(w)
    f = _activations(names, activation_alpha, activation_beta, clip)
    batch = x.shape[0 if layout else 1]
    p = np.zeros((len(w), 3 * r.shape[2]), x.dtype) if peepholes is None else peepholes
    # Peepholes travel as a state that never changes, so that all three layers share one scan.
    p = np.broadcast_to(p[:, None], (len(w), batch, p.shape[-1]))
    states = [initial_h, initial_c, p.swapaxes(0, 1) if layout else p]
    made = _run(x, w, r, b, lengths, states, _lstm_cell(input_forget), f, direction, layout)
    return tuple(v.astype(x.dtype, copy=False) for v in made[: min(site.outputs, 3)])
