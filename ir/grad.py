"""What the tape and the joint graph share of differentiation: fitting gradients to inputs, and zeros for missing ones."""

from __future__ import annotations

from typing import Any

from .meta import TensorMeta
from .op import Op, ops


def fit_gradient(g: Any, like: Any) -> Any:
    """``g`` summed to the shape and cast to the dtype of the input ``like`` (which broadcasting and promotion undo)."""
    if g is None or not hasattr(like, "dtype"):
        return None
    if tuple(g.shape) != tuple(like.shape):
        g = ops.sum_to_size(g, tuple(like.shape))
    if g.dtype is not like.dtype:
        g = ops.real(g) if g.dtype.is_complex and not like.dtype.is_complex else g
        g = ops.cast(g, like.dtype)
    return g


def fit_gradients(op: Op, found: list[Any], args: tuple) -> list[Any]:
    """The gradients of ``op``'s tensor parameters as one flat list (``Tensor[]`` opened), fitted to the arguments."""
    flat: list[Any] = []
    for slot, g in zip(op.tensor_slots, found):
        a = args[slot]
        if isinstance(a, (list, tuple)):
            gs = [None] * len(a) if g is None else g
            flat += [fit_gradient(x, like) for x, like in zip(gs, a)]
        else:
            flat.append(fit_gradient(g, a))
    return flat


def zeros_of(meta: TensorMeta) -> Any:
    """A gradient of zeros for a value of this meta."""
    return ops.full(tuple(meta.shape), 0.0 if meta.dtype.is_floating_point else 0, dtype=meta.dtype, device=meta.device)
