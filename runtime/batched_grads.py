"""``autograd.grad`` for a batch of output gradients at once: the tape is run on batched gradients."""

from __future__ import annotations

from typing import Any

from flambeau.ir.op import ops

from . import autograd
from .batched import Batched, BatchLevel
from .levels import entered, stripped


def batched_grad(roots: tuple, wanted: tuple, given: tuple, retain: bool | None, create_graph: bool, allow_unused: bool | None,
                 materialize: bool) -> tuple[Any, ...]:
    """Gradients with a leading batch dimension for ``given`` gradients that have one."""
    sizes = {g.shape[0] for g in given if g is not None}
    if len(sizes) != 1:
        raise RuntimeError(f"is_grads_batched=True: expected all grad_outputs to have the same size in dimension 0, got {sizes}")
    level = BatchLevel(sizes.pop())
    with entered(level):
        grads = [None if g is None else Batched(ops.alias(g), level) for g in given]
        found = autograd.grad(roots, wanted, grads, retain, create_graph, allow_unused=allow_unused,
                              materialize_grads=materialize)
    return tuple(None if g is None else _whole(g, level) for g in found)


def _whole(g: Any, level: BatchLevel) -> Any:
    if isinstance(g, Batched) and g.level is level:
        return stripped(g, level)
    return ops.expand(ops.unsqueeze(g, 0), (level.size, *g.shape))
