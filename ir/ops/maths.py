"""Elementwise functions: exponentials, logarithms, powers, trigonometry, and the special functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import dtype as _dtype
from ..family import Scalar, composite, conj_of, ops, pointwise
from ..op import public, write_out
from ..samples import S, T, binary, unary
from . import special
from .pointwise import call1, call2

_WIDE = ("amp:float32@cuda",)


def _function(name: str, vjp: Any, *, kernel: Callable[..., Any] | None = None, triton: str | None = None,
              dtypes: str = "buif", low: float = -2.0, high: float = 2.0, numpy_name: str | None = None,
              api: tuple[str, ...] = (), decompose: Any = None, scalar: Scalar | None = None,
              tags: tuple[str, ...] = (), refuses: str = "") -> Any:
    """A function of one tensor that makes integers floats."""
    known = numpy_name or name

    def from_numpy(xp: Any, x: Any) -> Any:
        return getattr(xp, known)(x)

    return pointwise(f"{name}(Tensor self) -> Tensor", promote="float", kernel=kernel or from_numpy, vjp=vjp, dtypes=dtypes,
                     ufunc="" if kernel else known,
                     scalar=scalar or call1(name, triton), samples=unary(low, high), decompose=decompose, tags=tags,
                     refuses=refuses,
                     api=(f"torch.{name}", f"Tensor.{name}", *api))


# ---- exponentials and logarithms ---------------------------------------------------------------------------

exp = _function("exp", lambda g, out, x: g * conj_of(out), triton="tl.exp", dtypes="buifc", tags=_WIDE)
exp2 = _function("exp2", lambda g, out, x: g * conj_of(out) * math.log(2), triton="tl.exp2")
expm1 = _function("expm1", lambda g, out, x: g * conj_of(out + 1), dtypes="buifc", tags=_WIDE)
log = _function("log", lambda g, out, x: g / conj_of(x), triton="tl.log", dtypes="buifc", low=0.2, high=3, tags=_WIDE)
log2 = _function("log2", lambda g, out, x: g / (conj_of(x) * math.log(2)), triton="tl.log2", dtypes="buifc", low=0.2, high=3,
    tags=_WIDE)
log10 = _function("log10", lambda g, out, x: g / (conj_of(x) * math.log(10)), dtypes="buifc", low=0.2, high=3, tags=_WIDE)
log1p = _function("log1p", lambda g, out, x: g / conj_of(x + 1), low=-0.9, high=3, dtypes="buifc", tags=_WIDE)
sqrt = _function("sqrt", lambda g, out, x: g / (2 * conj_of(out)), triton="square_root", dtypes="buifc", low=0.2, high=4)
rsqrt = _function("rsqrt", lambda g, out, x: g * conj_of(-0.5 * out * out * out), kernel=lambda xp, x: 1 / xp.sqrt(x),
                  triton="tl.rsqrt", low=0.2, high=4, dtypes="buifc", tags=_WIDE)
reciprocal = _function("reciprocal", lambda g, out, x: -g * conj_of(out * out), kernel=lambda xp, x: 1 / x, dtypes="buifc",
                       low=0.3, high=3, scalar=Scalar("(1 / {0})", "(1 / {0})"), tags=_WIDE)
square = composite("square(Tensor self) -> Tensor", lambda x: x ** 2, dtypes="buifc",
                   kernel=lambda xp, x: x * x if x.dtype.kind != "b" else x.astype(xp.int64),
                   inplace=True, tags=("out",), samples=unary(), vjp=lambda g, out, x: g * 2 * conj_of(x))
sigmoid = _function("sigmoid", lambda g, out, x: g * conj_of((1 - out) * out), kernel=lambda xp, x: 1 / (1 + xp.exp(-x)),
                    triton="tl.sigmoid", dtypes="buifc", api=("nn.functional.sigmoid",))
logit = composite("logit(Tensor self, float? eps=None) -> Tensor",
                  lambda x, eps: ops.log(_within(x, eps) / (1 - _within(x, eps))), inplace=True, tags=("out",),
                  samples=lambda: [S(T((3, 4), 0.1, 0.9)), S(T((3, 4), 0.0, 1.0), 0.2)])


def _within(x: Any, eps: float | None) -> Any:
    x = ops.cast(x, _dtype.get_default_dtype()) if x.dtype.is_integral else x
    return x if eps is None else ops.clamp(x, eps, 1 - eps)


# ---- powers ---------------------------------------------------------------------------


def _pow(xp: Any, x: Any, y: Any) -> Any:
    if (x if hasattr(x, "dtype") else y).dtype.kind in "iu":
        negative = y < 0
        if negative.any() if hasattr(negative, "any") else negative:
            if not hasattr(y, "dtype"):
                raise RuntimeError("Integers to negative integer powers are not allowed.")
            return _negative_powers(xp, x, y)
    if isinstance(y, (int, float)) and x.dtype.kind != "b":
        if y == 2:
            return x * x
        if y == 0.5 and x.dtype.kind == "f":
            return xp.sqrt(x)
    return xp.power(x, y)


def _negative_powers(xp: Any, x: Any, y: Any) -> Any:
    """Integer powers where an exponent tensor has negative elements: 1 and -1 keep their meaning, the rest is 0."""
    small = xp.where(x == 1, 1, xp.where(x == -1, xp.where(y % 2 == 0, 1, -1), 0))
    return xp.where(y < 0, small, xp.power(x, xp.maximum(y, 0)))


def _pow_base_rule(g: Any, out: Any, x: Any, y: Any) -> Any:
    if not hasattr(y, "dtype"):
        if y == 0:
            return ops.zeros_like(g)
        if y == 1:
            return g
        return g * conj_of(2 * x if y == 2 else y * ops.pow(x, y - 1))
    return ops.where(ops.eq(y, 0), 0, g * conj_of(y * ops.pow(x, y - 1)))


def _pow_exponent_rule(g: Any, out: Any, x: Any, y: Any) -> Any:
    if not hasattr(x, "dtype"):
        if x == 0:
            return ops.where(ops.ge(y, 0) if not y.dtype.is_complex else ops.ge(ops.real(y), 0), 0, g * float("-inf"))
        return g * conj_of(out * (math.log(x) if not isinstance(x, complex) and x > 0 else _complex_log(x)))
    known = ops.eq(x, 0) & (ops.ge(y, 0) if not y.dtype.is_complex else ops.ge(ops.real(y), 0))
    return ops.where(known, 0, g * conj_of(out * ops.log(x)))


def _complex_log(x: Any) -> Any:
    import cmath  # noqa: PLC0415
    return cmath.log(x) if isinstance(x, complex) else float("nan")


def _pow_parts(x: Any, y: Any) -> Any:
    """Exponents that need no ``pow``."""
    if isinstance(y, (int, float)) and not isinstance(y, bool) and getattr(x, "dtype", _dtype.bool_) is not _dtype.bool_:
        if y == 2 and not (isinstance(y, float) and x.dtype.is_integral):
            return x * x
        if y == 0.5 and x.dtype.is_floating_point:
            return ops.sqrt(x)
        if y == 3 and x.dtype.is_floating_point:
            return x * x * x
        if y == -1 and x.dtype.is_floating_point:
            return ops.reciprocal(x)
    return NotImplemented


pow_ = pointwise(
    "pow(Operand self, Operand exponent) -> Tensor", kernel=_pow, vjp=(_pow_base_rule, _pow_exponent_rule), dunder="pow",
    decompose=_pow_parts, scalar=call2("pow", "power_{kind}"), dtypes="uifc", refuses="b",
    tags=(*_WIDE, "number_first"),
    samples=lambda: [S(T((3, 5), 0.2, 2), T((3, 5), 0, 3)), S(T((3, 1), 0.2, 2), T((4,), 0, 3)), S(T((3, 4)), 2),
                     S(T((3, 4), 0.5, 2), 3), S(T((3, 4), 0.2, 2), 0.5, ), S(2, T((3, 4), 0, 3)), S(T((3, 4), 0.5, 2), 0)])


@public("torch.float_power", "Tensor.float_power")
def float_power(input: Any, exponent: Any) -> Any:  # noqa: A002
    """``input ** exponent`` in double precision."""
    def wide(x: Any) -> Any:
        if not hasattr(x, "dtype"):
            return x
        return ops.cast(x, _dtype.complex128 if x.dtype.is_complex else _dtype.float64)
    return ops.pow(wide(input), wide(exponent))


hypot = pointwise("hypot(Tensor self, Tensor other) -> Tensor", kernel=lambda xp, x, y: xp.hypot(x, y),
                  vjp=(lambda g, out, x, y: g * (x / out), lambda g, out, x, y: g * (y / out)), scalar=call2("hypot"),
                  refuses="buic",
                  samples=lambda: binary(0.5, 2)()[:4])

# ---- trigonometry ---------------------------------------------------------------------------

sin = _function("sin", lambda g, out, x: g * conj_of(ops.cos(x)), triton="tl.sin", dtypes="buifc")
cos = _function("cos", lambda g, out, x: g * -conj_of(ops.sin(x)), triton="tl.cos", dtypes="buifc")
tan = _function("tan", lambda g, out, x: g * conj_of(1 + out * out), dtypes="buifc", low=-1.2, high=1.2, tags=_WIDE)
asin = _function("asin", lambda g, out, x: g * conj_of(ops.rsqrt(1 - x * x) if not x.dtype.is_complex
                                                       else 1 / ops.sqrt(1 - x * x)), numpy_name="arcsin", dtypes="buifc",
                 low=-0.9, high=0.9, api=("torch.arcsin", "Tensor.arcsin"), tags=_WIDE)
acos = _function("acos", lambda g, out, x: -g * conj_of(ops.rsqrt(1 - x * x) if not x.dtype.is_complex
                                                        else 1 / ops.sqrt(1 - x * x)), numpy_name="arccos", dtypes="buifc",
                 low=-0.9, high=0.9, api=("torch.arccos", "Tensor.arccos"), tags=_WIDE)
atan = _function("atan", lambda g, out, x: g / conj_of(1 + x * x), numpy_name="arctan", dtypes="buifc", low=-0.9, high=0.9,
                 api=("torch.arctan", "Tensor.arctan"))
sinh = _function("sinh", lambda g, out, x: g * conj_of(ops.cosh(x)), dtypes="buifc", tags=_WIDE)
cosh = _function("cosh", lambda g, out, x: g * conj_of(ops.sinh(x)), dtypes="buifc", tags=_WIDE)
tanh = _function("tanh", lambda g, out, x: g * conj_of(1 - out * out), dtypes="buifc", api=("nn.functional.tanh",))
asinh = _function("asinh", lambda g, out, x: g * conj_of(1 / ops.sqrt(x * x + 1)), numpy_name="arcsinh", dtypes="buifc",
                  api=("torch.arcsinh", "Tensor.arcsinh"))
acosh = _function("acosh", lambda g, out, x: g * conj_of(1 / (ops.sqrt(x - 1) * ops.sqrt(x + 1))), numpy_name="arccosh",
                  dtypes="uifc", low=1.1, high=4, api=("torch.arccosh", "Tensor.arccosh"))
atanh = _function("atanh", lambda g, out, x: g / conj_of(1 - x * x), numpy_name="arctanh", dtypes="buifc", low=-0.9, high=0.9,
                  api=("torch.arctanh", "Tensor.arctanh"))

atan2 = pointwise(
    "atan2(Tensor self, Tensor other) -> Tensor", promote="float", kernel=lambda xp, x, y: xp.arctan2(x, y),
    vjp=(lambda g, out, x, y: g * (y / (x * x + y * y)), lambda g, out, x, y: g * (-x / (x * x + y * y))),
    scalar=call2("atan2"), dtypes="buif", refuses="c", tags=("amp:promote@cuda",), samples=lambda: binary(0.3, 2)()[:4],
    api=("torch.atan2", "torch.arctan2", "Tensor.atan2", "Tensor.arctan2"))

sinc = composite("sinc(Tensor self) -> Tensor", lambda x: _sinc(x), inplace=True, tags=("out",), dtypes="f", samples=unary())


def _sinc(x: Any) -> Any:
    scaled = ops.where(ops.eq(x, 0), 1.0, x * math.pi)
    return ops.where(ops.eq(x, 0), 1.0, ops.sin(scaled) / scaled)


deg2rad = composite("deg2rad(Tensor self) -> Tensor", lambda x: x * (math.pi / 180), inplace=True, tags=("out",),
                    dtypes="uif", samples=unary(-180, 180))
rad2deg = composite("rad2deg(Tensor self) -> Tensor", lambda x: x * (180 / math.pi), inplace=True, tags=("out",),
                    dtypes="uif", samples=unary())

# ---- sums of exponentials ---------------------------------------------------------------------------

logaddexp = composite(
    "logaddexp(Tensor self, Tensor other) -> Tensor", lambda x, y: _logaddexp(x, y, ops.exp, ops.log1p), tags=("out",),
    kernel=lambda xp, x, y: logaddexp_arrays(xp, x, y), promote="default", samples=lambda: binary()()[:4],
    vjp=(lambda g, out, x, y: g * conj_of(ops.exp(x - out)), lambda g, out, x, y: g * conj_of(ops.exp(y - out))))
logaddexp2 = composite(
    "logaddexp2(Tensor self, Tensor other) -> Tensor",
    lambda x, y: _logaddexp(x, y, ops.exp2, lambda e: ops.log1p(e) / math.log(2)), tags=("out",),
    kernel=lambda xp, x, y: xp.logaddexp2(x, y), promote="default", samples=lambda: binary()()[:4],
    vjp=(lambda g, out, x, y: g * ops.exp2(x - out), lambda g, out, x, y: g * ops.exp2(y - out)))


def logaddexp_arrays(xp: Any, x: Any, y: Any) -> Any:
    """``log(exp(x) + exp(y))``; of complex numbers the one with the larger real part is taken out."""
    if x.dtype.kind != "c":
        return xp.logaddexp(x, y)
    first = (x.real >= y.real) | xp.isnan(x)
    high, low = xp.where(first, x, y), xp.where(first, y, x)
    return xp.where((low == high) & xp.isinf(low), high, high + xp.log1p(xp.exp(low - high)))


def _logaddexp(x: Any, y: Any, exp: Callable[[Any], Any], log1p: Callable[[Any], Any]) -> Any:
    if x.dtype.is_complex:
        first = ops.ge(ops.real(x), ops.real(y))
        high, low = ops.where(first, x, y), ops.where(first, y, x)
        return high + log1p(exp(low - high))
    high = ops.maximum(x, y)
    same_infinity = ops.eq(x, y) & ops.isinf(x)
    return ops.where(same_infinity, x, high + log1p(exp(-ops.abs(x - y))))


xlogy = composite("xlogy(Operand self, Operand other) -> Tensor",
                  lambda x, y: _xlogy(x, y), inplace=True, dtypes="uif",
                  tags=("out", "number_first"), samples=lambda: [S(T((3, 4), 0.2, 2), T((3, 4), 0.2, 2)), S(T((3, 4)), 2)])


def _xlogy(x: Any, y: Any) -> Any:
    if not hasattr(y, "dtype"):
        return x * (math.log(y) if y > 0 else float("-inf") if y == 0 else float("nan"))
    if not hasattr(x, "dtype") and x != 0:
        return x * ops.log(y)
    no_log = ops.le(y, 0) | ops.eq(y, math.inf)  # where log(y) is finite, 0 * log(y) is 0, and x has a derivative there
    zero = no_log & ops.eq(x, 0) if hasattr(x, "dtype") else no_log
    return x * ops.log(ops.where(zero, 1.0, y))


@public("torch.ldexp", "Tensor.ldexp")
def ldexp(input: Any, other: Any, *, out: Any = None) -> Any:  # noqa: A002
    """``input * 2 ** other``."""
    for i, value in enumerate((input, other)):
        if not hasattr(value, "dtype"):
            raise TypeError(f"ldexp(): argument '{('input', 'other')[i]}' (position {i + 1}) must be Tensor, not "
                            f"{type(value).__name__}")
    result = ops.mul(input, ops.pow(2.0, other))
    return result if out is None else write_out(pow_, result, out)


@public("Tensor.ldexp_")
def ldexp_(self: Any, other: Any) -> Any:
    """In-place :func:`ldexp`."""
    return ops.mul_(self, ops.pow(2.0, other))


nextafter = pointwise("nextafter(Tensor self, Tensor other) -> Tensor", kernel=lambda xp, x, y: xp.nextafter(x, y),
                      vjp=(lambda g, out, x, y: ops.where(ops.ne(x, y), g, 0), lambda g, out, x, y: ops.zeros_like(g)),
                      scalar=call2("nextafter"), samples=lambda: [S(T((3, 4), grad=False), T((3, 4), grad=False))],
                      tags=("exact",))

# ---- special functions ---------------------------------------------------------------------------

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

erf = _function("erf", lambda g, out, x: g * (_TWO_OVER_ROOT_PI * ops.exp(-x * x)), kernel=special.erf, triton="tl.erf",
                refuses="c")
erfc = _function("erfc", lambda g, out, x: g * (-_TWO_OVER_ROOT_PI * ops.exp(-x * x)), kernel=special.erfc, refuses="c")
erfinv = _function("erfinv", lambda g, out, x: g * (math.sqrt(math.pi) / 2 * ops.exp(out * out)), kernel=special.erfinv,
                   low=-0.9, high=0.9, tags=("amp:float32@cuda", "extern"))
lgamma = _function("lgamma", lambda g, out, x: g * ops.digamma(x), kernel=special.lgamma, low=0.2, high=4)
digamma = _function("digamma", lambda g, out, x: g * ops.polygamma(1, x), kernel=special.digamma, low=0.2, high=4,
                    tags=("extern",))
i0 = _function("i0", lambda g, out, x: g * ops.i1(x), kernel=lambda xp, x: xp.i0(x).astype(x.dtype).reshape(x.shape),
    tags=("extern",))
i1 = pointwise("i1(Tensor self) -> Tensor", promote="float", kernel=special.i1, tags=("extern",), api=("special.i1",),
               vjp=lambda g, out, x: g * (ops.i0(x) - ops.where(ops.eq(x, 0), 0.5, out / ops.where(ops.eq(x, 0), 1, x))),
               samples=unary(0.2, 3), dtypes="uif")
polygamma = pointwise(
    "polygamma(int n, Tensor self) -> Tensor", promote="float", kernel=lambda xp, n, x: special.polygamma(xp, n, x),
    vjp=lambda g, out, n, x: g * ops.polygamma(n + 1, x), tags=("extern",), api=("torch.polygamma",), inplace=False,
    dtypes="uif", samples=lambda: [S(1, T((3, 4), 0.3, 4)), S(2, T((3, 4), 0.3, 4)), S(0, T((3, 4), 0.3, 4))])


@public("Tensor.polygamma")
def _polygamma_method(self: Any, n: int) -> Any:
    return ops.polygamma(n, self)


@public("Tensor.polygamma_")
def polygamma_(self: Any, n: int) -> Any:
    """In-place :func:`polygamma`."""
    return ops.copy_(self, ops.polygamma(n, self))


@public("torch.mvlgamma", "Tensor.mvlgamma")
def mvlgamma(input: Any, p: int) -> Any:  # noqa: A002
    """The multivariate log-gamma function of dimension ``p``."""
    total = p * (p - 1) / 4 * math.log(math.pi)
    result = ops.lgamma(input)
    for j in range(1, p):
        result = result + ops.lgamma(input - j / 2)
    return result + total


@public("Tensor.mvlgamma_")
def mvlgamma_(self: Any, p: int) -> Any:
    """In-place :func:`mvlgamma`."""
    return ops.copy_(self, mvlgamma(self, p))
