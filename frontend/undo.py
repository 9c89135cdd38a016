"""Graphs that write to tensors of the program or draw random numbers, and then raise: what they did is undone.

Then the frame can run natively, and what the program did before the error, and what handles it, are its own.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.trace.again import written_inputs
from flambeau.ir.graph import Graph, Node
from flambeau.ir.tree import leaves
from flambeau.runtime.rng import default_generator

Run = Callable[[Sequence[Any]], Sequence[Any]]


def undoing(run: Run, graph: Graph, changes: set[str], in_order: bool) -> Run:
    """``run``, undone where it raises. ``in_order``: it writes as it goes, not after all else as compiled graphs do.

    Only graphs with steps that may raise for the data they meet (indices) are looked after; others stay as they are.
    """
    copied = written_inputs(graph) if in_order else []
    drawn = "drawn" in changes
    if not (copied or drawn) or "effect" in changes or not any(map(_may_raise, graph.walk())):
        return run

    def call(inputs: Sequence[Any]) -> Sequence[Any]:
        before = [_kept(inputs[k]) for k in copied]
        mark = default_generator().mark() if drawn else None
        try:
            return run(inputs)
        except Exception as error:
            for t, version, array, *tape in before:
                if t._storage.version != version:
                    t._a[...] = array
                    _back(t, *tape)
            unwritten = in_order or "written" not in changes or getattr(error, "__flambeau_unwritten__", False)
            if mark is not None and unwritten:
                default_generator().back_to(mark)
            error.__flambeau_unwritten__ = unwritten              # type: ignore[attr-defined] # see `rerun_unwritten`
            raise

    return call


def _kept(t: Any) -> tuple[Any, ...]:
    base = None if t._view is None else t._view.base
    return t, t._storage.version, t._a.copy(), _place(t), base, None if base is None else _place(base)


def _place(t: Any) -> tuple[Any, ...]:
    """Where a tensor is on the tape."""
    return t._rg, t._grad_fn, t._out_nr


def _back(t: Any, place: tuple[Any, ...], base: Any, place_of_base: tuple[Any, ...]) -> None:
    t._rg, t._grad_fn, t._out_nr = place
    if base is not None:
        base._rg, base._grad_fn, base._out_nr = place_of_base


def _may_raise(node: Node) -> bool:
    """Whether a step may refuse the data that it meets: it reads integers as something else than numbers, or divides them."""
    op = node.op
    if op is None or op.family in ("view", "creation"):
        return False
    if op.family == "pointwise":
        return "divides" in op.tags
    return any(n.meta is not None and not isinstance(n.meta, tuple) and n.meta.dtype.is_integral
               for n in leaves(node.args) if isinstance(n, Node))
