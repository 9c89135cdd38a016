"""Dropout: multiplication by a random mask. The mask is drawn by one random op, so that it is saved, not drawn again."""

from __future__ import annotations

import math
from typing import Any

from ..family import ops
from ..op import public
from .random import drawn_like


def _check(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _mask(x: Any, shape: tuple, p: float) -> Any:
    """Ones with probability ``1 - p``, else zeros."""
    if shape == tuple(x.shape):
        return drawn_like(x, ops.bernoulli_fill, 1.0 - p, dtype=x.dtype, device=x.device)
    return ops.bernoulli_fill(shape, 1.0 - p, dtype=x.dtype, device=x.device)


def _scaled(x: Any, shape: tuple, p: float) -> Any:
    if p == 1.0:
        return x * 0
    if p == 0.0:
        return x
    return x * (_mask(x, shape, p) / (1.0 - p))


def _result(x: Any, out: Any, inplace: bool) -> Any:
    return ops.copy_(x, out) if inplace else out


@public("nn.functional.dropout")
def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero elements with probability ``p`` and scale the rest by ``1 / (1 - p)``, in training. Shape: any -> same."""
    _check(p)
    if not training:
        return input
    return _result(input, _scaled(input, tuple(input.shape), p), inplace)


@public("torch.dropout")
def dropout_call(input: Any, p: float, train: bool) -> Any:
    """``nn.functional.dropout`` with PyTorch's other signature."""
    return dropout(input, p, train)


def _feature(n: int) -> None:
    def function(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        _check(p)
        if not training:
            return input
        lead = 1 if input.ndim == n + 1 and n != 2 else 2  # dropout2d reads 3-D input as [N, C, L]
        shape = (*input.shape[:lead], *(1,) * (input.ndim - lead))
        return _result(input, _scaled(input, shape, p), inplace)

    function.__name__ = function.__qualname__ = f"dropout{n}d"
    function.__doc__ = f"Zero whole channels with probability ``p`` ({n} spatial dimensions). Shapes: [N, C, *] -> same."
    public(f"nn.functional.dropout{n}d")(function)


for _n in (1, 2, 3):
    _feature(_n)

_ALPHA = -1.7580993408473766  # minus scale * alpha of selu: the value its negative side saturates to


def _alpha_dropout(x: Any, shape: tuple, p: float) -> Any:
    """Dropped elements take selu's saturated value, and an affine map restores mean 0 and variance 1."""
    if p == 0.0:
        return x
    if p == 1.0:
        return x * 0
    mask = _mask(x, shape, p)
    a = 1 / math.sqrt((_ALPHA ** 2 * p + 1) * (1 - p))
    shift = ((mask - 1) * (_ALPHA * a)) * -1 + _ALPHA * a * -p
    return x * (mask * a) + shift


@public("nn.functional.alpha_dropout")
def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout that keeps zero mean and unit variance, for networks of ``selu``. Shape: any -> same."""
    _check(p)
    return _result(input, _alpha_dropout(input, tuple(input.shape), p), inplace) if training else input


@public("nn.functional.feature_alpha_dropout")
def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """``alpha_dropout`` of whole channels. Shapes: [N, C, *] -> same."""
    _check(p)
    shape = (*input.shape[:2], *(1,) * (input.ndim - 2))
    return _result(input, _alpha_dropout(input, shape, p), inplace) if training else input
