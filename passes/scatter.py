"""Kernels that add into places that data decides: a first nest fills the result, a second adds one element after another.

Only loops along dimensions that the data does not choose may run in parallel or as vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Load, Loop
from flambeau.ir.program import Group, Target
from flambeau.passes.body import Chain, Writer
from flambeau.passes.order import cut, parallel_kinds, piece
from flambeau.passes.pointwise import Env, pointwise_kernel
from flambeau.passes.shape import Shaped, shaped
from flambeau.passes.space import extent, numel_hint


def scatters(group: Group) -> bool:
    """Whether a group's last loop adds to the values it finds."""
    last = group.loops[-1]
    return any(isinstance(e, Load) and e.buffer == last.buffer for e in lo.walk(last.value))


def scatter_kernel(group: Group, buffers: dict[str, Buffer], target: Target) -> tuple[Shaped, list[Any]]:
    """The body of a group that scatters, and the form that knows its views."""
    fill, update = group.loops
    first = replace(group, loops=(fill,), outer=fill.ranges, inner=())
    form = shaped(first, buffers, target)
    body = pointwise_kernel(form, target)
    own = Shaped(update.ranges, (), [], {}, group.stores, buffers, form.views)
    return form, body + _update(update, own, target)


def _update(loop: Loop, form: Shaped, target: Target) -> list[Any]:
    chain, env = _nest(loop, form.buffers[loop.buffer], target)
    writer = Writer(form, env)
    writer.open(chain)
    value = writer.value(loop.value, env)
    writer.store(loop.buffer, writer.indices(loop.index, env), writer.let(loop.buffer, value, loop.loc), loop.loc)
    return writer.close()


def _nest(loop: Loop, buffer: Buffer, target: Target) -> tuple[Chain, Env]:
    """Free loops outside, those the data is indexed with in order, and inside the free loop along memory, if any."""
    free = _free(loop)
    along = next((v for v in free if ix.coefficient(_direct(loop, buffer), v) == 1), None)
    outside = [v for v in free if v is not along]
    ordered = [v for v in loop.ranges if v not in free]
    large = numel_hint([extent(v) for v in loop.ranges]) * 3 >= target.parallel_work
    kinds, got = parallel_kinds(outside, target) if large else (["serial"] * len(outside), 1)
    if along is None:
        return Chain((*outside, *ordered), (*kinds, *["serial"] * len(ordered))), {}
    vars, env = [*outside, *ordered, along], {}
    kinds = [*kinds, *["serial"] * len(ordered), "vector"]
    n = extent(along)
    if large and got < 2 * target.threads and isinstance(n, int) and n > 64:
        block, rest, place = cut(along, piece(n, 4 * target.threads))
        vars, env = [*outside, block, *ordered, rest], {along: place}
        kinds.insert(len(outside), "parallel")
    return Chain(tuple(vars), tuple(kinds)), env


def _free(loop: Loop) -> list[Index]:
    """The variables that choose a place by themselves: each alone in its own dimension of the result."""
    plain = [i for i in loop.index if isinstance(i, Index) and i.kind == "var"]
    other: set[Index] = set()
    for i in loop.index:
        if i not in plain:
            other |= ix.variables(i)
    return [v for v in loop.ranges if plain.count(v) == 1 and v not in other]


def _direct(loop: Loop, buffer: Buffer) -> IndexLike:
    """The address, as far as the loop's own variables make it."""
    return lo.address(buffer, [i if isinstance(i, Index) and i.kind == "var" else 0 for i in loop.index])

