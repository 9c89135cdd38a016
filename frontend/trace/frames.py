"""What a call of a compiled function needs to know of frames: layouts of the live values, and how a call ends in a break.

It stands apart from `decode`, `resume` and `breaks`, which only captures and breaks need: a process that finds all its versions
on disk imports none of them.
"""
from __future__ import annotations

import builtins
import inspect
import re
import sys
import warnings
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flambeau.frontend.trace.breaks import Step


class GraphBreakError(RuntimeError):
    """`fullgraph=True` and the function cannot be captured as one graph."""


class FallbackWarning(UserWarning):
    """A function, or one call, runs eagerly although it was to be compiled."""


class Broken:
    """What the run function of a breaking entry returns: the step to take, and the real state."""

    __slots__ = ("step", "state")

    def __init__(self, step: Step, state: tuple[Any, ...]) -> None:
        self.step, self.state = step, state


#: Told when a graph raises; checked calls look whether it should have.
on_graph_error: list[Callable[[Exception], None]] = []


def rerun(error: Exception, step: Step, state: tuple[Any, ...]) -> Any:
    """The graph raised before anything was changed: the frame runs natively instead, so that what it does before the error,
    and what handles it, is the program's own. Warns if the program does not raise that error."""
    for tell in on_graph_error:
        tell(error)
    before, found = sys.gettrace(), []

    def look(frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_lines = False
        if event == "exception" and arg[0] is type(error) and str(arg[1]) == str(error):
            found.append(True)
        return look

    if before is None:                                # a debugger's place is its own
        sys.settrace(look)
    try:
        result = step.take(state)[1]
    finally:
        if before is None:
            sys.settrace(None)
    if before is None and not found:
        warnings.warn(f"a call of {step.program.code.co_name} ran eagerly: its compiled graph raised {type(error).__name__}: "
                      f"{error}, which the program itself does not", FallbackWarning, stacklevel=3)
    return result


def rerun_unwritten(error: Exception, step: Step, state: tuple[Any, ...]) -> Any:
    """`rerun` of a graph that writes to its inputs, if it raised before it did; else the error comes from here."""
    if not getattr(error, "__flambeau_unwritten__", False):
        raise error
    return rerun(error, step, state)


class _Null:
    """The NULL entry of the value stack (below a callable), as an object."""

    def __repr__(self) -> str:
        return "NULL"


NULL = _Null()


class Layout(NamedTuple):
    """What is live at a resume point: bound locals, stack depth, positions of NULLs, open 3.10 blocks."""

    locals: tuple[str, ...]
    cells: tuple[str, ...]
    depth: int
    nulls: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()     # (handler offset, stack level), innermost last; 3.10 only


def start_layout(code: CodeType) -> Layout:
    """What is bound when a function starts: its parameters, and its free variables' cells."""
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return Layout(code.co_varnames[:count], code.co_freevars, 0)


def parameter_names(layout: Layout) -> list[str]:
    """Names, in generated functions, of the values of a point."""
    names = [_safe(n) for n in layout.locals] + [f"cell_{n}" for n in layout.cells]
    return names + [f"stack{k}" for k in range(layout.depth) if k not in layout.nulls]


def _safe(name: str) -> str:
    if hasattr(builtins, name):                       # generated code means Python's own
        return name + "__"
    return name if name.isidentifier() and name not in ("i", "o", "graph") else "_" + re.sub(r"\W", "_", name)
