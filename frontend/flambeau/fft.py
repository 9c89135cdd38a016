"""Discrete Fourier transforms (PyTorch: ``torch.fft``): the functions live with the ops, in ``ir/ops/fft.py``."""

from __future__ import annotations

from flambeau.ir import late
from flambeau.ir.op import PUBLIC

late.load_module("fft")
globals().update(PUBLIC["fft"])

__all__ = [*PUBLIC["fft"]]
