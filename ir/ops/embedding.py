"""Rows picked by index: embeddings, bags of them, one-hot vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtype as _dtype
from .. import faults, late
from ..family import common_device, composite, ops, primitive
from ..index import as_index
from ..meta import TensorMeta, meta_of
from ..op import public, type_name
from ..samples import S, T

if TYPE_CHECKING:
    from .. import loops
else:
    loops = late.Later("loops")

_INDEX = (_dtype.int32, _dtype.int64)


def _check_index(name: str, index: Any) -> None:
    if index.dtype not in _INDEX:
        raise RuntimeError(f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
                           f"but got {type_name(index.dtype)} instead (while checking arguments for {name})")


def _embedding_meta(weight: Any, index: Any, padding_idx: int) -> TensorMeta:
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    _check_index("embedding", index)
    return TensorMeta((*index.shape, weight.shape[1]), weight.dtype, common_device(embedding_rows, (weight, index)))


def _embedding_kernel(xp: Any, weight: Any, index: Any, padding_idx: int) -> Any:
    if index.dtype.kind != "i" or weight.ndim != 2:
        raise TypeError("not rows and integers")  # the shape rule says what is wrong
    if index.size and (index.min() < 0 or index.max() >= weight.shape[0]):
        raise IndexError("index out of range in self")
    return xp.take(weight, index, axis=0)


def _embedding_element(index: Any, weight: Any, rows: Any, padding_idx: int) -> Any:
    return weight.at((rows.at(index[:-1]), index[-1]))


embedding_rows = primitive(
    "embedding(Tensor self, Tensor indices, int padding_idx=-1) -> Tensor", "index", kernel=_embedding_kernel,
    tags=("by_rule", "raises"), fault=faults.IN_SELF, infer=_embedding_meta, lower=_embedding_element, api=(),
    vjp=(lambda g, out, weight, index, padding_idx:
         ops.embedding_backward(g, index, weight.shape[0], padding_idx), None),
    samples=lambda: [S(T((5, 3)), _indices([[1, 0, 4], [2, 1, 1]])), S(T((5, 3)), _indices([3, 0, 4]), 1),
                     S(T((5, 3)), _indices([])), S(T((5, 3)), _indices(2))],
    doc="Rows of a table. Shapes: [V, D], any shape of int -> [*, D]. The row ``padding_idx`` gets no gradient.")


def _indices(values: Any) -> T:
    return T(np.shape(values), dtype=_dtype.int64, grad=False, values=values)


def _embedding_backward_kernel(xp: Any, g: Any, index: Any, num: int, padding_idx: int) -> Any:
    kind = g.dtype
    wide = (g.astype(xp.float32) if kind.itemsize == 2 else g).reshape(-1, g.shape[-1])
    out = xp.zeros((num, g.shape[-1]), wide.dtype)
    flat = index.reshape(-1)
    if padding_idx >= 0:
        keep = flat != padding_idx
        flat, wide = flat[keep], wide[keep]
    _add_rows(xp, out, flat, wide)
    return out.astype(kind, copy=False)


def _add_rows(xp: Any, out: Any, index: Any, rows: Any) -> None:
    """``out[index] += rows``, repeated indices adding up: sorted, then one segment sum per distinct row."""
    if not index.size or not rows.size:
        return
    order = xp.argsort(index, kind="stable")
    ordered = index[order]
    starts = xp.flatnonzero(xp.concatenate((xp.ones(1, bool), ordered[1:] != ordered[:-1])))
    if len(starts) == len(ordered):
        out[index] += rows
    else:
        out[ordered[starts]] += xp.add.reduceat(rows[order], starts, axis=0)


def _embedding_backward_parts(g: Any, index: Any, num: Any, padding_idx: int) -> Any:
    flat, rows = ops.reshape(index, (index.numel(),)), ops.reshape(g, (index.numel(), g.shape[-1]))
    if padding_idx >= 0:
        rows = ops.where(ops.unsqueeze(flat == padding_idx, 1), 0, rows)
    return ops.index_add(ops.full((num, g.shape[-1]), 0.0, dtype=g.dtype, device=g.device), 0, flat, rows)


def _embedding_backward_grad(gg: Any, out: Any, g: Any, index: Any, num: int, padding_idx: int) -> Any:
    rows = ops.embedding(gg, index, padding_idx)
    return rows if padding_idx < 0 else ops.where(ops.unsqueeze(index == padding_idx, -1), 0, rows)


embedding_backward = composite(
    "embedding_backward(Tensor grad, Tensor indices, int num, int padding_idx) -> Tensor", _embedding_backward_parts,
    tags=("raises",), kernel=_embedding_backward_kernel, api=(), vjp=(_embedding_backward_grad, None),
    infer=lambda g, index, num, padding_idx: meta_of(g).with_shape((num, g.shape[-1])),
    samples=lambda: [S(T((2, 3, 4)), _indices([[1, 0, 4], [2, 1, 1]]), 5, -1), S(T((3, 2)), _indices([1, 0, 1]), 5, 1)],
    doc="The gradient of an embedding's table of ``num`` rows. Shapes: [*, D], [*] -> [num, D].")


def _padding(padding_idx: int | None, rows: Any) -> int:
    """``padding_idx`` as a row number, -1 for none. Raises ``AssertionError`` outside the table."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise AssertionError("Padding_idx must be within num_embeddings")
    return padding_idx + rows if padding_idx < 0 else padding_idx


