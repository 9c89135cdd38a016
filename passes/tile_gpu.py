"""Groups of loops to kernels for GPUs: one outer nest, and inside it one chain of loops per reduction or row.

A GPU keeps a row in registers, so nothing is staged in memory between the loops of a group: each kept result is
written out as a closed expression over what the group reads, reductions that do not vary along the row are hoisted
before it, and values of other loops become names (with their source lines). A value of a long row is computed again
in each pass over it, which costs arithmetic and saves memory traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import (
    Accumulate,
    Buffer,
    Call,
    Expr,
    For,
    IndexValue,
    Init,
    Let,
    Load,
    Local,
    Loop,
    Random,
    Reduce,
    Statement,
    Store,
)
from flambeau.ir.program import Group, Kernel
from flambeau.passes.space import solve


def tile_gpu(group: Group, buffers: dict[str, Buffer]) -> Kernel:
    """The kernel of ``group``: it computes the group's ``stores``; results of its other loops exist in registers only.

    ``buffers`` are those of the schedule, and of the lowering before it, where the group's inner results still have
    one. Raises ValueError for a value that is read back at an index that does not tell which one was written.
    """
    inliner = _Inliner(group.loops, buffers)
    stored = [inliner.closed_loop(name) for name in group.stores]
    writer = _Writer(inliner.origins)
    for loop in stored:
        writer.write(loop, group.outer)
    body = _around(group.outer, writer.body, "parallel")
    read = dict.fromkeys(e.buffer for loop in stored for e in loops.walk(loop.value) if isinstance(e, Load))
    params = tuple(buffers[name] for name in [*(name for name in read if name not in group.stores), *group.stores])
    locs = tuple(dict.fromkeys(loop.loc for loop in group.loops if loop.loc))
    return Kernel(group.name, params, body, (), _sizes(params, body), locs, group)


# ---- expressions closed over what the group reads -----------------------------------------------------------------


@dataclass(frozen=True)
class _Origin:
    """Where a part of an expression comes from: the loop's buffer names it, ``loc`` is the user's line."""

    name: str
    loc: str


class _Inliner:
    """Replaces reads of the group's own results by what computes them, at the index where they are read.

    It goes from the reader down: an element is mostly read at the very index it is written at, whatever its form.
    ``origins`` tells for each replaced part which loop it comes from.
    """

    def __init__(self, group: Sequence[Loop], buffers: dict[str, Buffer]) -> None:
        self.loops = {loop.buffer: loop for loop in group}
        self.buffers = buffers
        self.origins: dict[Expr, _Origin] = {}
        self.memo: dict[Load, Expr] = {}

    def closed_loop(self, name: str) -> Loop:
        """The loop of ``name`` with a value that reads nothing of its group."""
        loop = self.loops[name]
        value = self.closed(loop.value)
        self.origins[value] = _Origin(name, loop.loc)
        return replace(loop, value=value)

    def closed(self, value: Expr) -> Expr:
        return loops.rewrite(value, self.read)

    def read(self, e: Expr) -> Expr | None:
        if not isinstance(e, Load) or e.buffer not in self.loops:
            return None
        if e not in self.memo:
            self.memo[e] = self.computed(e)
        return self.memo[e]

    def computed(self, e: Load) -> Expr:
        source = self.loops[e.buffer]
        env = _apart(source, _matched(source, e, self.buffers[e.buffer]))
        inner = self.closed(loops.rewrite(source.value, _same, env))
        self.origins[inner] = _Origin(source.buffer, source.loc)
        return inner if e.mask is None else loops.select(e.mask, inner, loops.const(e.other, e.dtype))


def _same(e: Expr) -> None:
    """Leaves an expression as it is (for ``rewrite``)."""


def _matched(source: Loop, read: Load, buffer: Buffer) -> dict[Index, IndexLike]:
    """The ranges of ``source`` in terms of the index at which its result is read."""
    if all(place is at or place == at for place, at in zip(source.index, read.index, strict=True)):
        return {}
    env = solve(buffer, source.index, read.index)
    if env is None:
        raise ValueError(f"{read.buffer} is written at {source.index} and read at {read.index}: no element in registers")
    return dict(env)


def _apart(source: Loop, env: dict[Index, IndexLike]) -> dict[Index, IndexLike]:
    """``env``, which also renames the reduction variables of ``source`` whose names it already uses."""
    used = set().union(*(ix.variables(i) for i in env.values()))
    bound = {v for e in loops.walk(source.value) if isinstance(e, Reduce) for v in e.vars}
    for var in sorted(used & bound, key=str):
        name = f"{var.args[0]}_"
        while ix.var(name, var.args[1]) in used | bound:
            name += "_"
        env[var] = ix.var(name, var.args[1])
    return env


# ---- questions about expressions ----------------------------------------------------------------------------------


def _outermost_reductions(value: Expr) -> list[Reduce]:
    if isinstance(value, Reduce):
        return [value]
    found: dict[Reduce, None] = {}
    for child in loops.children(value):
        found.update(dict.fromkeys(_outermost_reductions(child)))
    return list(found)


def _free(e: Expr) -> set[Index]:
    """The loop variables on which an expression depends."""
    found = set().union(*(ix.variables(i) for i in _indices(e)), *(_free(child) for child in loops.children(e)))
    return found - set(e.vars) if isinstance(e, Reduce) else found


def _indices(e: Expr) -> Iterable[IndexLike]:
    if isinstance(e, Load):
        return e.index
    if isinstance(e, IndexValue):
        return (e.args[0],)
    return (e.args[2],) if isinstance(e, Random) else ()


# ---- the kernel's body --------------------------------------------------------------------------------------------


class _Writer:
    """Appends the statements of nests that share outer loops; equal reductions are computed once."""

    def __init__(self, origins: dict[Expr, _Origin]) -> None:
        self.body: list[Statement] = []
        self.reduced: dict[Expr, Local] = {}
        self.names: dict[str, Expr] = {}
        self.origins = dict(origins)

    def write(self, loop: Loop, outer: Sequence[Index]) -> None:
        """Append what stores a loop's result, its reductions first unless they vary along its row."""
        row = [v for v in loop.ranges if v not in outer]
        inside: list[Statement] = [] if row else self.body
        varying = [e for e in _outermost_reductions(loop.value) if _free(e) & set(row)]
        result = self.replaced(loop.value, {e: self.reduction(e, inside, loop.loc) for e in varying})
        result = self.hoisted(result, self.body, loop.loc)
        result = self.named(result, inside, loop.buffer)
        inside.append(Store(loop.buffer, loop.index, result, loc=loop.loc))
        if row:
            self.body += _around(row, inside)

    def hoisted(self, value: Expr, before: list[Statement], loc: str) -> Expr:
        """``value`` with its reductions replaced by accumulators, whose loops go ``before``."""
        return self.replaced(value, {e: self.reduction(e, before, loc) for e in _outermost_reductions(value)})

    def replaced(self, value: Expr, found: Mapping[Expr, Expr]) -> Expr:
        """``value`` with parts exchanged; their origins follow."""
        known: dict[Expr, Expr] = {}
        for part in loops.walk(value):      # rewriting goes from the inside out, and one part may contain another
            if part in found:
                known[loops.rewrite(part, known.get)] = found[part]
        if not known:
            return value
        self.origins |= {loops.rewrite(part, known.get): origin for part, origin in self.origins.items()}
        return loops.rewrite(value, known.get)

    def reduction(self, e: Reduce, before: list[Statement], loc: str) -> Local:
        key = _canonical(e)
        if key in self.reduced and before is self.body:
            return self.reduced[key]
        loc = self.origins[e].loc if e in self.origins else loc
        within: list[Statement] = []
        found: dict[Expr, Expr] = {}
        for inner in _outermost_reductions(e.value):
            depends = bool(_free(inner) & set(e.vars))
            found[inner] = self.reduction(inner, within if depends else before, loc)
        value = self.named(self.replaced(e.value, found), within)
        positional = e.kind in ("argmax", "argmin")
        name = self.name(e, e.kind)
        within.append(Accumulate(name, e.kind, value, _position(e.vars) if positional else None, loc))
        before += [Init(name, e.kind, e.value.dtype if positional else e.dtype), *_around(e.vars, within)]
        local = Local(e.dtype, name)
        if before is self.body:
            self.reduced[key] = local
        return local

    def named(self, value: Expr, before: list[Statement], own: str = "") -> Expr:
        """``value`` in terms of names for the parts that loops other than ``own`` computed, with those loops' lines."""
        found: dict[Expr, Expr] = {}
        for part in loops.walk(value):
            origin = self.origins.get(part)
            if origin is not None and origin.name != own and isinstance(part, Call):
                inner = loops.rewrite(part, found.get)
                name = self.name(part, origin.name)
                before.append(Let(name, inner, origin.loc))
                found[inner] = Local(part.dtype, name)
        return loops.rewrite(value, found.get) if found else value

    def name(self, e: Expr, stem: str) -> str:
        """A name for ``e``, the same one each time."""
        number = 0
        name = stem
        while self.names.setdefault(name, e) is not e:
            number += 1
            name = f"{stem}_{number}"
        return name


