"""Elementwise arithmetic: the primitives that generated loops are made of, and what is composed of them."""

from __future__ import annotations

import operator
from typing import Any

from .. import dtype as _dtype
from ..dtype import result_type
from ..family import Scalar, composite, conj_of, ops, pointwise
from ..op import public, type_name, write_out
from ..samples import S, Sample, T, binary, unary


def infix(sign: str) -> Scalar:
    """The spelling of a binary operator, the same in C++ and Triton."""
    return Scalar(f"({{0}} {sign} {{1}})", f"({{0}} {sign} {{1}})")


def call1(name: str, triton: str | None = None) -> Scalar:
    """The spelling of a function of one operand; Triton's name is libdevice's unless given."""
    return Scalar(f"{name}({{0}})", f"{triton or 'libdevice.' + name}({{0}})")


def call2(name: str, triton: str | None = None) -> Scalar:
    """The spelling of a function of two operands."""
    return Scalar(f"{name}({{0}}, {{1}})", f"{triton or 'libdevice.' + name}({{0}}, {{1}})")


def is_bool(x: Any) -> bool:
    """Whether an operand is a bool tensor or a Python bool."""
    return isinstance(x, bool) or getattr(x, "dtype", None) is _dtype.bool_


def _times(x: Any, alpha: Any) -> Any:
    return x if alpha == 1 else x * alpha


# ---- sums and products ---------------------------------------------------------------------------


def _factor(alpha: Any, y: Any) -> Any:
    """A factor of unsigned numbers wraps as they do; one of truth values is one."""
    kind = y.dtype.kind if hasattr(y, "dtype") and type(alpha) is int else ""
    return alpha % (1 << 8 * y.dtype.itemsize) if kind == "u" else bool(alpha) if kind == "b" else alpha


def _add_parts(x: Any, y: Any, alpha: Any) -> Any:
    if alpha != 1:
        return x + y * alpha
    return ops.logical_or(x, y) if is_bool(x) and is_bool(y) else NotImplemented


add = pointwise(
    "add(Operand self, Operand other, *, Number alpha=1) -> Tensor", dunder="add",
    kernel=lambda xp, x, y, alpha: x + y if alpha == 1 else x + y * _factor(alpha, y),
    vjp=(lambda g, out, x, y, alpha: g, lambda g, out, x, y, alpha: g if alpha == 1 else g * alpha), tags=("numbers",),
    decompose=_add_parts,
    scalar=infix("+"), dtypes="buifc", ufunc="add",
    samples=lambda: [*binary()(), Sample((T((3, 4)), T((3, 4))), {"alpha": 2}, "uifc")])


def _sub(xp: Any, x: Any, y: Any, alpha: Any) -> Any:
    return x - y if alpha == 1 else x - y * alpha


sub = pointwise(
    "sub(Operand self, Operand other, *, Number alpha=1) -> Tensor", dunder="sub", kernel=_sub, tags=("no_bool", "numbers"),
    vjp=(lambda g, out, x, y, alpha: g, lambda g, out, x, y, alpha: -g if alpha == 1 else g * -alpha),
    decompose=lambda x, y, alpha: NotImplemented if alpha == 1 else x - y * alpha,
    scalar=infix("-"), dtypes="uifc", samples=lambda: [*binary()(), S(T((3, 4)), T((3, 4)), alpha=2)], ufunc="subtract")

rsub = composite(
    "rsub(Tensor self, Operand other, *, Number alpha=1) -> Tensor", lambda x, y, alpha: ops.sub(y, _times(x, alpha)),
    api=("torch.rsub",), dtypes="uifc", samples=lambda: [S(T((3, 4)), 3), S(T((3, 4)), T((4,)))])

mul = pointwise(
    "mul(Operand self, Operand other) -> Tensor", kernel=lambda xp, x, y: x * y, dunder="mul", tags=("numbers",),
    vjp=(lambda g, out, x, y: g * conj_of(y), lambda g, out, x, y: g * conj_of(x)),
    scalar=infix("*"), dtypes="buifc", samples=binary(), ufunc="multiply")

