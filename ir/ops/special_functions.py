"""Special functions that rest on SciPy (PyTorch: ``torch.special``), imported when the first one is called."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

from .. import dtype as _dtype
from ..family import composite, ops, pointwise
from ..samples import S, T, unary

_ROOT_HALF, _ROOT_PI = math.sqrt(0.5), math.sqrt(math.pi)


def _library(xp: Any) -> Any:
    """``scipy.special``, or CuPy's for arrays on a GPU."""
    return importlib.import_module("scipy.special" if xp.__name__ == "numpy" else "cupyx.scipy.special")


def _scipy(name: str, *, pick: int | None = None) -> Callable[..., Any]:
    """A kernel that calls SciPy's function; ``pick`` chooses among several results."""
    def kernel(xp: Any, *args: Any) -> Any:
        found = getattr(_library(xp), name)(*args)
        found = found if pick is None else found[pick]
        kind = next(a.dtype for a in args if hasattr(a, "dtype"))
        return found.astype(kind, copy=False) if kind.kind in "fc" else found
    return kernel


def _function(name: str, vjp: Any = None, *, scipy: str | None = None, pick: int | None = None, low: float = -2.0,
              high: float = 2.0, kernel: Callable[..., Any] | None = None) -> Any:
    """A function of one tensor under ``torch.special``; integers become floats."""
    return pointwise(f"{name}(Tensor self) -> Tensor", promote="float", kernel=kernel or _scipy(scipy or name, pick=pick),
                     vjp=vjp, tags=("extern",), api=(f"special.{name}",), inplace=False, dtypes="uif", refuses="c",
                     samples=unary(low, high))


# ---- Bessel and Airy functions --------------------------------------------------------------------------------------


def _near_zero(x: Any, value: float, rule: Any) -> Any:
    """``rule(x)``, and ``value`` where x is 0."""
    zero = ops.eq(x, 0)
    return ops.where(zero, value, rule(ops.where(zero, 1, x)))


bessel_j0 = _function("bessel_j0", lambda g, out, x: -g * ops.bessel_j1(x), scipy="j0")
bessel_j1 = _function("bessel_j1", lambda g, out, x: g * (ops.bessel_j0(x) - _near_zero(x, 0.5, lambda z: out / z)),
                      scipy="j1")
bessel_y0 = _function("bessel_y0", lambda g, out, x: -g * ops.bessel_y1(x), scipy="y0", low=0.2, high=3)
bessel_y1 = _function("bessel_y1", lambda g, out, x: g * (ops.bessel_y0(x) - out / x), scipy="y1", low=0.2, high=3)
modified_bessel_i0 = _function("modified_bessel_i0", lambda g, out, x: g * ops.modified_bessel_i1(x), scipy="i0")
modified_bessel_i1 = _function(
    "modified_bessel_i1", lambda g, out, x: g * (ops.modified_bessel_i0(x) - _near_zero(x, 0.5, lambda z: out / z)),
    scipy="i1")
modified_bessel_k0 = _function("modified_bessel_k0", lambda g, out, x: -g * ops.modified_bessel_k1(x), scipy="k0", low=0.2,
                               high=3)
modified_bessel_k1 = _function("modified_bessel_k1", lambda g, out, x: -g * (ops.modified_bessel_k0(x) + out / x),
                               scipy="k1", low=0.2, high=3)
scaled_modified_bessel_k0 = _function(
    "scaled_modified_bessel_k0", lambda g, out, x: g * (out - ops.scaled_modified_bessel_k1(x)), scipy="k0e", low=0.2, high=3)
scaled_modified_bessel_k1 = _function(
    "scaled_modified_bessel_k1", lambda g, out, x: g * (out - ops.scaled_modified_bessel_k0(x) - out / x), scipy="k1e",
    low=0.2, high=3)
