"""The loop IR: what each element of a value is, as an expression over loads, and loop nests made of such expressions.

Expressions are interned and immutable: equal means identical, so they can be hashed, compared and rewritten with memos.
``lower`` makes one :class:`Loop` per value; the scheduler fuses loops; tiling turns a fused group into a
:class:`~flambeau.ir.program.Kernel`, whose body is a tree of the statements at the end of this file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from weakref import WeakValueDictionary

from . import dtype as _dtype
from . import index as ix
from .dtype import DType
from .index import Index, IndexLike

_table: WeakValueDictionary[tuple, Expr] = WeakValueDictionary()


class Expr:
    """One element's value, of dtype ``dtype``. Interned: build with the subclasses, compare with ``is``."""

    __slots__ = ("dtype", "args", "__weakref__")
    dtype: DType
    args: tuple[Any, ...]

    def __new__(cls, dtype: DType, *args: Any) -> Any:
        key = (cls, dtype, *((type(a), a) if isinstance(a, (bool, int, float)) else a for a in args), repr(args[0])
               if args and isinstance(args[0], (float, complex)) else "")
        found = _table.get(key)
        if found is None:
            found = super().__new__(cls)
            found.dtype, found.args = dtype, args
            _table[key] = found
        return found

    def __reduce__(self) -> tuple:
        return type(self), (self.dtype, *self.args)

    def __repr__(self) -> str:
        return show(self)

    # arithmetic, for the `lower` functions of ops: operands must agree in dtype, numbers take this one's
    def __add__(self, other: Any) -> Expr:
        return call("add", self, other)

    def __sub__(self, other: Any) -> Expr:
        return call("sub", self, other)

    def __mul__(self, other: Any) -> Expr:
        return call("mul", self, other)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __and__(self, other: Any) -> Expr:
        return call("logical_and", self, other)


class Load(Expr):
    """``args = (buffer name, index per dimension, mask, other)``: the element, or ``other`` where ``mask`` is false."""

    __slots__ = ()

    @property
    def buffer(self) -> str:
        return self.args[0]

    @property
    def index(self) -> tuple[IndexLike, ...]:
        return self.args[1]

    @property
    def mask(self) -> Expr | None:
        return self.args[2]

    @property
    def other(self) -> Any:
        return self.args[3]


class Const(Expr):
    """``args = (number,)``."""

    __slots__ = ()


class IndexValue(Expr):
    """``args = (index,)``: an index expression as a number."""

    __slots__ = ()


class Call(Expr):
    """``args = (op name, operands)``: the pointwise op's scalar (its spelling is the op's ``scalar``)."""

    __slots__ = ()

    @property
    def fn(self) -> str:
        return self.args[0]

    @property
    def operands(self) -> tuple[Expr, ...]:
        return self.args[1]


class Reduce(Expr):
    """``args = (kind, variables, value)``: value combined over variables. Kinds: sum prod max min any all argmax argmin.

    The last two have a fourth argument, the index expression that is their result at the winning element.
    """

    __slots__ = ()

    @property
    def kind(self) -> str:
        return self.args[0]

    @property
    def vars(self) -> tuple[Index, ...]:
        return self.args[1]

    @property
    def value(self) -> Expr:
        return self.args[2]

    @property
    def position(self) -> IndexLike | None:
        return self.args[3] if len(self.args) > 3 else None


class Random(Expr):
    """``args = (kind, seed, index)``: number ``index`` of the stream that the loaded ``seed`` names ("uniform", "normal")."""

    __slots__ = ()


class Local(Expr):
    """``args = (name,)``: a value computed earlier in the kernel body."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.args[0]


# ---- building -----------------------------------------------------------------------------------------------------


def const(value: Any, dtype: DType) -> Any:
    """A number, normalised to ``dtype``: a constant, or the value of an expression of symbolic sizes."""
    if hasattr(value, "__flambeau_symint__"):
        return cast(index_value(ix.as_index(value)), dtype)
    number: Any = bool(value) if dtype.kind == "b" else int(value) if dtype.is_integral else (
        complex(value) if dtype.is_complex else float(value))
    return Const(dtype, number)


def call(fn: str, *operands: Any, dtype: DType | None = None) -> Expr:
    """``fn`` of operands (numbers take the dtype of the first expression). ``dtype`` is the result's if it differs."""
    first = next(o for o in operands if isinstance(o, Expr)).dtype
    full = tuple(o if isinstance(o, Expr) else const(o, first) for o in operands)
    return Call(first if dtype is None else dtype, fn, full)