div = pointwise(
    "div(Operand self, Operand other) -> Tensor", promote="float", kernel=lambda xp, x, y: xp.true_divide(x, y),
    vjp=(lambda g, out, x, y: g / conj_of(y), lambda g, out, x, y: -g * conj_of(x / y / y)), dunder="truediv", tags=("numbers",),
    scalar=infix("/"), dtypes="buifc", api=(), inplace=False, samples=binary(0.5, 3.0))


def _check_divisor(x: Any, y: Any) -> None:
    """Integer division by zero: PyTorch's error."""
    if (x if hasattr(x, "dtype") else y).dtype.kind in "iu" and not (y.all() if hasattr(y, "all") else y):
        raise RuntimeError("ZeroDivisionError")


def _floor_divide(xp: Any, x: Any, y: Any) -> Any:
    _check_divisor(x, y)
    return xp.floor_divide(x, y)


def _trunc_divide(xp: Any, x: Any, y: Any) -> Any:
    _check_divisor(x, y)
    if (x if hasattr(x, "dtype") else y).dtype.kind not in "iu":
        return xp.trunc(xp.true_divide(x, y))
    quotient = xp.floor_divide(x, y)
    return quotient + ((quotient < 0) & (quotient * y != x))


_SIGN = Scalar("sign({0})", "tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0)).to({dtype})")
_zero_rules = (lambda g, out, x, y: ops.zeros_like(g), lambda g, out, x, y: ops.zeros_like(g))

floor_divide = pointwise(
    "floor_divide(Operand self, Operand other) -> Tensor", tags=("divides", "numbers"), kernel=_floor_divide, vjp=_zero_rules,
    dunder="floordiv", scalar=call2("floor_divide", "divide_down_{kind}"), dtypes="uif", refuses="bc", samples=binary(1, 5))

trunc_divide = pointwise(
    "trunc_divide(Operand self, Operand other) -> Tensor", tags=("divides", "numbers"), kernel=_trunc_divide, api=(),
    vjp=_zero_rules, scalar=call2("trunc_divide", "divide_to_zero_{kind}"), dtypes="uif", refuses="bc", samples=binary(1, 5))


def _divide(rounding_mode: str | None) -> Any:
    kinds = {None: div, "floor": floor_divide, "trunc": trunc_divide}
    if rounding_mode not in kinds:
        raise RuntimeError("div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
                           f"'{rounding_mode}'")
    return kinds[rounding_mode]


@public("torch.div", "torch.divide", "Tensor.div", "Tensor.divide")
def divide(input: Any, other: Any, *, rounding_mode: str | None = None, out: Any = None) -> Any:  # noqa: A002
    """``input / other``, or that rounded down ("floor") or towards zero ("trunc")."""
    op = _divide(rounding_mode)
    return op.fn(input, other) if out is None else op.fn(input, other, out=out)


