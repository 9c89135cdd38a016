"""Gradients of convolutions (PyTorch: ``torch.nn.grad``)."""

from __future__ import annotations

from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime import autograd

from . import functional as F


def _gradient(n: int, wanted: int, input: Any, weight: Any, grad_output: Any, *settings: Any) -> Any:
    """The gradient of an ``n``-dimensional convolution for its input (``wanted`` 0) or its weight (1), at ``grad_output``."""
    operands = [ops.detach(input), ops.detach(weight)]
    stride, padding, dilation, groups = settings
    with autograd.GradMode(True):
        operands[wanted].requires_grad_()
        out = getattr(F, f"conv{n}d")(*operands, None, stride, padding, dilation, groups)
    return autograd.grad(out, [operands[wanted]], grad_output)[0]


def _input_gradient(n: int) -> Any:
    def conv_input(input_size: Any, weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                   groups: int = 1) -> Any:
        zeros = ops.zeros(tuple(input_size), dtype=grad_output.dtype, device=grad_output.device)
        return _gradient(n, 0, zeros, weight, grad_output, stride, padding, dilation, groups)

    conv_input.__name__ = conv_input.__qualname__ = f"conv{n}d_input"
    conv_input.__doc__ = f"The gradient of ``conv{n}d`` for its input [N, C_in, *in]."
    return conv_input


def _weight_gradient(n: int) -> Any:
    def conv_weight(input: Any, weight_size: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                    groups: int = 1) -> Any:
        zeros = ops.zeros(tuple(weight_size), dtype=grad_output.dtype, device=grad_output.device)
        return _gradient(n, 1, input, zeros, grad_output, stride, padding, dilation, groups)

    conv_weight.__name__ = conv_weight.__qualname__ = f"conv{n}d_weight"
    conv_weight.__doc__ = f"The gradient of ``conv{n}d`` for its weight [C_out, C_in / groups, *kernel]."
    return conv_weight


conv1d_input, conv2d_input, conv3d_input = map(_input_gradient, (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = map(_weight_gradient, (1, 2, 3))

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]
