"""Replicated modules (PyTorch: ``torch.nn.parallel``): with one device a replica is the module itself."""

from __future__ import annotations

from typing import Any

from .module import Module


class DataParallel(Module):
    """Runs ``module``, which its parameters' names begin with, on the one device there is."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


__all__ = ["DataParallel"]
