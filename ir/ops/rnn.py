"""Recurrent networks: cells of one step, and layers that run a cell over padded or packed sequences, both directions.

The input's share of the gates is one product over all steps; each step then adds the state's share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..family import composite, ops
from ..op import public
from ..samples import S, T
from .dropout import dropout as _dropout

# ---- one step ------------------------------------------------------------------------------------------------------


def _parts(gates: Any, n: int) -> list[Any]:
    """The last dimension in ``n`` equal parts."""
    size = gates.shape[-1] // n
    return [ops.narrow(gates, -1, i * size, size) for i in range(n)]


def _lstm_step(gates: Any, c: Any) -> tuple[Any, Any]:
    i, f, g, o = _parts(gates, 4)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


def _lstm_step_kernel(xp: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    n = c.shape[-1]
    kind = gates.dtype.type
    soft = gates[..., :2 * n] * kind(0.5)
    xp.tanh(soft, out=soft)  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    soft += 1
    soft *= kind(0.5)
    new = soft[..., n:] * c + soft[..., :n] * xp.tanh(gates[..., 2 * n:3 * n])
    out = xp.tanh(gates[..., 3 * n:] * kind(0.5))
    out += 1
    out *= kind(0.5)
    return out * xp.tanh(new), new


def _lstm_step_grads(g: Any, out: Any, gates: Any, c: Any, *, needs: tuple) -> tuple:
    i, f, z, o = _parts(gates, 4)
    i, f, z, o, t = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(z), ops.sigmoid(o), ops.tanh(out[1])
    dc = g[1] + g[0] * o * (1 - t * t)
    parts = [dc * z * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - z * z), g[0] * t * o * (1 - o)]
    return ops.cat(parts, -1) if needs[0] else None, dc * f if needs[1] else None


lstm_step = composite(
    "lstm_step(Tensor gates, Tensor cell) -> (Tensor, Tensor)", _lstm_step, kernel=_lstm_step_kernel, joint_vjp=_lstm_step_grads,
    promote="default", api=(), samples=lambda: [S(T((2, 12)), T((2, 3))), S(T((8,)), T((2,)))],
    doc="Hidden and cell state from the sums of the gates (input, forget, cell, output). [*, 4 H], [*, H] -> two of [*, H].")


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    return ops.linear(x, weight, bias)


def _lstm_cell(gates: Any, state: tuple, weights: Sequence[Any]) -> tuple:
    h, c = ops.lstm_step(gates + _affine(state[0], weights[1], weights[3]), state[1])
    if len(weights) > 4:
        h = ops.matmul(h, ops.t(weights[4]))
    return h, c


def _gru_cell(gates: Any, state: tuple, weights: Sequence[Any]) -> tuple:
    h = state[0]
    xr, xz, xn = _parts(gates, 3)
    hr, hz, hn = _parts(_affine(h, weights[1], weights[3]), 3)
    r, z = ops.sigmoid(xr + hr), ops.sigmoid(xz + hz)
    n = ops.tanh(xn + r * hn)
    return (n + z * (h - n),)


def _simple_cell(activation: Callable[[Any], Any]) -> Callable[..., tuple]:
    return lambda gates, state, weights: (activation(gates + _affine(state[0], weights[1], weights[3])),)


CELLS: dict[str, Callable[..., tuple]] = {
    "LSTM": _lstm_cell, "GRU": _gru_cell, "RNN_TANH": _simple_cell(lambda x: ops.tanh(x)),
    "RNN_RELU": _simple_cell(lambda x: ops.relu(x))}


@public()
def cell(mode: str, x: Any, state: tuple, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> tuple:
    """One step of a cell. Shapes: [*, I], states [*, H], [G H, I], [G H, H], [G H], [G H] -> states [*, H]."""
    return CELLS[mode](_affine(x, w_ih, b_ih), state, (w_ih, w_hh, b_ih, b_hh))


@public("torch.lstm_cell")
def lstm_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> tuple:
    """One LSTM step: the new hidden and cell state."""
    return cell("LSTM", input, tuple(hx), w_ih, w_hh, b_ih, b_hh)


@public("torch.gru_cell")
def gru_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One GRU step: the new hidden state."""
    return cell("GRU", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@public("torch.rnn_tanh_cell")
def rnn_tanh_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of a plain cell with tanh: the new hidden state."""
    return cell("RNN_TANH", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@public("torch.rnn_relu_cell")
def rnn_relu_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of a plain cell with relu: the new hidden state."""
    return cell("RNN_RELU", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


# ---- all steps ----------------------------------------------------------------------------------------------------


def _padded_direction(mode: str, x: Any, state: tuple, weights: Sequence[Any], reverse: bool) -> tuple[Any, tuple]:
    """A cell over [T, B, I]: outputs [T, B, H] and the last state."""
    gates, outputs, steps = _affine(x, weights[0], weights[2]), [], range(x.shape[0])
    for t in reversed(steps) if reverse else steps:
        state = CELLS[mode](ops.select(gates, 0, t), state, weights)
        outputs.append(state[0])
    return ops.stack(outputs[::-1] if reverse else outputs, 0), state


def _packed_direction(mode: str, x: Any, sizes: Sequence[int], state: tuple, weights: Sequence[Any],
                      reverse: bool) -> tuple[Any, tuple]:
    """A cell over packed steps [sum(sizes), I]: outputs in the same order and each sequence's last state."""
    gates, outputs = _affine(x, weights[0], weights[2]), []
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    rows = lambda s, first, count: tuple(ops.narrow(v, 0, first, count) for v in s)
    current = rows(state, 0, sizes[-1] if reverse else sizes[0])
    finished: list[tuple] = []
    for t in reversed(range(len(sizes))) if reverse else range(len(sizes)):
        have = current[0].shape[0]
        if have > sizes[t]:  # the shortest sequences have ended
            finished.append(rows(current, sizes[t], have - sizes[t]))
            current = rows(current, 0, sizes[t])
        elif have < sizes[t]:  # backwards: longer runs of sequences join
            joining = rows(state, have, sizes[t] - have)
            current = tuple(ops.cat([a, b], 0) for a, b in zip(current, joining))
        current = CELLS[mode](ops.narrow(gates, 0, starts[t], sizes[t]), current, weights)
        outputs.append(current[0])
    parts = [current, *reversed(finished)]
    last = tuple(ops.cat([p[i] for p in parts], 0) for i in range(len(state))) if finished else current
    return ops.cat(outputs[::-1] if reverse else outputs, 0), last


@public()
def run_layers(mode: str, x: Any, sizes: Sequence[int] | None, states: tuple, weights: Sequence[Sequence[Any]], *,
               directions: int, dropout: float, training: bool) -> tuple[Any, tuple]:
    """Stacked layers over [T, B, I] (or packed steps with their ``sizes``): outputs and all last states.

    ``states`` are [layers * directions, B, H] each; ``weights`` one group per layer and direction.
    """
    layers = len(weights) // directions
    last: list[tuple] = []
    for layer in range(layers):
        outputs = []
        for d in range(directions):
            k = layer * directions + d
            first = tuple(ops.select(s, 0, k) for s in states)
            if sizes is None:
                out, end = _padded_direction(mode, x, first, weights[k], d == 1)
            else:
                out, end = _packed_direction(mode, x, sizes, first, weights[k], d == 1)
            outputs.append(out)
            last.append(end)
        x = outputs[0] if directions == 1 else ops.cat(outputs, -1)
        if dropout and training and layer < layers - 1:
            x = _dropout(x, dropout, True)
    return x, tuple(ops.stack([s[i] for s in last], 0) for i in range(len(states)))
