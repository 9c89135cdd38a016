"""Elementwise maths: the primitives that generated loops are made of."""

from __future__ import annotations

from typing import Any

from ..family import Scalar, composite, conj_of, ops, pointwise
from ..samples import S, T, binary, unary


def _add(xp: Any, x: Any, y: Any, alpha: Any) -> Any:
    return x + y if alpha == 1 else x + y * alpha


add = pointwise(
    "add(Operand self, Operand other, *, Number alpha=1) -> Tensor", kernel=_add, dunder="add",
    vjp=(lambda g, out, x, y, alpha: g, lambda g, out, x, y, alpha: g if alpha == 1 else g * alpha),
    decompose=lambda x, y, alpha: NotImplemented if alpha == 1 else x + y * alpha,
    scalar=Scalar("({0} + {1})", "({0} + {1})"), dtypes="uifc",
    samples=lambda: [*binary()(), S(T((3, 4)), T((3, 4)), alpha=2)])

mul = pointwise(
    "mul(Operand self, Operand other) -> Tensor", kernel=lambda xp, x, y: x * y, dunder="mul",
    vjp=(lambda g, out, x, y: g * conj_of(y), lambda g, out, x, y: g * conj_of(x)),
    scalar=Scalar("({0} * {1})", "({0} * {1})"), dtypes="buifc", samples=binary())

neg = pointwise(
    "neg(Tensor self) -> Tensor", kernel=lambda xp, x: -x, vjp=lambda g, out, x: -g,
    scalar=Scalar("(-{0})", "(-{0})"), dtypes="uifc", samples=unary())

exp = pointwise(
    "exp(Tensor self) -> Tensor", promote="float", kernel=lambda xp, x: xp.exp(x),
    vjp=lambda g, out, x: g * conj_of(out), scalar=Scalar("fl_exp({0})", "tl.exp({0})"), dtypes="buifc", samples=unary())

log1p = pointwise(
    "log1p(Tensor self) -> Tensor", promote="float", kernel=lambda xp, x: xp.log1p(x),
    vjp=lambda g, out, x: g / (x + 1), scalar=Scalar("fl_log1p({0})", "libdevice.log1p({0})"), dtypes="buif",
    samples=unary(-0.9, 3.0))

softplus = composite(
    "softplus(Tensor self, float beta=1, float threshold=20) -> Tensor",
    lambda x, beta, threshold: ops.where(x * beta > threshold, x, ops.log1p(ops.exp(x * beta)) / beta),
    api=("nn.functional.softplus",), samples=lambda: [S(T((3, 5))), S(T((4,)), 2.0, 1.0)])