@public("Tensor.div_", "Tensor.divide_")
def divide_(self: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """In-place :func:`divide`."""
    return getattr(ops, {None: "div_", "floor": "floor_divide_"}.get(rounding_mode, "trunc_divide_"))(self, other)


@public("torch.true_divide", "Tensor.true_divide")
def true_divide(input: Any, other: Any, *, out: Any = None) -> Any:  # noqa: A002
    """``input / other``."""
    return ops.div(input, other) if out is None else ops.div(input, other, out=out)


def _remainder(xp: Any, x: Any, y: Any) -> Any:
    _check_divisor(x, y)
    return xp.remainder(x, y)


def _fmod(xp: Any, x: Any, y: Any) -> Any:
    _check_divisor(x, y)
    return xp.fmod(x, y)


remainder = pointwise(
    "remainder(Operand self, Operand other) -> Tensor", tags=("divides", "number_first"), kernel=_remainder, dunder="mod",
    vjp=(lambda g, out, x, y: g, lambda g, out, x, y: -g * ops.floor_divide(x, y)),
    scalar=call2("remainder", "modulo_down_{kind}"), dtypes="uif", refuses="bc", samples=binary(0.6, 5, 1, 3))

fmod = pointwise(
    "fmod(Operand self, Operand other) -> Tensor", tags=("divides",), kernel=_fmod,
    vjp=(lambda g, out, x, y: g, lambda g, out, x, y: -g * ops.trunc_divide(x, y)),
    scalar=call2("fmod", "modulo_to_zero_{kind}"), dtypes="uif", refuses="bc", samples=binary(0.6, 5, 1, 3))

def _add_into(x: Any, part: Any, factor: Any, combine: Any = None, b: Any = None) -> Any:
    """``x += combine(part * factor, b)``; ``combine`` is an operator that writes its first operand."""
    scaled = part * factor
    x += scaled if combine is None else combine(scaled, b)


def _stores(x: Any, factor: Any, *others: Any) -> bool:
    """Whether a number and arrays of one shape and one real dtype meet, as in-place forms on arrays want it."""
    return type(factor) in (int, float) and x.dtype.char in "fd" and all(
        getattr(a, "dtype", None) is x.dtype and a.shape == x.shape for a in others)


addcmul = composite(
    "addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Number value=1) -> Tensor",
    lambda x, a, b, value: x + (a * b if value == 1 else a * value * b), dtypes="uifc", inplace=True,
    tags=("amp:promote@cuda", "out"),
    kernel=lambda xp, x, a, b, value: x + (a * b if value == 1 else value * a * b), promote="default", refuses="b",
    store=lambda x, a, b, value: _add_into(x, a, value, operator.imul, b) if _stores(x, value, a, b) else NotImplemented,
    samples=lambda: [S(T((3, 4)), T((3, 4)), T((4,)), value=2), S(T((3, 4)), T((3, 1)), T((3, 4)))])

addcdiv = composite(
    "addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Number value=1) -> Tensor",
    lambda x, a, b, value: x + (a if value == 1 else a * value) / b, inplace=True, tags=("amp:promote@cuda", "out"), dtypes="fc",
    kernel=lambda xp, x, a, b, value: x + (a if value == 1 else value * a) / b, promote="default",
    store=lambda x, a, b, value: _add_into(x, a, value, operator.itruediv, b) if _stores(x, value, a, b) else NotImplemented,
    samples=lambda: [S(T((3, 4)), T((3, 4)), T((4,), 0.5, 2), value=0.5), S(T((3, 4)), T((3, 1)), T((3, 4), 1, 2))])

lerp = composite(
    "lerp(Tensor self, Tensor end, Operand weight) -> Tensor", lambda x, end, weight: x + (end - x) * weight,
    kernel=lambda xp, x, end, weight: x + (end - x) * weight, promote="default", refuses="bui",
    store=lambda x, end, weight: _add_into(x, end - x, weight) if _stores(x, weight, end) else NotImplemented,
    inplace=True, tags=("out",), dtypes="fc",
    samples=lambda: [S(T((3, 4)), T((3, 4)), 0.3), S(T((3, 4)), T((4,)), T((3, 4), 0, 1))])

# ---- signs and parts ---------------------------------------------------------------------------


def _neg(xp: Any, x: Any) -> Any:
    if x.dtype == bool:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert "
                           "a mask, use the `~` or `logical_not()` operator instead.")
    return -x


neg = pointwise("neg(Tensor self) -> Tensor", kernel=_neg, vjp=lambda g, out, x: -g, scalar=Scalar("(-{0})", "(-{0})"),
                dtypes="uifc", samples=unary(), api=("torch.neg", "torch.negative", "Tensor.neg", "Tensor.negative",
                                                     "Tensor.__neg__"))

abs_ = pointwise("abs(Tensor self) -> Tensor", promote="real", kernel=lambda xp, x: xp.abs(x), dtypes="uifc", refuses="b",
                 vjp=lambda g, out, x: g * ops.sgn(x), scalar=call1("abs", "tl.abs"), samples=unary(),
                 api=("torch.abs", "torch.absolute", "Tensor.abs", "Tensor.absolute", "Tensor.__abs__"))


@public("torch.positive", "Tensor.positive", "Tensor.__pos__")
def positive(input: Any) -> Any:  # noqa: A002
    """``input`` itself."""
    if input.dtype is _dtype.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def _sign(xp: Any, x: Any) -> Any:
    if x.dtype == bool:
        return x.copy()
    return xp.nan_to_num(xp.sign(x), nan=0.0) if x.dtype.kind == "f" else xp.sign(x)


