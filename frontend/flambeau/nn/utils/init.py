"""Modules without initial values, and weights in another memory order (PyTorch: ``torch.nn.utils.skip_init`` and
``memory_format``)."""

from __future__ import annotations

import inspect
from typing import Any

from ..module import Module


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Module:
    """A module whose parameters and buffers are left uninitialized. Raises ``RuntimeError`` for a class without ``device``."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    device = kwargs.pop("device", "cpu")
    return module_cls(*args, device="meta", **kwargs).to_empty(device=device)


def convert_conv2d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """``module`` as it is: tensors are row-major here, whatever the format asked for."""
    return module


convert_conv3d_weight_memory_format = convert_conv2d_weight_memory_format

__all__ = ["convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format", "skip_init"]
