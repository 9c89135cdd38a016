"""What became of one column of one entry."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .compare import Differs
from .names import Missing


class Uncounted(Exception):
    """PyTorch itself does not pass here: the column of this entry is not in the total."""


class Late(BaseException):
    """The time for this column is over (not an ``Exception``, so that no handler in between swallows it)."""


@dataclass
class Outcome:
    """``units`` is what the column counts: an entry's column is one, unless it counts names or calls."""

    counted: bool = False
    units: int = 1
    passed: int = 0
    samples: int = 0
    failures: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.counted and not self.failures

    def fail(self, reason: str) -> None:
        """Keep a reason once."""
        if reason not in self.failures:
            self.failures.append(reason)

    def check(self, run: Callable[[], Any], what: str = "") -> bool:
        """Run one comparison and keep the reason if it fails."""
        self.samples += 1
        try:
            run()
        except Exception as error:
            self.fail(reason_of(error) + (f"  [{what}]" if what else ""))
            return False
        return True

    def as_json(self) -> dict[str, Any]:
        units = self.units if self.counted else 0
        passed = self.passed if units != 1 else int(self.ok)
        return {"units": units, "passed": passed, "samples": self.samples, "failures": self.failures[:12], **(
            {"notes": self.notes} if self.notes else {})}


def reason_of(error: BaseException) -> str:
    """One line for a failure."""
    text = " ".join(str(error).split())[:220]
    if isinstance(error, Differs):
        return f"differs: {text}"
    if isinstance(error, Missing):
        return f"missing: {text}"
    return f"{type(error).__name__}: {text}"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`Late` in this thread after ``seconds`` of this process's time on the processor."""
    def late(*args: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
