"""Norms of matrices, condition numbers, and products of vectors."""

from __future__ import annotations

import math
from typing import Any

from ..family import broadcast_shapes, composite, conj_of, ops, wrap_dim
from ..op import public, type_name
from ..samples import S, T
from .linalg_common import check_dtype, well

_INF = math.inf


def _shown(order: Any) -> str:
    return f"{order:g}" if isinstance(order, float) else str(order)


def _two_dims(dim: Any, ndim: int) -> tuple[int, int]:
    if isinstance(dim, int) or len(dim) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim if isinstance(dim, int) else _listed(dim)}")
    a, b = (wrap_dim(d, ndim) for d in dim)
    if a == b:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    return a, b


def _listed(dim: Any) -> str:
    return " ".join(map(str, dim))


def _matrix_norm_parts(a: Any, order: Any, dim: Any, keepdim: bool, dtype: Any) -> Any:
    if a.ndim < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    check_dtype("linalg.matrix_norm", a, half=True)
    rows, columns = _two_dims(dim, a.ndim)
    if order not in ("fro", "nuc") and (isinstance(order, str) or abs(order) not in (1, 2, _INF)):
        raise RuntimeError(f"linalg.matrix_norm: Order {_shown(order)} not supported.")
    if order == "fro":
        return ops.vector_norm(a, 2.0, (rows, columns), keepdim, dtype=dtype)
    if dtype is not None:
        a = ops.cast(a, dtype)
    if order != "nuc" and abs(order) != 2:
        return _largest_sum(a, float(order), rows, columns, keepdim)
    rest = [d for d in range(a.ndim) if d not in (rows, columns)]
    sizes = ops.linalg_svdvals(ops.permute(a, (*rest, rows, columns)))
    none = not sizes.shape[-1] and order != -2
    found = (ops.sum(sizes, (-1,)) if order == "nuc" or none else ops.amax(sizes, (-1,)) if order > 0 else ops.amin(sizes, (-1,)))
    if keepdim:
        for d in sorted((rows, columns)):
            found = ops.unsqueeze(found, d)
    return found


def _largest_sum(a: Any, order: float, rows: int, columns: int, keepdim: bool) -> Any:
    """The largest (smallest) sum of a column (order 1, -1) or of a row (inf, -inf)."""
    summed, kept = (rows, columns) if abs(order) == 1 else (columns, rows)
    sums = ops.vector_norm(a, 1.0, (summed,), True)
    if order > 0 and not a.shape[kept]:
        return ops.sum(sums, (rows, columns), keepdim)
    found = ops.amax(sums, (kept,), True) if order > 0 else ops.amin(sums, (kept,), True)
    return found if keepdim else ops.squeeze(found, (rows, columns))


matrix_norm = composite(
    "linalg_matrix_norm(Tensor A, any ord='fro', int[] dim=(-2, -1), bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    _matrix_norm_parts, api=("linalg.matrix_norm",), tags=("out", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(well(3, 4)), S(well(2, 3, 4), 1), S(well(3, 4), -_INF), S(well(2, 3, 4), "nuc"), S(well(3, 4), 2),
                     S(well(3, 2, 4), -2, (0, 2), True)],
    doc="Norms of matrices: \"fro\", \"nuc\" (sum of singular values), 2 (-2: largest, smallest), 1 (-1: of columns' sums), "
        "inf (-inf: of rows'). Shapes: [*, m, n] -> [*].")


def _norm_parts(a: Any, order: Any, dim: Any, keepdim: bool, dtype: Any) -> Any:
    check_dtype("linalg.norm", a, half=True)
    dims = (dim,) if isinstance(dim, int) else None if dim is None else tuple(dim)
    if order is None:
        return ops.vector_norm(a, 2.0, dims, keepdim, dtype=dtype)
    if dims is None and a.ndim not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {a.ndim}D.")
    if isinstance(order, str) or (len(dims) == 2 if dims is not None else a.ndim == 2):
        dims = (0, 1) if dims is None else dims
        if len(dims) != 2 or a.ndim < 2:
            _two_dims(dims, a.ndim)
        return ops.linalg_matrix_norm(a, order, dims, keepdim, dtype=dtype)
    if dims is not None and len(dims) not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got [{', '.join(map(str, dims))}]")
    return ops.vector_norm(a, float(order), dims, keepdim, dtype=dtype)


