"""Gradients kept small (PyTorch: ``torch.nn.utils.clip_grad``)."""

from __future__ import annotations

import types
import warnings
from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor


def _listed(parameters: Any) -> list[Any]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """The ``norm_type``-norm of all tensors taken as one vector. Raises ``RuntimeError`` (if asked to) unless it is finite."""
    tensors, norm_type = _listed(tensors), float(norm_type)
    if not tensors:
        return ops.full((), 0.0)
    with GradMode(False):
        norms = [ops.vector_norm(t, norm_type).to(tensors[0].device) for t in tensors]
        total = ops.vector_norm(ops.stack(norms, 0), norm_type)
    if error_if_nonfinite and not ops.isfinite(total).item():
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
                           "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
                           "`error_if_nonfinite=False`")
    return total


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale all gradients by ``max_norm / total_norm`` where that is below 1."""
    with GradMode(False):
        scale = ops.clamp(float(max_norm) / (total_norm + 1e-6), None, 1.0)
        for p in _listed(parameters):
            if p.grad is not None:
                p.grad.mul_(scale.to(p.grad.device))


def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                    foreach: bool | None = None) -> Any:
    """Scale the gradients, in place, so that their norm as one vector is ``max_norm`` at most; returns the norm before."""
    generated = isinstance(parameters, types.GeneratorType)
    found = _listed(parameters)
    if generated and not found:
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2)
    total = get_total_norm([p.grad for p in found if p.grad is not None], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(found, max_norm, total)
    return total


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                   foreach: bool | None = None) -> Any:
    """The old name of :func:`clip_grad_norm_`."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.",
                  FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Clamp the gradients, in place, to [-clip_value, clip_value]."""
    with GradMode(False):
        for p in _listed(parameters):
            if p.grad is not None:
                p.grad.clamp_(-float(clip_value), float(clip_value))


__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]
