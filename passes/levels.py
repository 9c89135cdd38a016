"""In which pass over the inner loops each value of a reducing group is computed, and what is kept between passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.loops import Load, Loop
from flambeau.passes.cost import CHEAP, call_work, top_reduction
from flambeau.passes.shape import Shaped


@dataclass
class Levels:
    """Per member: its role, its pass (an outer value follows the pass; -1: before the first), and the members it reads.

    ``kept`` are the full values worth keeping for later passes; ``last`` is the last pass.
    """

    role: dict[str, str]
    level: dict[str, int]
    reads: dict[str, list[str]]
    kept: set[str]
    last: int


def levels(form: Shaped) -> Levels:
    """The passes of a reducing group."""
    inner = set(form.inner)
    role: dict[str, str] = {}
    level: dict[str, int] = {}
    reads: dict[str, list[str]] = {}
    for m in form.members:
        reduction = top_reduction(m.value)
        role[m.buffer] = "reduce" if reduction is not None else "full" if _depends(m, inner) else "outer"
        reads[m.buffer] = list(dict.fromkeys(_members(m, form)))
        level[m.buffer] = _level(role[m.buffer], [(role[d], level[d]) for d in reads[m.buffer]])
    last = max([n for name, n in level.items() if role[name] != "outer"], default=0)
    return Levels(role, level, reads, _kept(form, role, level, reads), last)


def _depends(m: Loop, inner: set[ix.Index]) -> bool:
    return bool(set(m.ranges) & inner)


def _members(loop: Loop, form: Shaped) -> Iterator[str]:
    """The group's own values that a loop reads, directly or through loops computed in place."""
    for e in lo.walk(loop.value):
        if isinstance(e, Load):
            if e.buffer in form.inline:
                yield from _members(form.inline[e.buffer], form)
            elif e.buffer in form.made:
                yield e.buffer


def _level(role: str, needs: list[tuple[str, int]]) -> int:
    if role == "outer":
        return max((n for _, n in needs), default=-1)
    return max((n if r == "full" else n + 1 for r, n in needs), default=0)


def _kept(form: Shaped, role: dict[str, str], level: dict[str, int], reads: dict[str, list[str]]) -> set[str]:
    """Full values that several passes ask for and that cost more to compute than to read again."""
    loops = {m.buffer: m for m in form.members}
    asked: dict[str, set[int]] = {name: set() for name in loops}
    kept: set[str] = set()
    for name in reversed(loops):
        passes = {level[name]} if role[name] == "reduce" else asked[name]
        if role[name] == "full":
            if name in form.stores:
                passes.add(level[name])
            if len(passes) > 1 and (name in form.stores or _expensive(loops[name], form, loops)):
                kept.add(name)
                passes = {min(passes)}
        for d in reads[name] if role[name] != "outer" else ():
            asked[d] |= passes
    return kept


def _expensive(loop: Loop, form: Shaped, loops: dict[str, Loop]) -> bool:
    work, loads = _cost(loop, form, loops)
    return work > CHEAP + 1 or loads > 2


def _cost(loop: Loop, form: Shaped, loops: dict[str, Loop]) -> tuple[int, int]:
    work = loads = 0
    for e in lo.walk(loop.value):
        if isinstance(e, lo.Call):
            work += call_work(e)
        elif isinstance(e, Load):
            inner = form.inline.get(e.buffer) or loops.get(e.buffer)
            if inner is None:
                loads += 1
            elif top_reduction(inner.value) is None:
                w, n = _cost(inner, form, loops)
                work, loads = work + w, loads + n
    return work, loads
