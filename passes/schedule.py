"""Scheduling: which values reach memory, which loops become one kernel, and what a matrix product does to its result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.graph import Graph
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Loop
from flambeau.ir.op import get_op
from flambeau.ir.program import Extern, Group, Ref, Schedule, Target
from flambeau.ir.tree import leaves
from flambeau.passes.cost import Facts, Read, choose_inline, effective_reads, facts, nbytes
from flambeau.passes.epilogue import attach_epilogues, tile_loops
from flambeau.passes.fuse import Fusion, Member, Unit, order, unit_of
from flambeau.passes.space import renamed
from flambeau.passes.split import split_reductions


def schedule(lowered: Schedule, target: Target) -> Schedule:
    """The groups and externs that compute ``lowered``, in order; buffers that no longer exist are gone."""
    return _Scheduler(split_reductions(lowered, target), target).run()


def _draws(step: Extern) -> bool:
    """Whether a step takes random numbers, itself or in a body."""
    return "random" in get_op(step.op).tags or any(
        "random" in n.op.tags for a in step.args if isinstance(a, Graph) for n in a.walk())  # type: ignore[union-attr]


class _Scheduler:
    def __init__(self, lowered: Schedule, target: Target) -> None:
        self.lowered, self.target = lowered, target
        self.buffers = lowered.buffers
        self.externs = {i: s for i, s in enumerate(lowered.steps) if isinstance(s, (Extern, Group))}  # as they are
        self.facts = [facts(s, i) for i, s in enumerate(lowered.steps) if isinstance(s, Loop)]
        self.by_name = {f.name: f for f in self.facts}
        self.pinned = set(_read_by_externs(self.externs.values())) | output_buffers(lowered)
        self.names: dict[str, int] = {}

    def run(self) -> Schedule:
        choose_inline(self.facts, self.buffers, self.pinned)
        memo: dict[str, tuple[Read, ...]] = {}
        self.reads = {f.name: effective_reads(f, self.by_name, memo) for f in self.facts}
        units = [unit_of(f, self.reads[f.name]) for f in self.facts if not f.inline]
        units += [Unit(reads=frozenset(_refs(e)), writes=frozenset(e.outs if isinstance(e, Extern) else e.stores),
                       bits=1 << i, draws=isinstance(e, Extern) and _draws(e)) for i, e in self.externs.items()]
        units.sort(key=lambda u: u.bits)
        fusion = Fusion(units, self.buffers, self.pinned)
        taken = attach_epilogues(fusion, self.externs, self.by_name, self.buffers, self.target)
        fusion.run()
        ordered = order(fusion.units)
        steps: list[Group | Extern] = []
        outside = self._needed_outside(ordered)
        for u in ordered:
            steps.append(self._group(u, outside) if not u.bits & sum(1 << i for i in self.externs) else
                         self._extern(u, taken, outside))
        kept = set(self.lowered.inputs) | {b for s in steps for b in _written(s)}
        outputs = output_buffers(self.lowered)
        buffers = {n: _placed(b, n in outputs) for n, b in self.buffers.items() if n in kept}
        return Schedule(tuple(steps), buffers, self.lowered.inputs, self.lowered.outputs)

    def _needed_outside(self, units: list[Unit]) -> dict[str, set[int]]:
        """For each buffer, the units (by number) that read it from memory; outputs are read by unit -1."""
        found: dict[str, set[int]] = {b: {-1} for b in output_buffers(self.lowered)}
        for i, u in enumerate(units):
            for b in u.reads:
                found.setdefault(b, set()).add(i)
        return found

    # ---- groups

    def _group(self, u: Unit, outside: dict[str, set[int]]) -> Group:
        stores = tuple(m.name for m in u.members if outside.get(m.name))
        names = {v: ix.var(f"i{k}", v.args[1]) for k, v in enumerate(u.outer)}
        names |= {v: ix.var(f"j{k}", v.args[1]) for k, v in enumerate(u.inner or ())}
        loops = tuple(self._loops(u.members, names))
        internal = [m.name for m in u.members if m.name not in stores]
        inline = tuple(x.buffer for x in loops if self.by_name[x.buffer].inline)
        return Group(self._name(u), loops, stores, inline, tuple(names[v] for v in u.outer),
                     tuple(names[v] for v in u.inner or ()), self._why([*internal, *inline], u))

    def _loops(self, members: list[Member], names: dict[Index, Index]) -> Iterator[Loop]:
        """The members in the group's variables, the inline loops that each needs before it."""
        seen: set[str] = set()
        for m in members:
            yield from (f.loop for f in self._inlined(m.facts, seen))
            env = {v: renamed((i,), names)[0] for v, i in m.env.items()}
            yield in_space(m.facts.loop, env)

    def _inlined(self, f: Facts, seen: set[str]) -> Iterator[Facts]:
        for r in f.reads:
            source = self.by_name.get(r.buffer)
            if source is not None and source.inline and source.name not in seen:
                yield from self._inlined(source, seen)
                seen.add(source.name)
                yield source

    def _name(self, u: Unit) -> str:
        """A kernel is called after its first values, numbered where that is not enough."""
        stems = list(dict.fromkeys(re.sub(r"(_\d+)+$", "", m.name) for m in u.members))
        name = "_".join(stems[:3] + (["etc"] if len(stems) > 3 else []))
        n = self.names[name] = self.names.get(name, -1) + 1
        return f"{name}_{n}" if n else name

    def _why(self, internal: list[str], u: Unit) -> str:
        """What fusing saves: the values that never reach memory."""
        saved = 2 * sum(nbytes(self.buffers[n]) for n in internal)
        return f"{len(internal)} of its values never reach memory: {saved} bytes less" if saved else ""

    # ---- externs

    def _extern(self, u: Unit, taken: dict[int, list[Member]], outside: dict[str, set[int]]) -> Extern | Group:
        position = next(i for i in self.externs if u.bits >> i & 1)
        e, members = self.externs[position], taken.get(position, [])
        if not members or isinstance(e, Group):
            return e
        loops = tuple(tile_loops(e.outs[0], self.buffers[e.outs[0]].shape, members, self.by_name))
        stores = tuple(n for n in (*e.outs, *(m.name for m in members)) if outside.get(n))
        return Extern(e.name, e.op, e.args, e.outs, e.template, loops, stores, e.loc)


