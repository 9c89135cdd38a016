"""``while_loop``: a loop whose length the data decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.runtime import control
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order
from flambeau.utils._pytree import tree_flatten, tree_unflatten


@higher_order
def while_loop(cond_fn: Callable, body_fn: Callable, carried_inputs: tuple | list) -> Any:
    """``carried_inputs = body_fn(*carried_inputs)`` while ``cond_fn(*carried_inputs)`` (PyTorch: ``while_loop``).

    ``cond_fn`` returns a bool or a bool tensor without dimensions, ``body_fn`` a tuple like ``carried_inputs``: in compiled code
    of tensors of the same shapes and dtypes. Differentiable; the backward pass computes the rounds again.
    Raises ``RuntimeError`` for functions or a condition of other kinds, ``AssertionError`` for carried values that are.
    """
    if not callable(cond_fn) or not callable(body_fn):
        raise RuntimeError("Expect cond_fn and body_fn to be callable.")
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(f"carried_inputs must be a tuple or list, got {type(carried_inputs)}")
    leaves, spec = tree_flatten(tuple(carried_inputs))
    if any(not isinstance(t, int) and not isinstance(t, Tensor) for t in leaves):
        raise AssertionError(f"{leaves} can only be of (<class 'torch.Tensor'>, <class 'int'>, <class 'torch.SymInt'>) but got "
                             f"{tuple(type(t) for t in leaves)}")
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


__all__ = ["while_loop"]