def cast(x: Expr, dtype: DType) -> Expr:
    """``x`` converted."""
    if x.dtype is dtype:
        return x
    if isinstance(x, Call) and x.fn == "cast" and x.operands[0].dtype is dtype and _holds(x.dtype, dtype):
        return x.operands[0]
    if isinstance(x, Const) and not (x.dtype.kind == "f" and dtype.is_integral):
        return const(x.args[0], dtype)
    return Call(dtype, "cast", (x,))


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether floating-point numbers survive being widened and narrowed again."""
    return wide.is_floating_point and narrow.is_floating_point and wide.itemsize > narrow.itemsize


def index_value(i: IndexLike, dtype: DType = _dtype.int64) -> Expr:
    """An index expression as a number of ``dtype``."""
    i = ix.as_index(i)
    return const(i, dtype) if not isinstance(i, Index) else cast(i.args[0], dtype) if i.kind == "value" else IndexValue(dtype, i)


#: The conditions on two indices.
COMPARISONS = ("lt", "le", "ge", "gt", "eq")


def compare(fn: str, a: IndexLike, b: IndexLike) -> Expr:
    """The condition ``fn`` (of ``COMPARISONS``) on two indices; folded when bounds decide it."""
    a, b = _coarser(fn, a, b)
    lo, hi = ix.bounds(ix.add(a, ix.mul(b, -1)))
    known = {"lt": (hi is not None and hi < 0, lo is not None and lo >= 0),
             "ge": (lo is not None and lo >= 0, hi is not None and hi < 0),
             "le": (hi is not None and hi <= 0, lo is not None and lo > 0),
             "gt": (lo is not None and lo > 0, hi is not None and hi <= 0),
             "eq": (lo == hi == 0, (hi is not None and hi < 0) or (lo is not None and lo > 0))}[fn]
    if known[0] or known[1]:
        return const(known[0], _dtype.bool_)
    return Call(_dtype.bool_, fn, (index_value(a), index_value(b)))


def compares_indices(e: Expr) -> TypeGuard[Call]:
    """Whether ``e`` is a condition on two index expressions."""
    return isinstance(e, Call) and e.fn in COMPARISONS and all(
        isinstance(o, (IndexValue, Const)) and o.dtype is _dtype.int64 for o in e.operands)


def _coarser(fn: str, a: IndexLike, b: IndexLike) -> tuple[IndexLike, IndexLike]:
    """Two indices that compare as ``a`` and ``b`` do, without the variables that cannot decide: ``64*i + j`` is less than
    512 where ``i`` is less than 8, when ``j`` is less than 64."""
    parts, constant = ix.terms(ix.add(a, ix.mul(b, -1)))
    constant -= fn in ("le", "gt")  # of integers, d > 0 is d - 1 >= 0
    if fn == "eq" or len(parts) < 2:
        return a, b
    for step in sorted({abs(n) for n in parts.values() if abs(n) > 1}):
        low: IndexLike = constant % step
        high: IndexLike = constant // step
        for t, n in parts.items():
            low, high = (low, ix.add(high, ix.mul(t, n // step))) if n % step == 0 else (ix.add(low, ix.mul(t, n)), high)
        first, last = ix.bounds(low)
        if first is not None and last is not None and first >= 0 and last < step:
            above = ix.terms(high)[1]
            return ix.add(high, -above), -above - (fn in ("le", "gt"))
    return a, b


def both(a: Expr | None, b: Expr | None) -> Expr | None:
    """The conjunction of two conditions; None means always."""
    if a is None or (isinstance(a, Const) and a.args[0]):
        return None if isinstance(b, Const) and b.args[0] else b
    if b is None or (isinstance(b, Const) and b.args[0]):
        return a
    return Call(_dtype.bool_, "logical_and", (a, b))


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """``a`` where the condition holds, else ``b``."""
    if isinstance(condition, Const):
        return a if condition.args[0] else b
    return Call(a.dtype, "where", (condition, a, b))


def checked_index(i: Expr, size: Expr, fault: int, dim: int) -> Expr:
    """``i``, with a check that it is in ``range(size)``; without one where its bounds say so."""
    return i if surely_inside(i, size) else call("checked_index", i, size, fault, dim)


def surely_inside(i: Expr, size: Expr) -> bool:
    """Whether the bounds of a number say that it is in ``range(size)``."""
    if not isinstance(i, (IndexValue, Const)) or not isinstance(size, Const):
        return False
    low, high = ix.bounds(i.args[0])
    return low is not None and high is not None and 0 <= low and high < size.args[0]


FRESH = "fresh_"  # how the variables of `reduce` are called until the loop they are in is made
_names = itertools.count()


def reduce(kind: str, sizes: Sequence[IndexLike], body: Callable[..., Expr], dtype: DType | None = None) -> Expr:
    """``body(*variables)`` combined over fresh variables of ``sizes``: for the ``lower`` functions of ops."""
    found = tuple(ix.var(f"{FRESH}{next(_names)}", s) for s in sizes)  # renamed in order when the loop is made
    inner = body(*found)
    if kind in ("argmax", "argmin"):
        return Reduce(_dtype.int64, kind, found, inner, row_major(found))
    return Reduce(inner.dtype if dtype is None else dtype, kind, found, inner)


def row_major(vars: Sequence[Index]) -> IndexLike:
    """The number of a point of some loops, the last loop running fastest."""
    total: IndexLike = 0
    for v in vars:
        total = ix.add(ix.mul(total, v.args[1]), v)
    return total


class Source:
    """A tensor argument as an op's ``lower`` function sees it.

    For ops outside the pointwise, reduction and view families, ``op.lower(index, *args)`` returns the :class:`Expr` of
    the result's element at ``index`` (a tuple of index expressions); tensors among ``args`` are Sources, whose elements
    are read by ``x.at(index, mask, other)``. An index may be an expression of integer dtype (indirect access). For an op
    of the view family ``lower`` returns only the index into the first argument.
    """

    __slots__ = ("shape", "dtype", "device", "_read")

    def __init__(self, shape: tuple[IndexLike, ...], dtype: DType, device: Any,
                 read: Callable[[tuple[IndexLike, ...], Expr | None, Any], Expr]) -> None:
        self.shape, self.dtype, self.device, self._read = shape, dtype, device, read

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def at(self, index: Sequence[Any], mask: Expr | None = None, other: Any = 0) -> Expr:
        """The element at ``index``; where ``mask`` is false nothing is read and the value is ``other``."""
        plain = tuple(ix.value(i) if isinstance(i, Expr) else ix.as_index(i) for i in index)
        return self._read(plain, mask, other)


def address(buffer: Buffer, index: Sequence[IndexLike]) -> IndexLike:
    """The position in memory of an element, in elements from the buffer's start."""
    total: IndexLike = 0
    for i, step in zip(index, buffer.strides):
        total = ix.add(total, ix.mul(i, step))
    return total


