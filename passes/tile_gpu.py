"""Groups of loops to kernels for GPUs: one outer nest, and inside it one chain of loops per reduction or row.

A GPU keeps a row in registers, so nothing is staged in memory between the loops of a group: each kept result is
written out as a closed expression over what the group reads, reductions that do not vary along the row are hoisted
before it, and values of other loops become names (with their source lines). A value of a long row is computed again
in each pass over it, which costs arithmetic and saves memory traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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

Env = Mapping[Index, IndexLike]


def tile_gpu(group: Group, buffers: dict[str, Buffer]) -> Kernel:
    """The kernel of ``group``: it computes the group's ``stores``, whose buffers are in ``buffers``.

    Results of the other loops exist in registers only. Raises ValueError for a value that is read back at an index of
    another form than it was written at.
    """
    values = {value.loop.buffer: value for value in _closed(group.loops)}
    writer = _Writer()
    for name in group.stores:
        writer.write(values[name], group.outer)
    body = _around(group.outer, writer.body, "parallel")
    read = dict.fromkeys(e.buffer for name in group.stores for e in loops.walk(values[name].loop.value)
                         if isinstance(e, Load))
    params = tuple(buffers[name] for name in [*(name for name in read if name not in group.stores), *group.stores])
    locs = tuple(dict.fromkeys(loop.loc for loop in group.loops if loop.loc))
    return Kernel(group.name, params, body, (), _sizes(params, body), locs, group)


# ---- expressions closed over what the group reads -------------------------------------------------------------------


@dataclass(frozen=True)
class _Origin:
    """Where a part of an expression comes from: the loop's buffer names it, ``loc`` is the user's line."""

    name: str
    loc: str


@dataclass(frozen=True)
class _Value:
    """A loop whose value reads nothing of its group; ``origins`` tells which of its parts other loops computed."""

    loop: Loop
    origins: dict[Expr, _Origin]

    def at(self, env: Env) -> tuple[Expr, dict[Expr, _Origin]]:
        """The value and its origins with loop variables replaced."""
        value = loops.rewrite(self.loop.value, _same, env)
        return value, {loops.rewrite(part, _same, env): origin for part, origin in self.origins.items()}


def _same(e: Expr) -> None:
    """Leaves an expression as it is (for ``rewrite``)."""


def _closed(group: Sequence[Loop]) -> list[_Value]:
    """The loops with every read of an earlier loop's result replaced by what it computes."""
    done: dict[str, _Value] = {}
    for loop in group:
        done[loop.buffer] = _inlined(loop, done)
    return [done[loop.buffer] for loop in group]


def _inlined(loop: Loop, done: dict[str, _Value]) -> _Value:
    origins: dict[Expr, _Origin] = {}

    def substitute(e: Expr) -> Expr | None:
        if not isinstance(e, Load) or e.buffer not in done:
            return None
        source = done[e.buffer]
        env = _apart(source.loop, _matched(source.loop, e))
        inner, parts = source.at(env)
        origins.update(parts)
        if e.mask is None:
            return inner
        return loops.select(e.mask, inner, loops.const(e.other, e.dtype))

    value = loops.rewrite(loop.value, substitute)
    origins[value] = _Origin(loop.buffer, loop.loc)
    return _Value(Loop(loop.buffer, loop.ranges, loop.index, value, loop.loc), origins)


def _matched(source: Loop, read: Load) -> dict[Index, IndexLike]:
    """The ranges of ``source`` in terms of the index at which its result is read."""
    if all(place is at or place == at for place, at in zip(source.index, read.index, strict=True)):
        return {}
    env: dict[Index, IndexLike] = {}
    for place, at in zip(source.index, read.index):
        if isinstance(place, Index) and place.kind == "var":
            env[place] = at
        elif place != 0:
            raise ValueError(f"{read.buffer} is written at {place} and read at {at}: not the same element in registers")
    return env


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


# ---- questions about expressions ------------------------------------------------------------------------------------


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


# ---- the kernel's body ----------------------------------------------------------------------------------------------


class _Writer:
    """Appends the statements of nests that share outer loops; equal reductions are computed once."""

    def __init__(self) -> None:
        self.body: list[Statement] = []
        self.reduced: dict[Expr, Local] = {}
        self.names: dict[str, Expr] = {}
        self.origins: dict[Expr, _Origin] = {}

    def write(self, value: _Value, outer: Sequence[Index]) -> None:
        """Append what stores a loop's result, its reductions first unless they vary along its row."""
        loop = value.loop
        row = [v for v in loop.ranges if v not in outer]
        self.origins = dict(value.origins)
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