i0e = _function("i0e", lambda g, out, x: g * (ops.i1e(x) - ops.sign(x) * out))
i1e = _function("i1e", lambda g, out, x: g * ops.where(ops.eq(x, 0), 0.5, ops.i0e(x) - out * (
    ops.sign(x) + 1 / ops.where(ops.eq(x, 0), 1, x))))
spherical_bessel_j0 = _function(
    "spherical_bessel_j0", lambda g, out, x: g * _near_zero(x, 0.0, lambda z: (ops.cos(z) - out) / z),
    kernel=lambda xp, x: xp.where(xp.isinf(x), 0, xp.sinc(x / math.pi)).astype(x.dtype))
airy_ai = _function("airy_ai", lambda g, out, x: g * ops.airy_ai_prime(x), scipy="airy", pick=0)
airy_ai_prime = pointwise(
    "airy_ai_prime(Tensor self) -> Tensor", promote="float", kernel=_scipy("airy", pick=1), tags=("extern",), api=(),
    vjp=lambda g, out, x: g * x * ops.airy_ai(x), inplace=False, dtypes="uif", samples=unary(),
    doc="The derivative of Airy's function Ai.")

# ---- the normal distribution ----------------------------------------------------------------------------------------


def _floating(x: Any) -> Any:
    """Integer tensors as floats; anything else as it is."""
    return ops.cast(x, _dtype.get_default_dtype()) if hasattr(x, "dtype") and x.dtype.is_integral else x


def _entropy(x: Any) -> Any:
    inside = ops.gt(x, 0)
    x = _floating(x)
    value = ops.where(inside, -x * ops.log(ops.where(inside, x, 1)), ops.where(ops.lt(x, 0), -math.inf, 0.0))
    return ops.where(ops.isnan(x), math.nan, value)


entr = composite("entr(Tensor self) -> Tensor", _entropy, kernel=_scipy("entr"), promote="float", tags=("out",),
                 vjp=lambda g, out, x: g * (-1 - ops.log(x)), api=("special.entr",), dtypes="uif", samples=unary(0.2, 3),
                 doc="``-x log(x)``, 0 at 0 and minus infinity below.")
erfcx = _function("erfcx", lambda g, out, x: g * (2 * x * out - 2 / _ROOT_PI))
ndtr = composite(
    "ndtr(Tensor self) -> Tensor", lambda x: ops.where(ops.lt(x, -1), ops.erfc(_floating(x) * -_ROOT_HALF),
                                                       1 + ops.erf(_floating(x) * _ROOT_HALF)) * 0.5,
    kernel=_scipy("ndtr"), promote="float", tags=("out",), api=("special.ndtr",), dtypes="f", samples=unary(),
    vjp=lambda g, out, x: g * (ops.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))),
    doc="The distribution function of the standard normal distribution.")
ndtri = _function("ndtri", lambda g, out, x: g * (math.sqrt(2 * math.pi) * ops.exp(out * out * 0.5)), low=0.05, high=0.95)
log_ndtr = _function("log_ndtr", lambda g, out, x: g / ops.erfcx(x * -_ROOT_HALF) * (math.sqrt(2) / _ROOT_PI))

# ---- functions of two tensors ---------------------------------------------------------------------------------------


def _xlog1py(x: Any, y: Any) -> Any:
    x, y = _floating(x), _floating(y)
    if not hasattr(y, "dtype"):
        y = ops.full((), y, dtype=x.dtype, device=x.device)
    product = x * ops.log1p(y)
    if not hasattr(x, "dtype"):
        return product if x else ops.where(ops.isnan(y), y, 0.0)
    return ops.where(ops.isnan(y), math.nan, ops.where(ops.eq(x, 0), 0.0, product))


def _log1p_beside(x: Any, y: Any) -> Any:
    """The derivative along x: 0 where x is 0 and the logarithm does not exist."""
    if not hasattr(y, "dtype"):
        return math.log1p(y) if y > -1 else ops.where(ops.eq(x, 0), 0.0, -math.inf if y == -1 else math.nan)
    return ops.where(ops.eq(x, 0) & ops.le(y, -1), 0.0, ops.log1p(y))


