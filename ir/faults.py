"""Indices made of data that compiled code finds out of range: for each kind of them, what eager raises and says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A kind of wrong index: its ``number`` in generated code, the exception and its words.

    ``wraps``: negative indices count from the end, so that the code sees them with the size added.
    """

    number: int
    error: type[Exception]
    words: str
    wraps: bool = False

    def exception(self, index: int, size: int, dim: int) -> Exception:
        """What eager raises for an ``index`` (as the code saw it) into dimension ``dim`` of ``size``."""
        if self.wraps and index < 0:
            index -= size
        return self.error(self.words.format(index=index, size=size, dim=dim))


_BOUNDS = "index {index} is out of bounds for dimension {dim} with size {size}"
FAULTS = tuple(Fault(number, *rest) for number, rest in enumerate([
    (IndexError, _BOUNDS),
    (IndexError, _BOUNDS, True),
    (RuntimeError, _BOUNDS),
    (IndexError, "index out of range in self"),
    (IndexError, "Target {index} is out of bounds."),
]))
#: An op says which it is by its ``fault``; the first is what is said of the others.
BOUNDS, WRAPPED, GATHERED, IN_SELF, TARGET = FAULTS
