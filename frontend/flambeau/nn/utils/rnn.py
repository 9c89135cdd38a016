"""Sequences of different lengths: padded, packed, and back (PyTorch: ``torch.nn.utils.rnn``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from flambeau.ir import dtype as _dtype
from flambeau.ir.op import ops
from flambeau.runtime.tensor import Tensor, wrap


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any
    unsorted_indices: Any


class PackedSequence(_Packed):
    """Steps of sorted sequences one after the other; ``batch_sizes`` says how many sequences each step has."""

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None) -> Any:
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same sequences, their data and indices moved or cast."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        places = [None if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices)]
        return type(self)(data, self.batch_sizes, *places)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self.to("cuda", **kwargs)

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def double(self) -> PackedSequence:
        return self.to(_dtype.float64)

    def float(self) -> PackedSequence:
        return self.to(_dtype.float32)

    @property
    def is_cuda(self) -> bool:
        return self.data.is_cuda


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes ``permutation`` [n]."""
    if permutation is None:
        return None
    n = permutation.shape[0]
    return ops.scatter(ops.zeros_like(permutation), 0, permutation, ops.arange(0, n, 1, device=permutation.device))


def _lengths(lengths: Any) -> list[int]:
    return [int(n) for n in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Pack [T, B, *] (or [B, T, *] if batch_first) with sequences of ``lengths``; unsorted ones are sorted first."""
    sizes = _lengths(lengths)
    order = None
    if not enforce_sorted:
        ranked = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        order, sizes = _index(ranked, input), [sizes[i] for i in ranked]
        input = ops.index_select(input, 0 if batch_first else 1, order)
    x = ops.transpose(input, 0, 1) if batch_first else input
    if len(sizes) != x.shape[1]:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} (batch_size={x.shape[1]})")
    if any(a < b for a, b in zip(sizes, sizes[1:])):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                           "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if "
                           "you do not need ONNX exportability.")
    if sizes and sizes[-1] <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    batches = [sum(n > t for n in sizes) for t in range(sizes[0])]
    data = ops.cat([ops.narrow(ops.select(x, 0, t), 0, 0, b) for t, b in enumerate(batches)], 0)
    return PackedSequence(data, _index(batches), order)


def _index(values: Iterable[int], like: Any = None) -> Any:
    import numpy as np  # noqa: PLC0415
    made = wrap(np.asarray(list(values), np.int64))
    return made if like is None or not like.is_cuda else made.to(like.device)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Any, Any]:
    """The padded tensor of a packed sequence, and the lengths [B]."""
    batches = sequence.batch_sizes.tolist()
    steps = len(batches)
    if total_length is not None and total_length < steps:
        raise ValueError(f"Expected total_length to be at least the length of the longest sequence in input, but got "
                         f"total_length={total_length} and max sequence length being {steps}")
    rows, start, rest = [], 0, tuple(sequence.data.shape[1:])
    for b in batches:
        step = ops.narrow(sequence.data, 0, start, b)
        if b < batches[0]:
            step = ops.constant_pad_nd(step, (0, 0) * len(rest) + (0, batches[0] - b), padding_value)
        rows.append(step)
        start += b
    out = ops.stack(rows, 0)
    if total_length is not None and total_length > steps:
        out = ops.constant_pad_nd(out, (0, 0) * (len(rest) + 1) + (0, total_length - steps), padding_value)
    lengths = _index(sum(b > i for b in batches) for i in range(batches[0]))
    if batch_first:
        out = ops.transpose(out, 0, 1)
    if sequence.unsorted_indices is not None:
        out = ops.index_select(out, 0 if batch_first else 1, sequence.unsorted_indices)
        lengths = ops.index_select(lengths, 0, sequence.unsorted_indices.cpu() if lengths.is_cuda else sequence.unsorted_indices)
    return out, lengths


def pad_sequence(sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right") -> Any:
    """Tensors [L_i, *] as one [T, B, *] (or [B, T, *] if batch_first), the short ones padded."""
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side must be either \"left\" or \"right\", but got {padding_side!r}")
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        missing = longest - s.shape[0]
        pads = (0, 0) * (s.ndim - 1) + ((missing, 0) if padding_side == "left" else (0, missing))
        rows.append(ops.constant_pad_nd(s, pads, padding_value) if missing else s)
    return ops.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """The tensors that ``pad_sequence`` padded."""
    x = padded_sequences if batch_first else ops.transpose(padded_sequences, 0, 1)
    return [ops.narrow(ops.select(x, 0, i), 0, 0, n) for i, n in enumerate(_lengths(lengths))]


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Pack tensors [L_i, *]."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The tensors that ``pack_sequence`` packed."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
           "unpack_sequence", "unpad_sequence"]
