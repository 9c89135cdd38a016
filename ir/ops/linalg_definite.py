"""Cholesky and LDL factors of symmetric matrices, and systems solved with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import broadcast_shapes, composite, ops, primitive
from ..meta import TensorMeta
from ..op import public, type_name, write_out
from ..samples import S, T
from ..usage import reads
from . import returns
from .linalg_common import (
    adjoint,
    check_same,
    check_square,
    check_system,
    definite,
    each,
    eye_like,
    lapack,
    meta,
    named_result,
    on_host,
    raise_for,
    spread,
    triangle,
)

_I32 = _dtype.int32
_TAGS = ("extern", "check", "no_half")


# ---- Cholesky -----------------------------------------------------------------------------------------------------


def _cholesky_of(a: np.ndarray) -> tuple:
    if not a.size:
        return a.copy(), np.int32(0)
    factor, info = lapack("potrf", a)(a, lower=True, clean=True)
    return factor, np.int32(info)


_NOT_DEFINITE = ("The factorization could not be completed because the input is not positive-definite (the leading minor of "
                 "order {info} is not positive-definite).")


@on_host
def _cholesky(a: Any, upper: bool, check_errors: bool, caller: str) -> tuple:
    lower = np.conj(np.swapaxes(a, -1, -2)) if upper else a  # only one triangle is read
    try:
        factor, info = np.linalg.cholesky(lower).astype(a.dtype, copy=False), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        factor, info = each(_cholesky_of, np.tril(lower))
    if check_errors:
        raise_for(caller, info, _NOT_DEFINITE)
    return (np.conj(np.swapaxes(factor, -1, -2)) if upper else factor), info


def _cholesky_meta(a: Any, upper: bool, check_errors: bool, caller: str) -> tuple:
    check_square(caller, a)
    return meta(a, a.shape), meta(a, a.shape[:-2], _I32)


def _cholesky_rule(g: Any, out: Any, a: Any, upper: bool, check_errors: bool, caller: str) -> Any:
    """L^-H M L^-1 / 2, where M is the lower triangle of L^H g, mirrored: the symmetric gradient, as PyTorch's."""
    g0, lower = (adjoint(g[0]), adjoint(out[0])) if upper else (g[0], out[0])
    inner = ops.tril(ops.matmul(adjoint(lower), g0))
    inner = inner + adjoint(ops.tril(inner, -1))
    inner = ops.linalg_solve_triangular(adjoint(lower), inner, upper=True)
    return ops.linalg_solve_triangular(lower, inner, upper=False, left=False) * 0.5


cholesky_ex = primitive(
    "linalg_cholesky_ex(Tensor A, *, bool upper=False, bool check_errors=False, str caller='linalg.cholesky_ex') -> "
    "(Tensor, Tensor)", "linalg", kernel=_cholesky, infer=_cholesky_meta, vjp=_cholesky_rule, api=(),
    tags=(*_TAGS, "by_rule", "raises"), dtypes="fc",
    samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2), upper=True)],
    doc="L with A = L L^H (``upper``: U with A = U^H U), and for each matrix the order of the first minor that is not "
        "positive (0: none). One triangle of A is read; its gradient is symmetric. Shapes: [*, n, n] -> [*, n, n], [*].")
named_result(cholesky_ex, returns.linalg_cholesky_ex, "linalg.cholesky_ex")

linalg_cholesky = composite(
    "linalg_cholesky(Tensor A, *, bool upper=False) -> Tensor",
    lambda a, upper: ops.linalg_cholesky_ex(a, upper=upper, check_errors=True, caller="linalg.cholesky")[0],
    api=("linalg.cholesky",), tags=("out", "by_rule", "no_half", "raises"), dtypes="fc",
    samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2), upper=True)],
    doc="L with A = L L^H (``upper``: U with A = U^H U). Raises ``linalg.LinAlgError`` where A is not positive-definite.")

cholesky = composite(
    "cholesky(Tensor self, bool upper=False) -> Tensor",
    lambda a, upper: ops.linalg_cholesky_ex(a, upper=upper, check_errors=True, caller="cholesky")[0],
    tags=("out", "by_rule", "no_half", "raises"), dtypes="fc", samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2), True)],
    doc="The old form of ``linalg.cholesky``.")