# ---- rewriting ----------------------------------------------------------------------------------------------------


def own_indices(x: Expr) -> tuple[IndexLike, ...]:
    """The index expressions that stand directly in ``x``."""
    if isinstance(x, Load):
        return x.index
    if isinstance(x, Reduce):
        return x.args[3:]
    return (x.args[0],) if isinstance(x, IndexValue) else (x.args[2],) if isinstance(x, Random) else ()


def children(x: Expr) -> Sequence[Expr]:
    """The expressions directly inside ``x``, those of indirect indices and masks included."""
    if isinstance(x, Call):
        return x.operands
    if isinstance(x, Load):
        found = [e for i in x.index for e in ix.values(i)]
        return found if x.mask is None else [*found, x.mask]
    if isinstance(x, Reduce):
        return (x.value,)
    if isinstance(x, IndexValue):
        return ix.values(x.args[0])
    return (x.args[1],) if isinstance(x, Random) else ()


def walk(x: Expr) -> list[Expr]:
    """Every expression in ``x``, each once, operands first."""
    seen: dict[Expr, None] = {}

    def visit(e: Expr) -> None:
        for c in children(e):
            if c not in seen:
                visit(c)
        seen[e] = None

    visit(x)
    return list(seen)


def rewrite(x: Expr, change: Callable[[Expr], Expr | None], env: Mapping[Index, IndexLike] | None = None) -> Expr:
    """``x`` rebuilt bottom-up: loop variables replaced by ``env``, then ``change`` (None: keep) on each expression."""
    env = env or {}
    memo: dict[Expr, Expr] = {}

    def index(i: IndexLike) -> IndexLike:
        return ix.substitute(i, env, visit)

    def visit(e: Expr) -> Expr:
        found = memo.get(e)
        if found is None:
            new = rebuild(e)
            changed = change(new)
            found = memo[e] = new if changed is None else changed
        return found

    def rebuild(e: Expr) -> Expr:
        if isinstance(e, Load):
            mask = None if e.mask is None else visit(e.mask)
            return Load(e.dtype, e.buffer, tuple(index(i) for i in e.index), mask, e.other)
        if isinstance(e, Call):
            operands = tuple(visit(o) for o in e.operands)
            if e.fn == "checked_index":
                return checked_index(operands[0], operands[1], *(o.args[0] for o in operands[2:]))
            return Call(e.dtype, e.fn, operands)
        if isinstance(e, Reduce):
            vars = dict.fromkeys(u for v in e.vars for u in sorted(ix.variables(env.get(v, v)), key=str))
            return Reduce(e.dtype, e.kind, tuple(vars), visit(e.value), *map(index, e.args[3:]))
        if isinstance(e, IndexValue):
            return index_value(index(e.args[0]), e.dtype)
        if isinstance(e, Random):
            return Random(e.dtype, e.args[0], visit(e.args[1]), index(e.args[2]))
        return e

    return visit(x)