sign = pointwise("sign(Tensor self) -> Tensor", kernel=_sign, vjp=lambda g, out, x: ops.zeros_like(g), scalar=_SIGN,
                 dtypes="buif", refuses="c", samples=unary())


def _sgn(xp: Any, x: Any) -> Any:
    if x.dtype.kind != "c":
        return _sign(xp, x)
    size = xp.abs(x)
    return xp.where(size == 0, 0, x / xp.where(size == 0, 1, size)).astype(x.dtype)


def _sgn_rule(g: Any, out: Any, x: Any) -> Any:
    """A complex number's direction turns with the part of ``g`` at right angles to it; at 0 nothing does."""
    if not x.dtype.is_complex:
        return ops.zeros_like(g)
    zero = ops.eq(x, 0)
    return ops.where(zero, 0, (g - out * ops.real(g * conj_of(out))) / ops.where(zero, 1, ops.abs(x)))


sgn = pointwise("sgn(Tensor self) -> Tensor", kernel=_sgn, dtypes="buifc", samples=unary(), scalar=_SIGN, vjp=_sgn_rule)

copysign = pointwise(
    "copysign(Tensor self, Operand other) -> Tensor", promote="float", kernel=lambda xp, x, y: xp.copysign(x, y),
    vjp=(lambda g, out, x, y: g * ops.sign(x) * ops.sign(out), lambda g, out, x, y: ops.zeros_like(g)),
    scalar=call2("copysign"), dtypes="buif", samples=binary(0.5, 2, -2, 2))

signbit = pointwise("signbit(Tensor self) -> Tensor", promote="bool", kernel=lambda xp, x: xp.signbit(x)
                    if x.dtype.kind == "f" else x < 0, dtypes="buif", samples=unary(), inplace=False,
                    decompose=lambda x: NotImplemented if x.dtype.is_floating_point else x < 0,
                    scalar=Scalar("signbit({0})", "(libdevice.signbit({0}) != 0)"))

# ---- rounding ---------------------------------------------------------------------------


def _rounding(name: str, triton: str | None = None) -> Any:
    def kernel(xp: Any, x: Any) -> Any:
        return x.copy() if x.dtype.kind in "iu" else getattr(xp, name)(x)
    return pointwise(f"{name}(Tensor self) -> Tensor", kernel=kernel, vjp=lambda g, out, x: ops.zeros_like(g),
                     scalar=call1(name, triton), dtypes="uif", refuses="bc",
                     decompose=lambda x: ops.clone(x) if x.dtype.is_integral else NotImplemented,
                     samples=unary(0.1, 0.9) if name == "frac" else unary(),
                     api=(f"torch.{name}", f"Tensor.{name}") if name != "trunc" else
                     ("torch.trunc", "torch.fix", "Tensor.trunc", "Tensor.fix"))


floor = _rounding("floor", "tl.floor")
ceil = _rounding("ceil", "tl.ceil")
trunc = _rounding("trunc")
frac = pointwise("frac(Tensor self) -> Tensor", kernel=lambda xp, x: x - xp.trunc(x), vjp=lambda g, out, x: g,
                 decompose=lambda x: x - ops.trunc(x), scalar=Scalar("frac({0})", "({0} - libdevice.trunc({0}))"),
                 refuses="buic", samples=unary())


def _round(xp: Any, x: Any, decimals: int) -> Any:
    if x.dtype.kind in "iu":
        return x.copy()
    if not decimals:
        return xp.round(x)
    scale = x.dtype.type(10.0 ** abs(decimals))
    return xp.round(x * scale) / scale if decimals > 0 else xp.round(x / scale) * scale


def _round_parts(x: Any, decimals: int) -> Any:
    if x.dtype.is_integral:
        return ops.clone(x)
    if not decimals:
        return NotImplemented
    scale = 10.0 ** abs(decimals)
    return ops.round(x * scale) / scale if decimals > 0 else ops.round(x / scale) * scale


