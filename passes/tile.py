"""Tiling: a fused group becomes a kernel. Loop order, vector loop, parallel loops and row buffers are decided here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.loops import Buffer, For
from flambeau.ir.program import Group, Kernel, Schedule, Target
from flambeau.passes.cost import top_reduction
from flambeau.passes.pointwise import pointwise_kernel
from flambeau.passes.rows import row_kernel
from flambeau.passes.scatter import scatter_kernel, scatters
from flambeau.passes.shape import Shaped, shaped
from flambeau.passes.space import extent


def tile(schedule: Schedule, target: Target) -> Schedule:
    """``schedule`` with each group turned into a kernel."""
    if target.kind == "numpy":
        return schedule
    steps = tuple(tile_group(s, schedule.buffers, target) if isinstance(s, Group) else s for s in schedule.steps)
    return Schedule(steps, schedule.buffers, schedule.inputs, schedule.outputs)


def tile_group(group: Group, buffers: dict[str, Buffer], target: Target) -> Kernel:
    """The kernel of one fused group."""
    if scatters(group):
        form, nests = scatter_kernel(group, buffers, target)
        return finish(group, form, nests, (), buffers)
    form = shaped(group, buffers, target)
    body, scratch = row_kernel(form, target) if reduces(form) else (pointwise_kernel(form, target), [])
    return finish(group, form, body, tuple(scratch), buffers)


def reduces(form: Shaped) -> bool:
    """Whether a group has values that others of its own need from all along the inner loops."""
    return any(top_reduction(m.value) is not None for m in form.members)


def finish(group: Group, form: Shaped, body: Sequence[Any], scratch: tuple[Buffer, ...],
           buffers: dict[str, Buffer]) -> Kernel:
    """The kernel around a body: its buffers, sizes and places."""
    names = {b.name for b in scratch}
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    _touched(body, reads, writes)
    params = [form.views.get(n, buffers[n]) for n in (*(r for r in reads if r not in writes), *writes) if n not in names]
    locs = tuple(dict.fromkeys(loop.loc for loop in group.loops if loop.loc))
    return Kernel(group.name, tuple(params), tuple(body), scratch, _sizes(body, params), locs, group)


def _touched(body: Sequence[Any], reads: dict[str, None], writes: dict[str, None]) -> None:
    for s in body:
        if isinstance(s, For):
            _touched(s.body, reads, writes)
            continue
        for e in _expressions(s):
            for x in lo.walk(e):
                if isinstance(x, lo.Load):
                    reads[x.buffer] = None
        if isinstance(s, lo.Store):
            writes[s.buffer] = None


def _expressions(s: Any) -> list[Any]:
    found = [] if isinstance(s, lo.Init) else [s.value]
    if isinstance(s, lo.Store):
        found += [e for i in s.index for e in ix.values(i)]
        found += [s.mask] if s.mask is not None else []
    return found


def _sizes(body: Sequence[Any], params: Sequence[Buffer]) -> tuple[str, ...]:
    """The symbolic sizes that a body and its buffers mention."""
    found: set[str] = set()

    def note(i: Any) -> None:
        for x in ix.walk(i):
            if x.kind == "size":
                found.add(x.args[0])
            elif x.kind == "var":
                note(extent(x))

    def visit(statements: Sequence[Any]) -> None:
        for s in statements:
            if isinstance(s, For):
                note(s.var)
                visit(s.body)
                continue
            for e in _expressions(s):
                for x in lo.walk(e):
                    for i in lo.own_indices(x):
                        note(i)
            for i in s.index if isinstance(s, lo.Store) else ():
                note(i)

    visit(body)
    for b in params:
        for i in (*b.shape, *b.strides):
            note(i)
    return tuple(sorted(found))
