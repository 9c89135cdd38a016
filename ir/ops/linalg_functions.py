"""Functions of matrices: determinants, exponentials, powers, pseudo-inverses, least squares, low-rank approximations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import composite, conj_of, ops, primitive
from ..meta import TensorMeta
from ..op import public, type_name, write_out
from ..samples import S, T
from ..usage import reads
from . import returns
from .linalg_common import (
    adjoint,
    batch,
    check_matrix,
    check_square,
    definite,
    eye_like,
    meta,
    named_result,
    on_host,
    well,
)

_TAGS = ("extern", "check", "no_half")


# ---- determinants -------------------------------------------------------------------------------------------------


def _det_meta(a: Any) -> TensorMeta:
    check_square("linalg.det", a)
    return meta(a, a.shape[:-2])


def _others(s: np.ndarray) -> np.ndarray:
    """For each element of the last dimension the product of the others."""
    n = s.shape[-1]
    found = np.ones_like(s)
    for i in range(n):
        found[..., i] = np.prod(s[..., :i], -1) * np.prod(s[..., i + 1:], -1)
    return found


@on_host
def _cofactors(a: Any) -> Any:
    """det(A) A^-T, from singular values, so that singular matrices have it too."""
    u, s, vh = np.linalg.svd(a)
    phase = np.linalg.det(u) * np.linalg.det(vh)
    inner = (u.conj() * (phase[..., None] * _others(s))[..., None, :])
    return (inner @ vh.conj()).astype(a.dtype, copy=False)


def _cofactors_rule(g: Any, out: Any, a: Any) -> Any:
    """The derivative of det(A) A^-T, for matrices that have an inverse."""
    star = conj_of(out)
    inverse = adjoint(ops.linalg_inv_ex(a)[0])
    total = ops.sum(ops.sum(g * star, (-1,), True), (-2,), True)
    return total * inverse - ops.matmul(ops.matmul(star, ops.transpose(g, -2, -1)), inverse)


cofactors = primitive(
    "linalg_cofactors(Tensor A) -> Tensor", "linalg", kernel=_cofactors, vjp=_cofactors_rule, api=(),
    tags=(*_TAGS, "raises"), dtypes="fc",
    infer=lambda a: meta(a, a.shape),
    samples=lambda: [S(well(3, 3)), S(well(2, 2, 2)), S(T((2, 2), values=[[1, 2], [2, 4]], grad=False))],
    doc="The derivatives of the determinant: signed minors. Shapes: [*, n, n] -> [*, n, n].")


def _lifted(x: Any) -> Any:
    """Numbers as 1x1 matrices."""
    return ops.unsqueeze(ops.unsqueeze(x, -1), -1)


det = primitive(
    "linalg_det(Tensor A) -> Tensor", "linalg", infer=_det_meta, tags=(*_TAGS, "out"), dtypes="fc",
    kernel=on_host(lambda a: np.linalg.det(a).astype(a.dtype)), api=("linalg.det", "torch.det", "Tensor.det"),
    vjp=lambda g, out, a: _lifted(g) * conj_of(ops.linalg_cofactors(a)), samples=lambda: [S(well(3, 3)), S(well(2, 2, 2))],
    doc="Determinants. Shapes: [*, n, n] -> [*].")


@on_host
def _slogdet(a: Any) -> tuple:
    sign, size = np.linalg.slogdet(a)
    return sign.astype(a.dtype), size.astype(np.empty(0, a.dtype).real.dtype)


def _slogdet_meta(a: Any) -> tuple:
    check_square("linalg.slogdet", a)
    return meta(a, a.shape[:-2]), meta(a, a.shape[:-2], a.dtype.to_real())


def _slogdet_rule(g: Any, out: Any, a: Any) -> Any:
    inverse = adjoint(ops.linalg_inv_ex(a)[0])
    if not a.dtype.is_complex:
        return _lifted(g[1]) * inverse
    turn = ops.imag(conj_of(g[0]) * out[0])  # d sign = i sign Im tr(A^-1 dA)
    return _lifted(ops.complex(g[1], -turn)) * inverse


slogdet_ = primitive(
    "linalg_slogdet(Tensor A) -> (Tensor, Tensor)", "linalg", kernel=_slogdet, infer=_slogdet_meta, vjp=_slogdet_rule, api=(),
    tags=_TAGS, dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 2, 2))],
    doc="Signs (complex: phases) of determinants, and the logarithms of their sizes. Shapes: [*, n, n] -> [*], [*].")
named_result(slogdet_, returns.linalg_slogdet, "linalg.slogdet")
named_result(slogdet_, returns.slogdet, "torch.slogdet", "Tensor.slogdet")


def _logdet_parts(a: Any) -> Any:
    check_square("logdet", a)
    sign, size = ops.linalg_slogdet(a)
    if a.dtype.is_complex:
        return size + ops.log(sign)
    return ops.where(ops.lt(sign, 0), math.nan, size)


logdet = composite("logdet(Tensor self) -> Tensor", _logdet_parts, dtypes="fc", tags=("no_half",),
                   samples=lambda: [S(definite(3, 3)), S(definite(2, 2, 2))],
                   doc="Logarithms of determinants; NaN where one is negative. Shapes: [*, n, n] -> [*].")


# ---- exponentials and powers --------------------------------------------------------------------------------------


@on_host
def _matrix_exp(a: Any) -> Any:
    from scipy.linalg import expm  # noqa: PLC0415 - loaded when first called
    return expm(a).astype(a.dtype, copy=False) if a.size else a.copy()


def _matrix_exp_meta(a: Any) -> TensorMeta:
    check_square("linalg.matrix_exp", a, half=True)
    return meta(a, a.shape)


def _matrix_exp_rule(g: Any, out: Any, a: Any) -> Any:
    """The upper right block of exp([[A^H, g], [0, A^H]])."""
    n = a.shape[-1]
    turned = adjoint(a)
    block = ops.cat([ops.cat([turned, g], -1), ops.cat([ops.zeros_like(turned), turned], -1)], -2)
    return ops.narrow(ops.narrow(ops.linalg_matrix_exp(block), -2, 0, n), -1, n, n)


matrix_exp = primitive(
    "linalg_matrix_exp(Tensor self) -> Tensor", "linalg", kernel=_matrix_exp, infer=_matrix_exp_meta, vjp=_matrix_exp_rule,
    promote="keep", api=("linalg.matrix_exp", "torch.matrix_exp", "Tensor.matrix_exp"), tags=_TAGS, dtypes="fc",
    samples=lambda: [S(well(3, 3)), S(well(2, 2, 2))], doc="Matrix exponentials. Shapes: [*, n, n] -> [*, n, n].")


def _matrix_power_parts(a: Any, n: int) -> Any:
    check_square("linalg.matrix_power", a, half=True)
    if n == 0:
        return ops.copy(a, eye_like(a))
    if n < 0:
        a, n = ops.linalg_inv(a), -n
    result = None
    while n:  # by repeated squaring
        if n & 1:
            result = a if result is None else ops.matmul(result, a)
        n >>= 1
        a = ops.matmul(a, a) if n else a
    return ops.clone(result) if result is a else result


matrix_power = composite(
    "linalg_matrix_power(Tensor self, int n) -> Tensor", _matrix_power_parts, dtypes="fc",
    tags=("amp:through", "out", "no_half", "raises"),
    api=("linalg.matrix_power", "torch.matrix_power", "Tensor.matrix_power"),
    samples=lambda: [S(well(3, 3), 3), S(well(2, 2, 2), 0), S(well(3, 3), -2), S(well(3, 3), 1)],
    doc="``A`` multiplied with itself ``n`` times; the inverse's power for a negative ``n``. Shapes: [*, n, n] -> [*, n, n].")


@public("linalg.multi_dot")
def multi_dot(tensors: Any, *, out: Any = None) -> Any:
    """The product of matrices in the order that needs the fewest multiplications; the first and last may be vectors."""
    matrices = list(tensors)
    n = len(matrices)
    if n < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {n}")
    first, last = matrices[0].ndim == 1, matrices[-1].ndim == 1
    for i, m in enumerate(matrices):
        if m.ndim != 2 and not (m.ndim == 1 and i in (0, n - 1)):
            wanted = "1D or 2D" if i in (0, n - 1) else "2D"
            raise RuntimeError(f"multi_dot(): {_place(i, n)} must be {wanted} but got {m.ndim}D")
    matrices[0] = ops.unsqueeze(matrices[0], 0) if first else matrices[0]
    matrices[-1] = ops.unsqueeze(matrices[-1], 1) if last else matrices[-1]
    for i, (a, b) in enumerate(zip(matrices, matrices[1:])):
        if a.dtype is not b.dtype:
            raise RuntimeError("multi_dot(): all tensors must have be the same dtype but tensor 0 is "
                               f"{type_name(matrices[0].dtype)} and tensor {i + 1} {type_name(b.dtype)}")
        if a.shape[-1] != b.shape[0]:
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(tensors[i].shape)} and "
                               f"{list(tensors[i + 1].shape)} cannot be multiplied")
    found = ops.chain_matmul(*matrices)
    found = ops.squeeze(found, 0) if first else found
    found = ops.squeeze(found, -1) if last else found
    return found if out is None else write_out(det, found, out)


def _place(i: int, n: int) -> str:
    return "the first tensor" if i == 0 else "the last tensor" if i == n - 1 else f"tensor {i}"


# ---- pseudo-inverses and ranks ------------------------------------------------------------------------------------


def _eps(x: Any) -> float:
    return float(np.finfo(x.dtype.to_real().np).eps)


def _tolerances(x: Any, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """PyTorch's defaults: ``rtol`` is max(m, n) times the rounding unit unless a positive ``atol`` is given."""
    default = _eps(x) * max(x.shape[-2:])
    if rtol is None:
        if hasattr(atol, "dtype"):
            rtol = ops.where(ops.gt(atol, 0), 0.0, default)
        else:
            rtol = 0.0 if atol is not None and atol > 0 else default
    return 0.0 if atol is None else atol, rtol


