"""Epilogues: pointwise loops on the result of a matrix product, done while its tile is still in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir import loops as lo
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Expr, Load, Loop
from flambeau.ir.program import Extern, Target
from flambeau.passes.cost import FUNCTION_WORK, Facts, substitution
from flambeau.passes.fuse import Fusion, Member, Unit
from flambeau.passes.lower import indices
from flambeau.passes.space import Env, covers, flat, renamed, solve


def attach_epilogues(fusion: Fusion, externs: dict[int, Any], by_name: dict[str, Facts], buffers: dict[str, Buffer],
                     target: Target) -> dict[int, list[Member]]:
    """Move loops that follow a template elementwise into its epilogue; for each template, the loops, in its variables.

    The last templates come first, so that what joins two products is done by the later one.
    """
    found: dict[int, list[Member]] = {}
    for position, e in sorted(externs.items(), reverse=True):
        if not isinstance(e, Extern) or e.template not in target.epilogues or len(e.outs) != 1:
            continue
        unit = next(u for u in fusion.units if u.bits >> position & 1)
        members = _collect(fusion, unit, buffers[e.outs[0]], by_name, buffers)
        if members:
            found[position] = members
    return found


def _collect(fusion: Fusion, unit: Unit, product: Buffer, by_name: dict[str, Facts],
             buffers: dict[str, Buffer]) -> list[Member]:
    space = tuple(i for i in indices(product.shape) if isinstance(i, Index))
    made = {product.name: indices(product.shape)}
    members: list[Member] = []
    for u in list(fusion.units):
        if len(u.members) != 1 or u.inner is not None or u.reads.isdisjoint(made):
            continue
        change = _in_tile(u, made, buffers, space)
        if change is None or fusion.late(u, unit) or not _plain(u.members[0].facts, by_name):
            continue
        member = u.members[0].moved(change, space)
        members.append(member)
        made[member.name] = member.index
        fusion.join(unit, u)
    return members


def _plain(f: Facts, by_name: dict[str, Facts]) -> bool:
    """Whether a loop, and those it reads in place, are arithmetic on elements at known places.

    One number for all elements that takes work (a power of the step count) is not computed again for each of them.
    """
    if any(isinstance(e, (lo.Reduce, lo.Random)) for e in lo.walk(f.loop.value)) or any(r.indirect for r in f.reads):
        return False
    inlined = [by_name[r.buffer] for r in f.reads if r.buffer in by_name and by_name[r.buffer].inline]
    return all(_plain(s, by_name) and (s.loop.ranges or s.work < FUNCTION_WORK) for s in inlined)


def _in_tile(u: Unit, made: dict[str, tuple], buffers: dict[str, Buffer], space: tuple[Index, ...]) -> Env | None:
    """The variables of ``u`` in those of the product, if all it reads of the tile is the element at hand; else None."""
    member = u.members[0]
    reads = [r for r in member.reads if r.buffer in made]
    if not reads:
        return None
    first = reads[0]
    if covers(buffers[first.buffer], first.index) != set(u.space):
        return None
    change = solve(buffers[first.buffer], first.index, made[first.buffer])
    if change is None or set(change) != set(u.space):
        return None
    for r in reads:
        b = buffers[r.buffer]
        if r.indirect or flat(b, renamed(r.index, change)) != flat(b, made[r.buffer]):
            return None
    return change


def tile_loops(product: str, shape: Sequence[IndexLike], members: Sequence[Member],
               by_name: dict[str, Facts]) -> list[Loop]:
    """The loops of an epilogue over the product's own variables, those computed in place once for each index they are
    read at. A value that stays in the tile is stored, and read, at the tile's own index."""
    return _Tile(product, indices(shape), members, by_name).loops


class _Tile:
    def __init__(self, product: str, point: tuple[IndexLike, ...], members: Sequence[Member], by_name: dict[str, Facts]) -> None:
        self.product, self.point, self.by_name = product, point, by_name
        self.ranges = tuple(i for i in point if isinstance(i, Index))
        self.loops: list[Loop] = []
        self.members = {m.name: m for m in members}
        self.made: dict[tuple[str, tuple[IndexLike, ...], Expr | None], str] = {}
        for m in members:
            loop = m.facts.loop
            self.loops.append(Loop(m.name, self.ranges, m.index, self.value(loop.value, m.env, None), loop.loc))

    def value(self, e: Expr, env: dict[Index, IndexLike], mask: Expr | None) -> Expr:
        """``e`` at the tile's index, with nothing loaded where ``mask`` is false."""
        placed = lo.rewrite(e, lambda x: None, env)
        return lo.rewrite(placed, lambda x: self.load(x, mask) if isinstance(x, Load) else None)

    def load(self, e: Load, outer: Expr | None) -> Expr:
        if e.buffer == self.product:
            found: Expr = Load(e.dtype, e.buffer, self.point, None, 0)
        elif e.buffer in self.members:
            found = Load(e.dtype, e.buffer, self.members[e.buffer].index, None, 0)
        elif e.buffer in self.by_name and self.by_name[e.buffer].inline:
            found = self.inlined(e, lo.both(outer, e.mask))
        else:
            return Load(e.dtype, e.buffer, e.index, lo.both(outer, e.mask), e.other)
        return found if e.mask is None else lo.select(e.mask, found, lo.const(e.other, e.dtype))

    def inlined(self, e: Load, mask: Expr | None) -> Expr:
        key = (e.buffer, e.index, mask)
        name = self.made.get(key)
        if name is None:
            loop = self.by_name[e.buffer].loop
            value = self.value(loop.value, substitution(loop, e.index), mask)
            again = sum(made[0] == e.buffer for made in self.made)
            name = self.made[key] = f"{e.buffer}_{again}x" if again else e.buffer
            self.loops.append(Loop(name, self.ranges, self.point, value, loop.loc))
        return Load(e.dtype, name, self.point, None, 0)
