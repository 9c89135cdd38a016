"""The loop IR: what each element of a value is, as an expression over loads, and loop nests made of such expressions.

Expressions are interned and immutable: equal means identical, so they can be hashed, compared and rewritten with memos.
``lower`` makes one :class:`Loop` per value; the scheduler fuses loops; tiling turns a fused group into a
:class:`~flambeau.ir.program.Kernel`, whose body is a tree of the statements at the end of this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
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
        return f"{type(self).__name__}({', '.join(map(str, self.args))})"

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
    """``args = (kind, variables, value)``: value combined over variables. Kinds: sum prod max min any all argmax argmin."""

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


class Random(Expr):
    """``args = (kind, seed, index)``: number ``index`` of the stream that the loaded ``seed`` names ("uniform", "normal")."""

    __slots__ = ()


class Local(Expr):
    """``args = (name,)``: a value computed earlier in the kernel body."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.args[0]


# ---- building -------------------------------------------------------------------------------------------------------


def const(value: Any, dtype: DType) -> Const:
    """A number, normalised to ``dtype``."""
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
    if isinstance(x, Const) and not (x.dtype.kind == "f" and dtype.is_integral):
        return const(x.args[0], dtype)
    return Call(dtype, "cast", (x,))


def index_value(i: IndexLike, dtype: DType = _dtype.int64) -> Expr:
    """An index expression as a number of ``dtype``."""
    return const(i, dtype) if not isinstance(i, Index) else cast(i.args[0], dtype) if i.kind == "value" else IndexValue(dtype, i)


def compare(fn: str, a: IndexLike, b: IndexLike) -> Expr:
    """The condition ``fn`` ("lt", "le", "ge", "gt", "eq") on two indices; folded when bounds decide it."""
    lo, hi = ix.bounds(ix.add(a, ix.mul(b, -1)))
    known = {"lt": (hi is not None and hi < 0, lo is not None and lo >= 0),
             "ge": (lo is not None and lo >= 0, hi is not None and hi < 0),
             "le": (hi is not None and hi <= 0, lo is not None and lo > 0),
             "gt": (lo is not None and lo > 0, hi is not None and hi <= 0),
             "eq": (lo == hi == 0, (hi is not None and hi < 0) or (lo is not None and lo > 0))}[fn]
    if known[0] or known[1]:
        return const(known[0], _dtype.bool_)
    return Call(_dtype.bool_, fn, (index_value(a), index_value(b)))


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


_names = itertools.count()


def reduce(kind: str, sizes: Sequence[IndexLike], body: Callable[..., Expr], dtype: DType | None = None) -> Expr:
    """``body(*variables)`` combined over fresh variables of ``sizes``: for the ``lower`` functions of ops."""
    found = tuple(ix.var(f"r{next(_names)}", s) for s in sizes)  # renamed in order when the loop is made
    inner = body(*found)
    return Reduce(inner.dtype if dtype is None else dtype, kind, found, inner)


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
        plain = tuple(ix.value(i) if isinstance(i, Expr) else i for i in index)
        return self._read(plain, mask, other)


# ---- rewriting ------------------------------------------------------------------------------------------------------


def children(x: Expr) -> Iterator[Expr]:
    """The expressions directly inside ``x``, those of indirect indices and masks included."""
    if isinstance(x, Load):
        for i in x.index:
            yield from (v.args[0] for v in ix.walk(i) if v.kind == "value")
        if x.mask is not None:
            yield x.mask
    elif isinstance(x, Call):
        yield from x.operands
    elif isinstance(x, Reduce):
        yield x.value
    elif isinstance(x, IndexValue):
        yield from (v.args[0] for v in ix.walk(x.args[0]) if v.kind == "value")
    elif isinstance(x, Random):
        yield x.args[1]


def walk(x: Expr) -> Iterator[Expr]:
    """Every expression in ``x``, each once, operands first."""
    seen: set[Expr] = set()

    def visit(e: Expr) -> Iterator[Expr]:
        if e in seen:
            return
        seen.add(e)
        for c in children(e):
            yield from visit(c)
        yield e

    yield from visit(x)


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
            return Call(e.dtype, e.fn, tuple(visit(o) for o in e.operands))
        if isinstance(e, Reduce):
            vars = tuple(env.get(v, v) for v in e.vars)
            return Reduce(e.dtype, e.kind, vars, visit(e.value))
        if isinstance(e, IndexValue):
            return index_value(index(e.args[0]), e.dtype)
        if isinstance(e, Random):
            return Random(e.dtype, e.args[0], visit(e.args[1]), index(e.args[2]))
        return e

    return visit(x)


# ---- loops: one value each ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Buffer:
    """A named array: ``shape`` and ``strides`` in elements (ints or Index). ``kind``: input, output, temp."""

    name: str
    dtype: DType
    shape: tuple[IndexLike, ...]
    strides: tuple[IndexLike, ...]
    kind: str = "temp"


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


# ---- statements: the body of a kernel ---------------------------------------------------------------------------------


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
    """``for var in range(extent)``: ``kind`` is "parallel" (over threads or programs), "serial" or "vector".

    A vector loop's body holds no loop; its accumulators are combined across lanes when it ends.
    """

    var: Index
    body: tuple[Any, ...]
    kind: str = "serial"


Statement = Let | Init | Accumulate | Store | For
