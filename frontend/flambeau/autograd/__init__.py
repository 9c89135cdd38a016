"""Automatic differentiation (PyTorch: ``torch.autograd``)."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from flambeau.runtime import autograd as _tape
from flambeau.runtime.autograd import backward, grad
from flambeau.runtime.tensor import Tensor

from . import anomaly, grad_mode
from .anomaly import detect_anomaly, is_anomaly_check_nan_enabled, is_anomaly_enabled, set_anomaly_enabled, set_detect_anomaly
from .function import Function, FunctionCtx, once_differentiable
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .gradcheck import GradcheckError, gradcheck, gradgradcheck

if TYPE_CHECKING:
    from . import functional, profiler


def __getattr__(name: str) -> Any:
    """These are imported when they are first asked for."""
    if name not in ("graph", "forward_ad", "functional", "profiler"):
        raise AttributeError(f"module 'flambeau.autograd' has no attribute {name!r}")
    return importlib.import_module(f"flambeau.autograd.{name}")


def _batched_grad(*args: Any) -> tuple[Any, ...]:
    """``grad(is_grads_batched=True)``, which brings the rules of ``vmap`` when it is first called."""
    return importlib.import_module("flambeau.runtime.batched_grads").batched_grad(*args)


_tape.batched = _batched_grad


class set_multithreading_enabled(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """Accepted: backward runs in one thread."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        return None


def Variable(data: Tensor, requires_grad: bool = False, volatile: bool | None = None) -> Tensor:  # noqa: N802 - PyTorch's name
    """The tensor itself, as in PyTorch since 0.4; ``requires_grad`` is set on an alias of it."""
    return data.detach().requires_grad_() if requires_grad else data  # type: ignore[attr-defined]


__all__ = ["Function", "FunctionCtx", "GradcheckError", "Variable", "anomaly", "backward", "detect_anomaly", "enable_grad",
           "functional", "grad", "grad_mode", "gradcheck", "gradgradcheck", "inference_mode", "is_anomaly_enabled",
           "is_anomaly_check_nan_enabled", "is_grad_enabled", "no_grad", "once_differentiable", "profiler",
           "set_anomaly_enabled", "set_detect_anomaly", "set_grad_enabled", "set_multithreading_enabled"]
