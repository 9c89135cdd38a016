"""Kernels of groups that reduce: for each outer point, passes over the inner loops, each using the results before it.

When neighbours in memory lie along an outer variable (sums down the columns of a matrix), a block of that variable
becomes the innermost loop of every pass, and accumulators become rows of scratch memory. Where the inner loops are too
short to fill a vector, neighbouring outer points are its lanes, and the inner loops run inside the vector loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, Buffer, Expr, Init, Load, Local, Loop, Store
from flambeau.ir.meta import contiguous_strides
from flambeau.ir.program import Target
from flambeau.passes.access import Access, accesses, unit_steps
from flambeau.passes.body import COMBINE, Chain, Writer, beats, rounded, start
from flambeau.passes.cost import top_reduction
from flambeau.passes.levels import levels
from flambeau.passes.lower import computing
from flambeau.passes.order import CHUNK, cut, loop_order, parallel_kinds, piece, work
from flambeau.passes.shape import Shaped
from flambeau.passes.space import extent, numel_hint, renamed, static_numel

#: The longest block of columns that is summed together, in elements.
COLUMNS = 512

#: Reductions of at most this many terms, none of them long in memory, are made side by side in the lanes of vectors.
MOST_TERMS = 64
FEW_TERMS = 8


def row_kernel(form: Shaped, target: Target) -> tuple[list[Any], list[Buffer]]:
    """The body and the scratch rows of a kernel that reduces."""
    rows = _Rows(form, target)
    return rows.body(), rows.scratch


class _Rows:
    def __init__(self, form: Shaped, target: Target) -> None:
        self.form, self.target = form, target
        self.levels = levels(form)
        self.scratch: list[Buffer] = []
        self.deferred: list[tuple[str, Any]] = []  # values to be read from rows once the loop that fills these is closed
        self.env: dict[Index, IndexLike] = {}
        self.kept: dict[str, tuple[str, tuple[IndexLike, ...]]] = {}  # the scratch and index of values of earlier passes
        self._arrange(accesses(form, form.outer + form.inner))
        self.writer = Writer(form, self.env)

    # ---- the loops

    def _arrange(self, found: list[Access]) -> None:
        """Choose the loops around the passes, those of a pass, and the block of columns if there is one."""
        form, target = self.form, self.target
        space = form.outer + form.inner
        scores = unit_steps(space, found)
        inner = loop_order(form.inner, found)
        outer = [v for v in loop_order(space, found) if v in form.outer]
        parallel = work(form) >= target.parallel_work
        self.columns: tuple[Index, ...] = ()
        across = self._lanes(inner, outer, scores)
        self.serial = across is not None
        if across is None:
            best = max(outer, key=lambda v: scores[v], default=None)
            if best is not None and scores[best] > max((scores[v] for v in inner), default=0):
                self.columns = self._block(best, outer, COLUMNS, parallel)
        else:
            across, = self._block(across, outer, CHUNK, parallel)
        kinds = parallel_kinds(outer, target)[0] if parallel else ["serial"] * len(outer)
        if across is not None:
            outer.append(across)
            kinds.append("vector")
        self.inner = tuple(inner)
        self.outer = Chain(tuple(outer), tuple(kinds))

    def _lanes(self, inner: Sequence[Index], outer: Sequence[Index], scores: dict[Index, int]) -> Index | None:
        """The outer variable whose points are the lanes of vectors, where the inner loops are too short to fill one."""
        terms, lanes = static_numel(inner), self.target.vector_bytes // 4
        if self.target.kind != "cpp" or terms is None or terms > MOST_TERMS:
            return None
        along = [v for v in inner if scores[v]]  # without any, memory is walked in columns: better whole rows of it
        if not along and terms > FEW_TERMS or any(numel_hint([extent(v)]) >= lanes for v in along):
            return None
        wide = [v for v in outer if numel_hint([extent(v)]) >= lanes // 2]
        return max(wide, key=lambda v: scores[v], default=None)

    def _block(self, v: Index, outer: list[Index], longest: int, parallel: bool) -> tuple[Index, ...]:
        """A variable taken out of the outer ones to become the vector loop: all of it, or in blocks for several threads."""
        outer.remove(v)
        others = static_numel(outer) or 1
        n = extent(v)
        size = piece(n, max(1, 2 * self.target.threads // others), longest) if isinstance(n, int) else longest
        if isinstance(n, int) and (n <= size or not parallel):
            return (v,)
        block, rest, place = cut(v, size)
        self.env[v] = place
        outer.append(block)
        return (rest,)

    def pass_(self) -> Chain:
        """A new pass: the inner loops, then the block of columns; the innermost is the vector loop."""
        vars = self.inner + self.columns
        kinds = ["serial"] * len(vars)
        if vars and not self.serial:
            kinds[-1] = "vector"
        return Chain(vars, tuple(kinds))

    # ---- the passes

    def body(self) -> list[Any]:
        """All passes inside the outer loops."""
        self.writer.open(self.outer)
        self.row = self.outer.before[-1]
        self._outer_values(-1)
        for n in range(self.levels.last + 1):
            self._open_accumulators(n)
            self.writer.open(self.pass_())
            self._full_values(n)
            self.row += self.writer.close()
            self._close_accumulators(n)
            self._outer_values(n)
        return self.writer.close()

    def _members(self, role: str, level: int) -> list[Loop]:
        return [m for m in self.form.members
                if self.levels.role[m.buffer] == role and self.levels.level[m.buffer] == level]

    def _full_values(self, n: int) -> None:
        """The reductions of a pass and the values it stores; what they need is computed on the way."""
        w = self.writer
        for m in self.form.members:
            role, level = self.levels.role[m.buffer], self.levels.level[m.buffer]
            if level != n:
                continue
            if role == "reduce":
                self._accumulate(m)
            elif role == "full" and m.buffer in self.form.stores:
                w.store(m.buffer, self._at(m), w.at(m.buffer, self._at(m)), m.loc)
        for name in self.levels.kept:
            if name not in self.kept and self._computed(name):
                self._keep(name)

    def _computed(self, name: str) -> bool:
        return any((name, None) in memo for memo in self.writer.memos)

    def _keep(self, name: str) -> None:
        """Keep a full value for the passes that follow: in its buffer, or in a row of scratch."""
        loop = self.writer.members[name]
        value = self.writer.at(name, ())
        if name in self.form.stores:
            self.kept[name] = (name, self.writer.address(name, self._at(loop)))
            return
        vars = self.inner + self.columns
        shape = tuple(self._room(v) for v in vars)
        if not self._fits(shape, value.dtype.itemsize):
            return
        row = self._row(name, shape, value.dtype)
        self.writer.chains[-1].after.append(Store(row, vars, value))
        self.kept[name] = (row, vars)

    def _fits(self, shape: Sequence[IndexLike], itemsize: int) -> bool:
        if self.serial:
            return False
        total = 1
        for s in shape:
            if not isinstance(s, int):
                return False
            total *= s
        return total * itemsize * (1 + len(self.scratch)) <= self.target.l2 // 2

    def _room(self, v: Index) -> IndexLike:
        """The most values a loop takes."""
        high = ix.bounds(v)[1]
        return extent(v) if high is None else high + 1

    def _row(self, stem: str, shape: tuple[IndexLike, ...], dtype: Any) -> str:
        """A new row of scratch."""
        name = f"{stem}_row"
        while name in self.form.buffers or any(b.name == name for b in self.scratch):
            name += "_"
        self.scratch.append(Buffer(name, dtype, shape, contiguous_strides(shape), "scratch"))
        return name

    def _at(self, m: Loop) -> tuple[IndexLike, ...]:
        return renamed(m.index, self.env)

    def _outer_values(self, n: int) -> None:
        """What is computed once per outer point, from the reductions up to pass ``n``."""
        members = self._members("outer", n)
        later = self._read_later(members)
        members = [m for m in members if m.buffer in self.form.stores or m.buffer in later]
        stored = [m for m in self._members("reduce", n) if m.buffer in self.form.stores]
        if not members and not stored:
            return
        w = self.writer
        if self.columns:
            w.open(Chain(self.columns, ("vector",)))
        for m in sorted(stored + members, key=self.form.members.index):
            value = w.at(m.buffer, ())
            if m.buffer in self.form.stores:
                self._store_row(m, value)
            if self.columns and self.levels.role[m.buffer] == "outer" and m.buffer in later:
                row = self._row(m.buffer, tuple(map(self._room, self.columns)), value.dtype)
                w.chains[-1].after.append(Store(row, self.columns, value))
                self._read_from(m.buffer, row, self.columns, value.dtype, defer=True)
        if self.columns:
            self.row += w.close()
            self._settle()
        else:
            for m in members:
                w.here[m.buffer] = self._same(w.at(m.buffer, ()))

    def _read_later(self, members: Sequence[Loop]) -> set[str]:
        names = {m.buffer for m in members}
        return {d for reads in self.levels.reads.values() for d in reads if d in names}

    def _store_row(self, m: Loop, value: Expr) -> None:
        if self.columns:
            self.writer.store(m.buffer, self._at(m), value, m.loc)
            return
        dtype = self.form.buffers[m.buffer].dtype
        self.row.append(Store(m.buffer, self.writer.address(m.buffer, self._at(m)), lo.cast(value, dtype), None, "", m.loc))

    # ---- accumulators

    def _open_accumulators(self, n: int) -> None:
        """Start the reductions of a pass."""
        self.accumulators: list[tuple[Loop, lo.Reduce, str]] = []
        for m in self._members("reduce", n):
            e = top_reduction(m.value)
            assert e is not None
            dtype = computing(e.value.dtype)
            if self.columns:
                self._open_row(m, e, dtype)
                continue
            name = self.writer.fresh(f"{m.buffer}_acc")
            self.row.append(Init(name, e.kind, dtype))
            self.writer.depths[name] = (0, len(self.outer.vars))
            self.accumulators.append((m, e, name))

    def _open_row(self, m: Loop, e: lo.Reduce, dtype: Any) -> None:
        shape = tuple(map(self._room, self.columns))
        row = self._row(f"{m.buffer}_acc", shape, dtype)
        nest = Chain(self.columns, ("vector",))
        nest.before[-1].append(Store(row, self.columns, start(e.kind, dtype)))
        if e.kind in ("argmax", "argmin"):
            place = self._row(f"{m.buffer}_at", shape, _dtype.int64)
            nest.before[-1].append(Store(place, self.columns, lo.const(0, _dtype.int64)))
        self.row += nest.close()
        self.accumulators.append((m, e, row))

    def _accumulate(self, m: Loop) -> None:
        _, e, name = next(a for a in self.accumulators if a[0] is m)
        value = self.writer.value(e.value, self.env)
        position = None
        if e.position is not None:
            position = renamed((e.position,), self.env)[0]
        after = self.writer.chains[-1].after
        if not self.columns:
            after.append(Accumulate(name, e.kind, value, position, m.loc))
            return
        old = Load(value.dtype, name, self.columns, None, 0)
        if position is None:
            after.append(Store(name, self.columns, lo.Call(value.dtype, COMBINE[e.kind], (old, value)), None, "", m.loc))
            return
        place = self._place_row(m)
        value = self.writer.let(m.buffer, value, m.loc)
        better = self.writer.let(f"{m.buffer}_better", beats(e.kind, value, old))
        before = Load(_dtype.int64, place, self.columns, None, 0)
        after.append(Store(place, self.columns, lo.select(better, lo.index_value(position), before), None, "", m.loc))
        after.append(Store(name, self.columns, lo.select(better, value, old), None, "", m.loc))

    def _place_row(self, m: Loop) -> str:
        return next(b.name for b in reversed(self.scratch) if b.name.startswith(f"{m.buffer}_at"))

    def _close_accumulators(self, n: int) -> None:
        """From here on the results of the pass are at hand, and full values come from where they were kept."""
        for m, e, name in self.accumulators:
            arg = e.kind in ("argmax", "argmin")
            dtype = _dtype.int64 if arg else computing(e.value.dtype)
            if self.columns:
                self._read_from(m.buffer, self._place_row(m) if arg else name, self.columns, dtype, convert=m.value.dtype)
            else:
                result = rounded(Local(dtype, name), m.value.dtype)
                self.writer.here[m.buffer] = self._same(result)
        for name, (row, index) in self.kept.items():
            dtype = next(b.dtype for b in (*self.scratch, *self.form.buffers.values()) if b.name == row)
            self._read_from(name, row, index, dtype)

    def _same(self, value: Expr) -> Any:
        return lambda: value

    def _read_from(self, name: str, row: str, index: tuple[IndexLike, ...], dtype: Any, convert: Any = None,
                   defer: bool = False) -> None:
        """Let ``name`` be loaded from a row from now on, once per pass."""
        w = self.writer
        key = (name, "kept", row)

        def read() -> Expr:
            if key not in w.memos[-1]:
                loaded = Load(dtype, row, index, None, 0)
                w.memos[-1][key] = w.let(name, rounded(loaded, convert or dtype))
            return w.memos[-1][key]

        if defer:
            self.deferred.append((name, read))
        else:
            w.here[name] = read

    def _settle(self) -> None:
        """Values of the loop over columns just closed are read from their rows."""
        self.writer.here.update(self.deferred)
        self.deferred.clear()