def _threshold(size: Any, atol: Any, rtol: Any) -> Any:
    """What counts as zero among the sizes [*, k] of singular values (or eigenvalues)."""
    atol, rtol = (ops.unsqueeze(t, -1) if hasattr(t, "dtype") and t.ndim else t for t in (atol, rtol))
    return ops.maximum(ops.amax(size, (-1,), True) * rtol, atol) if hasattr(atol, "dtype") else ops.clamp(
        ops.amax(size, (-1,), True) * rtol, atol)


def _pinv_parts(a: Any, atol: Any, rtol: Any, hermitian: bool) -> Any:
    _check_pinv(a)
    m, n = a.shape[-2:]
    if m == 0 or n == 0 or 0 in a.shape:
        return ops.full((*a.shape[:-2], n, m), 0, dtype=a.dtype, device=a.device)
    atol, rtol = _tolerances(a, atol, rtol)
    if hermitian:
        check_square("linalg.pinv", a)
        values, u = ops.linalg_eigh(a)
        v, size = u, ops.abs(values)
    else:
        u, values, vh = ops.linalg_svd(a, False)
        v, size = adjoint(vh), values
    keep = ops.gt(size, _threshold(size, atol, rtol))
    inverse = ops.where(keep, 1 / ops.where(keep, values, 1), 0)
    return ops.matmul(v * ops.cast(ops.unsqueeze(inverse, -2), v.dtype), adjoint(u))


