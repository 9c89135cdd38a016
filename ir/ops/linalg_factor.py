"""Orthogonal factorizations and spectra: QR and reflectors, eigenvalues, singular values."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..family import composite, conj_of, ops, primitive
from ..meta import TensorMeta
from ..op import public, write_out
from ..samples import S, T
from . import returns
from .linalg_common import (
    LinAlgError,
    adjoint,
    check_matrix,
    check_same,
    check_square,
    definite,
    each,
    lapack,
    meta,
    named_result,
    on_host,
    over,
    well,
)

_TAGS = ("extern", "check", "no_half")


# ---- QR -----------------------------------------------------------------------------------------------------------


@on_host
def _qr(a: Any, mode: str) -> tuple:
    factor: Any = np.linalg.qr
    if mode == "r":
        return np.zeros(0, a.dtype), factor(a, mode).astype(a.dtype, copy=False)
    q, r = factor(a, mode)
    return q.astype(a.dtype, copy=False), r.astype(a.dtype, copy=False)


def _qr_meta(a: Any, mode: str) -> tuple:
    check_matrix("linalg.qr", a)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    lead, (m, n) = tuple(a.shape[:-2]), a.shape[-2:]
    k = m if mode == "complete" else min(m, n)
    return meta(a, (0,) if mode == "r" else (*lead, m, k)), meta(a, (*lead, k, n))


def _qr_rule(g: Any, out: Any, a: Any, mode: str) -> Any:
    """[gQ + Q sym(M)] R^-H, where M is the upper triangle of gR R^H - Q^H gQ; wide: the rest of R is Q^H times A's rest."""
    m, n = a.shape[-2:]
    if mode == "r":
        raise RuntimeError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use "
                           "linalg.qr(A, mode='reduced') if you are going to require gradients")
    if mode == "complete" and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols")
    q, r = out
    gq, gr = g
    rest = None
    if n > m:
        gr_rest = ops.narrow(gr, -1, m, n - m)
        rest = ops.matmul(q, gr_rest)
        gq = gq + ops.matmul(ops.narrow(a, -1, m, n - m), adjoint(gr_rest))
        r, gr = ops.narrow(r, -1, 0, m), ops.narrow(gr, -1, 0, m)
    inner = ops.triu(ops.matmul(gr, adjoint(r)) - ops.matmul(adjoint(q), gq))
    diagonal = ops.diag_embed(ops.diagonal(inner, 0, -2, -1))
    inner = inner + adjoint(inner) - (diagonal + adjoint(diagonal)) * 0.5
    found = ops.linalg_solve_triangular(adjoint(r), gq + ops.matmul(q, inner), upper=False, left=False)
    return found if rest is None else ops.cat([found, rest], -1)


linalg_qr = primitive(
    "linalg_qr(Tensor A, str mode='reduced') -> (Tensor, Tensor)", "linalg", kernel=_qr, infer=_qr_meta, vjp=_qr_rule, api=(),
    tags=_TAGS, dtypes="fc",
    samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3)), S(well(3, 3), "complete")],
    doc="Q with orthonormal columns and R upper triangular, A = Q R; ``mode`` \"reduced\", \"complete\", or \"r\" (Q empty). "
        "Shapes: [*, m, n] -> [*, m, k], [*, k, n].")
named_result(linalg_qr, returns.linalg_qr, "linalg.qr")


@public("torch.qr", "Tensor.qr")
def qr(input: Any, some: bool = True, *, out: Any = None) -> Any:  # noqa: A002
    """The old form of ``linalg.qr``: ``some`` is mode "reduced", else "complete"."""
    found = returns.qr(*ops.linalg_qr(input, "reduced" if some else "complete"))
    return found if out is None else returns.qr(*write_out(linalg_qr, tuple(found), tuple(out)))


# ---- reflectors ---------------------------------------------------------------------------------------------------


def _geqrf_of(a: np.ndarray) -> tuple:
    k = min(a.shape)
    if not k:
        return a.copy(), np.zeros(k, a.dtype)
    found = lapack("geqrf", a)(a)
    return found[0], found[1]


def _geqrf_meta(a: Any) -> tuple:
    check_matrix("torch.geqrf", a, "input")
    return meta(a, a.shape), meta(a, (*a.shape[:-2], min(a.shape[-2:])))


geqrf_ = primitive(
    "geqrf(Tensor self) -> (Tensor, Tensor)", "linalg", kernel=on_host(lambda a: each(_geqrf_of, a)), infer=_geqrf_meta, api=(),
    tags=_TAGS, dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3))],
    doc="LAPACK's geqrf: R on and above the diagonal, below it the reflectors that make Q, and their factors tau.")
