"""Transforms of functions (PyTorch: ``torch.func``): derivatives, vectorization, modules as functions of their parameters."""

from __future__ import annotations

from flambeau.autograd import function_levels as _function_levels  # noqa: F401 - makes autograd.Function known to transforms

from .batching import vmap
from .derivatives import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp
from .modules import functional_call, replace_all_batch_norm_modules_, stack_module_state

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize",
           "replace_all_batch_norm_modules_", "stack_module_state", "vjp", "vmap"]