# ---- loops: one value each ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Buffer:
    """A named array: ``shape`` and ``strides`` in elements (ints or Index). ``kind``: input, output, temp."""

    name: str
    dtype: DType
    shape: tuple[IndexLike, ...]
    strides: tuple[IndexLike, ...]
    kind: str = "temp"

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}({self.dtype.short}, {show_tuple(self.shape)}, {show_tuple(self.strides)})"


@dataclass(frozen=True)
class Loop:
    """``buffer[index] = value`` for all ``ranges``; reductions inside ``value`` bring their own variables."""

    buffer: str
    ranges: tuple[Index, ...]
    index: tuple[IndexLike, ...]
    value: Expr
    loc: str = ""

    @property
    def reduce_ranges(self) -> tuple[Index, ...]:
        found: dict[Index, None] = {}
        for e in walk(self.value):
            if isinstance(e, Reduce):
                found.update(dict.fromkeys(e.vars))
        return tuple(found)

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> list[str]:
        """The text: a ``for`` over all ranges and the assignment."""
        head = []
        if self.ranges:
            head = [f"for {show_tuple(self.ranges)} in {show_tuple([v.args[1] for v in self.ranges])}:"]
        return head + ["    " * bool(head) + f"{self.buffer}[{show_index(self.index)}] = {show(self.value)}{comment(self.loc)}"]


# ---- statements: the body of a kernel -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Let:
    """``name = value``, once per iteration of the loops around it."""

    name: str
    value: Expr
    loc: str = ""


@dataclass(frozen=True)
class Init:
    """Declare the accumulator ``name`` at the identity of ``kind`` (for argmax/argmin: value and position)."""

    name: str
    kind: str
    dtype: DType


@dataclass(frozen=True)
class Accumulate:
    """Combine ``value`` into ``name``. ``position`` is the flat reduction index for argmax and argmin."""

    name: str
    kind: str
    value: Expr
    position: IndexLike | None = None
    loc: str = ""


@dataclass(frozen=True)
class Store:
    """``buffer[index] = value`` (or ``+=`` atomically for ``mode`` "add") where ``mask`` holds."""

    buffer: str
    index: tuple[IndexLike, ...]
    value: Expr
    mask: Expr | None = None
    mode: str = ""
    loc: str = ""


