"""Normalisations. Each is a composite of reductions and elementwise maths; those of training have derivatives of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import composite, conj_of, ops
from ..op import public
from ..samples import S, T

_HALVES = (_dtype.float16, _dtype.bfloat16)


def upcast(x: Any) -> Any:
    """``x`` in float32 where it is of half precision: statistics are never accumulated in halves."""
    return ops.cast(x, _dtype.float32) if x is not None and x.dtype in _HALVES else x


def _like(x: Any, dtype: Any) -> Any:
    return x if x.dtype is dtype else ops.cast(x, dtype)


# ---- layer norm ---------------------------------------------------------------------------------------------------


def _trailing(x: Any, normalized_shape: Sequence[Any], name: str) -> tuple[int, ...]:
    """The axes that ``normalized_shape`` names. Raises ``RuntimeError`` where they do not match."""
    n = len(normalized_shape)
    if n < 1:
        raise RuntimeError(f"Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but "
                           f"got normalized_shape = {list(normalized_shape)} for {name}")
    if n > x.ndim or tuple(x.shape[x.ndim - n:]) != tuple(normalized_shape):
        shown = ", ".join(str(s) for s in normalized_shape)
        raise RuntimeError(f"Given normalized_shape={list(normalized_shape)}, expected input with shape "
                           f"[{'*' if not shown else '*, ' + shown}], but got input of size{list(x.shape)}")
    return tuple(range(x.ndim - n, x.ndim))


def _plain(eps: Any) -> Any:
    """The number, which is a tensor without dimensions in a graph where it changes between calls."""
    return getattr(eps, "_a", eps)


def _layer_norm_parts(x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    dims = _trailing(x, normalized_shape, "layer_norm")
    wide = upcast(x)
    centered = wide - ops.mean(wide, dims, True)
    out = centered * ops.rsqrt(ops.mean(centered * centered, dims, True) + eps)
    if weight is not None:
        out = out * weight
    if bias is not None:
        out = out + bias
    return _like(out, x.dtype)


def _rows(x: Any, normalized_shape: Sequence[int]) -> Any:
    """``x`` as a matrix with one row per group that is normalised."""
    n = math.prod(normalized_shape)
    return x.reshape(x.size // n if n else 0, n)


def _layer_norm_kernel(xp: Any, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    _trailing(x, normalized_shape, "layer_norm")
    rows = _rows(x, normalized_shape)
    out = rows - rows.mean(1, keepdims=True)
    scale = (1 / xp.sqrt(xp.einsum("ij,ij->i", out, out) / max(out.shape[1], 1) + _plain(eps))).astype(x.dtype)
    out *= scale[:, None]
    if weight is not None:
        out *= weight.reshape(-1)
    if bias is not None:
        out += bias.reshape(-1)
    return out.reshape(x.shape)


def _layer_norm_grads(g: Any, out: Any, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float, *,
                      needs: tuple[bool, ...]) -> tuple:
    dx, dw, db = ops.layer_norm_backward(g, x, normalized_shape, weight, eps)
    return dx if needs[0] else None, dw if needs[1] else None, db if needs[2] else None


layer_norm = composite(
    "layer_norm(Tensor self, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor",
    _layer_norm_parts, kernel=_layer_norm_kernel, joint_vjp=_layer_norm_grads, promote="keep", collapse="rows",
    api=(),
    tags=("amp:float32@cuda",),
    samples=lambda: [S(T((3, 4)), (4,), T((4,)), T((4,))), S(T((2, 3, 4)), (3, 4)), S(T((2, 3, 4)), (4,), T((4,)), None, 1e-3)],
    doc="``input`` less its mean over the trailing dimensions ``normalized_shape``, over its deviation, scaled and shifted.")


def _layer_norm_backward_parts(g: Any, x: Any, normalized_shape: Any, weight: Any, eps: float) -> tuple:
    """Gradients of input, weight and bias; the last two are sums over the leading dimensions, weight or not."""
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    lead = tuple(range(dims[0]))
    wide, g = upcast(x), upcast(g)
    centered = wide - ops.mean(wide, dims, True)
    scale = ops.rsqrt(ops.mean(centered * centered, dims, True) + eps)
    normal = centered * scale
    inner = g if weight is None else g * weight
    dx = (inner - ops.mean(inner, dims, True) - normal * ops.mean(inner * normal, dims, True)) * scale
    dw, db = g * normal, g
    if lead:
        dw, db = ops.sum(dw, lead), ops.sum(db, lead)
    return _like(dx, x.dtype), _like(dw, x.dtype), _like(db, x.dtype)


def _layer_norm_backward_kernel(xp: Any, g: Any, x: Any, normalized_shape: Any, weight: Any, eps: float) -> tuple:
    rows, g2 = _rows(x, normalized_shape), _rows(g, normalized_shape)
    n = max(rows.shape[1], 1)
    normal = rows - rows.mean(1, keepdims=True)
    scale = (1 / xp.sqrt(xp.einsum("ij,ij->i", normal, normal) / n + _plain(eps))).astype(x.dtype)[:, None]
    normal *= scale
    dw, db = xp.einsum("ij,ij->j", g2, normal), g2.sum(0)
    inner = g2 if weight is None else g2 * weight.reshape(-1)
    dx = inner - inner.mean(1, keepdims=True)
    normal *= (xp.einsum("ij,ij->i", inner, normal) / n).astype(x.dtype)[:, None]
    dx -= normal
    dx *= scale
    shape = tuple(normalized_shape)
    return dx.reshape(x.shape), dw.reshape(shape), db.reshape(shape)


layer_norm_backward = composite(
    "layer_norm_backward(Tensor grad, Tensor self, int[] normalized_shape, Tensor? weight, float eps)"
    " -> (Tensor, Tensor, Tensor)",
    _layer_norm_backward_parts, kernel=_layer_norm_backward_kernel, promote="keep", collapse="rows", api=(),
    samples=lambda: [S(T((3, 4)), T((3, 4)), (4,), T((4,)), 1e-5), S(T((2, 3, 4)), T((2, 3, 4)), (3, 4), None, 1e-5)],
    doc="Gradients of layer_norm's input, weight and bias.")


@public("nn.functional.layer_norm", "torch.layer_norm")
def layer_norm_call(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
                    cudnn_enable: bool = True) -> Any:
    """Normalise over the trailing dimensions ``normalized_shape``. Shapes: [..., *normalized_shape] -> same."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and tuple(p.shape) != shape:
            raise RuntimeError(f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                               f"{list(p.shape)} and normalized_shape = {list(shape)}")
    return ops.layer_norm(input, shape, weight, bias, eps)


