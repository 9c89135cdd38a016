"""The order of loops, and which of them run in parallel or are cut in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.ir import index as ix
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.program import Target
from flambeau.passes.access import Access, unit_steps
from flambeau.passes.cost import facts
from flambeau.passes.shape import Shaped
from flambeau.passes.space import extent, numel_hint

#: Elements of one piece of a long flat loop.
CHUNK = 4096


def work(form: Shaped) -> int:
    """A guess of the reads, writes and additions of a whole group."""
    each = sum(1 + f.work + len(f.reads) for f in (facts(x, 0) for x in (*form.members, *form.inline.values())))
    return numel_hint([extent(v) for v in (*form.outer, *form.inner)]) * max(each // 2, 1)


def loop_order(vars: Sequence[Index], found: Sequence[Access]) -> list[Index]:
    """Innermost what most accesses take in unit steps; the others as they lie in memory, stores above all."""
    if not vars:
        return []
    scores = unit_steps(vars, found)
    far = {v: max((abs(a.steps.get(v) or 0) * (4 if a.store else 1) for a in found), default=0) for v in vars}
    inner = max(vars, key=lambda v: (scores[v], -far[v], vars.index(v)))
    rest = sorted((v for v in vars if v is not inner), key=lambda v: (-far[v], vars.index(v)))
    return [*rest, inner]


def cut(v: Index, size: int) -> tuple[Index, Index, IndexLike]:
    """A loop as a loop over pieces of ``size`` and one inside the piece, the last piece perhaps shorter; and the index."""
    n = extent(v)
    outer = ix.var(f"{v.args[0]}c", ix.div(ix.add(n, size - 1), size))
    whole = isinstance(n, int) and n % size == 0
    inner = ix.var(f"{v.args[0]}e", size if whole else ix.minimum(size, ix.add(n, ix.mul(outer, -size))))
    return outer, inner, ix.add(ix.mul(outer, size), inner)


def piece(n: int, pieces: int, largest: int = CHUNK) -> int:
    """The length of a piece of a loop of ``n``: whole vectors, a divisor when one is near."""
    size = max(64, min(largest, -(-n // pieces)))
    for d in range(size, size // 2, -1):
        if n % d == 0 and d % 16 == 0:
            return d
    return -(-size // 64) * 64


def parallel_kinds(vars: Sequence[Index], target: Target) -> tuple[list[str], int]:
    """Outer loops parallel until there are enough pieces, the others serial; and the number of pieces."""
    kinds, got = ["serial"] * len(vars), 1
    for d, v in enumerate(vars):
        if got >= 4 * target.threads:
            break
        kinds[d] = "parallel"
        got *= numel_hint([extent(v)])
    return kinds, got