round_ = pointwise("round(Tensor self, *, int decimals=0) -> Tensor", kernel=_round, decompose=_round_parts,
                   vjp=lambda g, out, x, decimals: ops.zeros_like(g), scalar=call1("round", "libdevice.rint"),
                   dtypes="uif", refuses="bc", samples=lambda: [*unary()(), S(T((3, 4)), decimals=1)])

# ---- choosing ---------------------------------------------------------------------------

where_ = pointwise(
    "where(Tensor condition, Operand self, Operand other) -> Tensor", promote="select", api=(), inplace=False,
    kernel=lambda xp, c, x, y: xp.where(c, x, y), scalar=Scalar("where({0}, {1}, {2})", "tl.where({0}, {1}, {2})"),
    vjp=(None, lambda g, out, c, x, y: ops.where(c, g, 0), lambda g, out, c, x, y: ops.where(c, 0, g)), dtypes="buifc",
    samples=lambda: [S(T((3, 4), dtype=_dtype.bool_, grad=False), T((3, 4)), T((3, 4))),
                     S(T((3, 1), dtype=_dtype.bool_, grad=False), T((1, 4)), 1),
                     S(T((2, 3), dtype=_dtype.bool_, grad=False), T(()), T((3,)))])


@public("torch.where")
def where(condition: Any, input: Any = None, other: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """Elements of ``input`` where ``condition`` holds, else of ``other``; with the condition alone, its nonzero indices."""
    if input is None and other is None:
        return ops.nonzero(condition).unbind(1)
    if condition.dtype is not _dtype.bool_:
        if condition.dtype is not _dtype.uint8:
            raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype "
                               f"{type_name(condition.dtype)}")
        condition = ops.cast(condition, _dtype.bool_)
    result = ops.where(condition, input, other)
    return result if out is None else write_out(where_, result, out)


@public("Tensor.where")
def _where_method(self: Any, condition: Any, other: Any) -> Any:
    return where(condition, self, other)


def _extreme_rule(other_first: bool) -> Any:
    """Gradient of maximum/minimum: to the chosen operand, halved where both are equal."""
    def rule(g: Any, out: Any, x: Any, y: Any) -> Any:
        mine = y if other_first else x
        tie = ops.eq(x, y)
        return ops.where(tie, g / 2, ops.where(ops.eq(mine, out), g, 0))
    return rule


def _numeric_extreme_rules(relation: str) -> tuple:
    """Gradients of fmax/fmin, which skip NaN: to the first operand where it is chosen, else to the second."""
    def first(x: Any, y: Any) -> Any:
        return getattr(ops, relation)(x, y) | ops.ne(y, y)
    return (lambda g, out, x, y: ops.where(first(x, y), g, 0), lambda g, out, x, y: ops.where(first(x, y), 0, g))


def _extreme(name: str, triton: str, vjp: Any) -> Any:
    def kernel(xp: Any, x: Any, y: Any) -> Any:
        return getattr(xp, name)(x, y)
    return pointwise(f"{name}(Operand self, Operand other) -> Tensor", kernel=kernel,
                     vjp=vjp, scalar=Scalar(f"{name}({{0}}, {{1}})", triton), tags=("tensors",),
                     dtypes="buif", refuses="c", inplace=False,
                     samples=lambda: [S(T((3, 5), distinct=True), T((3, 5), distinct=True)), S(T((3, 1)), T((1, 4))),
                                      S(T((2, 3)), T(()))])


_halved = (_extreme_rule(False), _extreme_rule(True))
_PROPAGATE = ", propagate_nan=tl.PropagateNan.ALL)"
maximum = _extreme("maximum", "tl.maximum({0}, {1}" + _PROPAGATE, _halved)
minimum = _extreme("minimum", "tl.minimum({0}, {1}" + _PROPAGATE, _halved)
fmax = _extreme("fmax", "tl.maximum({0}, {1})", _numeric_extreme_rules("ge"))
fmin = _extreme("fmin", "tl.minimum({0}, {1})", _numeric_extreme_rules("le"))


def _clamp(xp: Any, x: Any, low: Any, high: Any) -> Any:
    if low is None and high is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if low is not None:
        x = xp.maximum(x, low)
    return x if high is None else xp.minimum(x, high)