# ---- rms norm -----------------------------------------------------------------------------------------------------


def _rms_norm_parts(x: Any, normalized_shape: Any, weight: Any, eps: Any) -> Any:
    dims = _trailing(x, normalized_shape, "rms_norm")
    if weight is not None and tuple(weight.shape) != tuple(normalized_shape):
        raise RuntimeError(f"Expected weight to be of same shape as normalized_shape, but got weight of shape "
                           f"{list(weight.shape)} and normalized_shape = {list(normalized_shape)}")
    wide = upcast(x)
    out = wide * ops.rsqrt(ops.mean(wide * wide, dims, True) + _rms_eps(eps, x))
    return _like(out if weight is None else out * weight, x.dtype)


def _rms_eps(eps: Any, x: Any) -> float:
    return float(np.finfo(np.float64 if x.dtype is _dtype.float64 else np.float32).eps) if eps is None else eps


def _rms_norm_grads(g: Any, out: Any, x: Any, normalized_shape: Any, weight: Any, eps: Any, *, needs: tuple) -> tuple:
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    wide, g = conj_of(upcast(x)), upcast(g)
    weight = None if weight is None else conj_of(weight)
    scale = ops.rsqrt(ops.mean(wide * wide, dims, True) + _rms_eps(eps, x))
    normal = wide * scale
    dx = dw = None
    if needs[0]:
        inner = g if weight is None else g * weight
        dx = (inner - normal * ops.mean(inner * normal, dims, True)) * scale
    if needs[1]:
        dw = ops.sum_to_size(g * normal, tuple(weight.shape))
    return dx, dw


rms_norm = composite(
    "rms_norm(Tensor self, int[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor", _rms_norm_parts,
    joint_vjp=_rms_norm_grads, collapse="rows", api=("torch.rms_norm", "nn.functional.rms_norm"),
    tags=("amp:float32@cuda",),
    samples=lambda: [S(T((3, 4)), (4,), T((4,))), S(T((2, 3, 4)), (3, 4)), S(T((2, 4)), (4,), None, 1e-3)],
    doc="``input`` over the root of its mean square over the trailing dimensions ``normalized_shape``, scaled.")


# ---- batch norm ---------------------------------------------------------------------------------------------------


def _per_channel(x: Any, ndim: int) -> Any:
    """A vector shaped to broadcast along dimension 1 of ``ndim`` dimensions."""
    return ops.reshape(x, (1, x.shape[0], *(1,) * (ndim - 2)))


