"""The space of a fused group made simple for code: loops cut where indices divide by them, and joined where they are one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flambeau.ir import index as ix
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Loop
from flambeau.ir.program import Group, Target
from flambeau.passes.access import Access, accesses, edges
from flambeau.passes.schedule import in_space
from flambeau.passes.space import extent

#: A loop along which memory is contiguous is cut only in pieces of at least this.
LEAST_PIECE = 8

#: And in pieces of at least this where that spares conditions, not divisions.
LONG_PIECE = 32


@dataclass
class Shaped:
    """A group ready for tiling: its loops in new variables, and the buffers that it sees as flat arrays (``views``)."""

    outer: tuple[Index, ...]
    inner: tuple[Index, ...]
    members: list[Loop]
    inline: dict[str, Loop]
    stores: tuple[str, ...]
    buffers: dict[str, Buffer]
    views: dict[str, Buffer] = field(default_factory=dict)

    @property
    def made(self) -> set[str]:
        """The values that the group computes in its own space."""
        return {m.buffer for m in self.members}


def shaped(group: Group, buffers: dict[str, Buffer], target: Target) -> Shaped:
    """``group`` with its variables cut and joined so that as many accesses as possible are linear in few loops."""
    hidden = set(group.inline)
    form = Shaped(group.outer, group.inner, [x for x in group.loops if x.buffer not in hidden],
                  {x.buffer: x for x in group.loops if x.buffer in hidden}, group.stores, buffers)
    found = accesses(form, form.outer + form.inner)
    for _ in range(8):
        change = _cut(form, found)
        if change is None:
            break
        form = change
        found = accesses(form, form.outer + form.inner)
    while True:
        joined = _join(form, found)
        if joined is None:
            break
        form = joined
        found = accesses(form, form.outer + form.inner)
    form.views = {a.buffer: flat_view(buffers[a.buffer]) for a in found
                  if a.buffer and any(_bent(i) for i in a.index)}
    return form


def _bent(i: IndexLike) -> bool:
    return any(x.kind in ("div", "mod") for x in ix.walk(i))


def flat_view(b: Buffer) -> Buffer:
    """The memory of a buffer as one row of elements."""
    last: IndexLike = 1
    for n, step in zip(b.shape, b.strides):
        last = ix.add(last, ix.mul(ix.add(n, -1), step))
    return replace(b, shape=(last,), strides=(1,), kind="view")


def _cut(form: Shaped, found: list[Access]) -> Shaped | None:
    """The form with one variable in two, for an index that divides it; None when there is none."""
    own = set(form.outer + form.inner)
    wanted: dict[Index, int] = {}
    runs = {v for a in found for v, step in a.steps.items() if step == 1}
    for a in found:
        for x in ix.walk(a.address):
            if x.kind in ("div", "mod") and x.args[0] in own and isinstance(x.args[1], int):
                v, d = x.args
                n = extent(v)
                if isinstance(n, int) and (d >= LEAST_PIECE or v not in runs) and n % d == 0 and 1 < d < n:
                    wanted[v] = min(d, wanted.get(v, d))
    wanted = wanted or _edges_apart(form, runs)
    if not wanted:
        return None
    v = min(wanted, key=str)
    d = wanted[v]
    high, low = ix.var(f"{v.args[0]}a", extent(v) // d), ix.var(f"{v.args[0]}b", d)
    return _changed(form, {v: ix.add(ix.mul(high, d), low)}, lambda vars: tuple(
        w for u in vars for w in ((high, low) if u is v else (u,))))


def _edges_apart(form: Shaped, runs: set[Index]) -> dict[Index, int]:
    """The pieces of variables along which memory is contiguous within which no condition changes, if these are long."""
    found: dict[Index, int] = {}
    for v, edge in edges(form):
        n = extent(v)
        if v in runs and isinstance(n, int) and 0 < edge < n:
            found[v] = math.gcd(found.get(v, n), edge)
    return {v: d for v, d in found.items() if d >= LONG_PIECE}


def _join(form: Shaped, found: list[Access]) -> Shaped | None:
    """The form with two variables made one that all accesses run through as one; None when there are none."""
    for vars in (form.outer, form.inner):
        for a in vars:
            for b in vars:
                if a is not b and all(_runs_on(x, a, b) for x in found):
                    return _joined(form, a, b)
    return None


def _runs_on(x: Access, a: Index, b: Index) -> bool:
    """Whether after the last value of ``b`` the next of ``a`` continues in the same step."""
    sa, sb = x.steps[a], x.steps[b]
    return sa is not None and sb is not None and sa == ix.mul(extent(b), sb)


def _joined(form: Shaped, a: Index, b: Index) -> Shaped:
    n = extent(b)
    one = ix.var(f"{a.args[0]}{b.args[0]}", ix.mul(extent(a), n))
    return _changed(form, {a: ix.div(one, n), b: ix.mod(one, n)}, lambda vars: tuple(
        one if u is a else u for u in vars if u is not b))


def _changed(form: Shaped, env: dict[Index, IndexLike],
             vars: Callable[[tuple[Index, ...]], tuple[Index, ...]]) -> Shaped:
    members = [in_group(m, env) for m in form.members]
    return replace(form, outer=vars(form.outer), inner=vars(form.inner), members=members)


def in_group(loop: Loop, env: dict[Index, IndexLike]) -> Loop:
    """A member in changed group variables, its reductions included."""
    full = {v: env.get(v, v) for v in (*loop.ranges, *loop.reduce_ranges)}
    return in_space(loop, full)
