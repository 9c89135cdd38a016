"""What layers are called below ``nn.functional``: the ``native_`` and ``_`` operators, composed of the ops behind layers."""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..family import ops
from ..op import public
from .norm import upcast
from .pool import window_geometry
from .resize import antialiased, grid_sample

# ---- normalisation --------------------------------------------------------------------------------------------------


def _moved(running: Any, value: Any, momentum: float) -> None:
    if running is not None:
        ops.copy_(running, running * (1 - momentum) + ops.detach(value) * momentum)


def _batch_norm(x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
                eps: float) -> tuple:
    """Output, and the batch's mean and inverse deviation (empty outside training); running statistics move in place."""
    kind = x.dtype if weight is None else weight.dtype
    if not training:
        nothing = ops.full((0,), 0, dtype=kind, device=x.device)
        return ops.batch_norm_eval(x, running_mean, running_var, weight, bias, eps), nothing, nothing
    out, mean, var = ops.batch_norm_train(x, weight, bias, eps)
    n = math.prod(x.shape) // x.shape[1]
    _moved(running_mean, mean, momentum)
    _moved(running_var, var * (n / (n - 1) if n > 1 else math.nan), momentum)
    return out, ops.cast(ops.detach(mean), kind), ops.cast(ops.rsqrt(ops.detach(var) + eps), kind)


@public("torch.native_batch_norm")
def native_batch_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,  # noqa: A002
                      momentum: float, eps: float, *, out: Any = None) -> tuple:
    """Batch norm with its statistics: output, mean and inverse deviation. Shapes: [N, C, *] -> same, [C], [C]."""
    found = _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)
    return found if out is None else tuple(o.resize_(tuple(r.shape)).copy_(r) for o, r in zip(out, found))


@public("torch._native_batch_norm_legit")
def native_batch_norm_legit(input: Any, weight: Any, bias: Any, *rest: Any) -> tuple:  # noqa: A002
    """``native_batch_norm``; running statistics may be left out of the arguments."""
    running_mean, running_var = rest[:2] if len(rest) == 5 else (None, None)
    training, momentum, eps = rest[-3:]
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


@public("torch._batch_norm_with_update")
def batch_norm_with_update(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any,  # noqa: A002
                           momentum: float, eps: float) -> tuple:
    """``native_batch_norm`` in training, and an empty tensor of bytes."""
    found = _batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)
    return (*found, ops.full((0,), 0, dtype=_dtype.uint8, device=input.device))


@public("torch._batch_norm_no_update")
def batch_norm_no_update(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any,  # noqa: A002
                         momentum: float, eps: float) -> tuple:
    """``native_batch_norm`` in evaluation, and an empty tensor of bytes."""
    found = _batch_norm(input, weight, bias, running_mean, running_var, False, momentum, eps)
    return (*found, ops.full((0,), 0, dtype=_dtype.uint8, device=input.device))


def _statistics(rows: Any, eps: float, like: Any) -> tuple:
    """Mean and inverse deviation of the last dimension, which stays with size 1."""
    wide = upcast(rows)
    mean = ops.mean(wide, (-1,), True)
    centred = wide - mean
    scale = ops.rsqrt(ops.mean(centred * centred, (-1,), True) + eps)
    return ops.cast(mean, like), ops.cast(scale, like)


