"""Slices of tensors along a dimension, as scans meet them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir.op import ops


def dim_of(leaves: Sequence[Any], dim: Any) -> Any:
    """``dim`` counted from the front. Raises ``IndexError`` outside."""
    n = leaves[0].ndim if hasattr(leaves[0], "ndim") else 0
    if not isinstance(dim, int):
        return dim
    if not -max(n, 1) <= dim < max(n, 1):
        raise IndexError(f"Dimension out of range (expected to be in range of [{-max(n, 1)}, {max(n, 1) - 1}], but got {dim})")
    return dim % max(n, 1)


def aligned(leaves: Sequence[Any], dim: int, reverse: bool) -> list[Any]:
    """The leaves with ``dim`` in front, in the order in which the slices are met."""
    found = [ops.movedim(x, dim, 0) if dim else x for x in leaves]
    return [ops.flip(x, [0]) for x in found] if reverse else found


def placed(y: Any, dim: int, reverse: bool) -> Any:
    """The inverse of :func:`aligned` for a result."""
    y = ops.flip(y, [0]) if reverse else y
    return ops.movedim(y, 0, dim) if 0 < dim < y.ndim else y