@dataclass(frozen=True)
class For:
    """``for var in range(extent)``: ``kind`` is "parallel" (iterations independent, over threads or programs), "serial",
    "unroll" (small, constant) or "vector".

    Accumulators opened outside a vector loop are combined across lanes when it ends. Its body may hold serial loops, whose
    accumulators, opened inside it, are one per lane. Parallel loops directly nested are one collapsed parallel range.
    """

    var: Index
    body: tuple[Any, ...]
    kind: str = "serial"


# ---- text ---------------------------------------------------------------------------------------------------------


def comment(loc: str) -> str:
    """The user's place, behind a line of text."""
    return f"  # {loc}" if loc else ""


def show_tuple(items: Sequence[Any]) -> str:
    """Index expressions as a Python tuple."""
    return "(" + ", ".join(map(str, items)) + ("," if len(items) == 1 else "") + ")"


def show_index(items: Sequence[IndexLike]) -> str:
    """Index expressions as they stand between brackets."""
    return ", ".join(map(str, items)) or "()"


def show_number(x: Any) -> str:
    """A number as Python reads it, with ``inf`` and ``nan`` by name."""
    if isinstance(x, float) and not math.isfinite(x):
        return "nan" if x != x else "inf" if x > 0 else "-inf"
    return repr(x)


def show(e: Expr) -> str:
    """An expression as text. A call's dtype is written where it is not that of its first operand."""
    if isinstance(e, Load):
        text = f"{e.buffer}[{show_index(e.index)}]"
        return text if e.mask is None else f"({text} if {show(e.mask)} else {show_number(e.other)})"
    if isinstance(e, Const):
        return f"{e.dtype.short}({show_number(e.args[0])})"
    if isinstance(e, IndexValue):
        return f"index{'' if e.dtype is _dtype.int64 else f'[{e.dtype.short}]'}({e.args[0]})"
    if isinstance(e, Local):
        return f"{e.name}"
    if isinstance(e, Random):
        return f"random.{e.args[0]}[{e.dtype.short}]({show(e.args[1])}, {e.args[2]})"
    if isinstance(e, Reduce):
        over = " ".join(f"for {v} in {v.args[1]}" for v in e.vars)
        value = show(e.value) if e.position is None else f"({show(e.value)}, {e.position})"
        return f"{e.kind}{_suffix(e, e.value.dtype)}({value} {over})"
    assert isinstance(e, Call)
    plain = next((o.dtype for o in e.operands if not isinstance(o, Const)), None)
    parts = [show_number(o.args[0]) if isinstance(o, Const) and o.dtype is plain else show(o) for o in e.operands]
    return f"{e.fn}{_suffix(e, e.operands[0].dtype)}({', '.join(parts)})"


def _suffix(e: Expr, implied: DType) -> str:
    return "" if e.dtype is implied else f"[{e.dtype.short}]"


def show_body(body: Sequence[Any], depth: int = 1) -> list[str]:
    """Statements as lines of text."""
    pad, lines = "    " * depth, []
    for s in body:
        if isinstance(s, For):
            lines += [f"{pad}for {s.var} in {s.kind}({s.var.args[1]}):", *show_body(s.body, depth + 1)]
        elif isinstance(s, Let):
            lines.append(f"{pad}{s.name} = {show(s.value)}{comment(s.loc)}")
        elif isinstance(s, Init):
            lines.append(f"{pad}{s.name} = init({s.kind}, {s.dtype.short})")
        elif isinstance(s, Accumulate):
            position = "" if s.position is None else f", {s.position}"
            lines.append(f"{pad}{s.name} <<= {s.kind}({show(s.value)}{position}){comment(s.loc)}")
        else:
            sign = {"": "=", "add": "+="}[s.mode]
            guard = "" if s.mask is None else f" if {show(s.mask)} else keep"
            lines.append(f"{pad}{s.buffer}[{show_index(s.index)}] {sign} {show(s.value)}{guard}{comment(s.loc)}")
    return lines


Statement = Let | Init | Accumulate | Store | For