named_result(geqrf_, returns.geqrf, "torch.geqrf", "Tensor.geqrf")


def _check_reflectors(name: str, a: Any, tau: Any) -> None:
    if a.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    check_matrix(name, a)
    if a.shape[-2] < a.shape[-1]:
        raise RuntimeError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if a.shape[-1] < tau.shape[-1]:
        raise RuntimeError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if a.ndim != tau.ndim + 1:
        raise RuntimeError(f"{name}: Expected tau to have one dimension less than input, but got tau.ndim equal to {tau.ndim} "
                           f"and input.ndim is equal to {a.ndim}")
    if tuple(a.shape[:-2]) != tuple(tau.shape[:-1]):
        raise RuntimeError(f"{name}: Expected batch dimensions of tau to be equal to input.shape[:-2], but got "
                           f"{list(tau.shape[:-1])}")
    check_same(name, a, tau)


def _reflector(a: Any, i: int) -> Any:
    """The i-th reflector's vector [*, m, 1]: zeros, a one, then what stands below the diagonal."""
    m = a.shape[-2]
    below = ops.narrow(ops.narrow(a, -1, i, 1), -2, i + 1, m - i - 1)
    one = ops.full((*a.shape[:-2], 1, 1), 1, dtype=a.dtype, device=a.device)
    zeros = ops.full((*a.shape[:-2], i, 1), 0, dtype=a.dtype, device=a.device)
    return ops.cat([zeros, one, below], -2)


def _reflect(x: Any, v: Any, tau: Any, left: bool) -> Any:
    """(I - tau v v^H) x, or from the right x (I - tau v v^H)."""
    tau = ops.unsqueeze(ops.unsqueeze(tau, -1), -1)
    if left:
        return x - tau * ops.matmul(v, ops.matmul(adjoint(v), x))
    return x - tau * ops.matmul(ops.matmul(x, v), adjoint(v))


def _householder_parts(a: Any, tau: Any) -> Any:
    _check_reflectors("torch.linalg.householder_product", a, tau)
    m, n = a.shape[-2:]
    x = ops.copy(a, ops.eye(m, n, dtype=a.dtype, device=a.device))
    for i in reversed(range(tau.shape[-1])):
        x = _reflect(x, _reflector(a, i), ops.select(tau, -1, i), True)
    return x


householder_product = composite(
    "linalg_householder_product(Tensor A, Tensor tau) -> Tensor", _householder_parts,
    api=("linalg.householder_product", "torch.orgqr", "Tensor.orgqr"), tags=("out", "no_half"), dtypes="fc",
    samples=lambda: [S(well(4, 3), T((3,))), S(well(2, 3, 3), T((2, 2)))],
    doc="The first n columns of the product of the reflectors that geqrf returns. Shapes: [*, m, n], [*, k] -> [*, m, n].")


def _check_ormqr(a: Any, tau: Any, other: Any, left: bool) -> None:
    if a.ndim < 2:
        raise RuntimeError("torch.ormqr: input must have at least 2 dimensions.")
    if other.ndim < 2:
        raise RuntimeError("torch.ormqr: other must have at least 2 dimensions.")
    side = -2 if left else -1
    if other.shape[side] < tau.shape[-1]:
        raise RuntimeError(f"torch.ormqr: other.shape[{side}] must be greater than or equal to tau.shape[-1]")
    if other.shape[side] != a.shape[-2]:
        raise RuntimeError(f"torch.ormqr: other.shape[{side}] must be equal to input.shape[-2]")
    if tau.shape[-1] != min(other.shape[side], a.shape[-1]):
        raise RuntimeError(f"torch.ormqr: tau.shape[-1] must be equal to min(other.shape[{side}], input.shape[-1])")
    if a.ndim != tau.ndim + 1:
        raise RuntimeError(f"torch.ormqr: Expected tau to have one dimension less than input, but got tau.ndim equal to "
                           f"{tau.ndim} and input.ndim is equal to {a.ndim}")
    if a.ndim != other.ndim:
        raise RuntimeError(f"torch.ormqr: Expected other to have the same number of dimensions as input, but got other.ndim "
                           f"equal to {other.ndim} and input.ndim is equal to {a.ndim}")
    lead = tuple(a.shape[:-2])
    for name, given in (("tau", tau.shape[:-1]), ("other", other.shape[:-2])):
        if tuple(given) != lead:
            raise RuntimeError(f"torch.ormqr: Expected batch dimensions of {name} to be equal to input.shape[:-2], but got "
                               f"{list(given)}")
    for name, given in (("tau", tau), ("other", other)):
        if given.dtype is not a.dtype:
            raise RuntimeError(f"torch.ormqr: Expected input and {name} to have the same dtype, but input has dtype {a.dtype} "
                               f"and {name} has dtype {given.dtype}")


