"""Inverses, linear systems and triangular ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import composite, ops, primitive
from ..meta import TensorMeta
from ..samples import S, T
from ..usage import reads
from . import returns
from .linalg_common import (
    adjoint,
    batch,
    check_same,
    check_square,
    check_system,
    each,
    factor_lu,
    meta,
    named_result,
    on_host,
    raise_for,
    spread,
    triangle,
    well,
)

_I32 = _dtype.int32
_TAGS = ("extern", "check", "no_half")


# ---- inverse and solve --------------------------------------------------------------------------------------------


def _infos(a: np.ndarray) -> np.ndarray:
    return each(lambda m: factor_lu(m)[2:], a)[0]


def _inverse_of(a: np.ndarray) -> tuple:
    """The inverse of one matrix, infinite where it is singular."""
    info = factor_lu(a)[2]
    return (np.full_like(a, np.inf) if info else np.linalg.inv(a)), info


_SINGULAR = ("The diagonal element {info} is zero, the inversion could not be completed because the input matrix is "
             "singular.")


@on_host
def _inv(a: Any, check_errors: bool, caller: str) -> tuple:
    try:
        return np.linalg.inv(a).astype(a.dtype, copy=False), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        pass
    found, info = each(_inverse_of, a)
    if check_errors:
        raise_for(caller, info, _SINGULAR)
    return found, info


def _square_meta(a: Any, check_errors: bool, caller: str) -> tuple:
    check_square(caller, a)
    return meta(a, a.shape), meta(a, a.shape[:-2], _I32)


inv_ex = primitive(
    "linalg_inv_ex(Tensor A, *, bool check_errors=False, str caller='linalg.inv_ex') -> (Tensor, Tensor)", "linalg",
    kernel=_inv, infer=_square_meta, api=(), tags=(*_TAGS, "raises"), dtypes="fc",
    vjp=lambda g, out, a, check_errors, caller: -ops.matmul(ops.matmul(adjoint(out[0]), g[0]), adjoint(out[0])),
    samples=lambda: [S(well(3, 3)), S(well(2, 2, 2)), S(well(0, 0))],
    doc="Inverses, and for each matrix the first zero pivot (0: it has an inverse). Shapes: [*, n, n] -> [*, n, n], [*].")
named_result(inv_ex, returns.linalg_inv_ex, "linalg.inv_ex")

inv = composite(
    "linalg_inv(Tensor A) -> Tensor", lambda a: ops.linalg_inv_ex(a, check_errors=True, caller="linalg.inv")[0],
    api=("linalg.inv", "torch.inverse", "Tensor.inverse"), tags=("out", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(well(3, 3)), S(well(2, 2, 2))],
    doc="Inverses of matrices. Raises ``linalg.LinAlgError`` for a singular one. Shapes: [*, n, n] -> [*, n, n].")


def _solved(a: np.ndarray, b: np.ndarray) -> tuple:
    """The solution of one system, infinite where it is singular."""
    info = factor_lu(a)[2]
    return (np.full_like(b, np.inf) if info else np.linalg.solve(a, b)), info


@on_host
def _solve(a: Any, b: Any, left: bool, check_errors: bool, caller: str) -> tuple:
    turned = (lambda x: x) if left else (lambda x: np.swapaxes(x, -1, -2))
    a, b = spread(turned(a), turned(b))
    try:
        return turned(np.linalg.solve(a, b).astype(a.dtype, copy=False)), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        pass
    found, info = each(_solved, a, b)
    if check_errors:
        raise_for(caller, info, "The solver failed because the input matrix is singular.")
    return turned(found), info


def _solve_meta(a: Any, b: Any, left: bool, check_errors: bool, caller: str) -> tuple:
    check_system(caller, a, b, left)
    lead = batch(a, b)
    return meta(b, (*lead, *b.shape[-2:])), meta(b, lead, _I32)


def _solve_right_side(g: Any, a: Any, left: bool) -> Any:
    return ops.linalg_solve_matrices(adjoint(a), g, left=left, check_errors=False)[0]


def _solve_rule(g: Any, out: Any, a: Any, b: Any, left: bool, check_errors: bool, caller: str, *, needs: Any) -> list:
    gb = _solve_right_side(g[0], a, left)
    if not needs[0]:
        return [None, gb]
    x = adjoint(out[0])
    return [-ops.matmul(gb, x) if left else -ops.matmul(x, gb), gb if needs[1] else None]


solve_matrices = primitive(
    "linalg_solve_matrices(Tensor A, Tensor B, *, bool left=True, bool check_errors=False, str caller='linalg.solve_ex') -> "
    "(Tensor, Tensor)", "linalg", kernel=_solve, infer=_solve_meta, api=(), tags=(*_TAGS, "raises"), dtypes="fc",
    joint_vjp=reads("g", "out", "a")(_solve_rule),
    samples=lambda: [S(well(3, 3), T((3, 2))), S(well(2, 3, 3), T((3, 1))), S(well(3, 3), T((2, 3)), left=False),
                     S(well(3, 3), T((2, 3, 2)))],
    doc="X with A X = B (from the right: X A = B), batches broadcast. Shapes: [*, n, n], [*, n, k] -> [*, n, k], [*].")


def _solve_parts(a: Any, b: Any, left: bool, check_errors: bool, caller: str) -> tuple:
    check_square(caller, a)
    check_same(caller, a, b)
    vector = b.ndim == 1 or (a.ndim - 1 == b.ndim and tuple(a.shape[:-1]) == tuple(b.shape))
    if vector and not left:
        raise RuntimeError(f"{caller}: Vector broadcasting of the left hand side is not supported for left=False. In this case "
                           "linalg.solve is equivalent to B / A.squeeze(-1)")
    if vector:
        b = ops.unsqueeze(b, -1)
    found, info = ops.linalg_solve_matrices(a, b, left=left, check_errors=check_errors, caller=caller)
    return (ops.squeeze(found, -1) if vector else found), info


solve_ex = composite(
    "linalg_solve_ex(Tensor A, Tensor B, *, bool left=True, bool check_errors=False, str caller='linalg.solve_ex') -> "
    "(Tensor, Tensor)", _solve_parts, api=(), tags=("no_half",), dtypes="fc",
    samples=lambda: [S(well(3, 3), T((3,))), S(well(2, 3, 3), T((2, 3))), S(well(3, 3), T((3, 2)))],
    doc="X with A X = B, and for each system whether A is singular. B holds vectors where it has A's batch shape.")
named_result(solve_ex, returns.linalg_solve_ex, "linalg.solve_ex")

solve = composite(
    "linalg_solve(Tensor A, Tensor B, *, bool left=True) -> Tensor",
    lambda a, b, left: ops.linalg_solve_ex(a, b, left=left, check_errors=True, caller="linalg.solve")[0],
    api=("linalg.solve",), tags=("out", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(well(3, 3), T((3,))), S(well(2, 3, 3), T((2, 3))), S(well(3, 3), T((2, 3)), left=False)],
    doc="X with A X = B (``left=False``: X A = B). Raises ``linalg.LinAlgError`` for a singular A. Shapes: [*, n, n], "
        "[*, n, k] or [*, n].")


# ---- triangular systems -------------------------------------------------------------------------------------------


@on_host
def _solve_triangular(a: Any, b: Any, upper: bool, left: bool, unitriangular: bool) -> Any:
    if not left:  # X A = B is A^T X^T = B^T
        found = _solve_triangular(np, np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2), not upper, True, unitriangular)
        return np.swapaxes(found, -1, -2)
    a, b = spread(a, b)
    if not b.size:
        return np.zeros(b.shape, b.dtype)
    trsm = _blas("trsm", a, b)
    return each(lambda m, y: (trsm(1.0, m, y, lower=not upper, diag=unitriangular),), a, b)[0]


def _blas(name: str, *arrays: np.ndarray) -> Any:
    from scipy.linalg import blas  # noqa: PLC0415 - loaded when first called
    return blas.get_blas_funcs(name, arrays)


def _triangular_meta(a: Any, b: Any, upper: bool, left: bool, unitriangular: bool) -> TensorMeta:
    check_system("linalg.solve_triangular", a, b, left)
    return meta(b, (*batch(a, b), *b.shape[-2:]))


def _triangular_rule(g: Any, out: Any, a: Any, b: Any, upper: bool, left: bool, unitriangular: bool, *, needs: Any) -> list:
    gb = ops.linalg_solve_triangular(adjoint(a), g, upper=not upper, left=left, unitriangular=unitriangular)
    ga = None
    if needs[0]:
        x = adjoint(out)
        ga = -ops.matmul(gb, x) if left else -ops.matmul(x, gb)
        skip = 1 if unitriangular else 0
        ga = ops.triu(ga, skip) if upper else ops.tril(ga, -skip)
    return [ga, gb if needs[1] else None]


solve_triangular = primitive(
    "linalg_solve_triangular(Tensor A, Tensor B, *, bool upper, bool left=True, bool unitriangular=False) -> Tensor", "linalg",
    kernel=_solve_triangular, infer=_triangular_meta, api=("linalg.solve_triangular",), tags=(*_TAGS, "out"), dtypes="fc",
    joint_vjp=reads("g", "out", "a")(_triangular_rule),
    samples=lambda: [S(triangle(3, 3, upper=True), T((3, 2)), upper=True),
                     S(triangle(2, 3, 3, upper=False), T((3, 2)), upper=False),
                     S(triangle(3, 3, upper=True), T((2, 2, 3)), upper=True, left=False),
                     S(triangle(3, 3, upper=False), T((3, 1)), upper=False, unitriangular=True)],
    doc="X with A X = B (``left=False``: X A = B), A triangular: the other triangle is not read, nor with ``unitriangular`` "
        "the diagonal. Shapes: [*, n, n], [*, n, k] -> [*, n, k].")


def _old_triangular_parts(b: Any, a: Any, upper: bool, transpose: bool, unitriangular: bool) -> tuple:
    if a.ndim < 2 or b.ndim < 2:
        raise RuntimeError("torch.triangular_solve: Expected b and A to have at least 2 dimensions, but they have "
                           f"{b.ndim} and {a.ndim} dimensions")
    check_system("torch.triangular_solve", a, b, True)
    turned = ops.transpose(a, -2, -1) if transpose else a
    lead = batch(a, b)
    found = ops.linalg_solve_triangular(turned, b, upper=upper != transpose, unitriangular=unitriangular)
    return found, ops.clone(ops.expand(a, (*lead, *a.shape[-2:])))


triangular_solve = composite(
    "triangular_solve(Tensor self, Tensor A, bool upper=True, bool transpose=False, bool unitriangular=False) -> "
    "(Tensor, Tensor)", _old_triangular_parts, api=(), tags=("no_half",), dtypes="fc",
    samples=lambda: [S(T((3, 2)), triangle(3, 3, upper=True)), S(T((3, 2)), triangle(2, 3, 3, upper=True), transpose=True)],
    doc="The old form of ``linalg.solve_triangular``: X with A X = B (``transpose``: A^T), and a copy of A.")
named_result(triangular_solve, returns.triangular_solve, "torch.triangular_solve", "Tensor.triangular_solve")
