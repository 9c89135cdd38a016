"""Where passes, codegen and runtime meet: kernels, schedules, plans and built artifacts, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph
from .index import IndexLike
from .loops import Buffer, Loop, Statement


@dataclass(frozen=True)
class Kernel:
    """A loop nest. ``params`` are the buffers it touches (reads, then writes); ``scratch`` per-thread row buffers.

    ``sizes`` names the symbolic sizes it needs; ``locs`` the user lines its statements come from.
    """

    name: str
    params: tuple[Buffer, ...]
    body: tuple[Statement, ...]
    scratch: tuple[Buffer, ...] = ()
    sizes: tuple[str, ...] = ()
    locs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Loops that become one kernel, in order; ``why`` says what the fusion saves."""

    name: str
    loops: tuple[Loop, ...]
    why: str = ""


@dataclass(frozen=True)
class Extern:
    """A step that is not a loop nest: a template (``template`` names it: "matmul", "attention", "conv"...) or an eager kernel.

    ``args`` are the op's arguments with buffer names wrapped in :class:`Ref`; ``outs`` the buffers written. A template
    may carry an ``epilogue``: loops over its output's index, applied while the tile is in registers; its results go to
    the loops' own buffers.
    """

    name: str
    op: str
    args: tuple[Any, ...]
    outs: tuple[str, ...]
    template: str = ""
    epilogue: tuple[Loop, ...] = ()
    loc: str = ""


@dataclass(frozen=True)
class Ref:
    """A buffer as an argument. ``shape``/``strides``/``offset`` (elements) when the argument is a view of the buffer."""

    buffer: str
    shape: tuple[IndexLike, ...]
    strides: tuple[IndexLike, ...]
    offset: IndexLike = 0


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and every buffer by name."""

    steps: tuple[Group | Extern | Kernel, ...]
    buffers: dict[str, Buffer]
    inputs: tuple[str, ...]
    outputs: tuple[Any, ...]  # buffer names, Refs (views of buffers), or constants


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


@dataclass
class Artifact:
    """A plan built for a target: its source texts by stage name, and what runs it.

    ``library`` and ``entry`` for compiled code (one entry per run of the whole plan, or per segment between externs).
    """

    target: str
    plan: Plan
    sources: dict[str, str] = field(default_factory=dict)
    library: str = ""
    entries: tuple[str, ...] = ()
    run: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Partitioned:
    """A training graph cut in two: the forward also returns ``saved`` values, which the backward takes first."""

    forward: Graph
    backward: Graph
    saved: int