def in_space(loop: Loop, env: dict[Index, IndexLike]) -> Loop:
    """``loop`` in other variables: those of a group."""
    if all(v is i for v, i in env.items()):
        return loop
    value = lo.rewrite(loop.value, lambda e: None, env)
    used: dict[Index, None] = {}
    for v in loop.ranges:
        used.update(dict.fromkeys(sorted(ix.variables(env[v]), key=str)))
    return Loop(loop.buffer, tuple(used), renamed(loop.index, env), value, loop.loc)


def output_buffers(s: Schedule) -> set[str]:
    """The buffers that outputs are, or look at."""
    found = {x.buffer if isinstance(x, Ref) else x for x in s.outputs if isinstance(x, (str, Ref))}
    return found & set(s.buffers)


def _refs(e: Extern | Group) -> Iterator[str]:
    """The buffers that a step reads which is not made of free loops."""
    if isinstance(e, Group):
        for loop in e.loops:
            yield from (x.buffer for x in lo.walk(loop.value) if isinstance(x, lo.Load) and x.buffer not in e.stores)
            yield from (x.buffer for i in loop.index for v in ix.values(i) for x in lo.walk(v) if isinstance(x, lo.Load))
        return
    for x in leaves(e.args):
        if isinstance(x, Ref):
            yield x.buffer


def _read_by_externs(externs: Any) -> Iterator[str]:
    for e in externs:
        yield from _refs(e)


def _written(step: Group | Extern) -> tuple[str, ...]:
    return step.stores if isinstance(step, Group) else tuple(n for n in step.written if n)


def _placed(b: Buffer, is_output: bool) -> Buffer:
    return Buffer(b.name, b.dtype, b.shape, b.strides, "output") if is_output and b.kind == "temp" else b
