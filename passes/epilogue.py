"""Epilogues: pointwise loops on the result of a matrix product, done while its tile is still in registers."""

from __future__ import annotations

from flambeau.ir.index import Index
from flambeau.ir.loops import Buffer
from flambeau.ir.program import Extern, Target
from flambeau.passes.fuse import Fusion, Member, Unit
from flambeau.passes.lower import indices
from flambeau.passes.space import Env, covers, flat, renamed, solve


def attach_epilogues(fusion: Fusion, externs: dict[int, Extern], buffers: dict[str, Buffer],
                     target: Target) -> dict[int, list[Member]]:
    """Move loops that follow a template elementwise into its epilogue; for each template, the loops, in its variables.

    The last templates come first, so that what joins two products is done by the later one.
    """
    found: dict[int, list[Member]] = {}
    for position, e in sorted(externs.items(), reverse=True):
        if e.template not in target.epilogues or len(e.outs) != 1:
            continue
        unit = next(u for u in fusion.units if u.bits >> position & 1)
        members = _collect(fusion, unit, buffers[e.outs[0]], buffers)
        if members:
            found[position] = members
    return found


def _collect(fusion: Fusion, unit: Unit, product: Buffer, buffers: dict[str, Buffer]) -> list[Member]:
    space = tuple(i for i in indices(product.shape) if isinstance(i, Index))
    made = {product.name: indices(product.shape)}
    members: list[Member] = []
    for u in list(fusion.units):
        if len(u.members) != 1 or u.inner is not None or u not in fusion.units:
            continue
        change = _in_tile(u, made, buffers, space)
        if change is None or fusion.late(u, unit):
            continue
        member = u.members[0].moved(change, space)
        members.append(member)
        made[member.name] = member.index
        fusion.join(unit, u)
    return members


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
