"""Where passes, codegen and runtime meet: kernels, schedules, plans and built artifacts, as plain data.

All of it prints as text that is Python in form; ``ir.loops_text`` parses it back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .device import Device
from .dtype import DType
from .graph import Graph
from .index import Index, IndexLike
from .loops import Buffer, Loop, Statement, comment, show_body, show_tuple


@dataclass(frozen=True)
class Target:
    """What passes know of the machine that code is made for.

    ``kind`` "cpp", "numpy" or "triton"; ``vector_bytes`` of a vector register; cache sizes in bytes; ``templates`` the
    names of the hand-written kernels that the target has, ``epilogues`` those that can apply loops to their result;
    ``template_dtypes`` those that its templates take, where that is not what the ops say.
    """

    kind: str = "cpp"
    threads: int = 2
    vector_bytes: int = 64
    l1: int = 32 << 10
    l2: int = 1 << 20
    templates: frozenset[str] = frozenset({"matmul"})
    epilogues: frozenset[str] = frozenset({"matmul"})
    template_dtypes: frozenset[str] | None = None
    parallel_work: int = 1 << 16

    @property
    def scatters(self) -> bool:
        """Whether loops may add into places that data decides, one after the other."""
        return self.kind == "cpp"

    @property
    def scratch(self) -> bool:
        """Whether a kernel has fast memory of its own for rows of values."""
        return self.kind == "cpp"


@dataclass(frozen=True)
class Group:
    """Loops that become one kernel, in order; ``stores`` are the values that other steps see; the others are internal.

    Loops of the group's own iteration space run over its ``outer`` variables, or its ``outer`` and ``inner`` ones, and
    reduce over ``inner``. The loops called ``inline`` are in variables of their own and computed where they are read.
    ``why`` says what the fusion saves.
    """

    name: str
    loops: tuple[Loop, ...]
    stores: tuple[str, ...] = ()
    inline: tuple[str, ...] = ()
    outer: tuple[Index, ...] = ()
    inner: tuple[Index, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> list[str]:
        over = f"{show_tuple(self.outer)}, {show_tuple(self.inner)}, {_extents(self.outer)}, {_extents(self.inner)}"
        head = f"with group({self.name!r}, {list(self.stores)}, {list(self.inline)}, {over}, {self.why!r}):"
        return [head, *("    " + line for loop in self.loops for line in loop.lines())]


@dataclass(frozen=True)
class Kernel:
    """A loop nest. ``params`` are the buffers it touches (reads, then writes); ``scratch`` per-thread row buffers.

    A param of kind "view" is the memory of the schedule's buffer of that name seen as a row. ``sizes`` names the symbolic
    sizes it needs; ``locs`` the user lines its statements come from; ``group`` is what it was made of.
    """

    name: str
    params: tuple[Buffer, ...]
    body: tuple[Statement, ...]
    scratch: tuple[Buffer, ...] = ()
    sizes: tuple[str, ...] = ()
    locs: tuple[str, ...] = ()
    group: Group | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> list[str]:
        names = [b.name for b in self.params]
        head = f"with kernel({self.name!r}, {names}, sizes={list(self.sizes)}, locs={list(self.locs)}):"
        views = [b for b in self.params if b.kind == "view"]
        return [head, *(f"    {b}" for b in (*views, *self.scratch)), *show_body(self.body)]


@dataclass(frozen=True)
class Ref:
    """A buffer as an argument. ``shape``/``strides``/``offset`` (elements) when the argument is a view of the buffer."""

    buffer: str
    shape: tuple[IndexLike, ...]
    strides: tuple[IndexLike, ...]
    offset: IndexLike = 0

    def __str__(self) -> str:
        return f"ref({self.buffer!r}, {show_tuple(self.shape)}, {show_tuple(self.strides)}, {self.offset})"


@dataclass(frozen=True)
class Extern:
    """A step that is not a loop nest: a template (``template`` names it: "matmul", "attention", "conv"...) or an eager kernel.

    ``args`` are the op's arguments with buffers wrapped in :class:`Ref`; ``outs`` the buffers written. A template
    may carry an ``epilogue``: loops over its output's index, applied while the tile is in registers, which read the
    product as ``outs[0]`` at that index. ``stores`` names the values that reach memory: of the outs and the epilogue's.
    """

    name: str
    op: str
    args: tuple[Any, ...]
    outs: tuple[str, ...]
    template: str = ""
    epilogue: tuple[Loop, ...] = ()
    stores: tuple[str, ...] = ()
    loc: str = ""

    @property
    def written(self) -> tuple[str, ...]:
        """The buffers in memory that the step writes."""
        return self.stores if self.epilogue else self.outs

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> list[str]:
        what = f"extern({self.name!r}, {self.op!r}, {show_value(self.args)}, {list(self.outs)}"
        what += f", template={self.template!r}" if self.template else ""
        if not self.epilogue:
            return [f"{what}){comment(self.loc)}"]
        body = ["    " + line for loop in self.epilogue for line in loop.lines()]
        return [f"with {what}, stores={list(self.stores)}):{comment(self.loc)}", *body]


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and every buffer by name. Freshly lowered, each step is one :class:`Loop` or an Extern."""

    steps: tuple[Loop | Group | Extern | Kernel, ...]
    buffers: dict[str, Buffer]
    inputs: tuple[str, ...]
    outputs: tuple[Any, ...]  # buffer names, Refs (views of buffers), or constants

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> Iterator[str]:
        yield f"inputs = {list(self.inputs)}"
        yield f"outputs = {show_value(list(self.outputs))}"
        yield from map(str, self.buffers.values())
        for step in self.steps:
            yield from step.lines()


