"""Batch normalisation folded into the layer before it, for evaluation (PyTorch: ``torch.nn.utils.fusion``)."""

from __future__ import annotations

import copy
from typing import Any

from flambeau.ir.op import ops

from ..parameter import Parameter


def _fused(w: Any, b: Any, mean: Any, var: Any, eps: float, scale: Any, shift: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Weight and bias of a layer that normalises its outputs, too; ``shape`` aligns the channels with the weight."""
    kinds = w.dtype, w.dtype if b is None else b.dtype
    learns = w.requires_grad, b is not None and b.requires_grad
    factor = ops.rsqrt(var + eps) if scale is None else scale * ops.rsqrt(var + eps)
    bias = ((-mean if b is None else b - mean) * factor + (0 if shift is None else shift)).to(kinds[1])
    return Parameter((w * ops.reshape(factor, shape)).to(kinds[0]), learns[0]), Parameter(bias, learns[1])


def fuse_conv_bn_weights(conv_w: Any, conv_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any,
                         transpose: bool = False) -> tuple[Any, Any]:
    """Weight [O, I, *] and bias [O] of a convolution that normalises its output, too."""
    rest = (1,) * (conv_w.ndim - 2)
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, (1, -1, *rest) if transpose else (-1, 1, *rest))


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of ``conv`` that computes ``bn(conv(x))``. Raises ``AssertionError`` unless both are in evaluation mode."""
    fused = _copied(conv, bn)
    fused.weight, fused.bias = fuse_conv_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
                                                    bn.bias, transpose)
    return fused


def fuse_linear_bn_weights(linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any,
                           bn_b: Any) -> tuple[Any, Any]:
    """Weight [O, I] and bias [O] of a linear layer that normalises its output, too."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, (-1, 1))


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of ``linear`` that computes ``bn(linear(x))``. Raises ``AssertionError`` unless the features agree."""
    fused = _copied(linear, bn)
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1, got "
                             f"linear.out_features={linear.out_features} and bn.num_features={bn.num_features}")
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps,
                                                      bn.weight, bn.bias)
    return fused


def _copied(layer: Any, bn: Any) -> Any:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None")
    return copy.deepcopy(layer)


__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]
