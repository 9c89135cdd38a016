"""Memory planning: every buffer placed before the run, in one arena that values share when they do not live together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.index import IndexLike
from flambeau.ir.loops import Buffer, For, Load, Store
from flambeau.ir.program import Extern, Group, Kernel, Plan, Ref, Schedule, Slot
from flambeau.ir.tree import leaves
from flambeau.passes.cost import top_reduction
from flambeau.passes.shape import flat_view

ALIGN = 64


def plan_memory(schedule: Schedule, name: str, writebacks: Mapping[int, int] | None = None) -> Plan:
    """``schedule`` with a slot for each buffer.

    ``writebacks`` names, by position, the inputs that outputs are to be written to in the end: where nothing needs the
    old value any more, the output's buffer is the input itself.
    """
    planner = _Planner(schedule)
    planner.place_ends(writebacks or {})
    planner.place_temps()
    return Plan(name, schedule, planner.slots, planner.arena, symbols(schedule))


def symbols(schedule: Schedule) -> tuple[str, ...]:
    """The symbolic sizes of all buffers, in order of name."""
    found: set[str] = set()
    for b in schedule.buffers.values():
        for i in (*b.shape, *b.strides):
            found |= {x.args[0] for x in ix.walk(i) if x.kind == "size"}
    for s in schedule.steps:
        found |= set(s.sizes) if isinstance(s, Kernel) else set()
    return tuple(sorted(found))


def buffer_bytes(b: Buffer) -> IndexLike:
    """The bytes from a buffer's first element to its last."""
    if any(isinstance(n, int) and n == 0 for n in b.shape):
        return 0
    return ix.mul(flat_view(b).shape[0], b.dtype.itemsize)


