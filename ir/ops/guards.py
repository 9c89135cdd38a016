"""Checks that compiled loops make of data: spelled like pointwise ops, put in by lowering, called by no program."""

from __future__ import annotations

from typing import Any

from ..family import Scalar, pointwise
from ..faults import FAULTS
from ..samples import S, T


def _checked_index(xp: Any, index: Any, size: Any, fault: Any, dim: Any) -> Any:
    index = xp.asarray(index)
    wrong = (index < 0) | (index >= size)
    if wrong.any():
        raise FAULTS[int(fault)].exception(int(index[wrong].reshape(-1)[0]), int(size), int(dim))
    return index


checked_index = pointwise(
    "checked_index(Tensor self, Operand size, Operand fault=0, Operand dim=0) -> Tensor", kernel=_checked_index, dtypes="i",
    api=(), inplace=False,
    scalar=Scalar("checked_index({0}, {1}, {2}, {3}, {part}, failed)", "tl.maximum(tl.minimum({0}, {1} - 1), 0)"),
    samples=lambda: [S(T((3, 4), 0, 5), 5, 0, 0)],
    doc="The index itself. Raises what ``faults.FAULTS[fault]`` says for one outside ``range(size)`` of dimension ``dim``.")