def _cholesky_solve_parts(b: Any, factor: Any, upper: bool) -> Any:
    if b.ndim < 2 or factor.ndim < 2:
        raise RuntimeError(f"b should have at least 2 dimensions, but has {b.ndim} dimensions instead" if b.ndim < 2 else
                           f"u should have at least 2 dimensions, but has {factor.ndim} dimensions instead")
    check_system("cholesky_solve", factor, b, True)
    lower = adjoint(factor) if upper else factor
    y = ops.linalg_solve_triangular(lower, b, upper=False)
    return ops.linalg_solve_triangular(adjoint(lower), y, upper=True)


def _cholesky_solve_rule(g: Any, out: Any, b: Any, factor: Any, upper: bool, *, needs: Any) -> list:
    """The factor's other triangle has a gradient too: PyTorch takes the factor as it is."""
    gb = ops.cholesky_solve(g, factor, upper)
    if not needs[1]:
        return [gb, None]
    both = ops.matmul(gb, adjoint(out))
    both = both + adjoint(both)
    return [gb if needs[0] else None, -(ops.matmul(factor, both) if upper else ops.matmul(both, factor))]


cholesky_solve = composite(
    "cholesky_solve(Tensor self, Tensor L, bool upper=False) -> Tensor", _cholesky_solve_parts,
    tags=("out", "no_half", "by_rule"), joint_vjp=reads("g", "out", "factor")(_cholesky_solve_rule), dtypes="fc",
    samples=lambda: [S(T((3, 2)), triangle(3, 3, upper=False)), S(T((2, 3, 1)), triangle(3, 3, upper=True), True)],
    doc="X with L L^H X = B (``upper``: U^H U X = B). Shapes: [*, n, k], [*, n, n] -> [*, n, k].")


def _cholesky_inverse_parts(factor: Any, upper: bool) -> Any:
    check_square("cholesky_inverse", factor)
    lower = adjoint(factor) if upper else factor
    inverse = ops.linalg_solve_triangular(lower, eye_like(factor), upper=False)
    return ops.matmul(adjoint(inverse), inverse)


def _cholesky_inverse_rule(g: Any, out: Any, factor: Any, upper: bool) -> Any:
    both = ops.matmul(ops.matmul(out, g + adjoint(g)), out)
    return -(ops.matmul(factor, both) if upper else ops.matmul(both, factor))


cholesky_inverse = composite(
    "cholesky_inverse(Tensor self, bool upper=False) -> Tensor", _cholesky_inverse_parts, vjp=_cholesky_inverse_rule,
    tags=("out", "no_half", "by_rule"), dtypes="fc",
    samples=lambda: [S(triangle(3, 3, upper=False)), S(triangle(2, 3, 3, upper=True), True)],
    doc="The inverse of L L^H (``upper``: of U^H U). Shapes: [*, n, n] -> [*, n, n].")


# ---- LDL ----------------------------------------------------------------------------------------------------------


def _ldl_of(a: np.ndarray, hermitian: bool) -> tuple:
    if not a.size:
        return a.copy(), np.zeros(0, np.int32), np.int32(0)
    factor, pivots, info = lapack("hetrf" if hermitian and a.dtype.kind == "c" else "sytrf", a)(a, lower=True)
    return np.tril(factor), pivots.astype(np.int32), np.int32(info)  # pivots count from 1, negative ones are of 2x2 blocks


@on_host
def _ldl_factor(a: Any, hermitian: bool, check_errors: bool, caller: str) -> tuple:
    found = each(lambda m: _ldl_of(m, hermitian), a)
    if check_errors:
        raise_for(caller, found[2], "D[{info},{info}] is zero. The factorization could not be completed.")
    return found


def _ldl_meta(a: Any, hermitian: bool, check_errors: bool, caller: str) -> tuple:
    check_square("torch.linalg.ldl_factor_ex", a)
    return meta(a, a.shape), meta(a, a.shape[:-1], _I32), meta(a, a.shape[:-2], _I32)


ldl_factor_ex = primitive(
    "linalg_ldl_factor_ex(Tensor A, *, bool hermitian=False, bool check_errors=False, str caller='linalg.ldl_factor_ex') -> "
    "(Tensor, Tensor, Tensor)", "linalg", kernel=_ldl_factor, infer=_ldl_meta, api=(), tags=(*_TAGS, "raises"), dtypes="fc",
    samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2))],
    doc="LAPACK's L D L^T of symmetric (``hermitian``: L D L^H of Hermitian) matrices in one matrix, pivots, infos.")
