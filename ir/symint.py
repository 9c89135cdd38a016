"""Symbolic sizes: integers known only at the call, and the assumptions that a trace made about them.

A :class:`SymInt` is a sympy expression over size symbols with the value it had in the example (its ``hint``). Arithmetic
stays symbolic; a comparison is decided by the hint and leaves a guard in the :class:`ShapeEnv`, unless it holds for every
size of at least 2 (sizes 0 and 1 are never made symbolic). sympy is imported when the first symbol is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any


@cache
def _sympy() -> SimpleNamespace:
    """sympy and the two integer functions that it lacks in the form we need."""
    import sympy  # noqa: PLC0415 - slow to import, and only dynamic shapes need it

    class FloorDiv(sympy.Function):
        """``a // b`` for integers."""

        is_integer = True

        @classmethod
        def eval(cls, a: Any, b: Any) -> Any:
            if b == 1:
                return a
            if a.is_Integer and b.is_Integer:
                return sympy.Integer(int(a) // int(b))
            quotient = sympy.cancel(a / b)
            if quotient.is_integer and quotient.is_polynomial():
                return quotient
            return None

        def _eval_is_nonnegative(self) -> bool | None:
            return True if self.args[0].is_nonnegative and self.args[1].is_positive else None

    class PyMod(sympy.Function):
        """``a % b`` for integers, b > 0."""

        is_integer = True
        is_nonnegative = True

        @classmethod
        def eval(cls, a: Any, b: Any) -> Any:
            if b == 1:
                return sympy.Integer(0)
            if a.is_Integer and b.is_Integer:
                return sympy.Integer(int(a) % int(b))
            quotient = sympy.cancel(a / b)
            return sympy.Integer(0) if quotient.is_integer and quotient.is_polynomial() else None

    from sympy.printing.str import StrPrinter  # noqa: PLC0415

    class Printer(StrPrinter):
        def _print_FloorDiv(self, e: Any) -> str:  # noqa: N802 - sympy's protocol
            return f"(({self._print(e.args[0])})//({self._print(e.args[1])}))"

        def _print_PyMod(self, e: Any) -> str:  # noqa: N802
            return f"(({self._print(e.args[0])})%({self._print(e.args[1])}))"

    return SimpleNamespace(sympy=sympy, FloorDiv=FloorDiv, PyMod=PyMod, show=Printer().doprint)


class DataDependentError(RuntimeError):
    """Raised when traced code asks for the data of a symbolic tensor (``item``, ``bool``, ``numpy``...), or for what depends
    on it, as how many elements a mask selects."""


@dataclass(frozen=True)
class ShapeGuard:
    """An assumption: ``text`` is Python over symbol names; ``loc`` the user's line that made it."""

    text: str
    loc: str = ""


@dataclass
class ShapeEnv:
    """The symbols of one trace, where they come from, and what was assumed about them.

    ``where`` is set by the tracer so that guards can name the user's line. Once the guards are written the environment is
    ``frozen``: an assumption that nothing would check raises `RuntimeError`.
    """

    hints: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[Any]] = field(default_factory=dict)
    guards: list[ShapeGuard] = field(default_factory=list)
    where: Callable[[], str] = str
    frozen: bool = False
    unbacked: set[str] = field(default_factory=set)       # symbols of sizes that data decides, of at least 0
    _equal: dict[Any, Any] = field(default_factory=dict)  # symbol -> what it was found equal to
    _decided: dict[Any, bool] = field(default_factory=dict)

    def create(self, hint: int, source: Any = None, fresh: bool = False, least: int = 2) -> SymInt:
        """The symbol for a size of ``source``, with an example value of at least ``least`` (2, or 0 for a number that is
        no size: it is named ``z0``...).

        Places of equal value share a symbol, as in most programs they are the same size: whoever generates guards must
        check that all ``sources`` of a symbol agree. A ``fresh`` symbol is shared with none before it.
        """
        letter = "s" if least else "z"
        for name, known in self.hints.items():
            if known == hint and not fresh and name[0] == letter:
                self.sources[name].append(source)
                return SymInt(_symbol(name), hint, self)
        name = f"{letter}{len(self.hints)}"
        self.hints[name], self.sources[name] = hint, [source]
        return SymInt(_symbol(name), hint, self)

    def create_unbacked(self) -> SymInt:
        """The symbol for a size that the data of a tensor decides: a comparison that depends on it cannot be decided."""
        name = f"u{len(self.unbacked)}"
        self.unbacked.add(name)
        return SymInt(_symbol(name), 7, self)                  # any hint: nothing is decided by it

    def symbols_of(self, value: Any) -> set[str]:
        """The names of the symbols in a SymInt (none for an int)."""
        return {s.name for s in self.simplify(value.expr).free_symbols} if isinstance(value, SymInt) else set()

    def python(self, value: Any, names: dict[str, str]) -> str:
        """A SymInt as Python source, with its symbols spelled by ``names``."""
        if not isinstance(value, SymInt):
            return repr(value)
        return re.sub(r"\b[suz]\d+\b", lambda m: names.get(m.group(), m.group()), str(value))

    def named(self, name: str) -> SymInt:
        """The symbol ``name``, made with the hint 2 if it is new (for parsing texts)."""
        hint = self.hints.setdefault(name, 2)
        return SymInt(_symbol(name), hint, self)

    def simplify(self, expr: Any) -> Any:
        """``expr`` with the equalities found so far put in."""
        return expr.xreplace(self._equal) if self._equal else expr

    def decide(self, kind: str, a: Any, b: Any, hint: bool) -> bool:
        """The truth of ``a kind b`` ("==", "<", "<="): known for all sizes, or assumed as in the example and guarded."""
        a, b = self.simplify(a), self.simplify(b)
        known = _known(kind, a, b)
        if known is not None:
            return known
        if self.unbacked and not self.unbacked.isdisjoint(s.name for s in (a - b).free_symbols):
            show = _sympy().show
            raise DataDependentError("it depends on how many elements the data selects")
        key = (kind, a, b)
        if key not in self._decided:
            if self.frozen:
                show = _sympy().show
                raise RuntimeError(f"whether {show(a)} {kind} {show(b)} was asked after the guards had been written")
            self._decided[key] = hint
            self._guard(kind, a, b, hint)
        return self._decided[key]

    def known(self, kind: str, a: Any, b: Any) -> bool | None:
        """The truth of ``a kind b`` for ints and SymInts, where it holds for all sizes or has been assumed; else None."""
        first, second = (self.simplify(v.expr if isinstance(v, SymInt) else _sympy().sympy.Integer(v)) for v in (a, b))
        found = _known(kind, first, second)
        return self._decided.get((kind, first, second)) if found is None else found

    def _guard(self, kind: str, a: Any, b: Any, hint: bool) -> None:
        opposite = {"==": "!=", "<": ">=", "<=": ">"}
        show = _sympy().show
        self.guards.append(ShapeGuard(f"{show(a)} {kind if hint else opposite[kind]} {show(b)}", self.where()))
        if kind == "==" and hint:
            self._unify(a, b)

    def _unify(self, a: Any, b: Any) -> None:
        """Replace a symbol found equal to an expression that does not hold it, or an expression found equal to a number."""
        for symbol, other in ((b, a), (a, b)):
            if symbol.is_Symbol and symbol not in other.free_symbols:
                self._equal = {k: v.xreplace({symbol: other}) for k, v in self._equal.items()}
                self._equal[symbol] = other
                return
        if b.is_Integer:
            self._equal[a] = b


