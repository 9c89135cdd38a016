"""``scan``: a loop along a dimension that carries values from slice to slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.runtime import control
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order
from flambeau.utils._pytree import tree_flatten, tree_unflatten

from ._slices import aligned, dim_of, placed


@higher_order
def scan(combine_fn: Callable, init: Any, xs: Any, *, dim: int = 0, reverse: bool = False) -> tuple[Any, Any]:
    """``carry, y = combine_fn(carry, x)`` for each slice of ``xs`` along ``dim``, in order (PyTorch: ``scan``).

    Returns the last ``carry`` (a tree like ``init``) and the ``y`` stacked along ``dim``; ``reverse`` begins at the end. Raises
    ``RuntimeError`` for a dimension without slices, for leaves that are no tensors, and for another ``combine_fn`` or ``dim``.
    """
    init_leaves, init_spec = tree_flatten(init)
    leaves, xs_spec = tree_flatten(xs)
    if not leaves:
        return init, []
    dim = dim_of(leaves, dim)
    _check_scan(combine_fn, leaves, init_leaves, dim, reverse)
    specs: list[Any] = []

    def step(*values: Any) -> list:
        k = len(init_leaves)
        found = combine_fn(tree_unflatten(list(values[:k]), init_spec), tree_unflatten(list(values[k:]), xs_spec))
        if not (isinstance(found, (tuple, list)) and len(found) == 2):
            raise RuntimeError(f"combine_fn of scan must return a tuple of the carry and an output, got {type(found)}")
        carry, carry_spec = tree_flatten(found[0])
        if carry_spec != init_spec:
            raise RuntimeError(f"scan: the tree of the carry must stay that of init, {init_spec}, but became {carry_spec}")
        rows, spec = tree_flatten(found[1])
        specs.append(spec)
        return [*carry, *rows]

    carry, rows = control.scan(step, init_leaves, aligned(leaves, dim, reverse))
    rows = [None if y is None else placed(y, dim, reverse) for y in rows]
    return tree_unflatten(carry, init_spec), tree_unflatten(rows, specs[0])


def _check_scan(combine_fn: Any, leaves: Sequence[Any], init: Sequence[Any], dim: Any, reverse: Any) -> None:
    if not callable(combine_fn):
        raise RuntimeError(f"Combine_fn must be a callable, but got {combine_fn}")
    if not isinstance(dim, int):
        raise RuntimeError(f"Dim must be an int, but got {type(dim)}")
    if not isinstance(reverse, bool):
        raise RuntimeError(f"Reverse must be a bool, but got {type(reverse)}")
    if not init:
        raise RuntimeError("scan() operator requires init leaves.")
    for what, found in (("init", init), ("xs", leaves)):
        for x in found:
            if not isinstance(x, Tensor):
                raise RuntimeError(f"All {what} leaves must be a Tensor but got {x}")
    if any(x.ndim <= dim or x.shape[dim] == 0 for x in leaves):
        raise RuntimeError("All xs leaves must at least have 'dim' number of dimensions and scan dimension > 0")


__all__ = ["scan"]