def _others(x: Any) -> tuple[int, ...]:
    """All dimensions but the channels'."""
    return (0, *range(2, x.ndim))


def _count(x: Any) -> Any:
    return math.prod(x.shape[d] for d in _others(x))


def _affine(normal: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        normal = normal * _per_channel(weight, normal.ndim)
    return normal if bias is None else normal + _per_channel(bias, normal.ndim)


def _batch_norm_train_parts(x: Any, weight: Any, bias: Any, eps: float) -> tuple:
    wide, dims = upcast(x), _others(x)
    mean = ops.mean(wide, dims, True)
    centered = wide - mean
    var = ops.mean(centered * centered, dims, True)
    out = _affine(centered * ops.rsqrt(var + eps), weight, bias)
    return _like(out, x.dtype), ops.reshape(mean, (x.shape[1],)), ops.reshape(var, (x.shape[1],))


def _flat(x: Any) -> Any:
    """[N, C, *] as [N, C, P]."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _wide_array(x: Any) -> Any:
    """``x`` in float32 where it is of half precision (kernels that take arrays as they are)."""
    return x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x


def _batch_norm_train_kernel(xp: Any, x: Any, weight: Any, bias: Any, eps: float) -> tuple:
    wide = _flat(_wide_array(x))
    n = wide.shape[0] * wide.shape[2]
    mean = wide.mean((0, 2))
    out = wide - mean[:, None]
    var = xp.einsum("ncp,ncp->c", out, out) / wide.dtype.type(n)
    scale = (1 / xp.sqrt(var + _plain(eps))).astype(wide.dtype)
    out *= (scale if weight is None else scale * _wide_array(weight))[:, None]
    if bias is not None:
        out += _wide_array(bias)[:, None]
    return out.reshape(x.shape).astype(x.dtype, copy=False), mean, var


def _batch_norm_train_grads(g: Any, out: Any, x: Any, weight: Any, bias: Any, eps: float, *, needs: tuple) -> tuple:
    dx, dw, db = ops.batch_norm_backward(g[0], g[1], g[2], x, weight, eps)
    return dx if needs[0] else None, dw if needs[1] else None, db if needs[2] else None


batch_norm_train = composite(
    "batch_norm_train(Tensor self, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)",
    _batch_norm_train_parts, kernel=_batch_norm_train_kernel, joint_vjp=_batch_norm_train_grads, collapse="channels", api=(),
    samples=lambda: [S(T((4, 3)), T((3,)), T((3,)), 1e-5), S(T((2, 3, 4)), None, None, 1e-3),
                     S(T((2, 3, 2, 2)), T((3,)), T((3,)), 1e-5)],
    doc="Normalised by the statistics of the batch; also these, mean and (biased) variance. [N, C, *] -> same, [C], [C].")


def _batch_norm_backward_parts(g: Any, g_mean: Any, g_var: Any, x: Any, weight: Any, eps: float) -> tuple:
    """dx is, per channel, ``a * g + b * (x - mean) + c``: all sums are taken before, so one pass makes it."""
    dims, n, shape = _others(x), _count(x), (x.shape[1],)
    wide, g = upcast(x), upcast(g)
    mean = ops.mean(wide, dims, True)
    centered = wide - mean
    scale = ops.rsqrt(ops.mean(centered * centered, dims, True) + eps)
    db = ops.sum(g, dims, True)
    dot = ops.sum(g * centered, dims, True)
    a = scale if weight is None else scale * _per_channel(weight, x.ndim)
    b = (_per_channel(g_var, x.ndim) * 2 - a * scale * scale * dot) / n
    c = (_per_channel(g_mean, x.ndim) - a * db) / n
    dx = g * a + centered * b + c
    return _like(dx, x.dtype), ops.reshape(dot * scale, shape), ops.reshape(db, shape)


def _batch_norm_backward_kernel(xp: Any, g: Any, g_mean: Any, g_var: Any, x: Any, weight: Any, eps: float) -> tuple:
    wide, g3 = _flat(_wide_array(x)), _flat(_wide_array(g))
    kind = wide.dtype.type
    n = kind(max(wide.shape[0] * wide.shape[2], 1))
    centered = wide - wide.mean((0, 2))[:, None]
    scale = (1 / xp.sqrt(xp.einsum("ncp,ncp->c", centered, centered) / n + _plain(eps))).astype(wide.dtype)
    db = g3.sum((0, 2))
    dot = xp.einsum("ncp,ncp->c", g3, centered)
    a = scale if weight is None else scale * _wide_array(weight)
    b = (g_var * kind(2) - a * scale * scale * dot) / n
    c = (g_mean - a * db) / n
    centered *= b[:, None]
    centered += g3 * a[:, None]
    centered += c[:, None]
    return centered.reshape(x.shape).astype(x.dtype, copy=False), dot * scale, db


batch_norm_backward = composite(
    "batch_norm_backward(Tensor grad, Tensor grad_mean, Tensor grad_var, Tensor self, Tensor? weight, float eps)"
    " -> (Tensor, Tensor, Tensor)",
    _batch_norm_backward_parts, kernel=_batch_norm_backward_kernel, collapse="channels", api=(),
    samples=lambda: [S(T((4, 3)), T((3,)), T((3,)), T((4, 3)), T((3,)), 1e-5),
                     S(T((2, 3, 4)), T((3,)), T((3,)), T((2, 3, 4)), None, 1e-3)],
    doc="Gradients of batch_norm_train's input, weight and bias, given those of its three results.")


def _batch_norm_eval_parts(x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    wide = upcast(x)
    scale = ops.rsqrt(var + eps)
    out = (wide - _per_channel(mean, x.ndim)) * _per_channel(scale, x.ndim)
    return _like(_affine(out, weight, bias), x.dtype)


def _batch_norm_eval_kernel(xp: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    """One multiplication and one addition per element."""
    scale = 1 / xp.sqrt(_wide_array(var) + _plain(eps))
    if weight is not None:
        scale = scale * _wide_array(weight)
    shift = -_wide_array(mean) * scale
    if bias is not None:
        shift = shift + _wide_array(bias)
    wide = _flat(_wide_array(x))
    out = wide * scale.astype(wide.dtype)[:, None]
    out += shift.astype(wide.dtype)[:, None]
    return out.reshape(x.shape).astype(x.dtype, copy=False)


batch_norm_eval = composite(
    "batch_norm_eval(Tensor self, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    _batch_norm_eval_parts, kernel=_batch_norm_eval_kernel, collapse="channels", api=(),
    samples=lambda: [S(T((4, 3)), T((3,)), T((3,), 0.5, 2.0), T((3,)), T((3,)), 1e-5),
                     S(T((2, 3, 2, 2)), T((3,)), T((3,), 0.5, 2.0), None, None, 1e-5)],
    doc="Normalised by given statistics. [N, C, *], [C], [C] -> [N, C, *].")


def _unbiased(n: Any, momentum: float, like: Any) -> Any:
    """``momentum * n / (n - 1)``: a number, or a tensor where the batch has a symbolic size, which is to stay one."""
    if isinstance(n, int):
        return momentum * n / (n - 1)
    count = ops.full((), n, dtype=like.dtype, device=like.device)
    return count * momentum / (count - 1)


@public("nn.functional.batch_norm")
def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Any:
    """Normalise each channel over the batch. Shapes: [N, C, *] -> same.

    In training the batch's statistics are used, and ``running_mean`` and ``running_var`` (both or neither None) move
    towards them by ``momentum``, in place; otherwise the running statistics are used.
    """
    if input.ndim == 1 and not input.numel():
        weight, bias = (1 if v is None else v for v in (weight, bias))
        return input * weight + bias
    _check_channels(input, running_mean, running_var, weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when training=False")
        return ops.batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    n = _count(input)
    if n == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {_size_text(input)}")
    if isinstance(n, int) and n == 0:
        return _like(_affine(upcast(input), weight, bias), input.dtype)  # no statistics to take or to keep
    out, mean, var = ops.batch_norm_train(input, weight, bias, eps)
    if running_mean is not None:
        ops.copy_(running_mean, running_mean * (1 - momentum) + ops.detach(mean) * momentum)
    if running_var is not None:
        ops.copy_(running_var, running_var * (1 - momentum) + ops.detach(var) * _unbiased(n, momentum, var))
    return out


@public("torch.batch_norm")
def batch_norm_call(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,
                    momentum: float, eps: float, cudnn_enabled: bool) -> Any:
    """``nn.functional.batch_norm`` with PyTorch's other order of arguments."""
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _size_text(x: Any) -> str:
    return f"torch.Size([{', '.join(str(s) for s in x.shape)}])"


def _check_channels(x: Any, *vectors: Any) -> None:
    if x.ndim < 2:
        raise RuntimeError(f"batch_norm: expected input of at least 2 dimensions [N, C, *], but got {x.ndim}-D")
    names = ("running_mean", "running_var", "weight", "bias")
    for name, v in zip(names, vectors):
        if v is not None and tuple(v.shape) != (x.shape[1],):
            raise RuntimeError(f"{name} should contain {x.shape[1]} elements not {v.numel()}")


# ---- group, instance, local response ------------------------------------------------------------------------------


@public("nn.functional.group_norm", "torch.group_norm")
def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               cudnn_enabled: bool = True) -> Any:
    """Normalise over groups of channels and all positions. Shapes: [N, C, *] -> same; C a multiple of ``num_groups``."""
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    if input.shape[1] % num_groups:
        raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
                           f"{list(input.shape)} and num_groups={num_groups}")
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and tuple(p.shape) != (input.shape[1],):
            raise RuntimeError(f"Expected {name} to be a vector of size equal to the number of channels in input, but got "
                               f"{name} of shape {list(p.shape)} and input of shape {list(input.shape)}")
    return ops.group_norm(input, num_groups, weight, bias, eps)


