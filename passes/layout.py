"""What a write to a reshaped tensor reaches: `reshape` and `contiguous` share memory only where the layout allows it.

A graph tells shapes, not strides. Inputs are taken as row-major, and so is what is computed of row-major tensors; a
choice between view and copy that a later write makes visible becomes a condition on the inputs it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.ir.graph import Graph
from flambeau.ir.symint import SymInt
from flambeau.ir.tree import leaves

_LARGEST_STAND_IN = 1 << 24  # elements of the array on which a chain of views is tried out

#: Names of the inputs that must be row-major for a tensor to be so; None: nobody knows how it is laid out.
Layout = frozenset[str] | None


class UnknownLayout(NotImplementedError):
    """A write goes through a reshape that is a view or a copy, depending on a layout that the graph does not tell."""


@dataclass(eq=False)
class Fork:
    """An op that was taken for a view of ``source``, or for a copy. Both are windows on storages, with view ``steps``."""

    source: Any
    result: Any
    layout: Layout

    def sides(self, value: Any) -> tuple[bool, bool]:
        """Whether ``value`` shows data of the source, and of the result."""
        if self.result.storage is not self.source.storage:
            return value.storage is self.source.storage, value.storage is self.result.storage
        if value.storage is not self.source.storage:
            return False, False
        behind = any(step is self.result.steps[-1] for step in value.steps)
        return not behind, behind


def stand_in(tensor: Any, steps: Sequence[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """What view steps show of a row-major array in ``tensor``'s place, and that array; None if that cannot be tried."""
    given = leaves([tensor.shape, [step.args for step in steps]])
    if any(isinstance(s, SymInt) for s in given) or tensor.dtype.is_complex or tensor.numel() > _LARGEST_STAND_IN:
        return None
    shown = root = np.empty(tensor.shape, tensor.dtype.np)
    try:
        for step in steps:
            shown = step.op.kernel(np, shown, *step.args)
    except (RuntimeError, ValueError):                            # no view of a row-major array, whatever it is of the real one
        return None
    return shown, root


def last_uses(graph: Graph) -> dict[Any, int]:
    """By node: the position at which it is last read."""
    found: dict[Any, int] = {}
    for k, node in enumerate(graph.nodes):
        found.update(dict.fromkeys(node.inputs, k))
    found.update(dict.fromkeys(graph.output_nodes(), len(graph.nodes)))
    return found