xlog1py = composite("xlog1py(Operand self, Operand other) -> Tensor", _xlog1py, kernel=_scipy("xlog1py"), promote="float",
                    tags=("out", "number_first"), dtypes="uif", api=("special.xlog1py",),
                    vjp=(lambda g, out, x, y: g * _log1p_beside(x, y), lambda g, out, x, y: g * x / (y + 1)),
                    samples=lambda: [S(T((3, 4), 0.2, 2), T((3, 4), 0.2, 2)), S(T((3, 1)), T((4,), 0.1, 2)), S(T((3, 4)), 2),
                                     S(2, T((3, 4), 0.1, 2))],
                    doc="``x log(1 + y)``, 0 where x is 0.")
zeta = pointwise("zeta(Operand self, Operand other) -> Tensor", promote="float", kernel=_scipy("zeta"),
                 tags=("extern", "number_first"),
                 vjp=(None, lambda g, out, x, q: g * -x * ops.zeta(x + 1, q)), inplace=False, api=("special.zeta",),
                 dtypes="uif", refuses="c",
                 samples=lambda: [S(T((3, 4), 1.5, 4, grad=False), T((3, 4), 0.5, 3)), S(2.5, T((3, 4), 0.5, 3)),
                                  S(T((3, 1), 2, 5, grad=False), 2)])


def _gamma_density(a: Any, x: Any) -> Any:
    return ops.exp((a - 1) * ops.log(x) - x - ops.lgamma(a))


igamma = pointwise("igamma(Tensor self, Tensor other) -> Tensor", kernel=_scipy("gammainc"), tags=("extern",), refuses="buic",
                   vjp=(None, lambda g, out, a, x: g * _gamma_density(a, x)),
                   api=("torch.igamma", "Tensor.igamma", "special.gammainc"),
                   samples=lambda: [S(T((3, 4), 0.3, 3, grad=False), T((3, 4), 0.3, 3)),
                                    S(T((3, 1), 0.3, 3, grad=False), T((4,), 0.3, 3))],
                   doc="The regularised lower incomplete gamma function of order ``input`` at ``other``.")
igammac = pointwise("igammac(Tensor self, Tensor other) -> Tensor", kernel=_scipy("gammaincc"), tags=("extern",),
                    vjp=(None, lambda g, out, a, x: -g * _gamma_density(a, x)), refuses="buic",
                    api=("torch.igammac", "Tensor.igammac", "special.gammaincc"),
                    samples=lambda: [S(T((3, 4), 0.3, 3, grad=False), T((3, 4), 0.3, 3)),
                                     S(T((3, 1), 0.3, 3, grad=False), T((4,), 0.3, 3))],
                    doc="The regularised upper incomplete gamma function of order ``input`` at ``other``.")

# ---- orthogonal polynomials -----------------------------------------------------------------------------------------


def _recurrence(xp: Any, x: Any, n: Any, first: Any, step: Callable[..., Any]) -> Any:
    """p(n) from p(0) = 1, p(1) = ``first`` and p(k + 1) = ``step(k, p(k), p(k - 1))``; 0 for a negative n."""
    before, at = xp.ones_like(x), first
    result = xp.where(n == 0, before, xp.where(n == 1, at, xp.zeros_like(x)))
    for k in range(1, int(n.max()) if n.size else 0):
        before, at = at, step(k, at, before)
        result = xp.where(n == k + 1, at, result)
    return result


