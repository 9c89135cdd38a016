"""Reductions: elements combined along dimensions."""

from __future__ import annotations

from typing import Any

from ..family import ops, primitive, reduction, wrap_dims
from ..meta import TensorMeta
from ..samples import S, T


def axes(dim: Any, ndim: int) -> Any:
    """``dim`` as NumPy's ``axis``."""
    return None if dim is None or dim == () or dim == [] else wrap_dims(dim, ndim)


def restore_dims(g: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    """``g`` with the dimensions that a reduction of ``x`` removed put back with size 1."""
    if not keepdim:
        for d in wrap_dims(dim, x.ndim):
            g = ops.unsqueeze(g, d)
    return g


sum_ = reduction(
    "sum(Tensor self, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    kernel=lambda xp, x, dim, keepdim, dtype: xp.sum(x, axis=axes(dim, x.ndim), keepdims=keepdim),
    reduce="sum", promote="sum", dtypes="buifc",
    vjp=lambda g, out, x, dim, keepdim, dtype: ops.expand(restore_dims(g, x, dim, keepdim), tuple(x.shape)),
    samples=lambda: [S(T((3, 4))), S(T((3, 4, 2)), 1), S(T((3, 4, 2)), (0, -1), True), S(T(())), S(T((2, 0)), 1)])


def _sum_to_size(xp: Any, x: Any, size: Any) -> Any:
    lead = x.ndim - len(size)
    axis = tuple(range(lead)) + tuple(i for i in range(lead, x.ndim) if size[i - lead] == 1 and x.shape[i] != 1)
    return xp.sum(x, axis=axis, keepdims=True).reshape(size) if axis else x.reshape(size)


def _sum_to_size_parts(x: Any, size: Any) -> Any:
    lead = x.ndim - len(size)
    kept = tuple(i for i in range(lead, x.ndim) if size[i - lead] == 1 and x.shape[i] != 1)
    if kept:
        x = ops.sum(x, kept, True)
    return ops.sum(x, tuple(range(lead))) if lead else x


sum_to_size = primitive(
    "sum_to_size(Tensor self, int[] size) -> Tensor", "composite", promote="keep", kernel=_sum_to_size,
    infer=lambda x, size: TensorMeta(tuple(size), x.dtype, x.device), decompose=_sum_to_size_parts,
    vjp=lambda g, out, x, size: ops.expand(g, tuple(x.shape)), dtypes="ifc", api=("Tensor.sum_to_size",),
    samples=lambda: [S(T((3, 4)), (1, 4)), S(T((2, 3, 4)), (3, 1)), S(T((3, 4)), (3, 4))])
