"""Checks that compiled loops make of data: spelled like pointwise ops, put in by lowering, called by no program."""

from __future__ import annotations

from typing import Any

from ..family import Scalar, pointwise
from ..samples import S, T


def _checked_index(xp: Any, index: Any, size: Any) -> Any:
    index = xp.asarray(index)
    if index.size and ((index < 0) | (index >= size)).any():
        raise IndexError("index out of range in self")
    return index


checked_index = pointwise(
    "checked_index(Tensor self, Operand size) -> Tensor", kernel=_checked_index, dtypes="i", api=(), inplace=False,
    scalar=Scalar("checked_index({0}, {1})", "tl.minimum(tl.maximum({0}, 0), {1} - 1)"),
    samples=lambda: [S(T((3, 4), 0, 5), 5)],
    doc="The index itself. Raises ``IndexError`` for one outside ``range(size)``.")
