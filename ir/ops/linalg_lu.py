"""LU factors, and systems solved with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import composite, ops, primitive
from ..op import public, type_name, write_out
from ..samples import S, T
from . import returns
from .linalg_common import (
    adjoint,
    check_matrix,
    check_system,
    each,
    factor_lu,
    meta,
    named_result,
    on_host,
    raise_for,
    well,
)

_I32 = _dtype.int32
_TAGS = ("extern", "check", "no_half")


# ---- LU -----------------------------------------------------------------------------------------------------------


_ZERO_PIVOT = ("U[{info},{info}] is zero and using it on lu_solve would result in a division by zero. If you still want to "
               "perform the factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)")


@on_host
def _lu_factor(a: Any, pivot: bool, check_errors: bool, caller: str) -> tuple:
    found = each(factor_lu, a)
    if check_errors:
        raise_for("torch." + caller, found[2], _ZERO_PIVOT)
    return found


def _lu_factor_meta(a: Any, pivot: bool, check_errors: bool, caller: str) -> tuple:
    check_matrix("torch.linalg.lu_factor", a)
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    lead = tuple(a.shape[:-2])
    return meta(a, a.shape), meta(a, (*lead, min(a.shape[-2:])), _I32), meta(a, lead, _I32)


def _strictly_lower(x: Any) -> Any:
    return ops.tril(x, -1)


def lu_gradient(gl: Any, gu: Any, p: Any, lower: Any, upper: Any) -> Any:
    """The gradient of A = P L U [m, n]; beyond the square part, the wider factor is a product with the other's inverse."""
    m, n = lower.shape[-2], upper.shape[-1]
    k = min(m, n)
    l1, u1 = ops.narrow(lower, -2, 0, k), ops.narrow(upper, -1, 0, k)
    gl1, gu1 = ops.narrow(gl, -2, 0, k), ops.narrow(gu, -1, 0, k)
    rest = None
    if n > k:
        rest = ops.linalg_solve_triangular(adjoint(l1), ops.narrow(gu, -1, k, n - k), upper=True, unitriangular=True)
        gl1 = gl1 - ops.matmul(rest, adjoint(ops.narrow(upper, -1, k, n - k)))
    elif m > k:
        rest = ops.linalg_solve_triangular(adjoint(u1), ops.narrow(gl, -2, k, m - k), upper=False, left=False)
        gu1 = gu1 - ops.matmul(adjoint(ops.narrow(lower, -2, k, m - k)), rest)
    inner = _strictly_lower(ops.matmul(adjoint(l1), gl1)) + ops.triu(ops.matmul(gu1, adjoint(u1)))
    inner = ops.linalg_solve_triangular(adjoint(l1), inner, upper=True, unitriangular=True)
    inner = ops.linalg_solve_triangular(adjoint(u1), inner, upper=False, left=False)
    if rest is not None:
        inner = ops.cat([inner, rest], -1 if n > k else -2)
    return inner if p is None else ops.matmul(p, inner)


def _lu_factor_rule(g: Any, out: Any, a: Any, pivot: bool, check_errors: bool, caller: str) -> Any:
    p, lower, upper = ops.linalg_lu_unpack(out[0], out[1])
    k = min(a.shape[-2], a.shape[-1])
    return lu_gradient(_strictly_lower(ops.narrow(g[0], -1, 0, k)), ops.triu(ops.narrow(g[0], -2, 0, k)), p, lower, upper)


lu_factor_ex = primitive(
    "linalg_lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False, str caller='linalg.lu_factor_ex') "
    "-> (Tensor, Tensor, Tensor)", "linalg", kernel=_lu_factor, infer=_lu_factor_meta, vjp=_lu_factor_rule, api=(),
    tags=(*_TAGS, "raises"), dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3))],
    doc="L (below the diagonal) and U of A = P L U, the pivots, and for each matrix the first zero on U's diagonal.")
named_result(lu_factor_ex, returns.linalg_lu_factor_ex, "linalg.lu_factor_ex")


