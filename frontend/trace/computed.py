"""Ints and texts that Python computes of changing numbers: computed again at each call by the same expression.

`int(n * 0.5)`, `round(p * n)`, `n & 7` or f"{n}" are what Python makes of a size or a changing float. The trace takes an int of
at least 2 as a symbol of its own, whose value the guard function computes as the program does, so it is exact whatever
the function is. Smaller ones are taken as they are, and guarded: sizes of 0 and 1 mean something else.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.numbers import number_text
from flambeau.frontend.trace.shapes import SizeOf
from flambeau.frontend.trace.source import Source
from flambeau.frontend.trace.values import Const, ScalarValue, SymValue, Value
from flambeau.frontend.trace.writer import Writer

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer

# Functions that leave an int what it is.
_SAME = {int, round, math.floor, math.ceil, math.trunc, operator.index}

# Functions that make ints of numbers, and how operators among them are spelled.
_TO_INT: dict[Any, str] = {
    operator.and_: "({} & {})", operator.or_: "({} | {})", operator.xor: "({} ^ {})", operator.lshift: "({} << {})",
    operator.rshift: "({} >> {})", operator.pow: "({} ** {})", operator.invert: "(~{})",
    **dict.fromkeys((*_SAME, math.gcd, math.lcm, math.isqrt, math.comb, math.prod), ""),
}


class Computed(Source):
    """An int computed of changing numbers. Compares by identity."""

    base = None

    def __init__(self, value: ScalarValue, tr: Tracer) -> None:
        self.value, self.shapes, self.text = value, tr.shapes, shown(value)

    def code(self, w: Writer) -> str:
        return number_text(self.value, self.shapes, w)

    def fetch(self, roots: Mapping[str, Any]) -> Any:
        w = Writer(list(roots))
        w.line(f"return {self.code(w)}")
        return w.build("number", ", ".join(roots), "<number>")(**roots)

    def __str__(self) -> str:
        return self.text


def shown(value: Value) -> str:
    """A changing number as a person would write it."""
    if value.source is not None:
        return str(value.source)
    if isinstance(value, ScalarValue):
        return value.template.format(*map(shown, value.parts))
    if isinstance(value, SymValue):
        return str(value.value)
    raw: Any = getattr(value, "value", value)
    return getattr(raw, "__name__", None) or repr(raw)


def integer(tr: Tracer, fn: Any, args: list[Value]) -> Value | None:
    """The int that `fn` makes of changing numbers; None where it makes none."""
    if fn not in _TO_INT:
        return None
    if fn in _SAME and len(args) == 1 and isinstance(args[0], SymValue):
        return args[0]
    if fn is operator.pow and isinstance(args[0], SymValue) and isinstance(args[1], Const) and type(args[1].value) is int \
            and args[1].value >= 0:
        return tr.constant(args[0].value ** args[1].value)
    if fn in (operator.lshift, operator.rshift) and isinstance(args[0], SymValue) and isinstance(args[1], Const) \
            and type(args[1].value) is int and 0 <= args[1].value < 62:
        power = 2 ** args[1].value
        return tr.constant(args[0].value * power if fn is operator.lshift else args[0].value // power)
    hints = [_hint(a) for a in args]
    if any(type(x) not in (int, float) for x in hints):
        return None
    try:
        found = fn(*hints)
    except (ArithmeticError, ValueError, TypeError):
        return None                                              # the caller pins the numbers and raises
    if type(found) is not int:
        return None
    if _TO_INT[fn]:
        return _symbol(tr, found, _TO_INT[fn], args)
    return _symbol(tr, found, f"{{}}({', '.join('{}' for _ in args)})", [Const(fn), *args])


def extreme(tr: Tracer, fn: Any, a: Value, b: Value) -> Value | None:
    """`max(a, b)` or `min(a, b)` where one is a changing number: whichever it is at a call. None for anything but two ints or
    two floats."""
    hints = [_hint(a), _hint(b)]
    kinds = {type(x) for x in hints}
    if kinds not in ({int}, {float}) or not any(isinstance(v, (SymValue, ScalarValue)) for v in (a, b)):
        return None
    if kinds == {int}:
        order = [tr.shapes.env.known("<=", x.value, y.value) for x, y in ((a, b), (b, a))]      # type: ignore[attr-defined]
        if True in order:
            return (b, a)[order.index(True) ^ (fn is min)]
    tr.shapes.known_before([a, b])
    if kinds == {int}:
        return _symbol(tr, fn(*hints), "{}({}, {})", [Const(fn), a, b])
    return ScalarValue(fn(*hints), "{}({}, {})", [Const(fn), a, b])


def _symbol(tr: Tracer, found: int, template: str, parts: list[Value]) -> Value:
    key = (template, *map(_key, parts))
    known = tr.shapes.computed.get(key)
    if known is None:
        source = Computed(ScalarValue(found, template, parts), tr)                  # type: ignore[arg-type]
        if found >= 2:
            known = SymValue(tr.shapes.symbol(found, SizeOf(source, None), computed=True))
        else:
            tr.guard(source, g.equals(found))
            known = Const(found)
        tr.shapes.computed[key] = known
    return known


def decision(tr: Tracer, real: Callable[..., Any], symbol: str, a: Value, b: Value) -> Const | None:
    """`a symbol b` where one is a float computed of sizes: the outcome is guarded, not the sizes."""
    hints = [_hint(a), _hint(b)]
    if any(type(x) not in (int, float) for x in hints):
        return None
    outcome = bool(real(*hints))
    tr.guard(Computed(ScalarValue(0.0, f"({{}} {symbol} {{}})", [a, b]), tr), g.equals(outcome))
    return Const(outcome)


def _key(value: Value) -> Any:
    """Equal for numbers that are computed alike."""
    if isinstance(value, ScalarValue) and value.source is None:
        return (value.template, *map(_key, value.parts))
    if isinstance(value, SymValue):
        return ("symbol", str(value.value))
    if isinstance(value, Const) and not isinstance(value.value, Callable):          # type: ignore[arg-type]
        return (type(value.value), repr(value.value))
    return value.source if value.source is not None else id(getattr(value, "value", value))


def _hint(value: Value) -> Any:
    if isinstance(value, ScalarValue):
        return value.hint
    if isinstance(value, SymValue):
        return value.value.hint
    return value.value if isinstance(value, Const) else None


class TextValue(Const):
    """A string that Python makes of changing numbers. Looking at it takes the numbers as they are."""

    def __init__(self, tr: Tracer, text: str, template: str, parts: list[Value]) -> None:
        self._tr, self._text, self.template, self.parts = tr, text, template, parts
        self.source = None
        self.looked = False

    @property
    def value(self) -> str:                                       # type: ignore[override]
        if not self.looked:
            self.looked = True
            for part in self.parts:
                if isinstance(part, SymValue):
                    self._tr.index(part)
                else:
                    part.as_python(self._tr)
        return self._text

    def __repr__(self) -> str:
        return f"Text({self._text!r})"

    def pytype(self) -> type:
        return str

    def rebuild(self, out: Rebuilder) -> str:
        if self.looked:
            return out.literal(self._text)
        return self.template.format(*(out.expr(p) for p in self.parts))


def text_of(tr: Tracer, value: Value, spec: Value) -> Value | None:
    """`format(value, spec)` of a changing number; None where it must be done with the number as it is."""
    if not isinstance(spec, Const) or isinstance(spec, TextValue) or type(_hint(value)) not in (int, float):
        return None
    try:
        text = format(_hint(value), spec.value)
    except (ValueError, TypeError):
        return None
    return TextValue(tr, text, "{}({}, {})", [Const(format), value, spec])


def joined(tr: Tracer, parts: list[Value]) -> Value | None:
    """The concatenation of strings of which some are made of changing numbers; None where none is."""
    if not any(isinstance(p, TextValue) and not p.looked for p in parts) or \
            not all(isinstance(p, Const) and p.pytype() is str for p in parts):
        return None
    text = "".join(p._text if isinstance(p, TextValue) else p.value for p in parts)             # type: ignore[attr-defined]
    return TextValue(tr, text, f"''.join(({', '.join('{}' for _ in parts)},))", parts)
