"""``cond``: a branch on data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.runtime import control
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order
from flambeau.utils._pytree import tree_flatten, tree_leaves, tree_unflatten


@higher_order
def cond(pred: Any, true_fn: Callable, false_fn: Callable, operands: tuple | list = ()) -> Any:
    """``true_fn(*operands)`` if ``pred`` else ``false_fn(*operands)`` (PyTorch: ``torch.cond``).

    Args:
        pred: a bool, or a tensor of one element. In compiled code a tensor keeps both branches in the graph, a bool picks one.
        true_fn, false_fn: functions that return the same tree of tensors of the same shapes and dtypes. In compiled code they
            change nothing outside themselves; tensors that they close over are found, and get gradients.
        operands: a tuple or list of (trees of) tensors.
    Raises ``RuntimeError`` for a predicate, functions or operands of other kinds.
    """
    if isinstance(pred, (bool, int, float)):
        return true_fn(*operands) if pred else false_fn(*operands)
    if not isinstance(pred, Tensor):
        raise RuntimeError(f"Expected pred to be bool or tensor, but got {pred}.")
    if pred.numel() != 1:
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("Expect both branches to be callable.")
    if not isinstance(operands, (tuple, list)) or any(not isinstance(t, Tensor) for t in tree_leaves(operands)):
        raise RuntimeError("Expect operands to be a tuple of possibly nested dict/list/tuple that only consists of tensor "
                           f"leaves, but got {operands}.")
    leaves, spec = tree_flatten(tuple(operands))
    specs: list[Any] = []
    found = control.cond(pred, _flat(true_fn, spec, specs), _flat(false_fn, spec, specs), leaves)
    if any(s != specs[0] for s in specs):
        raise RuntimeError(f"true_fn and false_fn must return the same structure, got {specs[0]} and {specs[-1]}")
    return tree_unflatten(found, specs[0])


def _flat(fn: Callable, spec: Any, specs: list[Any]) -> Callable[..., list]:
    """``fn`` as a function from leaves to leaves; the tree of its result goes into ``specs``."""
    def run(*leaves: Any) -> list:
        found, out = tree_flatten(fn(*tree_unflatten(list(leaves), spec)))
        specs.append(out)
        return found
    return run


__all__ = ["cond"]
