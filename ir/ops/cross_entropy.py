"""Losses over classes: negative log likelihood, and cross entropy of logits with classes or probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtype as _dtype
from .. import faults
from ..autocast import runs_in
from ..family import composite, ops, primitive
from ..meta import TensorMeta
from ..op import OPS, public, type_name
from ..samples import S, T
from .index import zeros_for
from .loss import legacy_reduction, reduced, weight_of
from .norm import upcast


def _check_classes(x: Any, target: Any) -> int:
    """The class dimension. Raises PyTorch's errors for shapes that do not match."""
    if not 1 <= x.ndim:
        raise ValueError("Expected input to have at least 1 dimension")
    expected = (x.shape[0], *x.shape[2:]) if x.ndim > 1 else ()
    if x.ndim > 1 and target.ndim and x.shape[0] != target.shape[0]:
        raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({target.shape[0]}).")
    if tuple(target.shape) != tuple(expected):
        raise RuntimeError(f"Expected target size {list(expected)}, got {list(target.shape)}")
    if target.dtype is not _dtype.int64 and target.dtype is not _dtype.uint8:
        raise RuntimeError(f"expected scalar type Long but found {type_name(target.dtype)}")
    return 1 if x.ndim > 1 else 0


def _nll_parts(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    dim = _check_classes(x, target)
    target = ops.cast(target, _dtype.int64)
    kept = target != ignore_index
    safe = ops.where(kept, target, 0)
    picked = -ops.squeeze(ops.at_class(x, dim, ops.unsqueeze(safe, dim)), dim)
    if weight is None:
        values = ops.where(kept, picked, 0)
        if reduction == "mean":
            return ops.sum(values) / ops.sum(ops.cast(kept, x.dtype))
        return reduced(values, reduction)
    scale = ops.where(kept, weight_of(weight, safe), 0)
    values = picked * scale
    return ops.sum(values) / ops.sum(scale) if reduction == "mean" else reduced(values, reduction)


def _classes(shape: tuple, n: int) -> T:
    size = math.prod(shape)
    values = [(3 * i + 1) % n for i in range(size)]
    return T(shape, dtype=_dtype.int64, grad=False, values=_nested(values, shape))


def _nested(values: list, shape: tuple) -> Any:
    if not shape:
        return values[0]
    step = len(values) // shape[0] if shape[0] else 0
    return [_nested(values[i * step:(i + 1) * step], shape[1:]) for i in range(shape[0])]


def _class_meta(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> TensorMeta:
    _check_classes(x, target)
    if weight is not None and tuple(weight.shape) != (x.shape[1 if x.ndim > 1 else 0],):
        raise RuntimeError(f"weight tensor should be defined either for all {x.shape[1 if x.ndim > 1 else 0]} classes or no "
                           f"classes but got weight tensor of shape: {list(weight.shape)}")
    return TensorMeta(tuple(target.shape) if reduction == "none" else (), x.dtype, x.device)


def _nll_kernel(xp: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    kept, safe = _kept_classes(xp, target, ignore_index, x.shape[1 if x.ndim > 1 else 0])
    scale = (kept if weight is None else xp.where(kept, weight[safe], 0)).astype(x.dtype)
    values = -_at_class(xp, x, safe) * scale
    if reduction == "none":
        return xp.where(kept, values, 0).astype(x.dtype)
    total = xp.sum(values, where=kept)
    return total / scale.sum() if reduction == "mean" else total


def _kept_classes(xp: Any, target: Any, ignore_index: int, classes: int) -> tuple[Any, Any]:
    """Where targets count, and targets that are safe to index with. Raises ``IndexError`` for a class that does not exist."""
    kept = target != ignore_index
    safe = xp.where(kept, target, 0).astype(np.int64)
    _check_range(safe, classes)
    return kept, safe


def _check_range(target: Any, classes: int) -> None:
    wrong = (target < 0) | (target >= classes)
    if wrong.any():
        raise IndexError(f"Target {target[wrong].flat[0]} is out of bounds.")


def _at_class(xp: Any, x: Any, safe: Any) -> Any:
    """``x`` at the class of each target."""
    dim = 1 if x.ndim > 1 else 0
    return xp.squeeze(xp.take_along_axis(x, xp.expand_dims(safe, dim), dim), dim)


def _at_class_kernel(xp: Any, x: Any, dim: int, index: Any) -> Any:
    _check_range(index, x.shape[dim])
    return xp.take_along_axis(x, index, dim)


at_class = primitive(
    "at_class(Tensor self, int dim, Tensor index) -> Tensor", "index",
    tags=("raises",), kernel=_at_class_kernel, api=(), fault=faults.TARGET,
    infer=lambda x, dim, index: TensorMeta(tuple(index.shape), x.dtype, x.device),
    lower=lambda at, x, dim, index: x.at((*at[:dim], index.at(at), *at[dim + 1:])),
    vjp=(lambda g, out, x, dim, index: ops.scatter_add(zeros_for(g, x.shape), dim, index, g), None),
    samples=lambda: [S(T((3, 5)), 1, T((3, 1), 0, 5, dtype=_dtype.int64, grad=False))],
    doc="The input at the class of each target; ``index`` has size 1 in ``dim``.")


nll = composite(
    "nll_loss(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, str reduction='mean') -> Tensor",
    _nll_parts, kernel=_nll_kernel, infer=_class_meta, tags=("check", "raises"), api=(),
    samples=lambda: [S(T((3, 5)), _classes((3,), 5)), S(T((3, 5)), _classes((3,), 5), T((5,), 0.5, 2.0, grad=False), 1),
                     S(T((2, 4, 3)), _classes((2, 3), 4), None, -100, "sum"), S(T((5,)), _classes((), 5), None, -100, "none")],
    doc="Minus the input at the target class. Shapes: [N, C, *], [N, *] -> [] (or [N, *]).")


@public("nn.functional.nll_loss")
@runs_in("float32")
def nll_loss(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
             reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Negative log likelihood of log-probabilities. Shapes: [N, C, *] (or [C]), [N, *] (or []) of int64 -> [] (or [N, *])."""
    return ops.nll_loss(input, target, weight, ignore_index, legacy_reduction(reduction, size_average, reduce))


def _cross_entropy_parts(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    if target.dtype.is_floating_point:
        return _like(_probability_loss(x, target, weight, reduction, smoothing), x.dtype)
    dim = _check_classes(x, target)
    logs = ops.log_softmax(upcast(x), dim)
    loss = _nll_parts(logs, target, None if weight is None else upcast(weight), ignore_index, reduction)
    if smoothing > 0.0:
        smooth = _smoothed(logs, target, weight, ignore_index, reduction, dim)
        loss = loss * (1 - smoothing) + smooth * (smoothing / x.shape[dim])
    return _like(loss, x.dtype)


def _like(x: Any, dtype: Any) -> Any:
    return x if x.dtype is dtype else ops.cast(x, dtype)


def _smoothed(logs: Any, target: Any, weight: Any, ignore_index: int, reduction: str, dim: int) -> Any:
    """The loss against the uniform distribution (times the number of classes)."""
    kept = target != ignore_index
    values = logs if weight is None else logs * _along(weight, dim, logs.ndim)
    values = ops.where(kept, -ops.sum(values, dim), 0)
    if reduction != "mean":
        return reduced(values, reduction)
    if weight is None:
        return ops.sum(values) / ops.sum(ops.cast(kept, values.dtype))
    return ops.sum(values) / ops.sum(ops.where(kept, weight_of(weight, ops.where(kept, target, 0)), 0))


def _along(weight: Any, dim: int, ndim: int) -> Any:
    return ops.reshape(weight, (*(1,) * dim, weight.shape[0], *(1,) * (ndim - 1 - dim)))


def _check_probabilities(x: Any, target: Any) -> None:
    if tuple(x.shape) != tuple(target.shape):
        raise RuntimeError(f"Expected floating point type target with class probabilities to have shape {list(x.shape)}, but got "
                           f"{list(target.shape)}")


def _probability_loss(x: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    _check_probabilities(x, target)
    dim = 1 if x.ndim > 1 else 0
    if smoothing > 0.0:
        target = target * (1 - smoothing) + smoothing / x.shape[dim]
    terms = ops.log_softmax(upcast(x), dim) * target
    if weight is not None:
        terms = terms * _along(weight, dim, x.ndim)
    if reduction == "mean":
        return -ops.sum(terms) / max(x.numel() // x.shape[dim], 1)
    return -ops.sum(terms) if reduction == "sum" else -ops.sum(terms, dim)


def _cross_entropy_grads(g: Any, out: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str,
                         smoothing: float, *, needs: tuple) -> tuple:
    """For class targets: ``(softmax - one_hot) * g`` in one pass over the logits; else through the log-softmax."""
    if target.dtype.is_floating_point:
        return _probability_grads(g, x, target, weight, reduction, smoothing, needs)
    return ops.cross_entropy_backward(g, x, target, weight, ignore_index, reduction, smoothing), None, None


def _probability_grads(g: Any, x: Any, target: Any, weight: Any, reduction: str, smoothing: float, needs: tuple) -> tuple:
    dim = 1 if x.ndim > 1 else 0
    logs = ops.log_softmax(upcast(x), dim)
    g = g / max(x.numel() // x.shape[dim], 1) if reduction == "mean" else g if reduction == "sum" else ops.unsqueeze(g, dim)
    scale = 1 if weight is None else _along(weight, dim, x.ndim)
    dx = dt = None
    if needs[0]:
        soft = target * (1 - smoothing) + smoothing / x.shape[dim] if smoothing > 0.0 else target
        terms = soft * scale
        dx = (ops.exp(logs) * ops.sum(terms, dim, True) - terms) * g
    if needs[1]:
        dt = logs * scale * -g * (1 - smoothing)
    return dx, dt, None


def _cross_entropy_backward_parts(g: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str,
                                  smoothing: float) -> Any:
    dim, wide = (1 if x.ndim > 1 else 0), upcast(x)
    n = x.shape[dim]
    kept = target != ignore_index
    safe = ops.where(kept, target, 0)
    scale = ops.cast(kept, wide.dtype) if weight is None else ops.where(kept, weight_of(upcast(weight), safe), 0)
    g = upcast(g) / ops.sum(scale) if reduction == "mean" else upcast(g)
    soft = ops.softmax(wide, dim)
    hit = ops.unsqueeze(safe, dim) == ops.reshape(ops.arange(0, n, 1, device=x.device), (n, *(1,) * (x.ndim - 1 - dim)))
    grad = ops.where(hit, soft - 1, soft) * ops.unsqueeze(scale * g * (1 - smoothing), dim)
    if smoothing > 0.0:
        factor = g * (smoothing / n)
        grad = grad + _smoothed_grad(soft, weight, kept, dim) * (factor if reduction != "none" else ops.unsqueeze(factor, dim))
    return _like(grad, x.dtype)


def _smoothed_grad(soft: Any, weight: Any, kept: Any, dim: int) -> Any:
    share = 1 if weight is None else _along(upcast(weight), dim, soft.ndim)
    total = soft.shape[dim] if weight is None else ops.sum(upcast(weight))
    return ops.where(ops.unsqueeze(kept, dim), soft * total - share, 0)


def _wide(x: Any) -> Any:
    return x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x


def _cross_entropy_backward_kernel(xp: Any, g: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str,
                                   smoothing: float) -> Any:
    dim, kind = (1 if x.ndim > 1 else 0), x.dtype
    grad = OPS["softmax"].kernel(xp, _wide(x), dim, None)  # type: ignore[misc]
    kept, safe = _kept_classes(xp, target, ignore_index, x.shape[dim])
    weight = _wide(weight)
    scale = (kept if weight is None else xp.where(kept, weight[safe], 0)).astype(grad.dtype)
    g = _wide(g) / scale.sum() if reduction == "mean" else _wide(g)
    extra = None
    if smoothing > 0.0:
        share = 1 if weight is None else weight.reshape(-1, *(1,) * (x.ndim - 1 - dim))
        extra = (grad * (x.shape[dim] if weight is None else weight.sum()) - share) * xp.expand_dims(
            kept * g * (smoothing / x.shape[dim]), dim)
    index = xp.expand_dims(safe, dim)
    xp.put_along_axis(grad, index, xp.take_along_axis(grad, index, dim) - 1, dim)
    grad *= xp.expand_dims(scale * g * (1 - smoothing), dim)
    return (grad if extra is None else grad + extra).astype(kind, copy=False)


cross_entropy_backward = composite(
    "cross_entropy_backward(Tensor grad, Tensor self, Tensor target, Tensor? weight, int ignore_index, str reduction,"
    " float label_smoothing) -> Tensor", _cross_entropy_backward_parts, tags=("raises",), api=(),
    kernel=_cross_entropy_backward_kernel,
    samples=lambda: [S(T(()), T((3, 5)), _classes((3,), 5), None, -100, "mean", 0.0),
                     S(T((3,)), T((3, 5)), _classes((3,), 5), T((5,), 0.5, 2.0, grad=False), 1, "none", 0.1)],
    doc="The gradient of cross_entropy's logits for class targets.")

def _cross_entropy_meta(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> TensorMeta:
    if not target.dtype.is_floating_point:
        return _class_meta(x, target, weight, ignore_index, reduction)
    _check_probabilities(x, target)
    dim = 1 if x.ndim > 1 else 0
    shape = (*x.shape[:dim], *x.shape[dim + 1:]) if reduction == "none" else ()
    return TensorMeta(shape, x.dtype, x.device)


def _cross_entropy_kernel(xp: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    dim = 1 if x.ndim > 1 else 0
    logs = OPS["log_softmax"].kernel(xp, _wide(x), dim, None)  # type: ignore[misc]
    weight = _wide(weight)
    if target.dtype.kind not in "biu":
        return _probability_array(xp, logs, _wide(target), weight, dim, reduction, smoothing).astype(x.dtype)
    loss = _nll_kernel(xp, logs, target, weight, ignore_index, reduction)
    if smoothing > 0.0:
        kept, safe = _kept_classes(xp, target, ignore_index, x.shape[dim])
        smooth = logs if weight is None else logs * weight.reshape(-1, *(1,) * (x.ndim - 1 - dim))
        smooth = xp.where(kept, -smooth.sum(dim), 0)
        if reduction == "mean":
            smooth = smooth.sum() / (kept.sum() if weight is None else xp.where(kept, weight[safe], 0).sum())
        elif reduction == "sum":
            smooth = smooth.sum()
        loss = loss * (1 - smoothing) + smooth * (smoothing / x.shape[dim])
    return loss.astype(x.dtype)


def _probability_array(xp: Any, logs: Any, target: Any, weight: Any, dim: int, reduction: str, smoothing: float) -> Any:
    if smoothing > 0.0:
        target = target * (1 - smoothing) + smoothing / logs.shape[dim]
    terms = logs * target
    if weight is not None:
        terms *= weight.reshape(-1, *(1,) * (logs.ndim - 1 - dim))
    if reduction == "none":
        return -terms.sum(dim)
    return -terms.sum() / (max(logs.size // logs.shape[dim], 1) if reduction == "mean" else 1)


cross_entropy_op = composite(
    "cross_entropy(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, str reduction='mean',"
    " float label_smoothing=0.0) -> Tensor", _cross_entropy_parts, kernel=_cross_entropy_kernel, infer=_cross_entropy_meta,
    joint_vjp=_cross_entropy_grads, tags=("check", "raises"), api=(),
    samples=lambda: [S(T((3, 5)), _classes((3,), 5)), S(T((3, 5)), _classes((3,), 5), T((5,), 0.5, 2.0, grad=False), 1),
                     S(T((2, 4, 3)), _classes((2, 3), 4), None, -100, "sum", 0.1), S(T((5,)), _classes((), 5)),
                     S(T((3, 5)), T((3, 5), 0.0, 1.0), None, -100, "mean", 0.1),
                     S(T((3, 5)), _classes((3,), 5), T((5,), 0.5, 2.0, grad=False), 1, "none", 0.2)],
    doc="Log-softmax and negative log likelihood. Shapes: [N, C, *], [N, *] of classes or [N, C, *] of probabilities -> [].")


@public("nn.functional.cross_entropy")
@runs_in("float32")
def cross_entropy(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
                  reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    """Cross entropy of logits. Shapes: [N, C, *] (or [C]); classes [N, *] of int64 or probabilities [N, C, *] -> []."""
    reduction = legacy_reduction(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
