"""The one hook through which every stage of a compile is checked, timed and, when someone asks, kept as text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Stage(NamedTuple):
    """One stage of one compile: its name ("graph", "joint", "cpp"...), its text, and the seconds since the one before."""

    name: str
    text: str
    seconds: float


class _Recorder(threading.local):
    kept: list[Stage] | None = None
    timed: dict[str, float] | None = None
    last: float = 0.0
    within: str = ""


_recorder = _Recorder()

#: called with the name and the thing of every stage, in every thread
watchers: list[Callable[[str, Any], None]] = []


def watched() -> bool:
    """Whether somebody wants to see the stages of compiles in this thread."""
    return bool(watchers) or _recorder.kept is not None or _recorder.timed is not None


def begin() -> None:
    """A compile begins: the seconds of its first stage count from now."""
    _recorder.last = time.perf_counter()


def stage(name: str, thing: Any) -> Any:
    """Check ``thing`` (if it can check itself), record its text and time if wanted, and hand it on."""
    if hasattr(thing, "check"):
        thing.check()
    now = time.perf_counter()
    if _recorder.kept is not None:
        shown = f"{name}/{_recorder.within}" if _recorder.within else name
        _recorder.kept.append(Stage(shown, str(thing), now - _recorder.last))
    if _recorder.timed is not None:
        _recorder.timed[name] = _recorder.timed.get(name, 0.0) + now - _recorder.last
    for watcher in watchers:
        watcher(name, thing)
    _recorder.last = time.perf_counter()
    return thing


@contextmanager
def record_stages() -> Iterator[list[Stage]]:
    """Keep the text of every stage that passes in this thread during the block."""
    before, _recorder.kept = _recorder.kept, []
    _recorder.last = time.perf_counter()
    try:
        yield _recorder.kept
    finally:
        _recorder.kept = before


@contextmanager
def time_stages() -> Iterator[dict[str, float]]:
    """Add up the seconds of every stage that passes in this thread during the block, without keeping texts."""
    before, _recorder.timed = _recorder.timed, {}
    begin()
    try:
        yield _recorder.timed
    finally:
        _recorder.timed = before


@contextmanager
def stages_of(part: str) -> Iterator[None]:
    """The stages of this block are kept as those of a part, the body of a loop, say: "loops/PART"."""
    before, _recorder.within = _recorder.within, part
    try:
        yield
    finally:
        _recorder.within = before
