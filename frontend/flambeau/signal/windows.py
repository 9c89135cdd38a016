"""Window functions (PyTorch: ``torch.signal.windows``): 1-D tensors of ``M`` weights.

``sym`` gives the symmetric window for filters; without it the periodic one for spectra, which is the symmetric window of
``M + 1`` weights without its last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir.op import ops, public

_SYNTAX = "Keywords as PyTorch's: ``sym``, ``dtype`` (float32 or float64), ``layout``, ``device``, ``requires_grad``."


def _checked(name: str, M: int, dtype: Any, layout: Any) -> Any:  # noqa: N803 - PyTorch's name
    """The dtype. Raises ``ValueError`` for what no window can be made of."""
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not None and str(layout) != "torch.strided":
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    dtype = dtype or _dtype.get_default_dtype()
    if dtype not in (_dtype.float32, _dtype.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {dtype}")
    return dtype


def _finish(window: Any, requires_grad: bool) -> Any:
    return window.requires_grad_() if requires_grad else window


def _ones(M: int, dtype: Any, device: Any, requires_grad: bool) -> Any:  # noqa: N803
    """The windows of no weight, and of one."""
    return _finish(ops.full((M,), 1.0, dtype=dtype, device=device), requires_grad)


def _period(M: int, sym: bool, least: int = 0) -> int:  # noqa: N803
    """How many steps the window's range is divided into."""
    return M - 1 + (not sym and least < M)


@public("signal.windows.exponential")
def exponential(M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None,  # noqa: N803
                layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """``exp(-|n - center| / tau)``. Shape: [M]."""
    dtype = _checked("exponential", M, dtype, layout)
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    if M == 0:
        return _ones(M, dtype, device, requires_grad)
    middle = _period(M, sym, 1) / 2.0 if center is None else center
    k = ops.linspace(-middle / tau, (M - 1 - middle) / tau, M, dtype=dtype, device=device)
    return _finish(ops.exp(-abs(k)), requires_grad)


@public("signal.windows.cosine")
def cosine(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,  # noqa: N803
           requires_grad: bool = False) -> Any:
    """``sin(pi (n + 0.5) / M)``. Shape: [M]."""
    dtype = _checked("cosine", M, dtype, layout)
    if M == 0:
        return _ones(M, dtype, device, requires_grad)
    step = math.pi / (_period(M, sym, 1) + 1)
    k = ops.linspace(0.5 * step, (0.5 + (M - 1)) * step, M, dtype=dtype, device=device)
    return _finish(ops.sin(k), requires_grad)


@public("signal.windows.gaussian")
def gaussian(M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None,  # noqa: N803
             device: Any = None, requires_grad: bool = False) -> Any:
    """``exp(-n^2 / (2 std^2))``, n counted from the middle. Shape: [M]."""
    dtype = _checked("gaussian", M, dtype, layout)
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    if M == 0:
        return _ones(M, dtype, device, requires_grad)
    start, step = -_period(M, sym, 1) / 2.0, 1 / (std * math.sqrt(2))
    k = ops.linspace(start * step, (start + (M - 1)) * step, M, dtype=dtype, device=device)
    return _finish(ops.exp(-(k * k)), requires_grad)


@public("signal.windows.kaiser")
def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = None,  # noqa: N803
           device: Any = None, requires_grad: bool = False) -> Any:
    """``i0(beta sqrt(1 - (2 n / (M - 1) - 1)^2)) / i0(beta)``. Shape: [M]."""
    dtype = _checked("kaiser", M, dtype, layout)
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    if M < 2:
        return _ones(M, dtype, device, requires_grad)
    step = 2.0 * beta / _period(M, sym)
    k = ops.linspace(-beta, min(beta, -beta + (M - 1) * step), M, dtype=dtype, device=device)
    root = ops.sqrt(ops.clamp(beta * beta - k * k, 0))
    return _finish(ops.i0(root) / ops.i0(ops.full((), float(beta), dtype=dtype, device=device)), requires_grad)


@public("signal.windows.bartlett")
def bartlett(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,  # noqa: N803
             requires_grad: bool = False) -> Any:
    """A triangle from 0 over 1 to 0. Shape: [M]."""
    dtype = _checked("bartlett", M, dtype, layout)
    if M < 2:
        return _ones(M, dtype, device, requires_grad)
    k = ops.linspace(-1, -1 + (M - 1) * (2 / _period(M, sym)), M, dtype=dtype, device=device)
    return _finish(1 - abs(k), requires_grad)


@public("signal.windows.general_cosine")
def general_cosine(M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = None,  # noqa: N803
                   device: Any = None, requires_grad: bool = False) -> Any:
    """The sum of ``(-1)^i a[i] cos(2 pi i n / (M - 1))``. Shape: [M]."""
    dtype = _checked("general_cosine", M, dtype, layout)
    if M < 2:
        return _ones(M, dtype, device, requires_grad)
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    weights = list(a)
    if not weights:
        raise ValueError("Coefficients cannot be empty")
    k = ops.linspace(0, (M - 1) * (2 * math.pi / _period(M, sym)), M, dtype=dtype, device=device)
    total: Any = weights[0] * ops.ones_like(k)
    for i, weight in enumerate(weights[1:], 1):
        total = total + (-1) ** i * weight * ops.cos(i * k)
    return _finish(total, requires_grad)


@public("signal.windows.general_hamming")
def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, layout: Any = None,  # noqa: N803
                    device: Any = None, requires_grad: bool = False) -> Any:
    """``alpha - (1 - alpha) cos(2 pi n / (M - 1))``. Shape: [M]."""
    return general_cosine(M, a=[alpha, 1.0 - alpha], sym=sym, dtype=dtype, layout=layout, device=device,
                          requires_grad=requires_grad)


def _cosine_sum(name: str, weights: list[float]) -> Any:
    def window(M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,  # noqa: N803
               requires_grad: bool = False) -> Any:
        dtype = _checked(name, M, dtype, layout)
        return general_cosine(M, a=weights, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)

    window.__name__ = window.__qualname__ = name
    window.__doc__ = f"``general_cosine`` with the weights {weights}. Shape: [M]. {_SYNTAX}"
    return public(f"signal.windows.{name}")(window)


hamming = _cosine_sum("hamming", [0.54, 0.46])
hann = _cosine_sum("hann", [0.5, 0.5])
blackman = _cosine_sum("blackman", [0.42, 0.5, 0.08])
nuttall = _cosine_sum("nuttall", [0.3635819, 0.4891775, 0.1365995, 0.0106411])

__all__ = ["bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
           "hann", "kaiser", "nuttall"]
