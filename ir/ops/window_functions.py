"""Window functions for spectra (PyTorch: ``torch.hann_window`` and its like)."""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..family import ops
from ..op import public
from .random import _done


def _bartlett(n: Any, last: int) -> Any:
    return 1.0 - ops.abs(n * (2.0 / last) - 1.0)


def _cosine(n: Any, last: int, alpha: float, beta: float) -> Any:
    return ops.cos(n * (2 * math.pi / last)) * -beta + alpha


def _blackman(n: Any, last: int) -> Any:
    return ops.cos(n * (4 * math.pi / last)) * 0.08 - ops.cos(n * (2 * math.pi / last)) * 0.5 + 0.42


def _kaiser(n: Any, last: int, beta: float) -> Any:
    height = 1.0 - ops.square(n * (2.0 / last) - 1.0)
    scale = ops.i0(ops.full((), beta, dtype=n.dtype, device=n.device))
    return ops.i0(ops.sqrt(ops.clamp(height, 0.0)) * beta) / scale


def _window(name: str, shape: Any, length: int, periodic: bool, options: dict[str, Any]) -> Any:
    """``shape(n, last)`` at n = 0 ... last; a periodic window is the symmetric one of a size more, without its end."""
    dtype = options["dtype"] or _dtype.get_default_dtype()
    if not dtype.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if length <= 1:
        found = ops.full((length,), 1, dtype=dtype, device=options["device"])
    else:
        wide = _dtype.float32 if dtype.itemsize == 2 else dtype
        found = shape(ops.arange(0, length, 1, dtype=wide, device=options["device"]), length if periodic else length - 1)
        found = ops.cast(found, dtype)
    return _done(found, options["requires_grad"])


def _publish(name: str, shape: Any, doc: str) -> None:
    def make(window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = None, device: Any = None,
             pin_memory: bool = False, requires_grad: bool = False) -> Any:
        return _window(name, shape, window_length, periodic,
                       {"dtype": dtype, "device": device, "requires_grad": requires_grad})

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc + " Shape: [window_length]. ``periodic``: as one period, for spectra; else symmetric."
    public(f"torch.{name}")(make)


_publish("bartlett_window", _bartlett, "A triangle.")
_publish("hann_window", lambda n, last: _cosine(n, last, 0.5, 0.5), "A raised cosine.")
_publish("blackman_window", _blackman, "A sum of two cosines.")


@public("torch.hamming_window")
def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype: Any = None,
                   layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Any:
    """``alpha - beta cos``. Shape: [window_length]. ``periodic``: as one period, for spectra; else symmetric."""
    return _window("hamming_window", lambda n, last: _cosine(n, last, alpha, beta), window_length, periodic,
                   {"dtype": dtype, "device": device, "requires_grad": requires_grad})


@public("torch.kaiser_window")
def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None, layout: Any = None,
                  device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Any:
    """Kaiser's window of shape ``beta``. Shape: [window_length]. ``periodic``: as one period, for spectra; else symmetric."""
    return _window("kaiser_window", lambda n, last: _kaiser(n, last, beta), window_length, periodic,
                   {"dtype": dtype, "device": device, "requires_grad": requires_grad})
