"""Norms and products of linear algebra (PyTorch: ``torch.linalg``)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from flambeau.ir.op import PUBLIC, ops

vector_norm, cross, matmul, diagonal = (PUBLIC["linalg"]["vector_norm"], PUBLIC["torch"]["cross"],
                                        PUBLIC["torch"]["matmul"], PUBLIC["torch"]["diagonal"])


def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:  # noqa: A002
    """The norm of a vector (an int ``dim``, or one dimension) or of matrices (two); without ``ord`` of all elements."""
    dims = (dim,) if isinstance(dim, int) else dim
    if ord is None:
        return vector_norm(A, 2, dims, keepdim, dtype=dtype)
    if len(dims) == 2 if dims is not None else A.ndim == 2:
        return matrix_norm(A, ord, dims or (-2, -1), keepdim, dtype=dtype)
    if dims is None and A.ndim != 1:
        raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D.")
    return vector_norm(A, float(ord), dims, keepdim, dtype=dtype)


def matrix_norm(A: Any, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *,  # noqa: A002
                dtype: Any = None) -> Any:
    """The norm of the matrices in ``dim``: "fro", or the largest (smallest, negative) sum of rows (inf) or columns (1).

    Raises ``NotImplementedError`` for the orders that need singular values ("nuc", 2, -2).
    """
    rows, columns = (d % A.ndim for d in dim)
    if ord == "fro":
        return vector_norm(A, 2, (rows, columns), keepdim, dtype=dtype)
    if ord not in (1, -1, float("inf"), float("-inf")):
        raise NotImplementedError(f"matrix_norm: order {ord!r} needs singular values, which are not computed here; use "
                                  "numpy.linalg.svd on the tensor's numpy()")
    summed, kept = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = vector_norm(A, 1, (summed,), True, dtype=dtype)
    found = ops.amax(sums, [kept], True) if ord > 0 else ops.amin(sums, [kept], True)
    return found if keepdim else ops.squeeze(found, [rows, columns])


def multi_dot(tensors: Sequence[Any]) -> Any:
    """The product of matrices, from left to right; the first and last may be vectors."""
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    return functools.reduce(matmul, tensors)


def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """The dot products of the vectors along ``dim``, the first one conjugated."""
    return ops.sum(ops.mul(ops.conj(x) if x.dtype.is_complex else x, y), [dim])


def matrix_power(A: Any, n: int) -> Any:
    """``A`` multiplied with itself ``n`` times. Raises ``NotImplementedError`` for a negative ``n``."""
    if n < 0:
        raise NotImplementedError("matrix_power: negative powers need an inverse, which is not computed here")
    result = PUBLIC["torch"]["eye"](A.shape[-1], dtype=A.dtype, device=A.device).expand(A.shape)
    while n:  # by repeated squaring
        result, A, n = (matmul(result, A) if n & 1 else result), (matmul(A, A) if n > 1 else A), n >> 1
    return result


__all__ = ["cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "multi_dot", "norm", "vecdot", "vector_norm"]
