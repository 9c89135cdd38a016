"""``associative_scan``: all partial combinations of slices, computed in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.func.batching import vmap
from flambeau.ir.op import ops
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order
from flambeau.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ._slices import aligned, dim_of, placed


@higher_order
def associative_scan(combine_fn: Callable, xs: Any, dim: int, reverse: bool = False, combine_mode: str = "pointwise") -> Any:
    """All partial combinations of the slices of ``xs`` along ``dim`` under an associative ``combine_fn(left, right)``.

    PyTorch: ``associative_scan``. Neighbours are combined in pairs, many at once, in about ``2 log2(n)`` rounds.
    ``combine_mode`` is ``"generic"`` or, on a GPU, ``"pointwise"``. Raises ``ValueError`` for other arguments.
    """
    leaves, spec = tree_flatten(xs)
    if not leaves:
        raise ValueError("Expected at least 1 xs leaf")
    dim = dim_of(leaves, dim)
    _check_associative(combine_fn, leaves, dim, reverse, combine_mode)
    prefix = tree_unflatten([0] * len(leaves), spec)
    together = vmap(combine_fn, in_dims=(prefix, prefix), out_dims=0)

    def combine(left: list[Any], right: list[Any]) -> list[Any]:
        return tree_leaves(together(tree_unflatten(left, spec), tree_unflatten(right, spec)))

    found = _partial_combinations(combine, aligned(leaves, dim, reverse))
    return tree_unflatten([placed(y, dim, reverse) for y in found], spec)


def _check_associative(combine_fn: Any, leaves: Sequence[Any], dim: Any, reverse: Any, combine_mode: Any) -> None:
    if not callable(combine_fn):
        raise ValueError(f"Combine_fn must be a callable, but got {combine_fn}")
    if not isinstance(dim, int):
        raise ValueError(f"Dim must be an int, but got {type(dim)}")
    if not isinstance(reverse, bool):
        raise RuntimeError(f"Reverse must be a bool, but got {type(reverse)}")
    if combine_mode not in ("pointwise", "generic"):
        raise ValueError(f"Combine_mode must either 'pointwise' or 'generic', but got {combine_mode}")
    if any(not isinstance(x, Tensor) for x in leaves):
        raise ValueError("xs leaves must be a Tensor")
    if combine_mode == "pointwise" and any(x.device.type != "cuda" for x in leaves):
        raise ValueError("For combine_mode='pointwise', all input tensors need to be on CUDA or XPU")
    if any(x.ndim <= dim or x.shape[dim] == 0 for x in leaves):
        raise ValueError("All xs leaves must at least have 'dim' number of dimensions and scan dimension > 0")


def _partial_combinations(combine: Callable[[list[Any], list[Any]], list[Any]], elems: list[Any]) -> list[Any]:
    """The scan of ``elems`` along dimension 0: pairs are combined, the pairs scanned, and the rest made from those."""
    n = elems[0].shape[0]
    if n < 2:
        return elems
    odd = _partial_combinations(combine, combine([x[0:-1:2] for x in elems], [x[1::2] for x in elems]))
    first = [x[:1] for x in elems]
    if n > 2:
        before = [x[:-1] for x in odd] if n % 2 == 0 else odd
        even = [ops.cat([a, b], 0) for a, b in zip(first, combine(before, [x[2::2] for x in elems]))]
    else:
        even = first
    return [_interleaved(a, b) for a, b in zip(even, odd)]


def _interleaved(even: Any, odd: Any) -> Any:
    """Rows of ``even`` and ``odd`` in turn."""
    n = odd.shape[0]
    pairs = ops.reshape(ops.stack([even[:n], odd], 1), (2 * n, *odd.shape[1:]))
    return pairs if even.shape[0] == n else ops.cat([pairs, even[n:]], 0)


__all__ = ["associative_scan"]