@public("nn.functional.embedding")
def embedding(input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Any:
    """Rows of ``weight``. Shapes: any shape of int, [V, D] -> [*, D].

    With ``max_norm`` the rows that are used are scaled, in place, to that norm at most. ``sparse`` is accepted; the gradient
    is dense either way, with zeros in the rows that were not used.
    """
    if weight.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D, but embedding got one of size {list(weight.shape)}")
    padding = _padding(padding_idx, weight.shape[0])
    if max_norm is not None:
        renormalize_rows(weight, input, max_norm, norm_type)
    if scale_grad_by_freq:
        weight = _scaled_by_frequency(weight, input)
    return ops.embedding(weight, input, padding)


@public("torch.embedding")
def embedding_call(weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False,
                   sparse: bool = False) -> Any:
    """``nn.functional.embedding`` with PyTorch's other order of arguments."""
    return embedding(indices, weight, padding_idx if padding_idx >= 0 else None, None, 2.0, scale_grad_by_freq, sparse)


def renormalize_rows(weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows of ``weight`` that ``index`` names to ``norm_type``-norm ``max_norm`` at most, in place."""
    table = ops.detach(weight)
    used = ops.index_select(table, 0, ops.reshape(index, (index.numel(),)))
    norms = ops.sum(abs(used) ** norm_type, 1, True) ** (1.0 / norm_type)
    scaled = ops.where(norms > max_norm, used * (max_norm / (norms + 1e-7)), used)
    ops.copy_(table, ops.index_copy(table, 0, ops.reshape(index, (index.numel(),)), scaled))


def _scaled_by_frequency(weight: Any, index: Any) -> Any:
    """``weight`` whose gradient is divided by how often each row is used."""
    flat = ops.reshape(index, (index.numel(),))
    counts = ops.index_add(ops.zeros_like(ops.detach(weight)[:, 0]), 0, flat, ops.ones_like(ops.cast(flat, weight.dtype)))
    share = ops.unsqueeze(1 / ops.clamp(counts, 1, None), 1)
    return weight * share + ops.detach(weight) * (1 - share)


def _one_hot_meta(index: Any, num_classes: int) -> TensorMeta:
    if index.dtype is not _dtype.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    return meta_of(index).with_shape((*index.shape, num_classes))


def _one_hot_kernel(xp: Any, index: Any, num_classes: int) -> Any:
    wrong = (index < 0) | (index >= num_classes)
    if wrong.any():
        raise faults.CLASS.exception(int(index[wrong].reshape(-1)[0]), num_classes, 0)
    return (xp.expand_dims(index, -1) == xp.arange(num_classes)).astype(np.int64)


def _one_hot_element(at: Any, index: Any, num_classes: int) -> Any:
    size = loops.index_value(as_index(num_classes))
    here = loops.checked_index(index.at(at[:-1]), size, faults.CLASS.number, 0)
    return loops.cast(loops.call("eq", here, loops.index_value(at[-1]), dtype=_dtype.bool_), _dtype.int64)


one_hot_of = primitive(
    "one_hot(Tensor self, int num_classes) -> Tensor", "index", kernel=_one_hot_kernel, infer=_one_hot_meta,
    tags=("check", "raises"),
    lower=_one_hot_element, api=(), dtypes="i", samples=lambda: [S(_indices([[1, 0], [3, 2]]), 4)],
    doc="1 at the index, else 0. Shapes: any shape of int64 -> [*, num_classes].")


@public("nn.functional.one_hot")
def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """1 at the index, else 0. Shapes: any shape of int64 -> [*, num_classes] (-1: the largest index and one)."""
    if num_classes <= 0 and num_classes != -1:
        raise RuntimeError("num_classes should be positive")
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        if ops.amin(tensor).item() < 0:
            raise RuntimeError("Class values must be non-negative.")
        num_classes = int(ops.amax(tensor).item()) + 1
    return ops.one_hot(tensor, num_classes)


# ---- bags ---------------------------------------------------------------------------------------------------------


@public("nn.functional.embedding_bag")
def embedding_bag(input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None, norm_type: float = 2,
                  scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Any = None, include_last_offset: bool = False, padding_idx: int | None = None) -> Any:
    """Sums, means or maxima of bags of rows.

    Shapes: [B, N] (bags are rows) or [n] with ``offsets`` [B] (where bags start), and [V, D] -> [B, D].
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for "
                                  f"mode='sum' (got mode='{mode}').")
    if per_sample_weights is not None and tuple(per_sample_weights.shape) != tuple(input.shape):
        raise ValueError(f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the "
                         f"same shape as the input ({input.shape})")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
                             f"sequences. However, found offsets of type {type(offsets)}")
        bags, longest = input.shape
        offsets = ops.arange(0, bags * longest, max(longest, 1), device=input.device) if longest else ops.arange(
            0, bags, 1, device=input.device) * 0
        input = ops.reshape(input, (bags * longest,))
        per_sample_weights = None if per_sample_weights is None else ops.reshape(per_sample_weights, (bags * longest,))
    elif input.ndim != 1:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    elif offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    rows = embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    bags = offsets.shape[0] - (1 if include_last_offset else 0)
    if per_sample_weights is not None:
        rows = rows * ops.unsqueeze(per_sample_weights, 1)
    bag = _bag_numbers(offsets, input.shape[0], bags)
    counted = None if padding_idx is None else input != _padding(padding_idx, weight.shape[0])
    return _reduced_bags(rows, bag, bags, mode, counted)


