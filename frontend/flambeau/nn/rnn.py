"""Recurrent layers and cells."""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.ir.op import ops
from flambeau.ir.ops import rnn as _rnn

from . import init
from .linear import new_parameter
from .module import Module
from .utils.rnn import PackedSequence


class RNNBase(Module):
    """Layers of a recurrent cell: their weights, checks of the arguments, and the run over sequences."""

    mode = ""
    gates = 1
    states = 1

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.mode = mode
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._check_settings(dropout)
        self._flat_weights_names: list[str] = []
        real = proj_size or hidden_size
        for layer in range(num_layers):
            below = input_size if layer == 0 else real * self._directions
            for suffix in ("", "_reverse")[:self._directions]:
                self._add_weights(f"_l{layer}{suffix}", below, real, device, dtype)
        self.reset_parameters()

    def _check_settings(self, dropout: Any) -> None:
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being "
                             "zeroed")
        if dropout > 0 and self.num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                          f"num_layers greater than 1, but got dropout={dropout} and num_layers={self.num_layers}", stacklevel=4)
        if not isinstance(self.hidden_size, int):
            raise TypeError(f"hidden_size should be of type int, got: {type(self.hidden_size).__name__}")
        if self.hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if self.num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if self.proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if self.proj_size >= self.hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _add_weights(self, suffix: str, below: int, real: int, device: Any, dtype: Any) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple] = {"weight_ih": (rows, below), "weight_hh": (rows, real)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, name + suffix, new_parameter(shape, device, dtype))
            self._flat_weights_names.append(name + suffix)

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters, one list per layer and direction."""
        return [[getattr(self, n + s) for n in self._names()] for s in self._suffixes()]

    def _names(self) -> list[str]:
        return ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()),
                *(("weight_hr",) if self.proj_size else ())]

    def _suffixes(self) -> list[str]:
        return [f"_l{layer}{s}" for layer in range(self.num_layers) for s in ("", "_reverse")[:self._directions]]

    def _weights(self) -> list[tuple]:
        """For each layer and direction: weight_ih, weight_hh, bias_ih, bias_hh (None without), and the projection if any."""
        found = []
        for s in self._suffixes():
            biases = (getattr(self, "bias_ih" + s), getattr(self, "bias_hh" + s)) if self.bias else (None, None)
            projection = (getattr(self, "weight_hr" + s),) if self.proj_size else ()
            found.append((getattr(self, "weight_ih" + s), getattr(self, "weight_hh" + s), *biases, *projection))
        return found

    def flatten_parameters(self) -> None:
        """Kept for scripts: weights need no special layout here."""

    def reset_parameters(self) -> None:
        """Uniform in ``1 / sqrt(hidden_size)`` around 0."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _zero_states(self, x: Any, batch: int) -> tuple:
        n = self.num_layers * self._directions
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[:self.states]
        return tuple(ops.full((n, batch, s), 0.0, dtype=x.dtype, device=x.device) for s in sizes)

    def _check_states(self, states: tuple, batch: int) -> None:
        n = self.num_layers * self._directions
        names = ("Expected hidden size {}, got {}",) if self.states == 1 else ("Expected hidden[0] size {}, got {}",
                                                                                "Expected hidden[1] size {}, got {}")
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        for state, size, text in zip(states, sizes, names):
            if tuple(state.shape) != (n, batch, size):
                raise RuntimeError(text.format((n, batch, size), list(state.shape)))

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Shapes: [T, B, I] ([B, T, I] if batch_first), [T, I] or a PackedSequence; states [layers * directions, B, H]."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        batched = input.ndim == 3
        x = input if batched else ops.unsqueeze(input, 1)
        if batched and self.batch_first:
            x = ops.transpose(x, 0, 1)
        self._check_width(x)
        states = self._given_states(hx, batched, input)
        if states is None:
            states = self._zero_states(x, x.shape[1])
        self._check_states(states, x.shape[1])
        out, last = _rnn.run_layers(self.mode, x, None, states, self._weights(), directions=self._directions,
                                    dropout=self.dropout, training=self.training)
        if not batched:
            out, last = ops.squeeze(out, 1), tuple(ops.squeeze(s, 1) for s in last)
        elif self.batch_first:
            out = ops.transpose(out, 0, 1)
        return out, last[0] if self.states == 1 else last

    def _check_width(self, x: Any) -> None:
        if x.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}")

    def _given_states(self, hx: Any, batched: bool, input: Any) -> tuple | None:
        if hx is None:
            return None
        states = tuple(hx) if self.states == 2 else (hx,)
        wanted = 3 if batched else 2
        for s in states:
            if s.ndim != wanted:
                kind, which = ("batched", "3-D") if batched else ("unbatched", "2-D")
                shown = f"hx and cx should also be {which} but got ({states[0].ndim}-D, {states[1].ndim}-D) tensors" \
                    if self.states == 2 else f"hx should also be {which} but got {s.ndim}-D tensor"
                raise RuntimeError(f"For {kind} {input.ndim}-D input, {shown}")
        return states if batched else tuple(ops.unsqueeze(s, 1) for s in states)

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> Any:
        sizes = packed.batch_sizes.tolist()
        self._check_width(packed.data)
        states = None if hx is None else tuple(hx) if self.states == 2 else (hx,)
        if states is None:
            states = self._zero_states(packed.data, sizes[0])
        elif packed.sorted_indices is not None:
            states = tuple(ops.index_select(s, 1, packed.sorted_indices) for s in states)
        self._check_states(states, sizes[0])
        out, last = _rnn.run_layers(self.mode, packed.data, sizes, states, self._weights(), directions=self._directions,
                                    dropout=self.dropout, training=self.training)
        if packed.unsorted_indices is not None:
            last = tuple(ops.index_select(s, 1, packed.unsorted_indices) for s in last)
        result = PackedSequence(out, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return result, last[0] if self.states == 1 else last

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size != 0:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if self.batch_first is not False:
            text += f", batch_first={self.batch_first}"
        if self.dropout != 0:
            text += f", dropout={self.dropout}"
        return text + f", bidirectional={self.bidirectional}" if self.bidirectional is not False else text


class RNN(RNNBase):
    """Plain recurrent layers, ``h = tanh(W x + U h)``. Shapes: [T, B, I] -> [T, B, D H] and the last state."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.__dict__["nonlinearity"] = nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, 0, device, dtype)


class LSTM(RNNBase):
    """Long short-term memory layers. Shapes: [T, B, I] -> [T, B, D H] and the last (hidden, cell) states."""

    gates, states = 4, 2

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
                         device, dtype)


class GRU(RNNBase):
    """Gated recurrent layers. Shapes: [T, B, I] -> [T, B, D H] and the last state."""

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)


class RNNCellBase(Module):
    """One step of a recurrent network."""

    mode = ""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = new_parameter((rows, input_size), device, dtype)
        self.weight_hh = new_parameter((rows, hidden_size), device, dtype)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, new_parameter((rows,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ``1 / sqrt(hidden_size)`` around 0."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _step(self, input: Any, states: Any, count: int) -> tuple:
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        if states is None:
            zero = ops.full((*input.shape[:-1], self.hidden_size), 0.0, dtype=input.dtype, device=input.device)
            states = (zero,) * count
        for i, s in enumerate(states):
            if s.ndim not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {s.ndim}D instead")
            if s.shape[-1] != self.hidden_size:
                raise RuntimeError(f"hidden{i or ''} has inconsistent hidden_size: got {s.shape[-1]}, expected "
                                   f"{self.hidden_size}")
        return _rnn.cell(self.mode, input, tuple(states), self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        nonlinearity = getattr(self, "nonlinearity", "tanh")
        return text if nonlinearity == "tanh" else text + f", nonlinearity={nonlinearity}"


class RNNCell(RNNCellBase):
    """A plain cell. Shapes: [B, I] (or [I]), [B, H] -> [B, H]."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        self.mode = f"RNN_{self.nonlinearity.upper()}"
        return self._step(input, None if hx is None else (hx,), 1)[0]


class LSTMCell(RNNCellBase):
    """A long short-term memory cell. Shapes: [B, I] (or [I]), two of [B, H] -> two of [B, H]."""

    mode = "LSTM"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> tuple:
        return self._step(input, hx, 2)


class GRUCell(RNNCellBase):
    """A gated recurrent cell. Shapes: [B, I] (or [I]), [B, H] -> [B, H]."""

    mode = "GRU"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self._step(input, None if hx is None else (hx,), 1)[0]


__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]