def _clamp_parts(x: Any, low: Any, high: Any) -> Any:
    if low is None and high is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if low is not None:
        x = ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)


def _clamp_rule(g: Any, out: Any, x: Any, low: Any, high: Any) -> Any:
    inside = None if low is None else ops.ge(x, low)
    if high is not None:
        below = ops.le(x, high)
        inside = below if inside is None else inside & below
    return ops.where(inside, g, 0)


def _clamp_low_rule(g: Any, out: Any, x: Any, low: Any, high: Any) -> Any:
    below = ops.lt(x, low)
    return ops.where(below if high is None else below & ops.lt(low, high), g, 0)


def _clamp_high_rule(g: Any, out: Any, x: Any, low: Any, high: Any) -> Any:
    above = ops.gt(x, high)
    return ops.where(above if low is None else above | ops.gt(low, high), g, 0)


clamp = pointwise(
    "clamp(Tensor self, Operand? min=None, Operand? max=None) -> Tensor", kernel=_clamp, decompose=_clamp_parts,
    vjp=(_clamp_rule, _clamp_low_rule, _clamp_high_rule), dtypes="uif", refuses="bc",
    api=("torch.clamp", "torch.clip", "Tensor.clamp", "Tensor.clip"),
    samples=lambda: [S(T((3, 5)), -1, 1), S(T((3, 5)), min=0), S(T((3, 5)), max=1),
                     S(T((3, 4)), T((4,), -1, 0), T((3, 4), 0, 1))])


def _one_sided(name: str, parts: Any, kernel: Any, rule: Any, bound_rule: Any) -> Any:
    return pointwise(f"{name}(Tensor self, Operand {name[-3:]}) -> Tensor", kernel=kernel, decompose=parts,
                     vjp=(rule, bound_rule), dtypes="uif", refuses="c", samples=lambda: [S(T((3, 4)), 1), S(T((3, 4)), T((4,)))])


clamp_min = _one_sided("clamp_min", lambda x, low: ops.maximum(x, low), lambda xp, x, low: xp.maximum(x, low),
                       lambda g, out, x, low: ops.where(ops.ge(x, low), g, 0),
                       lambda g, out, x, low: ops.where(ops.lt(x, low), g, 0))
clamp_max = _one_sided("clamp_max", lambda x, high: ops.minimum(x, high), lambda xp, x, high: xp.minimum(x, high),
                       lambda g, out, x, high: ops.where(ops.le(x, high), g, 0),
                       lambda g, out, x, high: ops.where(ops.gt(x, high), g, 0))


def _nan_limits(x: Any, posinf: Any, neginf: Any) -> tuple[float, float]:
    import ml_dtypes  # noqa: PLC0415
    info = ml_dtypes.finfo(x.dtype.np if isinstance(x.dtype, _dtype.DType) else x.dtype)
    return (float(info.max) if posinf is None else posinf), (float(info.min) if neginf is None else neginf)


def _nan_to_num_parts(x: Any, nan: Any, posinf: Any, neginf: Any) -> Any:
    if x.dtype.is_integral:
        return ops.clone(x)
    high, low = _nan_limits(x, posinf, neginf)
    x = ops.where(ops.eq(x, float("inf")), high, ops.where(ops.eq(x, float("-inf")), low, x))
    return ops.where(ops.ne(x, x), 0.0 if nan is None else nan, x)


nan_to_num = composite(
    "nan_to_num(Tensor self, float? nan=None, float? posinf=None, float? neginf=None) -> Tensor", _nan_to_num_parts,
    vjp=lambda g, out, x, nan, posinf, neginf: ops.where(ops.isfinite(x), g, 0), dtypes="buif", inplace=True,
    tags=("out",), samples=lambda: [
        S(T((3, 4)), 1.0, 2.0, -2.0),
        S(T((4,), dtype=_dtype.float32, values=[1.0, float("nan"), float("inf"), float("-inf")], grad=False), 0.5)])


@public("torch.result_type")
def _result_type(tensor1: Any, tensor2: Any) -> Any:
    """The dtype of an arithmetic result of the two operands."""
    return result_type((tensor1, tensor2))