def _bag_numbers(offsets: Any, n: Any, bags: Any) -> Any:
    """The bag of each position: how many bags start at or before it, less one."""
    at = ops.unsqueeze(ops.arange(0, n, 1, device=offsets.device), 1)
    return ops.sum(ops.cast(ops.narrow(offsets, 0, 0, bags) <= at, _dtype.int64), 1) - 1


def _reduced_bags(rows: Any, bag: Any, bags: Any, mode: str, counted: Any) -> Any:
    width = rows.shape[1]
    if mode == "max":
        if counted is not None:
            rows = ops.where(ops.unsqueeze(counted, 1), rows, -np.inf)
        member = ops.unsqueeze(bag, 0) == ops.unsqueeze(ops.arange(0, bags, 1, device=bag.device), 1)
        wide = ops.where(ops.unsqueeze(member, 2), ops.unsqueeze(rows, 0), -np.inf)
        found = ops.max_dim(wide, 1)[0] if rows.shape[0] else ops.full((bags, width), 0.0, dtype=rows.dtype, device=rows.device)
        return ops.where(found == -np.inf, 0, found)
    if counted is not None:
        rows = ops.where(ops.unsqueeze(counted, 1), rows, 0)
    total = ops.index_add(ops.full((bags, width), 0.0, dtype=rows.dtype, device=rows.device), 0, bag, rows)
    if mode == "sum":
        return total
    ones = ops.cast(counted if counted is not None else bag >= 0, rows.dtype)
    count = ops.index_add(ops.full((bags,), 0.0, dtype=rows.dtype, device=rows.device), 0, bag, ones)
    return total / ops.unsqueeze(ops.clamp(count, 1, None), 1)
