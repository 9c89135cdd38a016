"""Index expressions: small integer arithmetic over loop variables and symbolic sizes, simplified as it is built.

Interned and immutable: two equal expressions are the same object. Static shapes never touch sympy; a symbolic size enters
as :func:`size` of its name. A :class:`Index` mixes freely with ints (``i * 64 + j``, ``i // 4 % 8``).
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, Union
from weakref import WeakValueDictionary

IndexLike = Union["Index", int]
_table: WeakValueDictionary[tuple, Index] = WeakValueDictionary()


class Index:
    """``kind`` is "var" (name, extent), "size" (name), "add" (a, b), "mul" (a, b), "div" (a, b), "mod" (a, b),
    "min"/"max" (a, b) or "value" (a loop expression read as an index: indirect access). Constants are plain ints."""

    __slots__ = ("kind", "args", "_bounds", "_terms", "_text", "_values", "_vars", "__weakref__")
    kind: str
    args: tuple[Any, ...]
    _bounds: tuple[int | None, int | None] | None
    _terms: tuple[dict[Index, int], int] | None
    _text: str | None
    _values: tuple[Any, ...] | None
    _vars: frozenset[Index] | None

    def __new__(cls, kind: str, *args: Any) -> Index:
        key = (kind, *args)
        found = _table.get(key)
        if found is None:
            found = super().__new__(cls)
            found.kind, found.args = kind, args
            found._bounds = found._terms = found._text = found._values = found._vars = None
            _table[key] = found
        return found

    def __reduce__(self) -> tuple:
        return Index, (self.kind, *self.args)

    # ---- arithmetic

    def __add__(self, other: IndexLike) -> IndexLike:
        return add(self, other)

    __radd__ = __add__

    def __sub__(self, other: IndexLike) -> IndexLike:
        return add(self, mul(other, -1))

    def __rsub__(self, other: IndexLike) -> IndexLike:
        return add(other, mul(self, -1))

    def __neg__(self) -> IndexLike:
        return mul(self, -1)

    def __mul__(self, other: IndexLike) -> IndexLike:
        return mul(self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: IndexLike) -> IndexLike:
        return div(self, other)

    def __rfloordiv__(self, other: IndexLike) -> IndexLike:
        return div(other, self)

    def __mod__(self, other: IndexLike) -> IndexLike:
        return mod(self, other)

    def __rmod__(self, other: IndexLike) -> IndexLike:
        return mod(other, self)

    # ---- comparison, where the bounds decide it

    def __lt__(self, other: IndexLike) -> bool:
        return _below(self, other)

    def __ge__(self, other: IndexLike) -> bool:
        return not _below(self, other)

    def __gt__(self, other: IndexLike) -> bool:
        return _below(other, self)

    def __le__(self, other: IndexLike) -> bool:
        return not _below(other, self)

    def __str__(self) -> str:
        if self._text is None:
            self._text = self._shown()
        return self._text

    def _shown(self) -> str:
        k, a = self.kind, self.args
        if k in ("var", "size"):
            return str(a[0])
        if k == "value":
            return f"at({a[0]})"
        if k in ("min", "max"):
            return f"{k}({a[0]}, {a[1]})"
        if k == "add":
            right = str(a[1])
            return f"{a[0]} - {right[1:]}" if right.startswith("-") else f"{a[0]} + {right}"
        sign = {"mul": "*", "div": "//", "mod": "%"}[k]
        return f"{_atom(a[0])}{sign}{_atom(a[1])}"

    __repr__ = __str__


def _atom(x: IndexLike) -> str:
    text = str(x)
    return f"({text})" if isinstance(x, Index) and x.kind in ("add", "mul", "div", "mod") else text


def var(name: str, extent: IndexLike) -> Index:
    """The loop variable ``name``, running over ``range(extent)``."""
    return Index("var", name, as_index(extent))


def size(name: str) -> Index:
    """The symbolic size ``name``, known at the call (at least 1... its range is not assumed beyond being >= 0)."""
    return Index("size", name)


def value(expr: Any) -> Index:
    """A loop expression of integer dtype, used as an index."""
    return Index("value", expr)


def bounds(x: IndexLike) -> tuple[int | None, int | None]:
    """The smallest and largest value of ``x``; None where not known."""
    if not isinstance(x, Index):
        return x, x
    if x._bounds is None:
        x._bounds = _find_bounds(x)
    return x._bounds


def _find_bounds(x: Index) -> tuple[int | None, int | None]:
    k, a = x.kind, x.args
    if k == "var":
        top = bounds(a[1])[1]
        return 0, None if top is None else top - 1
    if k == "size":
        return 0, None
    if k == "value":
        return None, None
    (lo, hi), (lo2, hi2) = bounds(a[0]), bounds(a[1])
    if k == "add":
        return (None if lo is None or lo2 is None else lo + lo2), (None if hi is None or hi2 is None else hi + hi2)
    if k == "mul":
        if isinstance(a[1], int):
            low, high = (lo, hi) if a[1] >= 0 else (hi, lo)
            return (None if low is None else low * a[1]), (None if high is None else high * a[1])
        known = lo is not None and lo2 is not None and lo >= 0 and lo2 >= 0
        return (lo * lo2 if known else None), (hi * hi2 if known and hi is not None and hi2 is not None else None)  # type: ignore[operator]
    if k == "div" and isinstance(a[1], int) and a[1] > 0:
        return (None if lo is None else lo // a[1]), (None if hi is None else hi // a[1])
    if k == "mod":
        top = None if hi2 is None else hi2 - 1
        if lo is not None and lo >= 0 and hi is not None:
            top = hi if top is None else min(top, hi)
        return 0, top
    if k == "min":
        return (None if lo is None or lo2 is None else min(lo, lo2)), (hi2 if hi is None else hi if hi2 is None else min(hi, hi2))
    if k == "max":
        return (lo2 if lo is None else lo if lo2 is None else max(lo, lo2)), (None if hi is None or hi2 is None else max(hi, hi2))
    return None, None


def _below(a: IndexLike, b: IndexLike) -> bool:
    """Whether ``a < b``, for every value that the variables and sizes may take. Raises ``ValueError`` when that depends."""
    lo, hi = bounds(add(a, mul(b, -1)))
    if hi is not None and hi < 0:
        return True
    if lo is not None and lo >= 0:
        return False
    raise ValueError(f"whether {a} < {b} depends on the sizes of the call")


def terms(x: IndexLike) -> tuple[dict[Index, int], int]:
    """``x`` as a sum: {term: integer coefficient} and the constant. The dict is shared: not to be changed."""
    if not isinstance(x, Index):
        return {}, int(x)
    if x._terms is None:
        x._terms = _find_terms(x)
    return x._terms


def _find_terms(x: Index) -> tuple[dict[Index, int], int]:
    if x.kind == "add":
        left, c = terms(x.args[0])
        right, d = terms(x.args[1])
        left = dict(left)
        for t, n in right.items():
            left[t] = left.get(t, 0) + n
        return {t: n for t, n in left.items() if n}, c + d
    if x.kind == "mul" and isinstance(x.args[1], int):
        inner, c = terms(x.args[0])
        return {t: n * x.args[1] for t, n in inner.items()}, c * x.args[1]
    return {x: 1}, 0


def _sum(parts: Mapping[Index, int], constant: int) -> IndexLike:
    total: IndexLike | None = None
    if any(t.kind in ("div", "mod") for t in parts) and len(parts) > 1:
        joined = _rejoined(parts)
        if joined is not None:
            return add(joined, constant)
    for t, n in sorted(parts.items(), key=lambda p: (-abs(p[1]), str(p[0]))):
        if not n:
            continue
        piece: IndexLike = t if n == 1 else Index("mul", t, n)
        total = piece if total is None else Index("add", total, piece)
    if total is None:
        return constant
    return Index("add", total, constant) if constant else total


def _rejoined(parts: Mapping[Index, int]) -> IndexLike | None:
    """The sum with one pair ``n * d * (y // d) + n * (y % d)`` put together as ``n * y``; None where there is no such pair."""
    for t, n in parts.items():
        if t.kind not in ("div", "mod"):
            continue
        y, d = t.args
        if isinstance(d, Index):
            whole = mul(div(y, d), d) if t.kind == "mod" else None
            if isinstance(whole, Index) and parts.get(whole) == n:
                rest = {u: m for u, m in parts.items() if u is not t and u is not whole}
                return add(_sum(rest, 0), mul(y, n))
            continue
        partner, wanted = (mod(y, d), n // d) if t.kind == "div" else (div(y, d), n * d)
        if isinstance(partner, Index) and parts.get(partner) == wanted and (t.kind == "mod" or n % d == 0):
            rest = {u: m for u, m in parts.items() if u is not t and u is not partner}
            return add(_sum(rest, 0), mul(y, n if t.kind == "mod" else wanted))
    return None


@functools.lru_cache(1 << 15)
def add(a: IndexLike, b: IndexLike) -> IndexLike:
    a, b = as_index(a), as_index(b)
    if not isinstance(a, Index) and not isinstance(b, Index):
        return a + b
    left, c = terms(a)
    right, d = terms(b)
    parts = dict(left)
    for t, n in right.items():
        parts[t] = parts.get(t, 0) + n
    return _sum(parts, c + d)


@functools.lru_cache(1 << 15)
def mul(a: IndexLike, b: IndexLike) -> IndexLike:
    a, b = as_index(a), as_index(b)
    if not isinstance(a, Index):
        a, b = b, a
    if not isinstance(a, Index):
        return a * b  # type: ignore[operator]
    if not isinstance(b, Index):
        parts, c = terms(a)
        return _sum({t: n * b for t, n in parts.items()}, c * b)
    (pa, ca), (pb, cb) = terms(a), terms(b)
    total: IndexLike = ca * cb
    for t, n in pa.items():
        for u, m in pb.items():
            first, second = sorted((t, u), key=str)
            total = add(total, mul(Index("mul", first, second), n * m))
    for t, n in pa.items():
        total = add(total, mul(t, n * cb))
    for u, m in pb.items():
        total = add(total, mul(u, m * ca))
    return total


def _split(x: IndexLike, d: int) -> tuple[IndexLike, IndexLike]:
    """``x`` as ``d * quotient + rest`` by the coefficients divisible by ``d``."""
    parts, c = terms(x)
    quotient = {t: n // d for t, n in parts.items() if n % d == 0}
    rest = {t: n for t, n in parts.items() if n % d}
    return _sum(quotient, c // d), _sum(rest, c % d)


def _coarse(x: IndexLike, d: int) -> tuple[IndexLike, IndexLike, int] | None:
    """``x`` as ``g * quotient + rest`` with 0 <= rest < g for the largest ``g`` > 1 that divides ``d``; None without one."""
    parts, c = terms(x)
    if len(parts) < 2 and not c:
        return None
    for g in sorted({math.gcd(n, d) for n in parts.values()}, reverse=True):
        if g > 1:
            quotient, rest = _split(x, g)
            if quotient != 0 and _within(rest, g):
                return quotient, rest, g
    return None


def _within(x: IndexLike, d: int) -> bool:
    lo, hi = bounds(x)
    return lo is not None and hi is not None and lo >= 0 and hi < d


@functools.lru_cache(1 << 15)
def div(a: IndexLike, b: IndexLike) -> IndexLike:
    """Floor division; 0 for a divisor of 0, which only dimensions without elements have."""
    a, b = as_index(a), as_index(b)
    if not isinstance(a, Index) and not isinstance(b, Index):
        return a // b if b else 0
    if not isinstance(b, Index):
        if b <= 1:
            return a if b else 0
        quotient, rest = _split(a, b)
        if _within(rest, b):
            return quotient
        if rest is not a and quotient != 0:
            return add(quotient, div(rest, b))
        if isinstance(rest, Index) and rest.kind == "div" and isinstance(rest.args[1], int):
            return div(rest.args[0], rest.args[1] * b)
        coarse = _coarse(rest, b)
        if coarse is not None:
            return div(coarse[0], b // coarse[2])
        return Index("div", rest, b)
    exact = _divide_exactly(a, b)
    if exact is not None:
        return exact
    c, rest = _content(b)
    return div(div(a, c), rest) if c > 1 else Index("div", a, b)


@functools.lru_cache(1 << 15)
def mod(a: IndexLike, b: IndexLike) -> IndexLike:
    """Remainder of floor division; 0 for a divisor of 0."""
    a, b = as_index(a), as_index(b)
    if not isinstance(a, Index) and not isinstance(b, Index):
        return a % b if b else 0
    if not isinstance(b, Index):
        if not b:
            return 0
        rest = _split(a, b)[1]
        if _within(rest, b) or not isinstance(rest, Index):
            return rest if isinstance(rest, Index) else rest % b
        if rest.kind == "mod" and isinstance(rest.args[1], int) and rest.args[1] % b == 0:
            return mod(rest.args[0], b)
        coarse = _coarse(rest, b)
        if coarse is not None:
            return add(mul(mod(coarse[0], b // coarse[2]), coarse[2]), coarse[1])
        return Index("mod", rest, b)
    if _divide_exactly(a, b) is not None:
        return _remainder(a, b)
    c, rest = _content(b)
    return add(mul(mod(div(a, c), rest), c), mod(a, c)) if c > 1 else Index("mod", a, b)


def _content(b: Index) -> tuple[int, IndexLike]:
    """The largest integer that divides a symbolic size, and the quotient."""
    parts, constant = terms(b)
    c = math.gcd(constant, *parts.values())
    return (c, _sum({t: n // c for t, n in parts.items()}, constant // c)) if c > 1 else (1, b)


def _divide_exactly(a: IndexLike, b: Index) -> IndexLike | None:
    """``a // b`` for a symbolic ``b`` when ``a`` is ``b * q + r`` with 0 <= r < b plainly (r a variable of extent b)."""
    parts, c = terms(a)
    quotient: IndexLike = 0
    for t, n in parts.items():
        if t is b:
            quotient = add(quotient, n)
        elif t.kind == "mul" and b in t.args:
            quotient = add(quotient, mul(t.args[1] if t.args[0] is b else t.args[0], n))
        elif not (t.kind == "var" and t.args[1] is b and n == 1 and c == 0):
            return None
    return quotient if c == 0 else None


def _remainder(a: IndexLike, b: Index) -> IndexLike:
    return add(a, mul(mul(_divide_exactly(a, b), b), -1))  # type: ignore[arg-type]


def product(sizes: Iterable[IndexLike]) -> IndexLike:
    """All of some sizes multiplied."""
    total: IndexLike = 1
    for n in sizes:
        total = mul(total, n)
    return total


def minimum(a: IndexLike, b: IndexLike) -> IndexLike:
    a, b = as_index(a), as_index(b)
    if not isinstance(a, Index) and not isinstance(b, Index):
        return min(a, b)
    return a if a is b else Index("min", a, b)


def maximum(a: IndexLike, b: IndexLike) -> IndexLike:
    a, b = as_index(a), as_index(b)
    if not isinstance(a, Index) and not isinstance(b, Index):
        return max(a, b)
    return a if a is b else Index("max", a, b)


def as_index(x: Any) -> Any:
    """A symbolic integer of the tracer as an index expression; an int or index expression as it is."""
    if type(x) is int or type(x) is Index or not hasattr(x, "expr"):
        return x
    return _from_sympy(x.env.simplify(x.expr))


_FOLDS: dict[str, Callable[[Any, Any], IndexLike]] = {
    "Add": add, "Mul": mul, "Mod": mod, "PyMod": mod, "Max": maximum, "Min": minimum, "FloorDiv": div}


def _from_sympy(e: Any) -> IndexLike:
    kind = type(e).__name__
    if e.is_Integer:
        return int(e)
    if e.is_Symbol:
        return size(e.name)
    if kind == "floor":
        top, bottom = e.args[0].as_numer_denom()
        return div(_from_sympy(top), _from_sympy(bottom))
    if kind == "Pow" and e.exp.is_Integer and e.exp > 0:
        return reduce(mul, [_from_sympy(e.base)] * int(e.exp))
    if kind not in _FOLDS:
        raise NotImplementedError(f"a size of the form {e} has no index expression")
    return reduce(_FOLDS[kind], [_from_sympy(a) for a in e.args])


_BUILD: dict[str, Callable[[Any, Any], IndexLike]] = {
    "add": add, "mul": mul, "div": div, "mod": mod, "min": minimum, "max": maximum}


def substitute(x: IndexLike, env: Mapping[Index, IndexLike], on_value: Callable[[Any], Any] | None = None) -> IndexLike:
    """``x`` with variables (or sizes) replaced; ``on_value`` rewrites the loop expressions of indirect indices."""
    if not isinstance(x, Index):
        return x
    if x in env:
        return env[x]
    if x.kind in ("var", "size"):
        return x
    if x.kind == "value":
        return x if on_value is None else value(on_value(x.args[0]))
    return _BUILD[x.kind](substitute(x.args[0], env, on_value), substitute(x.args[1], env, on_value))


def walk(x: IndexLike) -> Iterator[Index]:
    """``x`` and every index expression in it."""
    if isinstance(x, Index):
        yield x
        if x.kind not in ("var", "size", "value"):
            for a in x.args:
                yield from walk(a)


def variables(x: IndexLike) -> frozenset[Index]:
    """The loop variables in ``x`` (those inside an indirect index not included)."""
    if not isinstance(x, Index):
        return _NONE
    if x._vars is None:
        x._vars = frozenset(i for i in walk(x) if i.kind == "var")
    return x._vars


_NONE: frozenset[Index] = frozenset()


def values(x: IndexLike) -> tuple[Any, ...]:
    """The loop expressions inside ``x``: where it is indirect."""
    if not isinstance(x, Index):
        return ()
    if x._values is None:
        x._values = tuple(i.args[0] for i in walk(x) if i.kind == "value")
    return x._values


def coefficient(x: IndexLike, v: Index) -> int | None:
    """``x``'s step when ``v`` grows by one; None when ``x`` is not linear in ``v`` with a constant step."""
    parts, _ = terms(x)
    if any(t is not v and v in variables(t) for t in parts):
        return None
    return parts.get(v, 0)


def linear(x: IndexLike) -> dict[Index, IndexLike] | None:
    """``x`` as a sum of variables times sizes: each variable's factor. None when it is not one, or has a constant part."""
    parts, constant = terms(x)
    if constant:
        return None
    found: dict[Index, IndexLike] = {}
    for t, n in parts.items():
        vars = [f for f in _factors(t) if variables(f)]
        if len(vars) != 1 or vars[0].kind != "var":
            return None
        factor: IndexLike = n
        for f in _factors(t):
            factor = factor if f is vars[0] else mul(factor, f)
        found[vars[0]] = add(found.get(vars[0], 0), factor)
    return found


def _factors(t: Index) -> list[Index]:
    """The factors of a product, integers aside."""
    return [f for a in t.args for f in _factors(a)] if t.kind == "mul" else [t]


def parse_index(node: ast.expr, name: Callable[[str], IndexLike], at: Callable[[ast.expr], Any]) -> IndexLike:
    """Read an index expression printed by ``str``. ``name`` resolves names, ``at`` reads the inside of ``at(...)``."""
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return name(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return mul(parse_index(node.operand, name, at), -1)
    if isinstance(node, ast.BinOp):
        left, right = parse_index(node.left, name, at), parse_index(node.right, name, at)
        if isinstance(node.op, ast.Sub):
            return add(left, mul(right, -1))
        return {ast.Add: add, ast.Mult: mul, ast.FloorDiv: div, ast.Mod: mod}[type(node.op)](left, right)  # type: ignore[index]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "at":
            return value(at(node.args[0]))
        pair = [parse_index(a, name, at) for a in node.args]
        return {"min": minimum, "max": maximum}[node.func.id](*pair)
    raise ValueError(f"not an index expression: {ast.unparse(node)}")