def _check_pinv(a: Any) -> None:
    if a.ndim < 2 or a.dtype.is_integral or a.dtype.itemsize < 4:
        raise RuntimeError(f"linalg.pinv({type_name(a.dtype)}{{{list(a.shape)}}}): expected a tensor with 2 or more dimensions "
                           "of float, double, cfloat or cdouble types")


def _pinv_gradient(g: Any, x: Any, a: Any) -> Any:
    """For X = A^+ : -X^H g X^H + (I - A X) g^H X X^H + X^H X g^H (I - X A)."""
    xh, gh = adjoint(x), adjoint(g)
    first = ops.matmul(gh, ops.matmul(x, xh))
    second = ops.matmul(ops.matmul(xh, x), gh)
    return (first - ops.matmul(a, ops.matmul(x, first)) + second - ops.matmul(ops.matmul(second, x), a)
            - ops.matmul(ops.matmul(xh, g), xh))


pinv_of = composite(
    "linalg_pinv(Tensor A, *, Operand? atol=None, Operand? rtol=None, bool hermitian=False) -> Tensor", _pinv_parts, api=(),
    vjp=(lambda g, out, a, atol, rtol, hermitian: _pinv_gradient(g, out, a), None, None),
    tags=("out", "no_half", "by_rule", "raises"),
    dtypes="fc", samples=lambda: [S(well(3, 3)), S(well(2, 4, 3)), S(well(2, 3), rtol=1e-3), S(definite(3, 3), hermitian=True)],
    doc="Pseudo-inverses; singular values up to max(atol, rtol * the largest) count as 0. Shapes: [*, m, n] -> [*, n, m].")