def _ormqr_parts(a: Any, tau: Any, other: Any, left: bool, transpose: bool) -> Any:
    """Q = H_1 ... H_k is the product of all reflectors; its adjoint has them in reverse, with conjugate factors."""
    _check_ormqr(a, tau, other, left)
    order = range(tau.shape[-1])
    if transpose:
        tau = conj_of(tau)
    for i in order if left == transpose else reversed(order):
        other = _reflect(other, _reflector(a, i), ops.select(tau, -1, i), left)
    return other


ormqr = composite(
    "ormqr(Tensor self, Tensor tau, Tensor other, bool left=True, bool transpose=False) -> Tensor", _ormqr_parts,
    tags=("out", "no_half"), dtypes="fc",
    samples=lambda: [S(well(4, 3), T((3,)), T((4, 2))), S(well(4, 3), T((3,)), T((4, 2)), transpose=True),
                     S(well(2, 3, 3), T((2, 3)), T((2, 4, 3)), left=False),
                     S(well(2, 3, 3), T((2, 3)), T((2, 4, 3)), left=False, transpose=True)],
    doc="``Q @ other`` (``left=False``: ``other @ Q``; ``transpose``: with Q^H), Q given by geqrf's reflectors.")


# ---- symmetric eigenproblems --------------------------------------------------------------------------------------

_NO_EIGEN = ("linalg.{name}: The algorithm failed to converge because the input matrix is ill-conditioned or has too many "
             "repeated {values} (error code: 1).")


def _spectrum(fn: Any, name: str, values: str, *args: Any) -> Any:
    """Call NumPy's ``fn`` on the matrices that come first, and say in PyTorch's words when it does not converge."""
    try:
        found = fn(*args)
    except np.linalg.LinAlgError:
        found = None
    first = found[0] if isinstance(found, tuple) else found
    if first is not None and not (np.isnan(first).any() and np.isnan(args[0]).any()):
        return found
    if "svd" in name and not np.isfinite(args[0]).all():
        raise LinAlgError(f"linalg.{name}: The algorithm failed to converge because the input matrix contained non-finite "
                          "values.")
    raise LinAlgError(_NO_EIGEN.format(name=name, values=values))


def _check_triangle(uplo: str) -> str:
    if uplo.upper() not in ("L", "U") or len(uplo) != 1:
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    return uplo.upper()


@on_host
def _eigh(a: Any, uplo: str) -> tuple:
    values, vectors = _spectrum(np.linalg.eigh, "eigh", "eigenvalues", a, uplo.upper())
    return values.astype(_real_of(a), copy=False), vectors.astype(a.dtype, copy=False)


def _real_of(a: np.ndarray) -> Any:
    return np.empty(0, a.dtype).real.dtype


def _eigh_meta(a: Any, uplo: str) -> tuple:
    check_square("linalg.eigh", a)
    _check_triangle(uplo)
    return meta(a, a.shape[:-1], a.dtype.to_real()), meta(a, a.shape)


def _without_diagonal(x: Any) -> Any:
    return x - ops.diag_embed(ops.diagonal(x, 0, -2, -1))


def _differences(values: Any) -> Any:
    """E[i, j] = values[j] - values[i]."""
    return ops.unsqueeze(values, -2) - ops.unsqueeze(values, -1)


def _eigh_rule(g: Any, out: Any, a: Any, uplo: str) -> Any:
    """V (diag(gL) + (V^H gV) / E) V^H, made symmetric."""
    values, vectors = out
    turned = adjoint(vectors)
    inner = over(_without_diagonal(ops.matmul(turned, g[1])), _differences(values))
    inner = (inner + adjoint(inner)) * 0.5 + ops.cast(ops.diag_embed(g[0]), inner.dtype)
    return ops.matmul(vectors, ops.matmul(inner, turned))


eigh = primitive(
    "linalg_eigh(Tensor A, str UPLO='L') -> (Tensor, Tensor)", "linalg", kernel=_eigh, infer=_eigh_meta, vjp=_eigh_rule, api=(),
    tags=(*_TAGS, "by_rule", "raises"), dtypes="fc", samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2), "U")],
    doc="Rising eigenvalues (real) and eigenvectors (columns) of Hermitian matrices, of which one triangle is read. "
        "Shapes: [*, n, n] -> [*, n], [*, n, n].")
named_result(eigh, returns.linalg_eigh, "linalg.eigh")