def _around(vars: Sequence[Index], body: Iterable[Statement], kind: str = "serial") -> tuple[Statement, ...]:
    statements = tuple(body)
    for var in reversed(vars):
        statements = (For(var, statements, kind),)
    return statements


def _canonical(e: Expr) -> Expr:
    """``e`` with reduction variables named by their place: equal for reductions that differ in these names only."""
    bound = dict.fromkeys(v for part in loops.walk(e) if isinstance(part, Reduce) for v in part.vars)
    return loops.rewrite(e, _same, {v: ix.var(f"bound{place}", v.args[1]) for place, v in enumerate(bound)})


def _position(vars: Sequence[Index]) -> IndexLike:
    position: IndexLike = 0
    for var in vars:
        position = ix.add(ix.mul(position, var.args[1]), var)
    return position


def _sizes(params: Sequence[Buffer], body: Iterable[Statement]) -> tuple[str, ...]:
    """The symbolic sizes that shapes and loops need."""
    extents = [n for buffer in params for n in (*buffer.shape, *buffer.strides)]
    stack = list(body)
    while stack:
        statement = stack.pop()
        if isinstance(statement, For):
            extents.append(statement.var.args[1])
            stack += statement.body
        else:
            extents += [i for e in _values(statement) for part in loops.walk(e) for i in _indices(part)]
    return tuple(sorted({i.args[0] for extent in extents for i in ix.walk(extent) if i.kind == "size"}))


def _values(statement: Statement) -> list[Expr]:
    return [] if isinstance(statement, (Init, For)) else [statement.value]