@public("torch.native_layer_norm")
def native_layer_norm(input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> tuple:  # noqa: A002
    """Layer norm with its statistics. Shapes: [*lead, *n] -> same, [*lead, *1], [*lead, *1]."""
    n = len(normalized_shape)
    lead = tuple(input.shape[:input.ndim - n])
    shape = (*lead, *(1,) * n)
    rows = ops.reshape(input, (*lead, math.prod(normalized_shape)))
    mean, scale = _statistics(ops.detach(rows), eps, input.dtype if weight is None else weight.dtype)
    out = ops.layer_norm(input, tuple(normalized_shape), weight, bias, eps)
    return out, ops.reshape(mean, shape), ops.reshape(scale, shape)


@public("torch.native_group_norm")
def native_group_norm(input: Any, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int,  # noqa: A002, N803
                      eps: float) -> tuple:
    """Group norm with its statistics. Shapes: [N, C, *] -> same, [N, group], [N, group]."""
    rows = ops.reshape(input, (N, group, C * HxW // group))
    mean, scale = _statistics(rows, eps, input.dtype if weight is None else weight.dtype)
    return ops.group_norm(input, group, weight, bias, eps), ops.squeeze(mean, (-1,)), ops.squeeze(scale, (-1,))


# ---- dropout and softmax --------------------------------------------------------------------------------------------


@public("torch.native_dropout")
def native_dropout(input: Any, p: float, train: bool | None = True) -> tuple:  # noqa: A002
    """Dropout and the mask of what it kept. Shape: any -> same, same (bool)."""
    if train is False or not input.numel():
        return input, ops.full(tuple(input.shape), True, dtype=_dtype.bool_, device=input.device)
    kept = ops.bernoulli_fill(tuple(input.shape), 1 - p, dtype=_dtype.bool_, device=input.device)
    return input * kept * (1 / (1 - p) if p < 1 else 0.0), kept


@public("aten.native_dropout_backward")
def native_dropout_backward(grad_output: Any, mask: Any, scale: float) -> Any:
    """The gradient of dropout's input."""
    return grad_output * mask * scale


@public("torch._softmax_backward_data")
def softmax_backward_data(grad_output: Any, output: Any, dim: int, input_dtype: Any) -> Any:
    """The gradient of softmax's input, from that of its output."""
    output = upcast(output)
    product = upcast(grad_output) * output
    return ops.cast(product - output * ops.sum(product, (dim,), True), input_dtype)


@public("torch._log_softmax_backward_data")
def log_softmax_backward_data(grad_output: Any, output: Any, dim: int, input_dtype: Any) -> Any:
    """The gradient of log-softmax's input, from that of its output."""
    grad_output = upcast(grad_output)
    return ops.cast(grad_output - ops.exp(upcast(output)) * ops.sum(grad_output, (dim,), True), input_dtype)


@public("aten._safe_softmax")
def safe_softmax(self: Any, dim: int, dtype: Any = None) -> Any:
    """Softmax, with zeros where every element along ``dim`` is minus infinity."""
    hidden = ops.all(ops.eq(self, -math.inf), dim, True)
    return ops.where(hidden, 0.0, ops.softmax(ops.where(hidden, 0.0, self), dim, dtype))


# ---- indices that may lie outside -----------------------------------------------------------------------------------


def _held(x: Any, indices: Any) -> list:
    """Indices moved inside ``x``; None stays."""
    return [i if i is None else ops.clamp(i, -x.shape[d], x.shape[d] - 1) for d, i in enumerate(indices)]


@public("torch._unsafe_masked_index")
def unsafe_masked_index(self: Any, mask: Any, indices: Any, fill: Any) -> Any:
    """``self[indices]`` where ``mask`` holds, ``fill`` elsewhere; indices outside are allowed there."""
    if not self.numel():
        return ops.full(tuple(ops.broadcast_tensors(*[i for i in indices if i is not None], mask)[0].shape), fill,
                        dtype=self.dtype, device=self.device)
    return ops.masked_fill(ops.index(self, _held(self, indices)), ops.logical_not(mask), fill)


@public("torch._unsafe_masked_index_put_accumulate")
def unsafe_masked_index_put_accumulate(self: Any, mask: Any, indices: Any, values: Any) -> Any:
    """``values`` added to ``self`` at ``indices`` where ``mask`` holds."""
    if not self.numel():
        return ops.clone(self)
    kept = ops.masked_fill(values, ops.logical_not(mask), 0)
    return ops.index_put(self, _held(self, indices), kept, True)


# ---- images ---------------------------------------------------------------------------------------------------------

_MODES, _PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def _grid_sampler(name: str, ndim: int | None) -> None:
    def sampler(input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Any:  # noqa: A002
        if ndim is not None and input.ndim != ndim:
            raise RuntimeError(f"{name}(): expected {ndim}D input, but got input with sizes {list(input.shape)}")
        return grid_sample(input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = "``nn.functional.grid_sample`` with its modes as numbers."
    public(f"torch.{name}")(sampler)


for _name, _ndim in (("grid_sampler", None), ("grid_sampler_2d", 4), ("grid_sampler_3d", 5)):
    _grid_sampler(_name, _ndim)


@public("aten.max_pool2d_with_indices_backward")
def max_pool2d_with_indices_backward(grad_output: Any, self: Any, kernel_size: Any, stride: Any, padding: Any,
                                     dilation: Any, ceil_mode: bool, indices: Any) -> Any:
    """The gradient of max pooling's input, given where each maximum was found. Shapes: [N, C, H, W] -> that of ``self``."""
    kernel, step, spread, pads = window_geometry("max_pool2d", self, 2, kernel_size, stride, padding, dilation, ceil_mode)
    return ops.max_pool_backward(grad_output, indices, tuple(self.shape[-2:]), kernel, step, pads, spread)


def _smooth_upsampler(mode: str) -> None:
    def upsample(input: Any, output_size: Any, align_corners: bool, scales_h: Any = None, scales_w: Any = None, *,  # noqa: A002
                 scale_factors: Any = None) -> Any:
        scales = tuple(scale_factors) if scale_factors is not None else (scales_h, scales_w)
        if isinstance(scales_h, (tuple, list)):
            scales = tuple(scales_h)
        if output_size is None:
            output_size = tuple(int(n * f) for n, f in zip(input.shape[2:], scales))
        return antialiased(input, output_size, scales, mode, align_corners)

    upsample.__name__ = upsample.__qualname__ = f"_upsample_{mode}2d_aa"
    upsample.__doc__ = "``interpolate`` with ``antialias=True``. Shapes: [N, C, H, W] -> [N, C, *output_size]."
    public(f"torch._upsample_{mode}2d_aa")(upsample)


for _mode in ("bilinear", "bicubic"):
    _smooth_upsampler(_mode)
