"""Branches and loops as eager mode runs them: Python's own, on lists of tensors.

The public functions (``flambeau.cond``...) flatten their arguments and call these. A tracer that wants a branch or a loop as one
step of its graph takes over: ``taken.by`` has methods of the same names and arguments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.ir.op import ops

from .batched import Batched
from .tensor import Tensor

Flat = Callable[..., list]  # lists of tensors in, one list of tensors (or constants) out


class _Taken(threading.local):
    by: Any = None


taken = _Taken()


def cond(pred: Any, true_fn: Flat, false_fn: Flat, operands: Sequence[Any]) -> list[Any]:
    """What one of two functions returns. Under ``vmap`` over the predicate both run, and each element gets its own."""
    if taken.by is not None:
        return taken.by.cond(pred, true_fn, false_fn, operands)
    if isinstance(pred, Batched):
        return both(pred, true_fn, false_fn, operands)
    return true_fn(*operands) if bool(pred) else false_fn(*operands)


def both(pred: Any, true_fn: Flat, false_fn: Flat, operands: Sequence[Any]) -> list[Any]:
    """For each element of a batch of predicates what its branch returns."""
    return [ops.where(_beside(pred, t), t, f) if isinstance(t, Tensor) else t
            for t, f in zip(true_fn(*operands), false_fn(*operands))]


def _beside(pred: Any, value: Any) -> Any:
    """A predicate of one element that broadcasts with ``value``."""
    return ops.reshape(pred, (1,) * max(value.ndim, 0))


def while_loop(cond_fn: Callable[..., Any], body_fn: Flat, carried: Sequence[Any]) -> list[Any]:
    """The carried values when the condition is first false; copies of them where it is at once."""
    if taken.by is not None:
        return taken.by.while_loop(cond_fn, body_fn, carried)
    values, rounds = list(carried), 0
    while _truth(cond_fn(*values)):
        found = body_fn(*values)
        if len(found) != len(values):
            raise AssertionError(f"body_fn should return the same number of elements as carried_inputs, got {len(found)} vs "
                                 f"{len(values)}")
        values, rounds = found, rounds + 1
    return values if rounds else [ops.clone(x) if isinstance(x, Tensor) else x for x in values]


def _truth(pred: Any) -> bool:
    if isinstance(pred, bool) or isinstance(pred, Tensor) and not pred.shape and pred.dtype.kind == "b":
        return bool(pred)
    raise RuntimeError(f"cond_fn must return a boolean scalar tensor or a boolean but got {pred}")


def scan(combine_fn: Flat, init: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """``combine_fn(*carried, *rows)`` along dimension 0 of ``xs``: the last carried values, and the other results stacked."""
    if taken.by is not None:
        return taken.by.scan(combine_fn, init, xs)
    k, carried, rows = len(init), list(init), []
    for i in range(xs[0].shape[0]):
        found = combine_fn(*carried, *(ops.select(x, 0, i) for x in xs))
        carried = found[:k]
        rows.append(found[k:])
    return carried, [None if column[0] is None else ops.stack(list(column), 0) for column in zip(*rows)]