@public("linalg.lu_factor")
def lu_factor(A: Any, *, pivot: bool = True, out: Any = None) -> Any:
    """L and U of ``A = P L U`` in one matrix, and the pivots. Raises for a U with a zero on its diagonal."""
    lu, pivots, _ = ops.linalg_lu_factor_ex(A, pivot=pivot, check_errors=True, caller="linalg.lu_factor")
    found = returns.linalg_lu_factor(lu, pivots)
    return found if out is None else returns.linalg_lu_factor(*write_out(lu_factor_ex, tuple(found), tuple(out)))


@on_host
def _permutation(pivots: Any, m: int) -> Any:
    """The rows' order after the exchanges that LAPACK's pivots tell."""
    lead, k = pivots.shape[:-1], pivots.shape[-1]
    order = np.tile(np.arange(m), (int(np.prod(lead)), 1))
    rows = np.arange(len(order))
    flat = pivots.reshape(len(order), k).astype(np.int64) - 1
    for i in range(k):
        j = flat[:, i]
        order[rows, i], order[rows, j] = order[rows, j], order[rows, i].copy()
    return order.reshape(*lead, m)


permutation = primitive(
    "linalg_permutation(Tensor pivots, int m) -> Tensor", "linalg", kernel=_permutation, api=(), tags=("extern", "raises"),
    infer=lambda pivots, m: meta(pivots, (*pivots.shape[:-1], m), _dtype.int64),
    samples=lambda: [S(T((3,), values=[3, 3, 3], dtype=_I32), 3), S(T((2, 2), values=[[2, 2], [1, 4]], dtype=_I32), 4)],
    doc="Which row of A stands in each row of L U: LAPACK's pivots [..., k] as an order [..., m].")


def _permutation_matrix(pivots: Any, m: Any, like: Any) -> Any:
    """P of A = P L U: a one in column i at row order[i]."""
    order = ops.linalg_permutation(pivots, m)
    rows = ops.unsqueeze(ops.arange(0, m, 1, dtype=order.dtype, device=order.device), -1)
    return ops.cast(ops.eq(rows, ops.unsqueeze(order, -2)), like.dtype)


def _lu_unpack_parts(lu: Any, pivots: Any, unpack_data: bool, unpack_pivots: bool) -> tuple:
    if unpack_pivots and pivots.dtype is not _I32:
        raise RuntimeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\n"
                           "Note: this function is intended to be used with the output produced by torch.linalg.lu_factor")
    check_matrix("torch.lu_unpack", lu, "LU_data")
    m, n = lu.shape[-2:]
    k = min(m, n)
    nothing = ops.full((0,), 0, dtype=lu.dtype, device=lu.device)
    p = _permutation_matrix(pivots, m, lu) if unpack_pivots else nothing
    if not unpack_data:
        return p, nothing, nothing
    lower = _strictly_lower(ops.narrow(lu, -1, 0, k)) + ops.eye(m, k, dtype=lu.dtype, device=lu.device)
    return p, lower, ops.triu(ops.narrow(lu, -2, 0, k))


def _factored(*shape: int) -> list[T]:
    """LU and pivots of well-conditioned matrices."""
    lu, pivots, _ = _lu_factor(np, well(*shape).values, True, False, "")
    return [T(shape, values=lu), T(pivots.shape, values=pivots, dtype=_I32)]


lu_unpack = composite(
    "linalg_lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True) -> "
    "(Tensor, Tensor, Tensor)", _lu_unpack_parts, api=(), tags=("no_half", "raises"), dtypes="fc",
    samples=lambda: [S(*_factored(3, 3)), S(*_factored(2, 4, 3)), S(*_factored(2, 3))],
    doc="P, L and U of what lu_factor returns. Shapes: [*, m, n], [*, k] -> [*, m, m], [*, m, k], [*, k, n].")
named_result(lu_unpack, returns.lu_unpack, "torch.lu_unpack")


def _lu_parts(a: Any, pivot: bool) -> tuple:
    check_matrix("linalg.lu", a)
    lu, pivots, _ = ops.linalg_lu_factor_ex(a, pivot=pivot, check_errors=False, caller="linalg.lu")
    return ops.linalg_lu_unpack(lu, pivots)


