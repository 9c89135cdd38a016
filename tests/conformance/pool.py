"""Work in child processes that may crash or hang: each gets one task at a time, and is replaced when it is lost."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

_FORK = multiprocessing.get_context("fork")


class _Child:
    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.pipe, theirs = _FORK.Pipe()
        self.process = _FORK.Process(target=_serve, args=(work, theirs, self.pipe), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Any = None
        self.since = 0.0

    def give(self, task: Any) -> None:
        self.task, self.since = task, time.monotonic()
        self.pipe.send(task)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(work: Callable[[Any], Any], pipe: Connection, parent: Connection) -> None:
    parent.close()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(work(task))


def spread(work: Callable[[Any], Any], tasks: Sequence[Any], jobs: int, limit: float) -> Iterator[tuple[Any, Any]]:
    """``(task, work(task))`` as they are done, or ``(task, None)`` where the child was lost or took longer than ``limit``."""
    left = list(tasks)[::-1]
    children = [_Child(work) for _ in range(min(jobs, len(left)))]
    for child in children:
        child.give(left.pop())
    while children:
        ready = wait([c.pipe for c in children], timeout=1.0)
        for i, child in reversed(list(enumerate(children))):
            if child.pipe in ready:
                try:
                    yield child.task, child.pipe.recv()
                    if left:
                        child.give(left.pop())
                        continue
                except (EOFError, OSError):
                    yield child.task, None
            elif time.monotonic() - child.since < limit:
                continue
            else:
                yield child.task, None
            child.stop()
            if left:
                children[i] = _Child(work)
                children[i].give(left.pop())
            else:
                del children[i]