@on_host
def _eigvalsh(a: Any, uplo: str) -> Any:
    return _spectrum(np.linalg.eigvalsh, "eigh", "eigenvalues", a, uplo.upper()).astype(_real_of(a), copy=False)


def _eigvalsh_rule(g: Any, out: Any, a: Any, uplo: str) -> Any:
    vectors = ops.linalg_eigh(a, uplo)[1]
    return ops.matmul(vectors * ops.unsqueeze(g, -2), adjoint(vectors))


eigvalsh = primitive(
    "linalg_eigvalsh(Tensor A, str UPLO='L') -> Tensor", "linalg", kernel=_eigvalsh,
    infer=lambda a, uplo: _eigh_meta(a, uplo)[0], vjp=_eigvalsh_rule, api=("linalg.eigvalsh",),
    tags=(*_TAGS, "by_rule", "out", "raises"),
    dtypes="fc", samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2), "U")],
    doc="Rising eigenvalues of Hermitian matrices, of which one triangle is read. Shapes: [*, n, n] -> [*, n].")


# ---- general eigenproblems ----------------------------------------------------------------------------------------


def _complex_of(a: np.ndarray) -> Any:
    return np.result_type(a.dtype, np.complex64)


def _check_finite(name: str, a: np.ndarray) -> None:
    if not np.isfinite(a).all():
        raise RuntimeError(f"{name}: input tensor should not contain infs or NaNs.")


@on_host
def _eig(a: Any) -> tuple:
    _check_finite("torch.linalg.eig", a)
    values, vectors = _spectrum(np.linalg.eig, "eig", "eigenvalues", a)
    kind = _complex_of(a)
    return values.astype(kind, copy=False), vectors.astype(kind, copy=False)


def _eig_meta(a: Any) -> tuple:
    check_square("linalg.eig", a)
    kind = a.dtype.to_complex()
    return meta(a, a.shape[:-1], kind), meta(a, a.shape, kind)


def _eig_rule(g: Any, out: Any, a: Any) -> Any:
    """V^-H (diag(gL) + (V^H gV - V^H V diag(Re V^H gV)) / conj(E)) V^H: eigenvectors keep their length."""
    values, vectors = out
    turned = adjoint(vectors)
    inner = ops.matmul(turned, g[1])
    lengths = ops.real(ops.diagonal(inner, 0, -2, -1))
    inner = inner - ops.matmul(turned, vectors * ops.unsqueeze(lengths, -2))
    inner = over(_without_diagonal(inner), conj_of(_differences(values))) + ops.diag_embed(g[0])
    return ops.linalg_solve_matrices(turned, ops.matmul(inner, turned))[0]


eig = primitive(
    "linalg_eig(Tensor A) -> (Tensor, Tensor)", "linalg", kernel=_eig, infer=_eig_meta, vjp=_eig_rule, api=(),
    tags=(*_TAGS, "raises"),
    dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 2, 2))],
    doc="Complex eigenvalues and eigenvectors (columns of length 1). Shapes: [*, n, n] -> [*, n], [*, n, n].")
named_result(eig, returns.linalg_eig, "linalg.eig")


@on_host
def _eigvals(a: Any) -> Any:
    _check_finite("torch.linalg.eigvals", a)
    return _spectrum(np.linalg.eigvals, "eigvals", "eigenvalues", a).astype(_complex_of(a), copy=False)


def _eigvals_rule(g: Any, out: Any, a: Any) -> Any:
    turned = adjoint(ops.linalg_eig(a)[1])
    return ops.linalg_solve_matrices(turned, ops.unsqueeze(g, -1) * turned)[0]


eigvals = primitive(
    "linalg_eigvals(Tensor A) -> Tensor", "linalg", kernel=_eigvals, infer=lambda a: _eig_meta(a)[0], vjp=_eigvals_rule,
    api=("linalg.eigvals",), tags=(*_TAGS, "out", "raises"), dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 2, 2))],
    doc="Complex eigenvalues, in no order. Shapes: [*, n, n] -> [*, n].")


# ---- singular values ----------------------------------------------------------------------------------------------


def _check_driver(driver: Any) -> None:
    if driver is not None:
        raise RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend.")


@on_host
def _svd(a: Any, full_matrices: bool, driver: Any) -> tuple:
    u, s, vh = _spectrum(np.linalg.svd, "svd", "singular values", a, full_matrices)
    return u.astype(a.dtype, copy=False), s.astype(_real_of(a), copy=False), vh.astype(a.dtype, copy=False)


