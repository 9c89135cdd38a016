"""``cond``, ``while_loop``, ``scan``, ``map`` and ``associative_scan``.

Run eagerly they are Python's ``if`` and ``for``. In compiled code each is one step of the graph whose functions are graphs
themselves, so a branch on data or a loop of unknown length needs no break. Here are PyTorch's checks and the trees of
arguments; what runs is in ``runtime/control.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.func.batching import vmap
from flambeau.ir.op import ops
from flambeau.runtime import control
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order
from flambeau.utils._pytree import tree_flatten, tree_leaves, tree_unflatten


def _flat(fn: Callable, spec: Any, specs: list[Any]) -> Callable[..., list]:
    """``fn`` as a function from leaves to leaves; the tree of its result goes into ``specs``."""
    def run(*leaves: Any) -> list:
        found, out = tree_flatten(fn(*tree_unflatten(list(leaves), spec)))
        specs.append(out)
        return found
    return run


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


@higher_order
def while_loop(cond_fn: Callable, body_fn: Callable, carried_inputs: tuple | list) -> Any:
    """``carried_inputs = body_fn(*carried_inputs)`` while ``cond_fn(*carried_inputs)`` (PyTorch: ``while_loop``).

    ``cond_fn`` returns a bool or a bool tensor without dimensions, ``body_fn`` a tuple like ``carried_inputs``: in compiled code
    of tensors of the same shapes and dtypes. Differentiable; the backward pass computes the rounds again.
    Raises ``RuntimeError`` for arguments or a condition of other kinds.
    """
    if not callable(cond_fn) or not callable(body_fn):
        raise RuntimeError("Expect cond_fn and body_fn to be callable.")
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(f"carried_inputs must be a tuple or list, got {type(carried_inputs)}")
    leaves, spec = tree_flatten(tuple(carried_inputs))
    if any(not isinstance(t, int) and not isinstance(t, Tensor) for t in leaves):
        raise RuntimeError("Expect carried_inputs to be a tuple of possibly nested dict/list/tuple that only consists of tensor "
                           f"or int leaves, but got {carried_inputs}.")
    specs: list[Any] = []

    def body(*values: Any) -> list:
        found = body_fn(*tree_unflatten(list(values), spec))
        if not isinstance(found, (tuple, list)):
            raise AssertionError(f"body_fn should return a tuple but got {type(found)}")
        flat, out = tree_flatten(tuple(found))
        specs.append(out)
        return flat

    found = control.while_loop(lambda *values: cond_fn(*tree_unflatten(list(values), spec)), body, leaves)
    return tree_unflatten(found, spec)


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
    dim = _dim_of(leaves, dim)
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

    carry, rows = control.scan(step, init_leaves, _aligned(leaves, dim, reverse))
    rows = [None if y is None else _placed(y, dim, reverse) for y in rows]
    return tree_unflatten(carry, init_spec), tree_unflatten(rows, specs[0])


def _dim_of(leaves: Sequence[Any], dim: Any) -> Any:
    """``dim`` counted from the front. Raises ``IndexError`` outside."""
    n = leaves[0].ndim if hasattr(leaves[0], "ndim") else 0
    if not isinstance(dim, int):
        return dim
    if not -max(n, 1) <= dim < max(n, 1):
        raise IndexError(f"Dimension out of range (expected to be in range of [{-max(n, 1)}, {max(n, 1) - 1}], but got {dim})")
    return dim % max(n, 1)


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


def _aligned(leaves: Sequence[Any], dim: int, reverse: bool) -> list[Any]:
    """The leaves with ``dim`` in front, in the order in which the slices are met."""
    found = [ops.movedim(x, dim, 0) if dim else x for x in leaves]
    return [ops.flip(x, [0]) for x in found] if reverse else found


def _placed(y: Any, dim: int, reverse: bool) -> Any:
    """The inverse of :func:`_aligned` for a result."""
    y = ops.flip(y, [0]) if reverse else y
    return ops.movedim(y, 0, dim) if 0 < dim < y.ndim else y


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


@higher_order
def associative_scan(combine_fn: Callable, xs: Any, dim: int, reverse: bool = False, combine_mode: str = "pointwise") -> Any:
    """All partial combinations of the slices of ``xs`` along ``dim`` under an associative ``combine_fn(left, right)``.

    PyTorch: ``associative_scan``. Neighbours are combined in pairs, many at once, in about ``2 log2(n)`` rounds.
    ``combine_mode`` is ``"generic"`` or, on a GPU, ``"pointwise"``. Raises ``ValueError`` for other arguments.
    """
    leaves, spec = tree_flatten(xs)
    if not leaves:
        raise ValueError("Expected at least 1 xs leaf")
    dim = _dim_of(leaves, dim)
    _check_associative(combine_fn, leaves, dim, reverse, combine_mode)
    prefix = tree_unflatten([0] * len(leaves), spec)
    together = vmap(combine_fn, in_dims=(prefix, prefix), out_dims=0)

    def combine(left: list[Any], right: list[Any]) -> list[Any]:
        return tree_leaves(together(tree_unflatten(left, spec), tree_unflatten(right, spec)))

    found = _partial_combinations(combine, _aligned(leaves, dim, reverse))
    return tree_unflatten([_placed(y, dim, reverse) for y in found], spec)


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


__all__ = ["associative_scan", "cond", "map", "scan", "while_loop"]