def _group_norm_parts(x: Any, num_groups: int, weight: Any, bias: Any, eps: float) -> Any:
    size = math.prod(x.shape[1:]) // num_groups
    rows = ops.reshape(x, (x.shape[0], num_groups, size))
    return _affine(ops.reshape(ops.layer_norm(rows, (size,), None, None, eps), tuple(x.shape)), weight, bias)


group_norm_op = composite(
    "group_norm(Tensor self, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor",
    _group_norm_parts, api=(), tags=("amp:float32@cuda",),
    samples=lambda: [S(T((2, 4, 3)), 2, T((4,)), T((4,))), S(T((2, 4)), 2), S(T((1, 6, 2, 2)), 3)],
    doc="Normalised over groups of channels.")


@public("nn.functional.instance_norm")
def instance_norm(input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                  use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> Any:
    """Normalise each channel of each sample over its positions. Shapes: [N, C, *] -> same."""
    _check_channels(input, running_mean, running_var, weight, bias)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    positions = math.prod(input.shape[2:])
    if positions == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {_size_text(input)}")
    if running_mean is not None and running_var is not None:
        _update_instance_statistics(ops.detach(input), running_mean, running_var, momentum)
    rows = ops.reshape(input, (*input.shape[:2], positions))
    out = ops.reshape(ops.layer_norm(rows, (positions,), None, None, eps), tuple(input.shape))
    return _affine(out, weight, bias)


def _update_instance_statistics(x: Any, running_mean: Any, running_var: Any, momentum: float) -> None:
    """Move the running statistics towards the samples' own, averaged over the batch."""
    dims = tuple(range(2, x.ndim))
    wide = upcast(x)
    mean, var = ops.mean(ops.mean(wide, dims), 0), ops.mean(ops.var(wide, dims), 0)
    ops.copy_(running_mean, running_mean * (1 - momentum) + mean * momentum)
    ops.copy_(running_var, running_var * (1 - momentum) + var * momentum)


@public("nn.functional.local_response_norm")
def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Divide by a power of the mean square over ``size`` neighbouring channels. Shapes: [N, C, *] -> same."""
    if input.ndim >= 3 and not input.numel():
        return input
    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality                          input (got {input.ndim} dimensions)")
    pads = (0, 0) * (input.ndim - 2) + (size // 2, (size - 1) // 2)
    neighbours = ops.unfold(ops.constant_pad_nd(input * input, pads), 1, size, 1)
    mean = ops.floor_divide(ops.sum(neighbours, -1), size) if input.dtype.is_integral else ops.mean(neighbours, -1)
    return input / (mean * alpha + k) ** beta


# ---- vectors of length one ------------------------------------------------------------------------------------------


@public("nn.functional.normalize")
def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """``input`` over its ``p``-norm along ``dim`` (at least ``eps``). Shape: any -> same."""
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    result = input / ops.clamp(p_norm(input, p, tuple(dims), True), eps, None)
    return result if out is None else out.copy_(result)


def p_norm(x: Any, p: float, dim: Any, keepdim: bool) -> Any:
    """The ``p``-norm along ``dim``, with gradient 0 where the norm is 0."""
    if x.dtype.is_complex:
        x = abs(x)
    if p == 2:
        square = ops.sum(x * x, dim, keepdim)
        zero = square == 0
        return ops.where(zero, 0, ops.sqrt(ops.where(zero, 1, square)))
    size = abs(x)
    if p == math.inf:
        return ops.amax(size, dim, keepdim)
    if p == 0:
        return ops.vector_norm(x, 0.0, dim, keepdim)
    if p == 1:
        return ops.sum(size, dim, keepdim)
    total = ops.sum(size ** p, dim, keepdim)
    zero = total == 0
    return ops.where(zero, 0, ops.where(zero, 1, total) ** (1 / p))