@public("linalg.pinv")
def pinv(A: Any, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None, out: Any = None) -> Any:
    """The Moore-Penrose inverse; singular values up to ``max(atol, rtol * largest)`` count as 0."""
    if rcond is not None:
        atol, rtol = 0.0, rcond
    found = ops.linalg_pinv(A, atol=atol, rtol=rtol, hermitian=hermitian)
    return found if out is None else write_out(pinv_of, found, out)


@public("torch.pinverse", "Tensor.pinverse")
def pinverse(input: Any, rcond: float = 1e-15) -> Any:  # noqa: A002
    """The old form of ``linalg.pinv``."""
    return ops.linalg_pinv(input, atol=0.0, rtol=rcond)


@public("linalg.matrix_rank")
def matrix_rank(input: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None,  # noqa: A002
                out: Any = None) -> Any:
    """How many singular values (``hermitian``: sizes of eigenvalues) are larger than ``max(atol, rtol * largest)``."""
    check_matrix("torch.linalg.matrix_rank", input)
    if tol is not None:
        atol, rtol = tol, 0.0
    if 0 in input.shape:
        found = ops.full(tuple(input.shape[:-2]), 0, dtype=_dtype.int64, device=input.device)
    else:
        atol, rtol = _tolerances(input, atol, rtol)
        for name, given in (("atol", atol), ("rtol", rtol)):
            if hasattr(given, "dtype") and given.dtype.is_complex:
                raise RuntimeError(f"torch.linalg.matrix_rank: {name} tensor of complex type is not supported. Got {name} of "
                                   f"type {type_name(given.dtype)}")
        size = ops.abs(ops.linalg_eigvalsh(input)) if hermitian else ops.linalg_svdvals(input)
        found = ops.sum(ops.gt(size, _threshold(size, atol, rtol)), (-1,))
    return found if out is None else write_out(det, found, out)


# ---- least squares ------------------------------------------------------------------------------------------------

_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


@on_host
def _lstsq(a: Any, b: Any, rcond: Any, driver: str) -> tuple:
    m, n = a.shape[-2:]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*lead, m, n)), np.broadcast_to(b, (*lead, *b.shape[-2:]))
    real = np.empty(0, a.dtype).real.dtype
    rcond = np.finfo(real).eps * max(m, n) if rcond is None else rcond
    x = np.zeros((*lead, n, b.shape[-1]), a.dtype)
    rank, sizes = np.zeros(lead, np.int64), np.zeros((*lead, min(m, n)), real)
    for i in np.ndindex(lead):
        if a.size:
            x[i], _, rank[i], sizes[i] = np.linalg.lstsq(a[i], b[i], rcond)
    none = np.zeros(0, real)
    if driver == "gelsy" or m <= n or (driver != "gels" and (rank < n).any()):
        residuals = none
    else:
        residuals = np.sum(np.abs(a @ x - b) ** 2, -2).astype(real)
    return (x, residuals, np.zeros(0, np.int64) if driver == "gels" else rank, sizes if driver in ("gelsd", "gelss") else none)


