"""Switches of PyTorch's kernel libraries (PyTorch: ``torch.backends``): read and set as there, without effect here."""

from __future__ import annotations

import platform
from types import SimpleNamespace

from . import cudnn


def _library(available: bool, **flags: object) -> SimpleNamespace:
    return SimpleNamespace(is_available=lambda: available, **flags)


mps = _library(False, is_built=lambda: False)
mkl = _library(False)
mkldnn = _library(False, enabled=False)
openmp = _library(False)
cuda = SimpleNamespace(is_built=lambda: False, matmul=SimpleNamespace(allow_tf32=False),
                       flash_sdp_enabled=lambda: True, enable_flash_sdp=lambda enabled: None)
cpu = SimpleNamespace(get_cpu_capability=lambda: platform.machine())

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
