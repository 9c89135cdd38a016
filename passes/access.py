"""Where a group's loops touch memory: each load and store as an address in the group's variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Load, Loop
from flambeau.passes.cost import substitution
from flambeau.passes.space import extent, numel_hint, renamed


@dataclass(frozen=True)
class Access:
    """A load or store of ``buffer`` at ``address`` (elements), or a number made of indices (``buffer`` "").

    ``steps`` is how far the address moves with each variable: 0 not at all, None not by a constant step.
    """

    buffer: str
    index: tuple[IndexLike, ...]
    address: IndexLike
    steps: dict[Index, int | None]
    store: bool = False


def accesses(form: Any, vars: Sequence[Index]) -> list[Access]:
    """All accesses of a group, those of the loops computed where they are read included."""
    found: list[Access] = []
    for loop in form.members:
        found += _loads(loop, {}, form, vars)
        if loop.buffer in form.stores:
            b = form.buffers[loop.buffer]
            found.append(_access(b, loop.index, vars, True))
    return found


def _loads(loop: Loop, env: Mapping[Index, IndexLike], form: Any, vars: Sequence[Index]) -> Iterator[Access]:
    found = lo.walk(loop.value)
    conditions = [e for e in found if lo.compares_indices(e)]
    compared = {o for e in conditions for o in e.operands} - {
        c for e in found if not lo.compares_indices(e) for c in lo.children(e)}
    for e in found:
        if isinstance(e, Load):
            index = renamed(e.index, env) if env else e.index
            if e.buffer in form.inline:
                inner = form.inline[e.buffer]
                yield from _loads(inner, substitution(inner, index), form, vars)
            elif e.buffer not in form.made:
                yield _access(form.buffers[e.buffer], index, vars, False)
        elif e not in compared:
            yield from _numbers(lo.own_indices(e), env, vars)
    for e in conditions:  # as they will be written: without the variables that cannot decide
        a, b = (o.args[0] for o in e.operands)
        for operand in lo.children(lo.compare(e.fn, *renamed((a, b), env))):
            yield from _numbers(lo.own_indices(operand), {}, vars)


def _numbers(found: Sequence[IndexLike], env: Mapping[Index, IndexLike], vars: Sequence[Index]) -> Iterator[Access]:
    for i in found:
        at = renamed((i,), env)[0]
        yield Access("", (at,), at, steps_of(at, vars))


def edges(form: Any) -> Iterator[tuple[Index, int]]:
    """The values of variables at which conditions of the group change: (a variable, its first value on the other side)."""
    for loop in form.members:
        yield from _edges(loop, {}, form)


def _edges(loop: Loop, env: Mapping[Index, IndexLike], form: Any) -> Iterator[tuple[Index, int]]:
    for e in lo.walk(loop.value):
        if isinstance(e, Load) and e.buffer in form.inline:
            inner = form.inline[e.buffer]
            yield from _edges(inner, substitution(inner, renamed(e.index, env) if env else e.index), form)
        elif lo.compares_indices(e):
            a, b = renamed([o.args[0] for o in e.args[1]], env)
            parts, constant = ix.terms(ix.add(a, ix.mul(b, -1)))
            v, factor = next(iter(parts.items()), (None, 0))
            if len(parts) == 1 and v is not None and v.kind == "var" and factor == 1:
                yield v, -constant + (e.fn in ("gt", "le"))


def _access(b: Buffer, index: Sequence[IndexLike], vars: Sequence[Index], store: bool) -> Access:
    address = lo.address(b, index)
    return Access(b.name, tuple(index), address, steps_of(address, vars), store)


def steps_of(address: IndexLike, vars: Sequence[Index]) -> dict[Index, int | None]:
    """The constant step of an address with each variable, None where it has none."""
    parts, _ = ix.terms(address)
    bent: set[Index] = set()
    for t in parts:
        if t.kind != "var":
            bent |= ix.variables(t) | _indirect(t)
    return {v: None if v in bent else parts.get(v, 0) for v in vars}


def _indirect(t: Index) -> set[Index]:
    """The variables that the loop expressions inside an index depend on."""
    found: set[Index] = set()
    for i in ix.walk(t):
        if i.kind == "value":
            for e in lo.walk(i.args[0]):
                for own in lo.own_indices(e):
                    found |= ix.variables(own)
    return found


def unit_steps(vars: Sequence[Index], found: Sequence[Access]) -> dict[Index, int]:
    """For each variable, the elements of the accesses that move by one with it; a store counts as three loads."""
    scores = dict.fromkeys(vars, 0)
    for a in found:
        if not a.buffer:
            continue
        touched = numel_hint([extent(v) for v, step in a.steps.items() if step != 0]) * (3 if a.store else 1)
        for v in vars:
            if a.steps[v] == 1 and extent(v) != 1:
                scores[v] += touched
    return scores
