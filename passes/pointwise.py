"""Kernels of groups without reductions: one nest of loops over the whole space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir.index import Index, IndexLike
from flambeau.ir.program import Target
from flambeau.passes.access import Access, accesses
from flambeau.passes.body import Chain, Writer
from flambeau.passes.order import CHUNK, cut, loop_order, parallel_kinds, piece, work
from flambeau.passes.shape import Shaped
from flambeau.passes.space import extent, renamed

#: Elements of the inner side of a block of a transposed access: where rows lie a multiple of 4 KiB apart, a few times as
#: many lines no longer fit side by side in the cache.
BLOCK = 16

Env = dict[Index, IndexLike]


def pointwise_kernel(form: Shaped, target: Target) -> list[Any]:
    """The body of a kernel whose values are all computed at the point where they are read."""
    chain, env = nest(form, target)
    writer = Writer(form, env)
    writer.open(chain)
    for loop in form.members:
        if loop.buffer in form.stores:
            at = renamed(loop.index, env)
            writer.store(loop.buffer, at, writer.at(loop.buffer, at), loop.loc)
    return writer.close()


def nest(form: Shaped, target: Target) -> tuple[Chain, Env]:
    """The loops of a pointwise kernel, and the group's variables that were cut in pieces in terms of these."""
    space = form.outer + form.inner
    found = accesses(form, space)
    vars = loop_order(space, found)
    if not vars:
        return Chain((), ()), {}
    if work(form) < target.parallel_work:
        return _blocked(vars, ["serial"] * (len(vars) - 1), found)
    kinds, got = parallel_kinds(vars[:-1], target)
    inner, n = vars[-1], extent(vars[-1])
    if got < 2 * target.threads and (not isinstance(n, int) or n * got >= target.parallel_work // 8):
        size = piece(n, max(1, 4 * target.threads // got)) if isinstance(n, int) else CHUNK
        outer, rest, place = cut(inner, size)
        return Chain((*vars[:-1], outer, rest), (*kinds, "parallel", "vector")), {inner: place}
    return _blocked(vars, kinds, found)


def _blocked(vars: Sequence[Index], kinds: Sequence[str], found: Sequence[Access]) -> tuple[Chain, Env]:
    """Transposed accesses in blocks: the loop that other loads take in unit steps next to the innermost, which is short."""
    inner, n = vars[-1], extent(vars[-1])
    across = [v for v in vars[:-1] if any(
        not a.store and a.steps[v] == 1 and a.steps[inner] not in (0, 1) for a in found)]
    if not across or not isinstance(n, int) or n <= BLOCK:
        return Chain(tuple(vars), (*kinds, "vector")), {}
    v = across[-1]
    outer, rest, place = cut(inner, BLOCK)
    others = [(u, k) for u, k in zip(vars, kinds) if u is not v and u is not inner]
    first = "parallel" if "parallel" in kinds and all(k == "parallel" for _, k in others) else "serial"
    order = [*others, (outer, first), (v, "serial"), (rest, "vector")]
    return Chain(tuple(u for u, _ in order), tuple(k for _, k in order)), {inner: place}
