"""What a loop costs: the reads and the work of one element, and which loops are computed where they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Expr, Load, Loop
from flambeau.ir.op import get_op
from flambeau.passes.lower import is_small
from flambeau.passes.space import extent, numel_hint, renamed, variables

#: Work of a call that is not plain arithmetic (a transcendental function, a division), in additions.
FUNCTION_WORK = 8
#: A value of at most this much work and one read is computed again wherever it is read.
CHEAP = 3


@dataclass(frozen=True)
class Read:
    """A read of ``buffer`` at ``index``, in the variables of the loop that it is made for."""

    buffer: str
    index: tuple[IndexLike, ...]
    indirect: bool = False


@dataclass
class Facts:
    """What is known of one loop: ``reduces`` when its value is one reduction too long to be written out."""

    loop: Loop
    position: int
    reduces: bool
    work: int
    reads: tuple[Read, ...]
    inline: bool = False
    users: list[Facts] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.loop.buffer


def top_reduction(value: Expr) -> lo.Reduce | None:
    """The reduction that a loop's value is, conversions aside, if it is not small."""
    while isinstance(value, lo.Call) and value.fn == "cast":
        value = value.operands[0]
    return value if isinstance(value, lo.Reduce) and not is_small(value) else None


def facts(loop: Loop, position: int) -> Facts:
    """The facts of a loop alone: its own reads and work."""
    found: dict[Read, None] = {}
    work = _work(loop.value)
    for e in lo.walk(loop.value):
        if isinstance(e, Load):
            found[Read(e.buffer, e.index, any(ix.values(x) for x in e.index))] = None
    return Facts(loop, position, top_reduction(loop.value) is not None, work, tuple(found))


def _work(value: Expr) -> int:
    """The work of one element; a reduction written out counts each of its steps."""
    total = 0
    for e in lo.walk(value):
        if isinstance(e, lo.Call):
            total += call_work(e)
        elif isinstance(e, lo.Random):
            total += 4 * FUNCTION_WORK
        elif isinstance(e, lo.Reduce) and is_small(e):
            total += numel_hint([extent(v) for v in e.vars]) * (1 + _work(e.value))
    return total


def call_work(e: lo.Call) -> int:
    """The work of one call: what turns integers into floating point is a function, the rest one instruction."""
    if e.fn == "cast":
        return 0 if e.dtype.kind == e.operands[0].dtype.kind else 1
    return FUNCTION_WORK if get_op(e.fn).promote == "float" else 1


def effective_reads(f: Facts, by_name: dict[str, Facts], memo: dict[str, tuple[Read, ...]]) -> tuple[Read, ...]:
    """The reads of a loop once the loops it reads that are inline are computed in place."""
    found = memo.get(f.name)
    if found is None:
        collected: dict[Read, None] = {}
        for r in f.reads:
            source = by_name.get(r.buffer)
            if source is None or not source.inline:
                collected[r] = None
                continue
            env = substitution(source.loop, r.index)
            for inner in effective_reads(source, by_name, memo):
                collected[Read(inner.buffer, renamed(inner.index, env), r.indirect or inner.indirect)] = None
        found = memo[f.name] = tuple(collected)
    return found


def substitution(loop: Loop, index: Iterable[IndexLike]) -> dict[Index, IndexLike]:
    """The variables of a loop, as it was lowered, for the element at ``index``."""
    return {v: i for v, i in zip(loop.index, index) if isinstance(v, Index)}


def choose_inline(all_facts: list[Facts], buffers: dict[str, Buffer], pinned: set[str]) -> None:
    """Mark the loops that are computed where they are read instead of being stored.

    ``pinned`` values must be in memory (outputs, arguments of externs). What one loop reads once per element is always
    computed there; what several loops read, or one reads often, only when computing it again is nearly free.
    """
    by_name = {f.name: f for f in all_facts}
    for f in all_facts:
        for r in f.reads:
            source = by_name.get(r.buffer)
            if source is not None and f not in source.users:
                source.users.append(f)
    work: dict[str, int] = {}
    wide: dict[str, int] = {}
    for f in all_facts:
        inlined = [by_name[r.buffer] for r in f.reads if r.buffer in by_name and by_name[r.buffer].inline]
        work[f.name] = f.work + sum(work[s.name] for s in inlined)
        wide[f.name] = _wide_reads(f, buffers, by_name, wide)
        f.inline = f.name not in pinned and not f.reduces and _worth_inlining(f, work[f.name], wide[f.name], buffers)


def _wide_reads(f: Facts, buffers: dict[str, Buffer], by_name: dict[str, Facts], wide: dict[str, int]) -> int:
    """How many arrays as large as the loop's own are read for it."""
    mine, total = numel_hint(buffers[f.name].shape), 0
    for r in f.reads:
        if r.buffer in by_name and by_name[r.buffer].inline:
            total += wide[r.buffer]
        elif 2 * numel_hint(buffers[r.buffer].shape) >= mine:
            total += 1
    return total


def _worth_inlining(f: Facts, work: int, wide: int, buffers: dict[str, Buffer]) -> bool:
    if not f.reads:
        return work <= 2 * FUNCTION_WORK
    own = max(numel_hint(buffers[f.name].shape), 1)
    uses = [(u, r) for u in f.users for r in u.reads if r.buffer == f.name]
    repeats = sum(_times_computed(u, r) for u, r in uses) / own
    if work <= 1 and wide <= 1:
        return True
    if len(f.users) == 1 and repeats <= 1 and not any(r.indirect for _, r in uses):
        return True
    return work <= CHEAP and wide <= 1 and repeats <= 4 * max(len(f.users), 1)


def _times_computed(f: Facts, r: Read) -> int:
    """How often a value read by ``f`` would be computed there: once for each turn of the loops that its index needs."""
    vars = (*f.loop.ranges, *f.loop.reduce_ranges)
    needed = variables(r.index)
    depth = len(vars) if r.indirect else max((n + 1 for n, v in enumerate(vars) if v in needed), default=0)
    return numel_hint([extent(v) for v in vars[:depth]])


def by_buffer(found: Iterable[Read]) -> dict[str, list[Read]]:
    """Reads by the buffer they read."""
    result: dict[str, list[Read]] = {}
    for r in found:
        result.setdefault(r.buffer, []).append(r)
    return result


def nbytes(buffer: Buffer) -> int:
    """A guess of the bytes of a buffer."""
    return numel_hint(buffer.shape) * buffer.dtype.itemsize


__all__: list[Any] = ["CHEAP", "Facts", "Read", "by_buffer", "call_work", "choose_inline", "effective_reads", "facts",
                      "nbytes", "substitution", "top_reduction"]