def _chebyshev(kind: str, shifted: bool) -> Callable[..., Any]:
    """The four kinds share their recurrence and differ in p(1); high orders inside (-1, 1) take the trigonometric form."""
    def first(x: Any) -> Any:
        return {"t": x, "u": x + x, "v": x + x - 1, "w": x + x + 1}[kind]

    def by_angle(xp: Any, x: Any, n: Any) -> Any:
        angle = xp.arccos(x)
        if kind == "t":
            return xp.cos(n * angle)
        if kind == "u":
            return xp.sin((n + 1) * angle) / xp.sin(angle)
        if kind == "v":
            return xp.cos((n + 0.5) * angle) / xp.cos(angle / 2)
        return xp.sin((n + 0.5) * angle) / xp.sin(angle / 2)

    def at_end(xp: Any, x: Any, n: Any) -> Any:
        sign = xp.where((x > 0) | (n % 2 == 0), 1, -1)
        size = {"t": 1, "u": n + 1, "v": xp.where(x > 0, 1, 2 * n + 1), "w": xp.where(x > 0, 2 * n + 1, 1)}[kind]
        return xp.where(n < 0, 0, sign * size)

    def kernel(xp: Any, x: Any, n: Any) -> Any:
        x, n = x + x - 1 if shifted else x, n.astype("i8")
        angled = (n > (6 if kind == "t" else 8)) & (abs(x) < 1)
        low = _recurrence(xp, x, xp.where(angled | (abs(x) == 1), 0, n), first(x), lambda k, p, q: (x + x) * p - q)
        inside = xp.where(abs(x) < 1, x, 0)
        return xp.where(angled, by_angle(xp, inside, n), xp.where(abs(x) == 1, at_end(xp, x, n), low))
    return kernel


def _hermite(factor: int) -> Callable[..., Any]:
    def kernel(xp: Any, x: Any, n: Any) -> Any:
        n, limit = n.astype("i8"), 512 if x.dtype.itemsize == 8 else 128
        found = _recurrence(xp, x, xp.minimum(n, limit), factor * x, lambda k, p, q: factor * (x * p - k * q))
        return xp.where(n > limit, math.nan, found)
    return kernel


def _laguerre(xp: Any, x: Any, n: Any) -> Any:
    n = n.astype("i8")
    found = _recurrence(xp, x, xp.where(x == 0, 0, n), 1 - x, lambda k, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1))
    return xp.where((x == 0) & (n < 0), 0, found)


def _legendre(xp: Any, x: Any, n: Any) -> Any:
    n = n.astype("i8")
    found = _recurrence(xp, x, xp.where(abs(x) == 1, 0, n), x, lambda k, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1))
    end = xp.where(n < 0, 0, xp.where((x > 0) | (n % 2 == 0), 1, -1))
    return xp.where(abs(x) == 1, end, found)


def _polynomial(name: str, kernel: Callable[..., Any]) -> Any:
    """``f(x, n)``: the polynomial of degree ``n`` (rounded towards zero) at ``x``; either may be a number."""
    def typed(xp: Any, x: Any, n: Any) -> Any:
        kind = (x if hasattr(x, "dtype") else n).dtype
        x, n = xp.broadcast_arrays(xp.asarray(x, kind), xp.asarray(n, kind))
        return kernel(xp, x, n).astype(kind)

    return pointwise(f"{name}(Operand x, Operand n) -> Tensor", promote="float", kernel=typed,
                     tags=("extern", "nograd", "number_first"), inplace=False, api=(f"special.{name}",), dtypes="uif",
                     refuses="c",
                     samples=lambda: [S(T((3, 4), grad=False), T((3, 4), 0, 6, grad=False)),
                                      S(T((3, 1), grad=False), T((5,), values=[-1, 0, 1, 7, 12], grad=False)),
                                      S(T((3,), values=[-1, 0, 1], grad=False), 3), S(0.5, T((4,), 0, 12, grad=False))])


for _kind in "tuvw":
    _polynomial(f"chebyshev_polynomial_{_kind}", _chebyshev(_kind, False))
    _polynomial(f"shifted_chebyshev_polynomial_{_kind}", _chebyshev(_kind, True))
_polynomial("hermite_polynomial_h", _hermite(2))
_polynomial("hermite_polynomial_he", _hermite(1))
_polynomial("laguerre_polynomial_l", _laguerre)
_polynomial("legendre_polynomial_p", _legendre)