def _check_lstsq(a: Any, b: Any, driver: Any) -> None:
    name = "torch.linalg.lstsq"
    if a.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if b.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    if not 0 <= a.ndim - b.ndim <= 1:
        raise RuntimeError(f"{name}: input.dim() must be greater or equal to other.dim() and (input.dim() - other.dim()) <= 1")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: Expected input and other to have the same dtype, but got input's dtype "
                           f"{type_name(a.dtype)} and other's dtype {type_name(b.dtype)}")
    check_matrix(name, a)
    if driver not in _DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")


def _lstsq_meta(a: Any, b: Any, rcond: Any, driver: str) -> tuple:
    lead, (m, n), k = batch(a, b), a.shape[-2:], b.shape[-1]
    real = a.dtype.to_real()
    residuals = (0,) if driver == "gelsy" or not m > n else (*lead, k)
    return (meta(a, (*lead, n, k)), meta(a, residuals, real), meta(a, (0,) if driver == "gels" else lead, _dtype.int64),
            meta(a, (*lead, min(m, n)) if driver in ("gelsd", "gelss") else (0,), real))


def _lstsq_rule(g: Any, out: Any, a: Any, b: Any, rcond: Any, driver: str, *, needs: Any) -> list:
    """X = A^+ B, and the residuals are the squares of B - A X summed."""
    x = ops.linalg_pinv(a)
    ga = _pinv_gradient(ops.matmul(g[0], adjoint(b)), x, a) if needs[0] else None
    gb = ops.matmul(adjoint(x), g[0])
    if out[1].ndim != 1 or out[1].shape[0] or not b.shape[-1]:  # there are residuals
        away = (b - ops.matmul(a, out[0])) * (2 * ops.unsqueeze(g[1], -2))
        gb = gb + away
        ga = None if ga is None else ga - ops.matmul(away, adjoint(out[0]))
    return [ga, gb if needs[1] else None]


lstsq_of = primitive(
    "linalg_lstsq_matrices(Tensor A, Tensor B, Number? rcond=None, str driver='gelsy') -> (Tensor, Tensor, Tensor, Tensor)",
    "linalg", kernel=_lstsq, infer=_lstsq_meta, joint_vjp=reads("g", "out", "a", "b")(_lstsq_rule), api=(),
    tags=("extern", "no_half", "by_rule", "raises"), dtypes="fc",
    samples=lambda: [S(well(4, 3), T((4, 2))), S(well(2, 3, 3), T((2, 3, 1))), S(well(4, 3), T((4, 2)), None, "gelsd")],
    doc="X that makes ||A X - B|| smallest, squared residuals, ranks, singular values; what the driver does not compute is "
        "empty. Shapes: [*, m, n], [*, m, k] -> [*, n, k], [*, k], [*], [*, min(m, n)].")


@public("linalg.lstsq")
def lstsq(A: Any, B: Any, rcond: Any = None, *, driver: str | None = None, out: Any = None) -> Any:
    """Solutions of least-squares problems, with residuals, ranks and singular values as far as ``driver`` gives them."""
    driver = "gelsy" if driver is None else driver
    _check_lstsq(A, B, driver)
    vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and tuple(A.shape[:-1]) == tuple(B.shape))
    b = ops.unsqueeze(B, -1) if vector else B
    if A.shape[-2] != b.shape[-2]:
        raise RuntimeError(f"torch.linalg.lstsq: input.size(-2) should match other.size({-1 if vector else -2})")
    x, residuals, rank, sizes = ops.linalg_lstsq_matrices(A, b, rcond, driver)
    found = returns.linalg_lstsq(ops.squeeze(x, -1) if vector else x, residuals, rank, ops.detach(sizes))
    return found if out is None else returns.linalg_lstsq(*write_out(lstsq_of, tuple(found), tuple(out)))


