"""Automatic differentiation (PyTorch: ``torch.autograd``)."""

from __future__ import annotations

from flambeau.runtime.autograd import backward, grad
from flambeau.runtime.tensor import Tensor

from . import anomaly, functional, grad_mode, profiler
from .anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from .function import Function, FunctionCtx, once_differentiable
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .gradcheck import GradcheckError, gradcheck, gradgradcheck


def Variable(data: Tensor, requires_grad: bool = False, volatile: bool | None = None) -> Tensor:  # noqa: N802 - PyTorch's name
    """The tensor itself, as in PyTorch since 0.4; ``requires_grad`` is set on an alias of it."""
    return data.detach().requires_grad_() if requires_grad else data  # type: ignore[attr-defined]


__all__ = ["Function", "FunctionCtx", "GradcheckError", "Variable", "anomaly", "backward", "detect_anomaly", "enable_grad",
           "functional", "grad", "grad_mode", "gradcheck", "gradgradcheck", "inference_mode", "is_anomaly_enabled",
           "is_grad_enabled", "no_grad", "once_differentiable", "profiler", "set_detect_anomaly", "set_grad_enabled"]
