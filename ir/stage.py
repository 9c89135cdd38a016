"""The one hook through which every stage of a compile is checked, timed and, when someone asks, kept as text."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage of one compile: its name ("graph", "joint", "cpp"...), its text, and the seconds since the one before."""

    name: str
    text: str
    seconds: float


class _Recorder(threading.local):
    kept: list[Stage] | None = None
    last: float = 0.0


_recorder = _Recorder()


def stage(name: str, thing: Any) -> Any:
    """Check ``thing`` (if it can check itself), record its text and time if wanted, and hand it on."""
    if hasattr(thing, "check"):
        thing.check()
    now = time.perf_counter()
    if _recorder.kept is not None:
        _recorder.kept.append(Stage(name, str(thing), now - _recorder.last))
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
