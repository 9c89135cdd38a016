"""Graphs that write to tensors of the program or draw random numbers, and then raise: what they did is undone.

Then the frame can run natively, and what the program did before the error, and what handles it, are its own.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.runners import undone
from flambeau.frontend.trace.again import written_inputs
from flambeau.ir.graph import Graph, Node, may_raise
from flambeau.ir.tree import leaves

Run = Callable[[Sequence[Any]], Sequence[Any]]


def undoing(run: Run, graph: Graph, changes: set[str], in_order: bool) -> Run:
    """``run``, undone where it raises. ``in_order``: it writes as it goes, not after all else as compiled graphs do.

    Only graphs with steps that may raise for the data they meet are looked after; others stay as they are.
    """
    copied = written_inputs(graph) if in_order else []
    drawn = "drawn" in changes
    if not (copied or drawn) or "effect" in changes or not any(map(_may_raise, graph.walk())):
        return run
    return undone(run, copied, drawn, in_order, "written" in changes)


def _may_raise(node: Node) -> bool:
    """Whether a step may refuse the data that it meets. To be on the safe side, those that read integers count, too."""
    op = node.op
    if may_raise(node):
        return True
    if op is None or op.family in ("view", "creation", "pointwise"):
        return False
    return any(n.meta is not None and not isinstance(n.meta, tuple) and n.meta.dtype.is_integral
               for n in leaves(node.args) if isinstance(n, Node))
