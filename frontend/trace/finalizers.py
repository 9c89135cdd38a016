"""Code that runs when an object ends: `__del__`, and the `finally` of a generator that nobody runs to its end.

CPython runs both as soon as the last reference goes. A trace does not count references, and what passes values from one
compiled part to the next holds some of its own, so a frame that makes such an object runs natively from there.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from flambeau.frontend.trace.effects import CannotRebuild
from flambeau.frontend.trace.values import Unsupported

if TYPE_CHECKING:
    from flambeau.frontend.trace.callables import GeneratorValue
    from flambeau.frontend.trace.interp import Tracer


def refuse_finalizer(cls: type) -> None:
    """Break where an object is made whose class has `__del__`."""
    if hasattr(cls, "__del__"):
        error = Unsupported("finalizer", f"an object of the class {cls.__name__} is made, which has a __del__")
        error.native = True
        raise error


def refuse_abandoned(tr: Tracer) -> None:
    """Break where a generator is made that the traced code has left within a `try` or `with`."""
    for generator, line in tr.generators:
        if _holds(generator):
            error = Unsupported("finalizer", f"the generator {generator.frame.code.co_name} is left before its end, within a try "
                                "or with", "run it to its end, or call its close()")
            error.line, error.native = line, True
            raise CannotRebuild(generator, error)


def without_frames(error: BaseException | None) -> None:
    """Let an exception that is kept go of the frames it came through: they hold whatever the callers' variables held."""
    known: set[int] = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        error.__traceback__ = None
        for other in (error.__cause__, getattr(error, "cause", None)):
            if other is not error.__context__:
                without_frames(other)
        error = error.__context__


def _holds(generator: GeneratorValue) -> bool:
    """Whether closing the generator would run its handlers."""
    frame = generator.frame
    if generator.finished or not frame.started:
        return False
    return bool(frame.blocks) or frame.handles(frame.current)
