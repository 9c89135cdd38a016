"""Helpers of distributions (PyTorch: ``torch.distributions.utils``)."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import flambeau as fl

euler_constant = 0.57721566490153286060


def broadcast_all(*values: Any) -> tuple[Any, ...]:
    """Tensors and numbers as tensors of one shape. Raises ``ValueError`` for anything else."""
    if not all(isinstance(v, (fl.Tensor, numbers.Number)) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing "
                         "__torch_function__.")
    if not all(isinstance(v, fl.Tensor) for v in values):
        like = next((v for v in values if isinstance(v, fl.Tensor)), None)
        kind = {"dtype": fl.get_default_dtype()} if like is None else {"dtype": like.dtype, "device": like.device}
        values = tuple(v if isinstance(v, fl.Tensor) else fl.tensor(v, **kind) for v in values)
    return tuple(fl.broadcast_tensors(*values))


def standard_normal(shape: Any, like: Any) -> Any:
    """Standard normal numbers in ``like``'s dtype, on its device."""
    return fl.randn(tuple(shape), dtype=like.dtype, device=like.device)


def sum_rightmost(value: Any, dims: int) -> Any:
    """The sum over the last ``dims`` dimensions."""
    if dims == 0:
        return value
    return value.reshape(tuple(value.shape[:value.ndim - dims]) + (-1,)).sum(-1)


def logits_to_probs(logits: Any, is_binary: bool = False) -> Any:
    """Probabilities from (log-)odds."""
    return fl.sigmoid(logits) if is_binary else fl.softmax(logits, -1)


def clamp_probs(probs: Any) -> Any:
    """Probabilities away from 0 and 1 by the dtype's precision."""
    eps = fl.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Any:
    """(Log-)odds from probabilities."""
    clamped = clamp_probs(probs)
    return fl.log(clamped) - fl.log1p(-clamped) if is_binary else fl.log(clamped)


class lazy_property:  # noqa: N801 - PyTorch's name
    """A property computed once, with gradients, and then stored on the object."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        if obj is None:
            return self
        with fl.enable_grad():
            found = self.compute(obj)
        obj.__dict__[self.name] = found
        return found


def tril_matrix_to_vec(mat: Any, diag: int = 0) -> Any:
    """The elements on and below diagonal ``diag`` of matrices [..., n, n], row by row."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    rows, columns = fl.tril_indices(n, n, diag)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Any, diag: int = 0) -> Any:
    """The reverse of :func:`tril_matrix_to_vec`, zeros elsewhere."""
    count = vec.shape[-1]
    n = (-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * count + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    if round(n) != n:
        raise ValueError(f"The size of last dimension is {count} which cannot be expressed as the lower triangular part of a "
                         "square D x D matrix.")
    rows, columns = fl.tril_indices(round(n), round(n), diag)
    flat = vec.new_zeros((*vec.shape[:-1], round(n) * round(n)))
    index = (rows * round(n) + columns).expand(tuple(vec.shape))
    return flat.scatter(-1, index, vec).reshape((*vec.shape[:-1], round(n), round(n)))
