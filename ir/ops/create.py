"""Tensors from nothing: filled, counted, converted."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..device import as_device
from ..family import ops, pointwise, primitive
from ..meta import TensorMeta, meta_of
from ..op import Scalar
from ..samples import S, T


def _full_dtype(value: Any, dtype: Any) -> _dtype.DType:
    return dtype if dtype is not None else _dtype.of_number(value)


full = primitive(
    "full(int[] size, Number fill_value, *, dtype? dtype=None, device? device=None) -> Tensor", "create",
    kernel=lambda xp, size, value, dtype, device: xp.full(tuple(size), value, _full_dtype(value, dtype).np),
    infer=lambda size, value, dtype, device: TensorMeta(tuple(size), _full_dtype(value, dtype), as_device(device)),
    api=(), samples=lambda: [S((2, 3), 1.5), S((), 2), S((4,), True)])

cast = pointwise(
    "cast(Tensor self, dtype dtype) -> Tensor", promote="cast", api=(), inplace=False,
    kernel=lambda xp, x, dtype: x.astype(dtype.np), scalar=Scalar("fl_cast<{dtype}>({0})", "{0}.to({dtype})"),
    vjp=lambda g, out, x, dtype: ops.cast(g, x.dtype), dtypes="buifc",
    samples=lambda: [S(T((3, 4)), _dtype.float64), S(T((3, 4)), _dtype.int64), S(T((3, 4)), _dtype.bool_)])

clone = primitive(
    "clone(Tensor self, *, any memory_format=None) -> Tensor", "pointwise", kernel=lambda xp, x, memory_format: x.copy(),
    infer=lambda x, memory_format: meta_of(x), vjp=lambda g, out, x, memory_format: g, dtypes="buifc",
    samples=lambda: [S(T((3, 4))), S(T((3, 4), layout="t"))])

copy = pointwise(
    "copy(Tensor self, Tensor src, bool non_blocking=False) -> Tensor", promote="copy", api=(),
    kernel=lambda xp, x, src, non_blocking: xp.broadcast_to(src, x.shape).astype(x.dtype),
    decompose=lambda x, src, non_blocking: ops.expand(ops.cast(src, x.dtype), tuple(x.shape)),
    vjp=(lambda g, out, x, src, nb: ops.zeros_like(g), lambda g, out, x, src, nb: g), dtypes="buifc",
    samples=lambda: [S(T((3, 4)), T((3, 4))), S(T((3, 4)), T((4,)))])
