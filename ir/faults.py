"""Indices made of data that compiled code finds out of range: for each kind of them, what eager raises and says."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A kind of wrong index: its ``number`` in generated code, the exception and its words.

    ``wraps``: negative indices count from the end, so that the code sees them with the size added. ``negative``: the words
    for a negative index, where they differ.
    """

    number: int
    error: type[Exception]
    words: str
    wraps: bool = False
    negative: str = ""

    def exception(self, index: int, size: int, dim: int) -> Exception:
        """What eager raises for an ``index`` (as the code saw it) into dimension ``dim`` of ``size``."""
        if self.wraps and index < 0:
            index -= size
        words = self.negative if self.negative and index < 0 else self.words
        return self.error(words.format(index=index, size=size, dim=dim))


_BOUNDS = "index {index} is out of bounds for dimension {dim} with size {size}"
FAULTS = (
    Fault(0, IndexError, _BOUNDS),
    Fault(1, IndexError, _BOUNDS, wraps=True),
    Fault(2, RuntimeError, _BOUNDS),
    Fault(3, IndexError, "index out of range in self"),
    Fault(4, IndexError, "Target {index} is out of bounds."),
    Fault(5, RuntimeError, "Class values must be smaller than num_classes.", negative="Class values must be non-negative."),
)
#: An op says which it is by its ``fault``; the first is what is said of the others.
BOUNDS, WRAPPED, GATHERED, IN_SELF, TARGET, CLASS = FAULTS
