"""Weights as length times direction (Salimans & Kingma 2016), by a hook (PyTorch: ``torch.nn.utils.weight_norm``)."""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.ir.op import ops

from ..module import Module
from ..parameter import Parameter, is_lazy


def norm_except_dim(v: Any, dim: int) -> Any:
    """The length of each slice of ``v`` along ``dim``, sizes of 1 elsewhere; of all of ``v`` if ``dim`` is -1."""
    if dim == -1:
        return ops.vector_norm(v, 2)
    others = [d for d in range(v.ndim) if d != dim]
    return ops.vector_norm(v, 2, others, True) if others else abs(v)


def normed(v: Any, g: Any, dim: int) -> Any:
    """``v`` with its slices along ``dim`` of the lengths ``g``."""
    return v * (g / norm_except_dim(v, dim))


class WeightNorm:
    """The hook: before each call it computes the weight from ``NAME_g`` and ``NAME_v``."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Any:
        """The weight that the two parameters make."""
        return normed(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    @staticmethod
    def apply(module: Module, name: str, dim: int | None) -> WeightNorm:
        """Replace the parameter by two. Raises ``RuntimeError`` if that was done before."""
        warnings.warn("`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`.",
                      FutureWarning, stacklevel=3)
        if any(isinstance(hook, WeightNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
        fn, weight = WeightNorm(name, dim), getattr(module, name)
        if is_lazy(weight):
            raise ValueError("The module passed to `WeightNorm` can't have uninitialized parameters. Make sure to run the dummy "
                             "forward before applying weight normalization")
        del module._parameters[name]
        module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, fn.dim).data))
        module.register_parameter(name + "_v", Parameter(weight.data))
        setattr(module, name, fn.compute_weight(module))
        module.register_forward_pre_hook(fn)
        return fn

    def remove(self, module: Module) -> None:
        """Make the weight one parameter again."""
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"], module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.data))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a parameter into length and direction along ``dim`` (None: one length for all of it)."""
    WeightNorm.apply(module, name, dim)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Take :func:`weight_norm` back. Raises ``ValueError`` where there is none."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(f"weight_norm of '{name}' not found in {module}")


__all__ = ["WeightNorm", "remove_weight_norm", "weight_norm"]