named_result(ldl_factor_ex, returns.linalg_ldl_factor_ex, "linalg.ldl_factor_ex")


@public("linalg.ldl_factor")
def ldl_factor(A: Any, *, hermitian: bool = False, out: Any = None) -> Any:
    """L D L^T of symmetric matrices in one matrix, and the pivots. Raises where D is singular."""
    ld, pivots, _ = ops.linalg_ldl_factor_ex(A, hermitian=hermitian, check_errors=True, caller="torch.linalg.ldl_factor")
    found = returns.linalg_ldl_factor(ld, pivots)
    return found if out is None else returns.linalg_ldl_factor(*write_out(ldl_factor_ex, tuple(found), tuple(out)))


def _ldl_solved(ld: np.ndarray, pivots: np.ndarray, b: np.ndarray, hermitian: bool) -> tuple:
    """LAPACK's sytrs is not in SciPy: the blocks of D, and the exchanges between the columns of L, one by one."""
    x = b.copy()
    n, star = len(ld), np.conj if hermitian else np.asarray
    k, steps = 0, []
    while k < n:  # L D y = P b
        size = 1 if pivots[k] > 0 else 2
        at = k + size - 1
        other = abs(int(pivots[k])) - 1
        x[[at, other]] = x[[other, at]]
        below = ld[k + size:, k:k + size]
        x[k + size:] -= below @ x[k:k + size]
        if size == 1:
            x[k] /= ld[k, k].real if hermitian else ld[k, k]
        else:
            block = np.array([[ld[k, k], star(ld[k + 1, k])], [ld[k + 1, k], ld[k + 1, k + 1]]], ld.dtype)
            x[k:k + 2] = np.linalg.solve(block, x[k:k + 2])
        steps.append((k, size, at, other))
        k += size
    for k, size, at, other in reversed(steps):  # L^T
        x[k:k + size] -= star(ld[k + size:, k:k + size].T) @ x[k + size:]
        x[[at, other]] = x[[other, at]]
    return (x,)


@on_host
def _ldl_solve(ld: Any, pivots: Any, b: Any, hermitian: bool) -> Any:
    ld, b, pivots = spread(ld, b, pivots[..., None])
    star = hermitian and ld.dtype.kind == "c"
    return each(lambda m, y, p: _ldl_solved(m, p[:, 0], y, star), ld, b, pivots)[0]


def _ldl_solve_meta(ld: Any, pivots: Any, b: Any, hermitian: bool) -> TensorMeta:
    name = "torch.linalg.ldl_solve"
    check_square(name, ld, "LD")
    if b.ndim < 2:
        raise RuntimeError(f"{name}: Expected B to have at least 2 dimensions, but it has {b.ndim} dimensions instead")
    if ld.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"{name}: Expected LD.size(-1) to be the same as B.size(-2), but got {ld.shape[-1]} and {b.shape[-2]}")
    if tuple(pivots.shape) != tuple(ld.shape[:-1]):
        raise RuntimeError(f"{name}: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
                           f"{list(pivots.shape)} and LD with shape {list(ld.shape)}")
    if pivots.dtype.is_floating_point or pivots.dtype.is_complex:
        raise RuntimeError(f"{name}: Expected pivots to be integers. Got {type_name(pivots.dtype)}")
    check_same(name, ld, b)
    return meta(b, (*broadcast_shapes(tuple(ld.shape[:-2]), tuple(b.shape[:-2])), *b.shape[-2:]))


def _ldl_factored(*shape: int) -> list[T]:
    ld, pivots, _ = _ldl_factor(np, definite(*shape).values, False, False, "")
    return [T(shape, values=ld), T(pivots.shape, values=pivots, dtype=_I32)]


ldl_solve = primitive(
    "linalg_ldl_solve(Tensor LD, Tensor pivots, Tensor B, *, bool hermitian=False) -> Tensor", "linalg", kernel=_ldl_solve,
    infer=_ldl_solve_meta, api=("linalg.ldl_solve",), tags=(*_TAGS, "out", "raises"), dtypes="fc",
    samples=lambda: [S(*_ldl_factored(3, 3), T((3, 2))), S(*_ldl_factored(2, 2, 2), T((2, 1)))],
    doc="X with A X = B, A given by ldl_factor. Shapes: [*, n, n], [*, n], [*, n, k] -> [*, n, k].")