lu = composite(
    "linalg_lu(Tensor A, *, bool pivot=True) -> (Tensor, Tensor, Tensor)", _lu_parts, api=(), tags=("no_half",), dtypes="fc",
    samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3))],
    doc="P, L and U with A = P L U. Shapes: [*, m, n] -> [*, m, m], [*, m, k], [*, k, n].")
named_result(lu, returns.linalg_lu, "linalg.lu")


@public("torch.lu", "Tensor.lu")
def lu_call(A: Any, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """The old form of ``linalg.lu_factor``: LU, pivots, and with ``get_infos`` the infos."""
    found = tuple(ops.linalg_lu_factor_ex(A, pivot=pivot, check_errors=not get_infos, caller="linalg.lu_factor"))
    found = found if get_infos else found[:2]
    return found if out is None else write_out(lu_factor_ex, found, tuple(out))


def _lu_solve_parts(lu: Any, pivots: Any, b: Any, left: bool, adjoint: bool) -> Any:  # noqa: A002 - PyTorch's names
    _check_lu_solve(lu, pivots, b, left)
    p, lower, upper = ops.linalg_lu_unpack(lu, pivots)
    if adjoint == left:  # A^H X = B, or X A = B as the adjoint of that
        return _adjoint_lu_solve(p, lower, upper, b, left)
    return _plain_lu_solve(p, lower, upper, b, left)


def _plain_lu_solve(p: Any, lower: Any, upper: Any, b: Any, left: bool) -> Any:
    """A X = B; from the right, X A^H = B."""
    if not left:
        return adjoint(_plain_lu_solve(p, lower, upper, adjoint(b), True))
    y = ops.linalg_solve_triangular(lower, ops.matmul(ops.transpose(p, -2, -1), b), upper=False, unitriangular=True)
    return ops.linalg_solve_triangular(upper, y, upper=True)


def _adjoint_lu_solve(p: Any, lower: Any, upper: Any, b: Any, left: bool) -> Any:
    """A^H X = B; from the right, X A = B."""
    if not left:
        return adjoint(_adjoint_lu_solve(p, lower, upper, adjoint(b), True))
    y = ops.linalg_solve_triangular(adjoint(upper), b, upper=False)
    y = ops.linalg_solve_triangular(adjoint(lower), y, upper=True, unitriangular=True)
    return ops.matmul(p, y)


def _check_lu_solve(lu: Any, pivots: Any, b: Any, left: bool) -> None:
    if pivots.dtype is not _I32:
        raise RuntimeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32. Got "
                           f"{type_name(pivots.dtype)}")
    check_system("linalg.lu_solve", lu, b, left)
    if tuple(pivots.shape) != tuple(lu.shape[:-1]):
        raise RuntimeError(f"linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix: "
                           f"pivots {list(pivots.shape)}, LU {list(lu.shape)}")


lu_solve = composite(
    "linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False) -> Tensor", _lu_solve_parts,
    api=("linalg.lu_solve",), tags=("out", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(*_factored(3, 3), T((3, 2))), S(*_factored(2, 3, 3), T((2, 3, 1)), adjoint=True),
                     S(*_factored(3, 3), T((4, 3)), left=False), S(*_factored(3, 3), T((4, 3)), left=False, adjoint=True)],
    doc="X with A X = B, A given by lu_factor. ``left=False``: X A = B; ``adjoint``: with A^H. Shapes: [*, n, n], [*, n], "
        "[*, n, k] -> [*, n, k].")


@public("torch.lu_solve", "Tensor.lu_solve")
def lu_solve_call(b: Any, LU_data: Any, LU_pivots: Any, *, out: Any = None) -> Any:
    """The old form of ``linalg.lu_solve``: the right-hand side comes first."""
    found = ops.linalg_lu_solve(LU_data, LU_pivots, b)
    return found if out is None else write_out(lu_solve, found, out)