class _Planner:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.slots: dict[str, Slot] = {}
        self.arena: IndexLike = 0
        self.written: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.reads = [_reads(s) for s in schedule.steps]
        for n, step in enumerate(schedule.steps):
            for b in _writes(step):
                self.written[b] = n
                self.last[b] = n
            for b in self.reads[n]:
                self.last[b] = n

    # ---- inputs and outputs

    def place_ends(self, writebacks: Mapping[int, int]) -> None:
        """Slots of inputs and outputs."""
        s = self.schedule
        for n, name in enumerate(s.inputs):
            self.slots[name] = Slot("input", n, buffer_bytes(s.buffers[name]))
        returned = [x.buffer if isinstance(x, Ref) else x for x in s.outputs]
        for n, (x, base) in enumerate(zip(s.outputs, returned)):
            if not isinstance(base, str) or base not in s.buffers or base in self.slots:
                continue
            source = s.inputs[writebacks[n]] if n in writebacks else None
            if source is not None and isinstance(x, str) and returned.count(x) == 1 and source not in returned and (
                    self._may_replace(source, x)):
                self.slots[base] = Slot("input", writebacks[n], buffer_bytes(s.buffers[base]))
            else:
                self.slots[base] = Slot("output", n, buffer_bytes(s.buffers[base]))

    def _may_replace(self, old: str, new: str) -> bool:
        """Whether ``new`` may be written over ``old``: alike, and nothing reads the old value then or later."""
        a, b = self.schedule.buffers[old], self.schedule.buffers[new]
        at = self.written[new]
        if (a.dtype, a.shape, a.strides) != (b.dtype, b.shape, b.strides) or self.last.get(old, -1) > at:
            return False
        return old not in self.reads[at] or in_place(self.schedule.steps[at], a, b)

    # ---- the arena

    def place_temps(self) -> None:
        """Slots in the arena, in the order of first use; the smallest free block that fits is taken first."""
        free: list[tuple[int, int]] = []  # (offset, bytes), by offset
        sized: dict[Any, list[IndexLike]] = {}  # free blocks of symbolic sizes
        top = 0
        dynamic: list[tuple[int, str, IndexLike]] = []
        dead = self._deaths()
        for n, step in enumerate(self.schedule.steps):
            taken: set[str] = set()
            for name in _writes(step):
                if name in self.slots:
                    continue
                b = self.schedule.buffers[name]
                size = buffer_bytes(b)
                if not isinstance(size, int):
                    dynamic.append((n, name, size))
                    continue
                over = next((d for d in dead[n] if d not in taken and self._same_slot(d, size) and in_place(
                    step, self.schedule.buffers[d], b)), None)
                if over is not None:
                    taken.add(over)
                    self.slots[name] = self.slots[over]
                    continue
                offset, top = _take(free, -(-size // ALIGN) * ALIGN, top)
                self.slots[name] = Slot("arena", offset, size)
            for d in dead[n]:
                if d not in taken and d in self.slots and isinstance(self.slots[d].nbytes, int):
                    _release(free, self.slots[d].position, -(-self.slots[d].nbytes // ALIGN) * ALIGN)  # type: ignore[operator, arg-type]
        self.arena = top
        self._place_dynamic(dynamic, dead, sized)

    def _deaths(self) -> list[list[str]]:
        """For each step, the temporaries that nobody needs after it."""
        found: list[list[str]] = [[] for _ in self.schedule.steps]
        for name, n in self.last.items():
            if name not in self.slots:
                found[n].append(name)
        return found

    def _same_slot(self, name: str, size: int) -> bool:
        return name in self.slots and self.slots[name].nbytes == size

    def _place_dynamic(self, wanted: list[tuple[int, str, IndexLike]], dead: list[list[str]],
                       free: dict[Any, list[IndexLike]]) -> None:
        """Buffers of symbolic sizes lie behind the others; a block is used again for a buffer of the same size."""
        sizes = {name: size for _, name, size in wanted}
        by_step: dict[int, list[str]] = {}
        for n, name, _ in wanted:
            by_step.setdefault(n, []).append(name)
        for n in range(len(self.schedule.steps)):
            for name in by_step.get(n, ()):
                size = sizes[name]
                blocks = free.setdefault(size, [])
                if blocks:
                    self.slots[name] = Slot("arena", blocks.pop(), size)
                    continue
                self.slots[name] = Slot("arena", self.arena, size)
                self.arena = ix.add(self.arena, ix.mul(ix.div(ix.add(size, ALIGN - 1), ALIGN), ALIGN))
            for name in dead[n]:
                if name in sizes:
                    free[sizes[name]].append(self.slots[name].position)


def _take(free: list[tuple[int, int]], size: int, top: int) -> tuple[int, int]:
    """A block of ``size`` bytes: (its offset, the arena's new top)."""
    fitting = [(n, o) for o, n in free if n >= size]
    if fitting:
        n, offset = min(fitting)
        free.remove((offset, n))
        if n > size:
            free.append((offset + size, n - size))
        return offset, top
    for o, n in free:
        if o + n == top and n:  # the last block, made longer
            free.remove((o, n))
            return o, o + size
    return top, top + size


def _release(free: list[tuple[int, int]], offset: int, size: int) -> None:
    """Give a block back, joined with its free neighbours."""
    for block in list(free):
        o, n = block
        if o + n == offset:
            free.remove(block)
            offset, size = o, n + size
        elif offset + size == o:
            free.remove(block)
            size += n
    free.append((offset, size))


# ---- what steps touch ---------------------------------------------------------------------------------------------


def _writes(step: Any) -> tuple[str, ...]:
    if isinstance(step, Extern):
        return tuple(n for n in step.written if n)
    return step.stores if isinstance(step, Group) else tuple(b.name for b in step.params if b.name in _stored(step.body))


def _reads(step: Any) -> set[str]:
    """The buffers in memory that a step reads."""
    if isinstance(step, Kernel):
        return {b.name for b in step.params} - _stored(step.body)
    loops = step.epilogue if isinstance(step, Extern) else step.loops
    found = {e.buffer for x in loops for e in lo.walk(x.value) if isinstance(e, Load)} - {x.buffer for x in loops}
    if isinstance(step, Extern):
        found |= {x.buffer for x in leaves(step.args) if isinstance(x, Ref)}
        found -= set(step.outs)
    return found


def _stored(body: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for s in body:
        found |= _stored(s.body) if isinstance(s, For) else {s.buffer} if isinstance(s, Store) else set()
    return found


def in_place(step: Any, old: Buffer, new: Buffer) -> bool:
    """Whether a step may write ``new`` over ``old``: each element is read only where, and before, its successor is written."""
    if isinstance(step, Extern):
        return _in_tile_place(step, old, new)
    if not isinstance(step, Kernel) or step.group is None:
        return False
    params = {b.name: b for b in step.params}
    if old.name not in params or new.name not in params:
        return False
    loads: list[_Touch] = []
    stores: list[_Touch] = []
    _touches(step.body, (), params[old.name], params[new.name], loads, stores)
    if len(stores) != 1 or {t.address for t in loads} != {stores[0].address}:
        return False
    if not any(top_reduction(x.value) for x in step.group.loops):
        return True
    store = stores[0]  # (other loops of the kernel may run over other elements)
    return all(t.body == store.body and t.number <= store.number for t in loads) and all(
        v.args[1] == 1 or v in ix.walk(store.address) for v in store.around)


@dataclass(frozen=True)
class _Touch:
    """A load or store: the loops around it, the statements it is among and its number there, and its address."""

    around: tuple[Any, ...]
    body: int
    number: int
    address: IndexLike


def _touches(body: Sequence[Any], around: tuple[Any, ...], old: Buffer, new: Buffer, loads: list[_Touch],
             stores: list[_Touch]) -> None:
    for number, s in enumerate(body):
        if isinstance(s, For):
            _touches(s.body, (*around, s.var), old, new, loads, stores)
            continue
        if isinstance(s, Store) and s.buffer == new.name:
            stores.append(_Touch(around, id(body), number, lo.address(new, s.index)))
        for e in lo.walk(s.value) if hasattr(s, "value") else ():
            if isinstance(e, Load) and e.buffer == old.name:
                loads.append(_Touch(around, id(body), number, lo.address(old, e.index)))


def _in_tile_place(step: Extern, old: Buffer, new: Buffer) -> bool:
    """The same for the epilogue of a template, which is done once for each element of its result."""
    if any(isinstance(x, Ref) and x.buffer == old.name for x in leaves(step.args)):
        return False
    last, loads, store = -1, set(), None
    for number, loop in enumerate(step.epilogue):
        for e in lo.walk(loop.value):
            if isinstance(e, Load) and e.buffer == old.name:
                last = number
                loads.add(lo.address(old, e.index))
        if loop.buffer == new.name:
            store = number, lo.address(new, loop.index)
    return store is not None and loads == {store[1]} and last <= store[0]
