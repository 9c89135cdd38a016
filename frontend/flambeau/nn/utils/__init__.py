"""Gradients clipped, parameters as one vector (PyTorch: ``torch.nn.utils``)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime import autograd
from flambeau.runtime.tensor import Tensor

from . import rnn


def _with_grads(parameters: Any) -> list[Any]:
    return [p for p in ([parameters] if isinstance(parameters, Tensor) else parameters) if p.grad is not None]


def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """The ``norm_type``-norm of all tensors taken as one vector."""
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not tensors:
        return ops.full((), 0.0)
    with autograd.GradMode(False):
        if math.isinf(norm_type):
            total = ops.amax(ops.stack([ops.amax(abs(t)) for t in tensors], 0))
        elif norm_type == 2:
            total = ops.sqrt(ops.sum(ops.stack([ops.sum(t * t) for t in tensors], 0)))
        else:
            total = ops.sum(ops.stack([ops.sum(abs(t) ** norm_type) for t in tensors], 0)) ** (1.0 / norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
                           "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
                           "`error_if_nonfinite=False`")
    return total


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale all gradients by ``max_norm / total_norm`` where that is below 1."""
    with autograd.GradMode(False):
        scale = ops.clamp(max_norm / (total_norm + 1e-6), None, 1.0)
        for p in _with_grads(parameters):
            p.grad.mul_(scale)


def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                    foreach: bool | None = None) -> Any:
    """Scale the gradients, in place, so that their norm as one vector is ``max_norm`` at most; returns the norm before."""
    found = _with_grads(parameters if isinstance(parameters, Tensor) else list(parameters))
    total = get_total_norm([p.grad for p in found], float(norm_type), error_if_nonfinite)
    clip_grads_with_norm_(found, float(max_norm), total)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Clamp the gradients, in place, to [-clip_value, clip_value]."""
    with autograd.GradMode(False):
        for p in _with_grads(parameters):
            p.grad.clamp_(-float(clip_value), float(clip_value))


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters as one vector."""
    return ops.cat([ops.reshape(p, (p.numel(),)) for p in parameters], 0)


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Set the parameters to consecutive parts of ``vec``."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec)}")
    start = 0
    for p in parameters:
        p.data = ops.reshape(ops.narrow(vec, 0, start, p.numel()), tuple(p.shape)).data
        start += p.numel()


__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm", "parameters_to_vector", "rnn",
           "vector_to_parameters"]