@dataclass(frozen=True)
class Slot:
    """Where a buffer lives: "input" or "output" number ``position``, or in the arena at byte ``position``."""

    kind: str
    position: IndexLike
    nbytes: IndexLike


@dataclass(frozen=True)
class Plan:
    """A schedule of kernels with every buffer placed. ``arena`` bytes are needed while it runs."""

    name: str
    schedule: Schedule
    slots: dict[str, Slot]
    arena: IndexLike
    sizes: tuple[str, ...] = ()  # symbolic sizes, in the order they are passed

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> Iterator[str]:
        yield f"plan({self.name!r}, {self.arena}, {list(self.sizes)})"
        for name, s in self.slots.items():
            yield f"slot({name!r}, {s.kind!r}, {s.position}, {s.nbytes})"
        yield from self.schedule.lines()


@dataclass
class Artifact:
    """A plan built for a target: its source texts by stage name, and what runs it.

    For compiled code, ``library`` and ``entries``: what to do in order, each the name of a function of the library (which
    takes one block of words: the inputs' addresses, the outputs', the arena's, then the sizes) or the number of a step
    that the op's own kernel performs. ``needs`` names the template libraries that it calls. Where it ``checks`` indices,
    four more words of the block tell of one out of range: the number of its ``Fault`` plus 1 (0: none), the index, the
    size, the dimension. ``late_errors``: whether a step may raise when another one has written to an input's memory.
    """

    target: str
    plan: Plan
    sources: dict[str, str] = field(default_factory=dict)
    library: str = ""
    entries: tuple[str | int, ...] = ()
    needs: tuple[str, ...] = ()
    checks: bool = False
    late_errors: bool = True
    run: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Partitioned:
    """A training graph cut in two: the forward also returns ``saved`` values, which the backward takes first."""

    forward: Graph
    backward: Graph
    saved: int


# ---- text ---------------------------------------------------------------------------------------------------------


def _extents(vars: Sequence[Index]) -> str:
    return show_tuple([v.args[1] for v in vars])


def show_value(value: Any) -> str:
    """A constant, buffer name or Ref as it stands in a step's text."""
    if isinstance(value, DType):
        return value.short
    if isinstance(value, Device):
        return f'device("{value}")'
    if isinstance(value, tuple):
        return "(" + ", ".join(map(show_value, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(show_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {show_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, slice):
        return f"slice({show_value(value.start)}, {show_value(value.stop)}, {show_value(value.step)})"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if value != value else ("inf" if value > 0 else "-inf")
    if value is Ellipsis:
        return "..."
    if isinstance(value, Graph):
        return f"graph({str(value)!r})"
    return str(value) if isinstance(value, (Index, Ref)) else repr(value)
