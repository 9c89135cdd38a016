"""Elementwise comparison, logic and bits."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import Scalar, composite, ops, pointwise
from ..op import OPS, PUBLIC, public
from ..samples import S, T, binary, unary
from ..tensorlike import TensorLike
from .pointwise import infix

# ---- comparison ---------------------------------------------------------------------------

_UFUNCS = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_KNOWN = (TensorLike, int, float, complex)


def _comparison(name: str, sign: str, long_name: str, dtypes: str = "buif",
                refuses: str = "c") -> Any:
    env: dict[str, Any] = {}
    exec(f"kernel = lambda xp, x, y: x {sign} y", env)  # noqa: S102 - one of six signs
    api = (f"torch.{name}", f"Tensor.{name}", f"torch.{long_name}", f"Tensor.{long_name}")
    op = pointwise(f"{name}(Operand self, Operand other) -> Tensor", promote="bool", kernel=env["kernel"],
                   scalar=infix(sign), dtypes=dtypes, refuses=refuses, inplace=True, api=api, ufunc=_UFUNCS[name],
                   samples=lambda: [*binary()(), S(T((4, 3), -1, 2), T((4, 3), -1, 2))])
    method = op.method

    def operator(self: Any, other: Any) -> Any:
        known = isinstance(other, _KNOWN) or hasattr(other, "__array__") or hasattr(other, "__flambeau_symint__")
        return method(self, other) if known else NotImplemented

    operator.__name__ = f"__{name}__"
    public(f"Tensor.__{name}__")(operator)
    return op


eq = _comparison("eq", "==", "equal_elements", "buifc", "")
ne = _comparison("ne", "!=", "not_equal", "buifc", "")
lt = _comparison("lt", "<", "less")
le = _comparison("le", "<=", "less_equal")
gt = _comparison("gt", ">", "greater")
ge = _comparison("ge", ">=", "greater_equal")
for _space in ("torch", "Tensor"):  # PyTorch has no long name for eq
    del PUBLIC[_space]["equal_elements"]

# ---- kinds of numbers ---------------------------------------------------------------------------


def _number_kind(name: str, scalar: Scalar, parts: Any) -> Any:
    def kernel(xp: Any, x: Any) -> Any:
        return getattr(xp, name)(x)
    return pointwise(f"{name}(Tensor self) -> Tensor", promote="bool", kernel=kernel, scalar=scalar, inplace=False,
                     dtypes="buifc", decompose=parts,
                     samples=lambda: [*unary()(), S(T((4,), dtype=_dtype.float32, grad=False, values=[
                         1.0, float("nan"), float("inf"), float("-inf")]))])


isnan = _number_kind("isnan", Scalar("isnan({0})", "({0} != {0})"), None)
isinf = _number_kind("isinf", Scalar("isinf({0})", '(tl.abs({0}) == float("inf"))'),
                     lambda x: ops.zeros_like(x, dtype=_dtype.bool_) if x.dtype.is_integral else NotImplemented)
isfinite = _number_kind("isfinite", Scalar("isfinite({0})", '(tl.abs({0}) < float("inf"))'),
                        lambda x: ops.ones_like(x, dtype=_dtype.bool_) if x.dtype.is_integral else NotImplemented)
isposinf = pointwise("isposinf(Tensor self) -> Tensor", promote="bool", inplace=False, dtypes="buif", samples=unary(),
                     kernel=lambda xp, x: x == float("inf"), decompose=lambda x: ops.eq(x, float("inf")), tags=("nograd",))
isneginf = pointwise("isneginf(Tensor self) -> Tensor", promote="bool", inplace=False, dtypes="buif", samples=unary(),
                     kernel=lambda xp, x: x == float("-inf"), decompose=lambda x: ops.eq(x, float("-inf")),
                     tags=("nograd",))
isreal = composite("isreal(Tensor self) -> Tensor", lambda x: ops.eq(ops.imag(x), 0) if x.dtype.is_complex
                   else ops.ones_like(x, dtype=_dtype.bool_), dtypes="bifc", samples=lambda: [S(T((3, 4)))], tags=("nograd",))

isclose = composite(
    "isclose(Tensor self, Tensor other, float rtol=1e-5, float atol=1e-8, bool equal_nan=False) -> Tensor",
    lambda x, y, rtol, atol, equal_nan: _isclose(x, y, rtol, atol, equal_nan), dtypes="uif", tags=("nograd",),
    samples=lambda: [S(T((3, 4)), T((3, 4))), S(T((3, 4)), T((3, 4)), 0.5, 0.5, True)])


def _isclose(x: Any, y: Any, rtol: float, atol: float, equal_nan: bool) -> Any:
    if x.dtype is not y.dtype:
        raise RuntimeError(f"{x.dtype} did not match {y.dtype}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value < 0:
            raise RuntimeError(f"isclose: {name} must be greater than or equal to zero, but got {value}")
    close = ops.eq(x, y)
    if equal_nan and not x.dtype.is_integral:
        close = close | (ops.ne(x, x) & ops.ne(y, y))
    if rtol == 0 and atol == 0:
        return close
    if x.dtype.is_integral:
        x, y = ops.cast(x, _dtype.float64), ops.cast(y, _dtype.float64)
    error = ops.abs(x - y)
    return close | (ops.isfinite(error) & ops.le(error, atol + rtol * ops.abs(y)))


@public("torch.allclose", "Tensor.allclose")
def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:  # noqa: A002
    """Whether all elements are close: ``|input - other| <= atol + rtol * |other|``."""
    return bool(ops.all(ops.isclose(input, other, rtol, atol, equal_nan)))


@public("torch.equal", "Tensor.equal")
def equal(input: Any, other: Any) -> bool:  # noqa: A002
    """Whether two tensors have the same shape and elements."""
    return tuple(input.shape) == tuple(other.shape) and bool(ops.all(ops.eq(input, other)))


# ---- logic ---------------------------------------------------------------------------


def _logical(name: str, sign: str) -> Any:
    def kernel(xp: Any, x: Any, y: Any) -> Any:
        return getattr(xp, name)(x, y)

    def parts(x: Any, y: Any) -> Any:
        if x.dtype is _dtype.bool_ and y.dtype is _dtype.bool_:
            return NotImplemented
        x, y = ops.cast(x, _dtype.bool_), ops.cast(y, _dtype.bool_)
        return getattr(ops, name)(x, y)

    return pointwise(f"{name}(Tensor self, Tensor other) -> Tensor", promote="bool", kernel=kernel, decompose=parts,
                     tags=("nograd",), scalar=infix(sign), dtypes="buifc",
                     samples=lambda: [S(T((3, 4), -1, 2), T((3, 4), -1, 2)), S(T((3, 1), -1, 2), T((4,), -1, 2))])


logical_and = _logical("logical_and", "&")
logical_or = _logical("logical_or", "|")
logical_xor = _logical("logical_xor", "^")
logical_not = pointwise(
    "logical_not(Tensor self) -> Tensor", promote="bool", kernel=lambda xp, x: xp.logical_not(x), dtypes="buifc",
    decompose=lambda x: NotImplemented if x.dtype is _dtype.bool_ else ops.eq(x, 0), tags=("nograd",),
    scalar=Scalar("(!{0})", "({0} == 0)"), samples=unary(-1, 2))

# ---- bits ---------------------------------------------------------------------------


def _check_bits(name: str, *arrays: Any) -> None:
    for a in arrays:
        dtype = getattr(a, "dtype", None)
        if isinstance(a, float) or (dtype is not None and dtype.kind not in "biu"):
            raise NotImplementedError(f"{name!r} not implemented for "
                                      f"{'Float' if dtype is None or dtype.itemsize == 4 else 'Double'!r}")


def _bitwise(name: str, sign: str, dunder: str) -> Any:
    env: dict[str, Any] = {"check": _check_bits}
    exec(f"def kernel(xp, x, y):\n    check('bitwise_{name}_cpu', x, y)\n    return x {sign} y",
        env)  # noqa: S102 - one of three signs
    return pointwise(f"bitwise_{name}(Operand self, Operand other) -> Tensor", kernel=env["kernel"], scalar=infix(sign),
                     dtypes="bui", dunder=dunder, tags=("number_first",),
                     samples=lambda: [S(T((3, 4), -3, 6), T((3, 4), -3, 6)), S(T((3, 1), -3, 6), T((4,), -3, 6)),
                                      S(T((3, 4), -3, 6), 1)])


bitwise_and = _bitwise("and", "&", "and")
bitwise_or = _bitwise("or", "|", "or")
bitwise_xor = _bitwise("xor", "^", "xor")


def _bitwise_not(xp: Any, x: Any) -> Any:
    _check_bits("bitwise_not_cpu", x)
    return ~x


bitwise_not = pointwise("bitwise_not(Tensor self) -> Tensor", kernel=_bitwise_not, dtypes="bui", samples=unary(-3, 6),
                        decompose=lambda x: ops.logical_not(x) if x.dtype is _dtype.bool_ else NotImplemented,
                        scalar=Scalar("(~{0})", "(~{0})"), tags=("nograd",),
                        api=("torch.bitwise_not", "Tensor.bitwise_not", "Tensor.__invert__"))


def _shift(name: str, sign: str, dunder: str) -> Any:
    def kernel(xp: Any, x: Any, y: Any) -> Any:
        _check_bits(f"{dunder}_cpu", x, y)
        return getattr(xp, name.replace("bitwise_", "") + "_shift")(x, y)
    return pointwise(f"{name}_shift(Operand self, Operand other) -> Tensor", kernel=kernel, scalar=infix(sign), dtypes="ui",
                     tags=("number_first",), dunder=dunder,
                     samples=lambda: [S(T((3, 4), 0, 9), T((3, 4), 0, 4)), S(T((3, 4), 0, 9), 2)])


bitwise_left_shift = _shift("bitwise_left", "<<", "lshift")
bitwise_right_shift = _shift("bitwise_right", ">>", "rshift")


def _gcd_like(name: str) -> Any:
    def kernel(xp: Any, x: Any, y: Any) -> Any:
        return getattr(xp, name)(x, y)
    return pointwise(f"{name}(Tensor self, Tensor other) -> Tensor", kernel=kernel, dtypes="i", tags=("extern",),
                     samples=lambda: [S(T((3, 4), -9, 20), T((3, 4), -9, 20))])


gcd = _gcd_like("gcd")
lcm = _gcd_like("lcm")

heaviside = pointwise(
    "heaviside(Tensor self, Tensor values) -> Tensor", kernel=lambda xp, x, y: xp.heaviside(x, y).astype(x.dtype),
    decompose=lambda x, y: ops.where(ops.eq(x, 0), y, ops.cast(ops.gt(x, 0), y.dtype)), tags=("nograd",), dtypes="uif",
    samples=lambda: [S(T((3, 4), grad=False), T((3, 4), grad=False))])

__all__ = ["OPS"]
