"""Writing a kernel's body: values become statements, each at the outermost loop where all it depends on is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Expr, For, Let, Load, Local, Store
from flambeau.passes.cost import substitution
from flambeau.passes.lower import computing
from flambeau.passes.shape import Shaped
from flambeau.passes.space import extent
from flambeau.passes.split import identity

#: How two partial results combine, as a call of a pointwise op.
COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and"}


@dataclass
class Chain:
    """Loops in each other, being filled: ``before[d]`` are the statements inside ``d`` loops, before the next one."""

    vars: tuple[Index, ...]
    kinds: tuple[str, ...]
    before: list[list[Any]] = field(default_factory=list)
    after: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = [[] for _ in range(len(self.vars) + 1)]

    def close(self) -> list[Any]:
        """The statements of the whole nest."""
        body = self.before[-1] + self.after
        for d in reversed(range(len(self.vars))):
            body = self.before[d] + ([For(self.vars[d], tuple(body), self.kinds[d])] if body else [])
        return body


class Writer:
    """Statements for the values that a group's loops ask for.

    ``env`` gives the group's variables in those of the loops that are open. ``here`` are values at hand, by name, each
    as a function that gives it; other members of the group and its inline loops are computed where they are asked for.
    """

    def __init__(self, form: Shaped, env: dict[Index, IndexLike]) -> None:
        self.form, self.env = form, env
        self.members = {m.buffer: m for m in form.members}
        self.chains: list[Chain] = []
        self.memos: list[dict[Any, Expr]] = []
        self.depths: dict[str, tuple[int, int]] = {}  # the chain and depth in it where a name is defined
        self.names: dict[str, int] = {}
        self.here: dict[str, Callable[[], Expr]] = {}
        self.meaning: dict[Expr, lo.IndexValue] = {}  # of names: what is known to be made of loop variables

    # ---- loops

    def open(self, chain: Chain) -> None:
        """Enter a nest of loops."""
        self.chains.append(chain)
        self.memos.append({})

    def close(self) -> list[Any]:
        """Leave the nest: its statements; what was computed in it is forgotten."""
        self.memos.pop()
        return self.chains.pop().close()

    def place(self, vars: Iterable[Index], locals: Iterable[str]) -> tuple[int, int]:
        """The chain, and the depth in it, where a value of these variables and names can stand."""
        best = (0, 0)
        for v in vars:
            for c, chain in enumerate(self.chains):
                if v in chain.vars:
                    best = max(best, (c, chain.vars.index(v) + 1))
        for name in locals:
            best = max(best, self.depths.get(name, (0, 0)))
        return best

    def fresh(self, stem: str) -> str:
        """A name for a value."""
        n = self.names[stem] = self.names.get(stem, -1) + 1
        name = f"{stem}_v{n}" if n else f"{stem}_v"
        return name if name not in self.form.buffers else self.fresh(stem)

    def let(self, stem: str, value: Expr, loc: str = "") -> Expr:
        """Name a value, unless it is one already, or has one."""
        if isinstance(value, (Local, lo.Const)):
            return value
        for memo in self.memos:
            if value in memo:
                return memo[value]
        vars, locals = dependencies(value)
        c, d = self.place(vars, locals)
        name = self.fresh(stem)
        self.depths[name] = (c, d)
        self.chains[c].before[d].append(Let(name, value, loc))
        found = self.memos[c][value] = Local(value.dtype, name)
        if isinstance(value, lo.IndexValue):
            self.meaning[found] = value
        return found

    def store(self, name: str, index: tuple[IndexLike, ...], value: Expr, loc: str = "") -> None:
        """Write a value, at the end of the innermost loop."""
        dtype = self.form.buffers[name].dtype
        self.chains[-1].after.append(Store(name, self.address(name, index), lo.cast(value, dtype), None, "", loc))

    def address(self, name: str, index: tuple[IndexLike, ...]) -> tuple[IndexLike, ...]:
        """The index of an element, one number where the kernel sees the buffer as a flat array."""
        return (lo.address(self.form.buffers[name], index),) if name in self.form.views else index

    # ---- values

    def at(self, name: str, index: tuple[IndexLike, ...], mask: Expr | None = None) -> Expr:
        """The element of a buffer, of a member of the group, or of a loop that is computed where it is read."""
        if name in self.here:
            return self.here[name]()
        key = (name, mask) if name in self.members else (name, index, mask)
        for memo in self.memos:
            if key in memo:
                return memo[key]
        if name in self.members:
            loop = self.members[name]
            value = self.let(name, self.value(loop.value, self.env, mask), loop.loc)
        elif name in self.form.inline:
            loop = self.form.inline[name]
            value = self.let(name, self.value(loop.value, substitution(loop, index), mask), loop.loc)
        else:
            dtype = self.form.buffers[name].dtype
            value = self.let(name, in_flight(Load(dtype, name, self.address(name, index), mask, 0)))
        self.remember(key, value)
        return value

    def remember(self, key: Any, value: Expr) -> None:
        """Keep a value for as long as the loops it was computed in are open."""
        place = self.depths.get(value.name, (0, 0)) if isinstance(value, Local) else (0, 0)
        self.memos[place[0]][key] = value

    def value(self, e: Expr, env: dict[Index, IndexLike], mask: Expr | None = None) -> Expr:
        """``e`` with its loads resolved; where ``mask`` is false nothing is loaded for it."""
        memo: dict[Expr, Expr] = {}

        def visit(x: Expr) -> Expr:
            found = memo.get(x)
            if found is None:
                found = memo[x] = self._visit(x, visit, env, mask)
            return found

        return visit(e)

    def indices(self, index: Sequence[IndexLike], env: dict[Index, IndexLike]) -> tuple[IndexLike, ...]:
        """An index in the loops that are open, the data it is made of loaded."""
        def load(e: Expr) -> Expr:
            return self.let("at", self.value(e, env))
        return tuple(ix.substitute(i, env, load) if isinstance(i, Index) else i for i in index)

    def _visit(self, e: Expr, visit: Any, env: dict[Index, IndexLike], mask: Expr | None) -> Expr:
        def index(i: IndexLike) -> IndexLike:
            return ix.substitute(i, env, lambda v: self.let("at", visit(v))) if isinstance(i, Index) else i

        if isinstance(e, Load):
            return self._load(e, tuple(index(i) for i in e.index), visit, mask)
        if isinstance(e, lo.Call):
            operands = tuple(visit(o) for o in e.operands)
            if e.fn == "checked_index":
                if lo.surely_inside(self.meaning.get(operands[0], operands[0]), operands[1]):
                    return operands[0]
                here = operands[0] if mask is None else lo.select(mask, operands[0], lo.const(0, e.dtype))
                return lo.checked_index(here, operands[1], *(o.args[0] for o in e.operands[2:]))
            found = lo.Call(computing(e.dtype), e.fn, operands)
            if lo.compares_indices(e) and lo.compares_indices(found):  # else an index is a number that was read
                return lo.compare(e.fn, *(o.args[0] for o in operands))
            return rounded(operands[0], e.dtype) if e.fn == "cast" else found
        if isinstance(e, lo.IndexValue):
            return lo.index_value(index(e.args[0]), e.dtype)
        if isinstance(e, lo.Random):
            return lo.Random(e.dtype, e.args[0], visit(e.args[1]), index(e.args[2]))
        if isinstance(e, lo.Reduce):
            return self.written_out(e, env, mask)
        return rounded(e, e.dtype) if isinstance(e, lo.Const) else e

    def _load(self, e: Load, index: tuple[IndexLike, ...], visit: Any, mask: Expr | None) -> Expr:
        if e.mask is None:
            return self.at(e.buffer, index, mask)
        own = visit(e.mask)
        if isinstance(own, lo.Const):
            return self.at(e.buffer, index, mask) if own.args[0] else lo.const(e.other, computing(e.dtype))
        if e.buffer in self.members or e.buffer in self.form.inline or e.other != 0 or mask is not None:
            found = self.at(e.buffer, index, lo.both(mask, self.let("inside", own)))
            return lo.select(own, found, lo.const(e.other, found.dtype))
        return self.at(e.buffer, index, self.let("inside", own))

    def written_out(self, e: lo.Reduce, env: dict[Index, IndexLike], mask: Expr | None) -> Expr:
        """A short reduction, term after term."""
        total: Expr | None = None
        position: Expr = lo.const(0, _dtype.int64)
        for point in itertools.product(*(range(extent(v)) for v in e.vars)):  # type: ignore[arg-type]
            here = {**env, **dict(zip(e.vars, point))}
            term = self.let(e.kind, self.value(e.value, here, mask))
            at = lo.index_value(ix.substitute(e.position, here)) if e.position is not None else position
            if total is None:
                total, position = term, at
            elif e.kind in ("argmax", "argmin"):
                better = beats(e.kind, term, total)
                position = lo.select(better, at, position)
                total = lo.select(better, term, total)
            else:
                total = lo.Call(term.dtype, COMBINE[e.kind], (total, term))
        if e.kind in ("argmax", "argmin"):
            return position
        return lo.const(identity(e.kind, e.dtype), e.dtype) if total is None else total


def beats(kind: str, new: Expr, old: Expr) -> Expr:
    """Whether a later element takes the place of the best so far: the first of equals stays, NaN wins."""
    bool_ = _dtype.bool_
    found: Expr = lo.Call(bool_, "gt" if kind == "argmax" else "lt", (new, old))
    if not new.dtype.is_floating_point:
        return found
    nan = lo.Call(bool_, "logical_and", (lo.Call(bool_, "ne", (new, new)), lo.Call(bool_, "eq", (old, old))))
    return lo.Call(bool_, "logical_or", (found, nan))


def in_flight(e: Expr) -> Expr:
    """A loaded value as it is computed with: half precisions are widened at once."""
    return lo.cast(e, computing(e.dtype))


def rounded(e: Expr, dtype: Any) -> Expr:
    """``e`` converted to ``dtype`` and computed with from there: what a half precision cannot hold is lost here."""
    if isinstance(e, lo.Const) and computing(dtype) is not dtype:
        return lo.const(float(dtype.np.type(e.args[0])), computing(dtype))
    return in_flight(lo.cast(e, dtype))


def dependencies(e: Expr) -> tuple[set[Index], set[str]]:
    """The loop variables and the names that a value is made of."""
    vars: set[Index] = set()
    locals: set[str] = set()
    for x in lo.walk(e):
        if isinstance(x, Local):
            locals.add(x.name)
        for i in lo.own_indices(x):
            vars |= ix.variables(i)
    return vars | {u for v in vars for u in ix.variables(extent(v))}, locals


def start(kind: str, dtype: DType) -> Expr:
    """The value an accumulator starts from."""
    return lo.const(identity(kind, dtype), dtype)