def _svd_meta(a: Any, full_matrices: bool, driver: Any) -> tuple:
    check_matrix("linalg.svd", a)
    _check_driver(driver)
    lead, (m, n) = tuple(a.shape[:-2]), a.shape[-2:]
    k = min(m, n)
    return (meta(a, (*lead, m, m if full_matrices else k)), meta(a, (*lead, k), a.dtype.to_real()),
            meta(a, (*lead, n if full_matrices else k, n)))


def _skew(x: Any) -> Any:
    return x - adjoint(x)


def _outside(x: Any, basis: Any) -> Any:
    """What of the columns of ``x`` stands at right angles to ``basis``."""
    return x - ops.matmul(basis, ops.matmul(adjoint(basis), x))


def _svd_rule(g: Any, out: Any, a: Any, full_matrices: bool, driver: Any) -> Any:
    """U [(skew(U^H gU) / E) S + S (skew(V^H gV) / E) + diag(gS)] V^H, plus what lies outside of the bases of U and V.

    E[i, j] = S[j]^2 - S[i]^2. Only the first k columns of U and V have a derivative.
    """
    m, n = a.shape[-2:]
    k = min(m, n)
    u, s, v = ops.narrow(out[0], -1, 0, k), out[1], adjoint(ops.narrow(out[2], -2, 0, k))
    gu, gv = ops.narrow(g[0], -1, 0, k), adjoint(ops.narrow(g[2], -2, 0, k))
    row, column = ops.unsqueeze(s, -2), ops.unsqueeze(s, -1)
    gaps = _differences(s * s)
    left, right = _skew(ops.matmul(adjoint(u), gu)), _skew(ops.matmul(adjoint(v), gv))
    inner = over(_without_diagonal(left), gaps) * row + column * over(_without_diagonal(right), gaps)
    diagonal = g[1]
    if a.dtype.is_complex:  # the phase that U and V share is free; its part in U counts
        diagonal = diagonal + over(ops.diagonal(left, 0, -2, -1), 2 * s)
    found = ops.matmul(ops.matmul(u, inner + ops.cast(ops.diag_embed(diagonal), inner.dtype)), adjoint(v))
    if m > k:
        found = found + ops.matmul(over(_outside(gu, u), row), adjoint(v))
    if n > k:
        found = found + ops.matmul(u, adjoint(over(_outside(gv, v), row)))
    return found


linalg_svd = primitive(
    "linalg_svd(Tensor A, bool full_matrices=True, *, str? driver=None) -> (Tensor, Tensor, Tensor)", "linalg", kernel=_svd,
    infer=_svd_meta, vjp=_svd_rule, api=(), tags=(*_TAGS, "raises"), dtypes="fc",
    samples=lambda: [S(well(3, 3), False), S(well(2, 4, 3), False), S(well(2, 3), False)],
    doc="U, falling singular values S and V^H with A = U diag(S) V^H. Shapes: [*, m, n] -> [*, m, k], [*, k], [*, k, n]; with "
        "``full_matrices`` U and V are square.")
named_result(linalg_svd, returns.linalg_svd, "linalg.svd")


@on_host
def _svdvals(a: Any, driver: Any) -> Any:
    return _spectrum(np.linalg.svd, "svdvals", "singular values", a, False, False).astype(_real_of(a), copy=False)


def _svdvals_rule(g: Any, out: Any, a: Any, driver: Any) -> Any:
    u, _, vh = ops.linalg_svd(a, False)
    return ops.matmul(u * ops.unsqueeze(g, -2), vh)


def _svdvals_meta(a: Any, driver: Any) -> TensorMeta:
    return _svd_meta(a, False, driver)[1]


svdvals = primitive(
    "linalg_svdvals(Tensor A, *, str? driver=None) -> Tensor", "linalg", kernel=_svdvals, infer=_svdvals_meta, vjp=_svdvals_rule,
    api=("linalg.svdvals",),
    tags=(*_TAGS, "out", "raises"), dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3))],
    doc="Falling singular values. Shapes: [*, m, n] -> [*, min(m, n)].")


@public("torch.svd", "Tensor.svd")
def svd(input: Any, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Any:  # noqa: A002
    """The old form of ``linalg.svd``: U, S and V; without ``compute_uv`` U and V are zeros."""
    if compute_uv:
        u, s, vh = ops.linalg_svd(input, not some)
        found = returns.svd(u, s, adjoint(vh))
    else:
        m, n = input.shape[-2:]
        u, v = (ops.full((*input.shape[:-2], k, k), 0, dtype=input.dtype, device=input.device) for k in (m, n))
        found = returns.svd(u, ops.linalg_svdvals(input), v)
    return found if out is None else returns.svd(*write_out(linalg_svd, tuple(found), tuple(out)))
