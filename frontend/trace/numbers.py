"""Decisions on changing floats: what a comparison said is guarded, not the numbers."""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.guards import escape
from flambeau.frontend.trace.source import Source
from flambeau.frontend.trace.values import Const, ScalarValue, SymValue, TensorValue, Value
from flambeau.ir.op import PUBLIC, ops

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer
    from flambeau.frontend.trace.shapes import Shapes
    from flambeau.frontend.trace.writer import Writer


def number_text(value: Value, shapes: Shapes, w: Writer) -> str:
    """Python expression of a changing number in a generated function."""
    if value.source is not None:
        return w.fetch(value.source)
    if isinstance(value, SymValue):
        return shapes.code(value.value, w)
    if isinstance(value, ScalarValue):
        return value.template.format(*(number_text(p, shapes, w) for p in value.parts))
    assert isinstance(value, Const)
    return operand(w.literal(value.value))


def operand(text: str) -> str:
    """A number's text as part of an expression: `-2 ** x` is not `(-2) ** x`."""
    return f"({text})" if text.startswith("-") else text


def decide(tr: Tracer, real: Callable[..., Any], symbol: str, a: Value, b: Value) -> Const | None:
    """`a symbol b` for a changing float and a number; None where its outcome cannot be made a guard."""
    source = _source_of(a) or _source_of(b)
    if source is None or not all(isinstance(v, (Const, ScalarValue, SymValue)) for v in (a, b)):
        return None
    hints = [_hint(v) for v in (a, b)]
    if any(type(x) not in (int, float, bool) for x in hints):
        return None
    outcome = bool(real(*hints))
    shown = " ".join((_shown(a), symbol, _shown(b)))

    def test(w: Writer, v: str) -> str:
        return f"({number_text(a, tr.shapes, w)} {symbol} {number_text(b, tr.shapes, w)}) is {outcome}"

    tr.keep += [a, b]
    tr.guards.add(source, ("decides", symbol, id(a), id(b)), test, escape(f"{shown} is {outcome}"), tr.where)
    return Const(outcome)


def _hint(value: Value) -> Any:
    if isinstance(value, ScalarValue):
        return value.hint
    return value.value.hint if isinstance(value, SymValue) else value.value  # type: ignore[attr-defined]


def _source_of(value: Value) -> Source | None:
    if value.source is not None and isinstance(value, ScalarValue):
        return value.source
    return next((s for p in getattr(value, "parts", ()) if (s := _source_of(p)) is not None), None)


def _shown(value: Value) -> str:
    if isinstance(value, ScalarValue):
        return str(value.source) if value.source is not None else "a number computed from " + str(_source_of(value))
    return repr(_hint(value))


def with_number_option(tr: Tracer, fn: Any, args: list[Value], kwargs: dict[str, Value]) -> Value | None:
    """`x.add_(y, alpha=s)` and its like for a changing float, with the number as an operand; None for anything else."""
    op = getattr(fn, "op", None)
    if op is None or "scaled" not in (op.functional or op).extra:
        return None
    option, join, then = (op.functional or op).extra["scaled"]
    number = kwargs.get(option)
    if len(kwargs) != 1 or not isinstance(number, ScalarValue) or not all(
            isinstance(a, TensorValue) and a.tensor.dtype.is_floating_point for a in args):
        return None
    if len(args) != (2 if join is None else 3):
        return None
    joined = args[1] if join is None else tr.call_pure(getattr(ops, join), args[1:], {})
    scaled = tr.call_pure(operator.mul, [joined, number], {})
    return tr.call_pure(getattr(ops, then + "_" if op.functional else then), [args[0], scaled], {})


def filled_with_number(tr: Tracer, fn: Any, args: list[Value], kwargs: dict[str, Value]) -> Value | None:
    """`torch.full(size, s)` for a changing float: ones times the number; None for anything else."""
    op = getattr(fn, "op", None)
    if fn is not PUBLIC["torch"]["full"] and (op is None or op.name != "full"):
        return None
    value = args[1] if len(args) == 2 else kwargs.get("fill_value")
    if not isinstance(value, ScalarValue) or any(isinstance(v, ScalarValue) for v in args[:1]):
        return None
    ones = tr.call_pure(fn, [args[0], Const(1.0)] if len(args) == 2 else args, {**kwargs, **({} if len(args) == 2 else
                                                                                 {"fill_value": Const(1.0)})})
    if not isinstance(ones, TensorValue) or not ones.tensor.dtype.is_floating_point or not ones.tensor.shape:
        return None
    return tr.call_pure(operator.mul, [ones, value], {})