# ---- tensors as matrices ------------------------------------------------------------------------------------------


@public("linalg.tensorinv")
def tensorinv(A: Any, ind: int = 2, *, out: Any = None) -> Any:
    """The inverse of ``tensordot`` with ``A`` over its dimensions from ``ind`` on."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    front, back = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    rows, columns = math.prod(front), math.prod(back)
    if rows != columns:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                           f"{columns} != {rows}")
    found, _ = ops.linalg_inv_ex(ops.reshape(A, (rows, columns)), check_errors=True, caller="inv")
    found = ops.reshape(found, (*back, *front))
    return found if out is None else write_out(det, found, out)


@public("linalg.tensorsolve")
def tensorsolve(A: Any, B: Any, dims: Any = None, *, out: Any = None) -> Any:
    """X with ``tensordot(A, X, X.ndim) = B``, after moving the dimensions ``dims`` of ``A`` to its end."""
    if dims:
        moved = [d % A.ndim for d in dims]
        A = ops.permute(A, (*[d for d in range(A.ndim) if d not in moved], *moved))
    shape = tuple(A.shape[B.ndim:])
    rows, columns = math.prod(tuple(A.shape[:B.ndim])), math.prod(shape)
    if rows != columns:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
                           f"prod(self.shape[:other.ndim]), but got {columns} != {rows}")
    found = ops.reshape(ops.linalg_solve(ops.reshape(A, (rows, rows)), ops.reshape(B, (-1,))), shape)
    return found if out is None else write_out(det, found, out)


@public("linalg.vander")
def vander(x: Any, N: Any = None) -> Any:  # noqa: N803 - PyTorch's name
    """The powers 0 ... N - 1 of each element, along a new last dimension."""
    x = x if x.ndim else ops.unsqueeze(x, 0)
    n = x.shape[-1] if N is None else N
    if n <= 1:
        raise RuntimeError("N must be greater than 1.")
    x = ops.cast(x, _dtype.int64) if x.dtype.is_integral else x
    powers = ops.cumprod(ops.expand(ops.unsqueeze(x, -1), (*x.shape, n - 1)), -1)
    return ops.cat([ops.full((*x.shape, 1), 1, dtype=powers.dtype, device=x.device), powers], -1)


# ---- low rank -----------------------------------------------------------------------------------------------------


def _basis(a: Any, q: int, niter: int) -> Any:
    """Orthonormal columns that nearly span ``a``'s, from random combinations of them (Halko, Martinsson, Tropp 2009)."""
    noise = ops.normal_fill((a.shape[-1], q), dtype=a.dtype, device=a.device)
    found = ops.linalg_qr(ops.matmul(a, noise))[0]
    for _ in range(niter):
        found = ops.linalg_qr(ops.matmul(adjoint(a), found))[0]
        found = ops.linalg_qr(ops.matmul(a, found))[0]
    return found


@public("torch.svd_lowrank")
def svd_lowrank(A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None) -> tuple:  # noqa: N803 - PyTorch's names
    """U, S and V of ``A`` (``M``: of ``A - M``), nearly, with ``q`` singular values, from ``niter`` random projections."""
    if M is not None:
        A = A - M
    wide = A.shape[-2] < A.shape[-1]
    if wide:
        A = adjoint(A)
    basis = _basis(A, 6 if q is None else q, 2 if niter is None else niter)
    u, s, vh = ops.linalg_svd(ops.matmul(adjoint(basis), A), False)
    u, v = ops.matmul(basis, u), adjoint(vh)
    return (v, s, u) if wide else (u, s, v)


@public("torch.pca_lowrank")
def pca_lowrank(A: Any, q: int | None = None, center: bool = True, niter: int = 2) -> tuple:
    """Principal components of rows: U, S and V of the matrix with its column means (unless not ``center``) removed."""
    m, n = A.shape[-2:]
    if q is None:
        q = min(6, m, n)
    elif not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(A - ops.mean(A, (-2,), True) if center else A, q, niter)
