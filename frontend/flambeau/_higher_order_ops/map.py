"""``map``: a function of each slice of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.runtime import control
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order
from flambeau.utils._pytree import tree_flatten, tree_unflatten


@higher_order
def map(f: Callable, xs: Any, *args: Any) -> Any:  # noqa: A001 - PyTorch's name
    """``f(x, *args)`` for each slice ``x`` of ``xs`` (a tree of tensors) along dimension 0, the results stacked.

    PyTorch: ``torch._higher_order_ops.map``. Raises ``RuntimeError`` for leaves that are no tensors, or of different lengths, or
    of length 0.
    """
    leaves, xs_spec = tree_flatten(xs)
    if any(not isinstance(x, Tensor) for x in leaves):
        raise RuntimeError(f"Mapped xs can only consist of tensors. Got xs {leaves}.")
    if leaves[0].shape[0] == 0:
        raise RuntimeError("Leading dimensions of mapped xs cannot be 0.")
    if any(x.shape[0] != leaves[0].shape[0] for x in leaves):
        raise RuntimeError(f"Leading dimensions of mapped xs must be consistent. Got shapes {[x.shape for x in leaves]}.")
    specs: list[Any] = []

    def step(*row: Any) -> list:
        found, spec = tree_flatten(f(tree_unflatten(list(row), xs_spec), *args))
        specs.append(spec)
        return found

    _, rows = control.scan(step, [], leaves)
    return tree_unflatten(rows, specs[0])


__all__ = ["map"]
