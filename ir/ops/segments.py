"""Reductions over groups of rows: by index, and over segments of given lengths."""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..family import composite, ops, primitive, wrap_dim
from ..meta import TensorMeta
from ..op import public
from ..samples import S, T


def _index_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, include_self: bool) -> Any:
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    at = wrap_dim(dim, x.ndim)
    if index.ndim > 1:
        raise RuntimeError("index_reduce_(): Index is supposed to be a vector")
    if index.dtype not in (_dtype.int32, _dtype.int64):
        raise RuntimeError("index_reduce_(): Expected dtype int32/int64 for index")
    if x.dtype is not source.dtype:
        raise RuntimeError("index_reduce_(): self and source expected to have the same dtype, but got "
                           f"self={x.dtype} and source={source.dtype}")
    if source.ndim and index.numel() != source.shape[at]:
        raise RuntimeError(f"index_reduce_(): Number of indices ({index.numel()}) should be equal to source.size(dim): "
                           f"({source.shape[at]}), for dim: {at}")
    if not x.ndim:
        return ops.scatter_reduce(x, 0, ops.reshape(index, ()), ops.reshape(source, ()), reduce, include_self=include_self)
    shape = [1] * x.ndim
    shape[at] = -1
    places = ops.expand(ops.reshape(ops.cast(index, _dtype.int64), tuple(shape)), tuple(source.shape))
    return ops.scatter_reduce(x, at, places, source, reduce, include_self=include_self)


index_reduce = composite(
    "index_reduce(Tensor self, int dim, Tensor index, Tensor source, str reduce, *, bool include_self=True) -> Tensor",
    _index_reduce, tags=("out", "raises"), inplace=True, dtypes="f",
    samples=lambda: [S(T((3, 4)), 0, T((5,), dtype=_dtype.int64, grad=False, values=[0, 2, 0, 1, 2]), T((5, 4)), how)
                     for how in ("mean", "amax", "amin")]
    + [S(T((3, 4), 0.5, 2.0), 1, T((2,), dtype=_dtype.int64, grad=False, values=[3, 1]), T((3, 2), 0.5, 2.0), "prod",
         include_self=False)],
    doc="Rows of ``source`` combined into those rows of ``self`` that ``index`` names along ``dim``.")

_EMPTY = {"max": -math.inf, "mean": math.nan, "min": math.inf, "sum": 0.0, "prod": 1.0}
_SCATTERED = {"max": "amax", "mean": "sum", "min": "amin", "sum": "sum", "prod": "prod"}


@public("torch.segment_reduce", "torch._segment_reduce")
def segment_reduce(data: Any, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None, axis: int = 0,
                   unsafe: bool = False, initial: float | None = None) -> Any:
    """``data`` reduced over consecutive segments along ``axis`` (max, mean, min, sum, prod), starting from ``initial``.

    Segments are given by their ``lengths`` [*lead, n] or their ``offsets`` [*lead, n + 1]. Shapes: [*lead, rows, *rest] ->
    [*lead, n, *rest].
    """
    if reduce not in _EMPTY:
        raise RuntimeError(f"segment_reduce: expected reduce to be max, mean, min, sum or prod, but got {reduce}")
    if indices is not None:
        raise RuntimeError("segment_reduce(): indices based reduction is not supported yet.")
    if lengths is None and offsets is None:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    at = wrap_dim(axis, data.ndim)
    given = lengths if offsets is None else offsets
    if given.ndim != at + 1 or tuple(given.shape[:at]) != tuple(data.shape[:at]):
        raise RuntimeError(f"segment_reduce(): Expected lengths or offsets of shape [*{list(data.shape[:at])}, n] for axis {at}, "
                           f"but got {list(given.shape)}")
    segment, counts = ops.segment_places(given, data.shape[at], offsets is not None, unsafe)
    n, rest = counts.shape[-1], (1,) * (data.ndim - 1 - at)
    segment = ops.expand(ops.reshape(segment, (*segment.shape, *rest)), tuple(data.shape))
    start = (0.0 if reduce == "mean" else _EMPTY[reduce]) if initial is None else float(initial)
    begun = ops.full((*data.shape[:at], n + 1, *data.shape[at + 1:]), start, dtype=data.dtype, device=data.device)
    found = ops.slice(ops.scatter_reduce(begun, at, segment, data, _SCATTERED[reduce], include_self=True), at, 0, n)
    if reduce != "mean":
        return found
    size = ops.reshape(counts, (*counts.shape, *rest))
    mean = found / ops.cast(ops.clamp(size, 1), data.dtype)
    return mean if initial is not None else ops.where(size == 0, math.nan, mean)


def _segment_places(xp: Any, given: Any, rows: int, are_offsets: bool, unsafe: bool) -> tuple:
    """The segment of each row (their number for a row in none), and the size of each segment."""
    if are_offsets:
        offsets = given.astype("i8")
    else:
        offsets = xp.concatenate([xp.zeros((*given.shape[:-1], 1), "i8"), xp.cumsum(given, -1, dtype="i8")], -1)
    counts = xp.diff(offsets, axis=-1)
    if not unsafe and (counts < 0).any():
        raise RuntimeError("lengths contains negative value!")
    if not (unsafe or are_offsets) and (offsets[..., -1] != rows).any():
        raise RuntimeError("segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1) "
                           "when !unsafe.")
    ends = offsets[..., None, :]
    place = (xp.arange(rows)[:, None] >= ends).sum(-1) - 1
    return xp.where(place < 0, counts.shape[-1], place), counts


def _places_meta(given: Any, rows: Any, are_offsets: bool, unsafe: bool) -> tuple[TensorMeta, TensorMeta]:
    lead, n = tuple(given.shape[:-1]), given.shape[-1] - (1 if are_offsets else 0)
    return TensorMeta((*lead, rows), _dtype.int64, given.device), TensorMeta((*lead, n), _dtype.int64, given.device)


segment_places = primitive(
    "segment_places(Tensor self, int rows, bool are_offsets, bool unsafe) -> (Tensor, Tensor)", "sort", kernel=_segment_places,
    infer=_places_meta, tags=("extern", "raises"), api=(),
    samples=lambda: [S(T((3,), dtype=_dtype.int64, grad=False, values=[2, 0, 3]), 5, False, False),
                     S(T((2, 3), dtype=_dtype.int64, grad=False, values=[[0, 1, 4], [1, 3, 3]]), 5, True, False)],
    doc="The segment of each of ``rows`` rows, and the segments' sizes, from their lengths or offsets along the last axis.")
