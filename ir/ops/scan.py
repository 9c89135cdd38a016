"""Running combinations along a dimension."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import composite, conj_of, ops, primitive, wrap_dim
from ..meta import TensorMeta, meta_of
from ..op import public
from ..samples import S, T
from . import returns
from .maths import logaddexp_arrays


def _reversed_sum(x: Any, dim: int) -> Any:
    """The sum of each element and those behind it."""
    return ops.flip(ops.cumsum(ops.flip(x, (dim,)), dim), (dim,))


def _scan_meta(x: Any, dim: int, dtype: Any) -> TensorMeta:
    wrap_dim(dim, x.ndim)
    return TensorMeta(tuple(x.shape), dtype or (_dtype.int64 if x.dtype.is_integral else x.dtype), x.device)


def _accumulate(name: str) -> Any:
    def kernel(xp: Any, x: Any, dim: int, dtype: Any) -> Any:
        at = wrap_dim(dim, x.ndim)
        return getattr(xp, name)(x, axis=at) if x.ndim else x.copy()
    return kernel


_SCANS = [S(T((3, 4), 0.5, 2), 0), S(T((3, 4), 0.5, 2), -1), S(T((5,), 0.5, 2), 0), S(T(()), 0)]

cumsum = primitive(
    "cumsum(Tensor self, int dim, *, dtype? dtype=None) -> Tensor", "scan", kernel=_accumulate("cumsum"), infer=_scan_meta,
    promote="sum", vjp=lambda g, out, x, dim, dtype: _reversed_sum(g, dim),
    tags=("amp:float32@cuda", "extern", "out", "check"), dtypes="buifc",
    inplace=True, samples=lambda: _SCANS)


def _cumprod_rule(g: Any, out: Any, x: Any, dim: int, dtype: Any) -> Any:
    """Before the first zero: the usual quotient. At it: with a one in its place. Behind it: zero."""
    zero = ops.eq(x, 0)
    first = zero & ops.eq(ops.cumsum(zero, dim), 1)
    usual = _reversed_sum(g * conj_of(out), dim) / conj_of(ops.where(zero, 1, x))
    there = _reversed_sum(g * conj_of(ops.cumprod(ops.where(first, 1, x), dim)), dim)
    return ops.where(first, there, ops.where(zero, 0, usual))


cumprod = primitive(
    "cumprod(Tensor self, int dim, *, dtype? dtype=None) -> Tensor", "scan", kernel=_accumulate("cumprod"), infer=_scan_meta,
    promote="sum", vjp=_cumprod_rule, tags=("amp:float32@cuda", "extern", "out", "check"), dtypes="buifc", inplace=True,
    samples=lambda: [*_SCANS, S(T((4,), values=[1.5, 0.0, 2.0, -1.0]), 0)])


def _logcumsumexp(xp: Any, x: Any, dim: int) -> Any:
    if not x.ndim or not x.size:
        return x.copy()
    if x.dtype.kind != "c":
        return xp.logaddexp.accumulate(x, axis=wrap_dim(dim, x.ndim))
    rows = xp.moveaxis(x, wrap_dim(dim, x.ndim), 0).copy()
    for i in range(1, len(rows)):
        rows[i] = logaddexp_arrays(xp, rows[i - 1], rows[i])
    return xp.moveaxis(rows, 0, wrap_dim(dim, x.ndim))


def _logcumsumexp_rule(g: Any, out: Any, x: Any, dim: int) -> Any:
    """``exp(x) * sum of g * exp(-out) from here on``, summed in logarithms: positive and negative parts each for themselves."""
    def summed(log_g: Any) -> Any:
        found = ops.exp(ops.flip(ops.logcumsumexp(ops.flip(log_g - out, (dim,)), dim), (dim,)) + x)
        return found if x.dtype.is_complex else ops.where(ops.eq(x, float("-inf")), 0, found)  # adds nothing, whatever out is

    if not x.ndim:
        return g
    if x.dtype.is_complex:
        return ops.conj(summed(ops.log(ops.conj(g))))
    log_size = ops.log(ops.abs(g))
    none = float("-inf")
    return summed(ops.where(ops.gt(g, 0), log_size, none)) - summed(ops.where(ops.lt(g, 0), log_size, none))


logcumsumexp = primitive(
    "logcumsumexp(Tensor self, int dim) -> Tensor", "scan", kernel=_logcumsumexp, promote="keep",
    infer=lambda x, dim: (wrap_dim(dim, x.ndim), meta_of(x))[1],
    vjp=_logcumsumexp_rule, tags=("extern", "out", "check"),
    samples=lambda: _SCANS)


def _running_extreme(name: str, better: str, op_name: str) -> Any:
    def kernel(xp: Any, x: Any, dim: int) -> Any:
        if not x.ndim:
            return x.copy(), xp.zeros((), "i8")
        at = wrap_dim(dim, x.ndim)
        values = getattr(xp, better).accumulate(x, axis=at)
        # the last position whose element equals the running extreme, as PyTorch counts
        here = (x == values) | ((x != x) & (values != values))
        count = xp.arange(x.shape[at]).reshape((-1,) + (1,) * (x.ndim - 1 - at))
        return values, xp.maximum.accumulate(xp.where(here, count, 0), axis=at)

    return primitive(f"{op_name}(Tensor self, int dim) -> (Tensor, Tensor)", "scan", kernel=kernel, api=(),
                     infer=lambda x, dim: (meta_of(x), meta_of(x).with_dtype(_dtype.int64)), tags=("extern", "check"),
                     vjp=lambda g, out, x, dim: ops.scatter_add(ops.zeros_like(g[0]), dim, out[1], g[0]), dtypes="uif",
                     samples=lambda: [S(T((3, 4), distinct=True), 0), S(T((3, 4), distinct=True), -1)])


cummax = _running_extreme("cummax", "maximum", "cummax")
cummin = _running_extreme("cummin", "minimum", "cummin")


@public("torch.cummax", "Tensor.cummax")
def cummax_(input: Any, dim: int) -> Any:  # noqa: A002
    """The largest element so far along ``dim``, and where it was."""
    return returns.cummax(*ops.cummax(input, dim))


@public("torch.cummin", "Tensor.cummin")
def cummin_(input: Any, dim: int) -> Any:  # noqa: A002
    """The smallest element so far along ``dim``, and where it was."""
    return returns.cummin(*ops.cummin(input, dim))


def _diff_parts(x: Any, n: int, dim: int) -> Any:
    at = wrap_dim(dim, x.ndim)
    for _ in range(n):
        later, earlier = ops.slice(x, at, 1, None), ops.slice(x, at, 0, -1)
        x = ops.logical_xor(later, earlier) if x.dtype is _dtype.bool_ else later - earlier
    return x


diff_ = composite("diff(Tensor self, int n=1, int dim=-1) -> Tensor", _diff_parts, dtypes="uif", api=(),
                  samples=lambda: [S(T((3, 4))), S(T((5,)), 2), S(T((3, 4)), 1, 0)])


@public("torch.diff", "Tensor.diff")
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:  # noqa: A002
    """The differences of neighbours along ``dim``, ``n`` times over."""
    if not input.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    if n == 0:
        return ops.clone(input)
    parts = [t for t in (prepend, input, append) if t is not None]
    return ops.diff(ops.cat(parts, dim) if len(parts) > 1 else input, n, dim)


@public("torch.trapezoid", "torch.trapz")
def trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Any:
    """The integral of samples ``y`` along ``dim`` by the trapezoidal rule."""
    at = wrap_dim(dim, y.ndim)
    width = dx if x is None else ops.diff(x, 1, -1 if x.ndim == 1 else at)
    if x is not None and x.ndim == 1:
        width = ops.reshape(width, (-1,) + (1,) * (y.ndim - 1 - at))
    return ops.sum((ops.slice(y, at, 1, None) + ops.slice(y, at, 0, -1)) * width, at) / 2