linalg_norm = composite(
    "linalg_norm(Tensor A, any ord=None, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor", _norm_parts,
    api=("linalg.norm",), tags=("out", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(well(3, 4)), S(T((4,)), 3), S(well(3, 4), "nuc"), S(well(2, 3, 4), 1, (0, 2)), S(well(3, 4), 2, 1)],
    doc="The norm of vectors (an int ``dim``, or one dimension) or of matrices (two); without ``ord`` of all elements.")


@public("torch.nuclear_norm")
def nuclear_norm(input: Any, dim: Any = (-2, -1), keepdim: bool = False) -> Any:  # noqa: A002
    """The sum of singular values of matrices."""
    return ops.linalg_matrix_norm(input, "nuc", dim, keepdim)


def _cond_parts(a: Any, p: Any) -> Any:
    if a.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p is not None and p not in ("fro", "nuc") and (isinstance(p, str) or abs(p) not in (1, 2, _INF)):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {_shown(p)}")
    if p is None or p in (2, -2):
        sizes = ops.linalg_svdvals(a)
        if not a.shape[-1] or not a.shape[-2]:
            return ops.full(tuple(a.shape[:-2]), 0, dtype=sizes.dtype, device=a.device)
        largest, smallest = ops.select(sizes, -1, 0), ops.select(sizes, -1, sizes.shape[-1] - 1)
        return smallest / largest if p == -2 else largest / smallest
    if a.shape[-1] != a.shape[-2]:
        raise RuntimeError(f"linalg.cond(ord={_shown(p)}): A must be batches of square matrices, but they are {a.shape[-2]} by "
                           f"{a.shape[-1]} matrices")
    if not a.shape[-1]:
        return ops.full(tuple(a.shape[:-2]), 0, dtype=a.dtype.to_real(), device=a.device)
    inverse, info = ops.linalg_inv_ex(a)
    found = ops.linalg_matrix_norm(a, p) * ops.linalg_matrix_norm(inverse, p)
    return ops.where(ops.gt(info, 0), _INF, found)


cond = composite(
    "linalg_cond(Tensor A, any p=None) -> Tensor", _cond_parts, api=("linalg.cond",),
    tags=("out", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3, 3), 1), S(well(3, 3), _INF), S(well(3, 3), -2)],
    doc="Condition numbers: the norm times that of the inverse; for None, 2 and -2 a ratio of singular values.")


# ---- vectors ------------------------------------------------------------------------------------------------------


def _vecdot_parts(x: Any, y: Any, dim: int) -> Any:
    check_dtype("linalg.vecdot", x, half=True)
    return ops.sum(conj_of(x) * y, (dim,))


vecdot = composite(
    "linalg_vecdot(Tensor x, Tensor y, *, int dim=-1) -> Tensor", _vecdot_parts, api=("linalg.vecdot",),
    tags=("amp:lower", "out"), dtypes="fc", samples=lambda: [S(T((3, 4)), T((3, 4))), S(T((3, 4)), T((3, 1)), dim=0)],
    doc="The dot products of the vectors along ``dim``, the first one conjugated, shapes broadcast.")


def _cross_parts(a: Any, b: Any, dim: int) -> Any:
    if a.ndim != b.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    at = wrap_dim(dim, a.ndim)
    if a.shape[at] != 3 or b.shape[at] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {a.shape[at]} and {b.shape[at]}")
    if a.dtype.kind == "b" and b.dtype.kind == "b":
        raise NotImplementedError(f"\"cross\" not implemented for '{type_name(a.dtype)}'")
    broadcast_shapes(tuple(a.shape), tuple(b.shape))

    def turned(x: Any, by: int) -> Any:
        return ops.roll(x, (-by,), (at,))
    return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)


cross = composite(
    "linalg_cross(Tensor self, Tensor other, *, int dim=-1) -> Tensor", _cross_parts, api=("linalg.cross",), tags=("out",),
    dtypes="ifc", samples=lambda: [S(T((2, 3)), T((2, 3))), S(T((3, 1)), T((3, 4)), dim=0)],
    doc="The vector products along ``dim``, shapes broadcast.")


@public("linalg.diagonal")
def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonals of matrices: ``torch.diagonal`` with the last two dimensions as default."""
    return ops.diagonal(A, offset, dim1, dim2)
