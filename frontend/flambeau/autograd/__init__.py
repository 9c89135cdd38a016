"""Automatic differentiation (PyTorch: ``torch.autograd``)."""

from flambeau.runtime.autograd import backward, grad

from . import functional, grad_mode
from .function import Function, FunctionCtx, once_differentiable
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .gradcheck import GradcheckError, gradcheck, gradgradcheck

__all__ = ["Function", "FunctionCtx", "GradcheckError", "backward", "enable_grad", "functional", "grad", "grad_mode",
           "gradcheck", "gradgradcheck", "inference_mode", "is_grad_enabled", "no_grad", "once_differentiable",
           "set_grad_enabled"]