@cache
def _symbol(name: str) -> Any:
    if name[0] in "uz":
        return _sympy().sympy.Symbol(name, integer=True, nonnegative=True)
    return _sympy().sympy.Symbol(name, integer=True, positive=True)


@lru_cache(maxsize=4096)
def _known(kind: str, a: Any, b: Any) -> bool | None:
    """Whether ``a kind b`` holds (or fails) whatever the sizes, each at least 2 (0 if data decides it, or it is no size);
    None when it depends."""
    sympy = _sympy().sympy
    difference = sympy.expand(a - b)
    if difference.is_Integer:
        d = int(difference)
        return {"==": d == 0, "<": d < 0, "<=": d <= 0}[kind]
    above = difference.subs({s: sympy.Symbol(f"{s.name}_", integer=True, nonnegative=True) + (2 if s.is_positive else 0)
                             for s in difference.free_symbols})
    above = sympy.expand(above)
    if above.is_positive:
        return False
    if above.is_negative:
        return kind != "=="
    if kind == "<" and above.is_nonnegative:
        return False
    if kind == "<=" and above.is_nonpositive:
        return True
    return None


class SymInt:
    """An integer expression over symbolic sizes (PyTorch: ``torch.SymInt``). ``int()`` of it fixes its value by a guard."""

    __slots__ = ("expr", "hint", "env")
    __flambeau_symint__ = True

    def __init__(self, expr: Any, hint: int, env: ShapeEnv) -> None:
        self.expr, self.hint, self.env = expr, hint, env

    def __str__(self) -> str:
        return _sympy().show(self.env.simplify(self.expr))

    __repr__ = __str__

    def __hash__(self) -> int:
        return hash(self.env.simplify(self.expr))

    def _binary(self, other: Any, symbolic: Any, concrete: Any, swap: bool = False) -> Any:
        if isinstance(other, float):
            return concrete(other, int(self)) if swap else concrete(int(self), other)
        if not isinstance(other, (int, SymInt)):
            return NotImplemented
        other_expr = other.expr if isinstance(other, SymInt) else _sympy().sympy.Integer(int(other))
        other_hint = other.hint if isinstance(other, SymInt) else other
        pair, hints = (self.expr, other_expr), (self.hint, other_hint)
        if swap:
            pair, hints = pair[::-1], hints[::-1]
        return _make(self.env.simplify(symbolic(*pair)), concrete(*hints), self.env)

    def __add__(self, o: Any) -> Any:
        return self._binary(o, lambda a, b: a + b, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, o: Any) -> Any:
        return self._binary(o, lambda a, b: a - b, lambda a, b: a - b)

    def __rsub__(self, o: Any) -> Any:
        return self._binary(o, lambda a, b: a - b, lambda a, b: a - b, swap=True)

    def __mul__(self, o: Any) -> Any:
        return self._binary(o, lambda a, b: _sympy().sympy.expand(a * b), lambda a, b: a * b)

    __rmul__ = __mul__

    def __floordiv__(self, o: Any) -> Any:
        return self._binary(o, _sympy().FloorDiv, lambda a, b: a // b)

    def __rfloordiv__(self, o: Any) -> Any:
        return self._binary(o, _sympy().FloorDiv, lambda a, b: a // b, swap=True)

    def __mod__(self, o: Any) -> Any:
        return self._binary(o, _sympy().PyMod, lambda a, b: a % b)

    def __rmod__(self, o: Any) -> Any:
        return self._binary(o, _sympy().PyMod, lambda a, b: a % b, swap=True)

    def __pow__(self, o: Any) -> Any:
        if isinstance(o, int) and o >= 0:
            return _make(_sympy().sympy.expand(self.expr**o), self.hint**o, self.env)
        return int(self) ** o

    def __rpow__(self, o: Any) -> Any:
        return o ** int(self)

    def __truediv__(self, o: Any) -> Any:
        if not isinstance(o, (int, float, SymInt)):
            return NotImplemented
        return int(self) / (int(o) if isinstance(o, SymInt) else o)

    def __rtruediv__(self, o: Any) -> Any:
        if not isinstance(o, (int, float)):
            return NotImplemented
        return o / int(self)

    def __neg__(self) -> Any:
        return _make(-self.expr, -self.hint, self.env)

    def __pos__(self) -> SymInt:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def _compare(self, kind: str, o: Any, swap: bool = False) -> Any:
        if isinstance(o, float):
            return self._compare_float(kind, o, swap)
        if not isinstance(o, (int, SymInt)):
            return NotImplemented
        a, b = self.expr, (o.expr if isinstance(o, SymInt) else _sympy().sympy.Integer(int(o)))
        x, y = self.hint, (o.hint if isinstance(o, SymInt) else o)
        if swap:
            a, b, x, y = b, a, y, x
        return self.env.decide(kind, a, b, {"==": x == y, "<": x < y, "<=": x <= y}[kind])

    def _compare_float(self, kind: str, o: float, swap: bool) -> bool:
        """Compare with the integers next to a float."""
        if math.isnan(o) or (kind == "==" and not o.is_integer()):
            return False
        if math.isinf(o):
            return (o > 0) is not swap
        if kind == "==":
            return self._compare(kind, int(o))
        down = (kind == "<=") is not swap                        # n <= 2.5 is n <= 2, n < 2.5 is n < 3, 2.5 < n is 2 < n
        return self._compare(kind, math.floor(o) if down else math.ceil(o), swap)

    def __eq__(self, o: Any) -> Any:
        return self._compare("==", o)

    def __ne__(self, o: Any) -> Any:
        found = self._compare("==", o)
        return found if found is NotImplemented else not found

    def __lt__(self, o: Any) -> Any:
        return self._compare("<", o)

    def __le__(self, o: Any) -> Any:
        return self._compare("<=", o)

    def __gt__(self, o: Any) -> Any:
        return self._compare("<", o, swap=True)

    def __ge__(self, o: Any) -> Any:
        return self._compare("<=", o, swap=True)

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __int__(self) -> int:
        self.env.decide("==", self.expr, _sympy().sympy.Integer(self.hint), True)
        return self.hint

    __index__ = __int__

    def __float__(self) -> float:
        return float(int(self))


def _make(expr: Any, hint: int, env: ShapeEnv) -> Any:
    """A SymInt, or a plain int where the expression is one."""
    return int(expr) if expr.is_Integer else SymInt(expr, hint, env)


def evaluate(value: Any, sizes: dict[str, int]) -> Any:
    """A SymInt's value for given sizes of the symbols; anything else as it is."""
    if not isinstance(value, SymInt):
        return value
    expr = value.env.simplify(value.expr)
    return int(expr.xreplace({s: _sympy().sympy.Integer(sizes[s.name]) for s in expr.free_symbols}))


def bind_sizes(shapes: Any, actual: Any) -> dict[str, int]:
    """The symbols' values, read off ``actual`` shapes at the dimensions that ``shapes`` gives as a bare symbol."""
    found: dict[str, int] = {}
    for shape, real in zip(shapes, actual):
        for s, n in zip(shape, real):
            if isinstance(s, SymInt):
                expr = s.env.simplify(s.expr)
                if expr.is_Symbol:
                    found.setdefault(expr.name, int(n))
    return found
