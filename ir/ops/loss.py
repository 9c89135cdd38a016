"""Losses: composites over log_softmax, gather and elementwise maths, reduced to a mean or a sum unless asked not to."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import broadcast_shapes, composite, ops
from ..op import public, type_name
from ..samples import S, T
from .norm import p_norm


def reduced(values: Any, reduction: str) -> Any:
    """The mean or sum of ``values``, or all of them. Raises ``ValueError`` for another word."""
    if reduction == "mean":
        return ops.mean(values)
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "none":
        return values
    raise ValueError(f"{reduction} is not a valid value for reduction")


def legacy_reduction(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """``reduction`` as the deprecated flags would have it."""
    if size_average is None and reduce is None:
        return reduction
    warnings.warn("size_average and reduce args will be deprecated, please use reduction instead.", stacklevel=3)
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def _check_reduction(reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction: one of 'none', 'mean', 'sum'")


def _weighted(values: Any, weight: Any, reduction: str) -> Any:
    """Reduced with one weight per element (None: 1); the mean is the weighted one."""
    if weight is None:
        return reduced(values, reduction)
    if reduction == "mean":
        return ops.sum(values * weight) / ops.sum(weight)
    return reduced(values * weight, reduction)


def _warn_sizes(name: str, x: Any, target: Any) -> None:
    if tuple(x.shape) != tuple(target.shape):
        warnings.warn(f"Using a target size ({_size(target)}) that is different to the input size ({_size(x)}). This will likely "
                      "lead to incorrect results due to broadcasting. Please ensure they have the same size.", stacklevel=3)
        broadcast_shapes(tuple(x.shape), tuple(target.shape))


def _size(x: Any) -> str:
    return f"torch.Size([{', '.join(str(s) for s in x.shape)}])"


# ---- regression -----------------------------------------------------------------------------------------------------


def _mse_grads(g: Any, out: Any, x: Any, target: Any, reduction: str, *, needs: tuple) -> tuple:
    """``2 (x - target)``, over the count for a mean: one pass, the factor taken out of it."""
    difference = x - target
    factor = g * (2.0 / max(difference.numel(), 1) if reduction == "mean" else 2.0)
    grad = difference * factor
    return grad if needs[0] else None, -grad if needs[1] else None


mse = composite("mse_loss(Tensor self, Tensor target, str reduction='mean') -> Tensor",
                lambda x, target, reduction: _squared(x, target, reduction), joint_vjp=_mse_grads, api=(),
                samples=lambda: [S(T((3, 4)), T((3, 4))), S(T((3, 4)), T((3, 4)), "none"), S(T((3, 4)), T((4,)), "sum")],
                doc="Squared differences, reduced.")


def _squared(x: Any, target: Any, reduction: str) -> Any:
    difference = x - target
    return reduced(difference * difference, reduction)


@public("nn.functional.mse_loss")
@runs_in("float32")
def mse_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
             weight: Any = None) -> Any:
    """Mean (or sum, or all) of squared differences. Shapes: two that broadcast -> [] (or theirs)."""
    _warn_sizes("mse_loss", input, target)
    reduction = legacy_reduction(reduction, size_average, reduce)
    if weight is not None:
        return _weighted(_squared(input, target, "none"), weight, reduction)
    return ops.mse_loss(input, target, reduction)


@public("nn.functional.l1_loss")
@runs_in("float32")
def l1_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
            weight: Any = None) -> Any:
    """Mean (or sum, or all) of absolute differences. Shapes: two that broadcast -> [] (or theirs)."""
    _warn_sizes("l1_loss", input, target)
    return _weighted(abs(input - target), weight, legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.smooth_l1_loss")
@runs_in("float32")
def smooth_l1_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Any:
    """Squared where the difference is below ``beta``, absolute beyond. Shapes: two that broadcast -> [] (or theirs)."""
    _warn_sizes("smooth_l1_loss", input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    reduction = legacy_reduction(reduction, size_average, reduce)
    size = abs(input - target)
    if beta == 0:
        return reduced(size, reduction)
    return reduced(ops.where(size < beta, size * size * (0.5 / beta), size - 0.5 * beta), reduction)


@public("nn.functional.huber_loss")
@runs_in("float32")
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """Squared where the difference is below ``delta``, linear beyond. Shapes: two that broadcast -> [] (or theirs)."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _warn_sizes("huber_loss", input, target)
    size = abs(input - target)
    return _weighted(ops.where(size <= delta, size * size * 0.5, delta * (size - 0.5 * delta)), weight, reduction)


# ---- binary ---------------------------------------------------------------------------------------------------------


@public("nn.functional.binary_cross_entropy")
@runs_in("float32")
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Cross entropy of probabilities and targets in [0, 1]; logarithms are at least -100. Shapes: equal -> [] (or theirs)."""
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(f"Using a target size ({_size(target)}) that is different to the input size ({_size(input)}) is "
                         "deprecated. Please ensure they have the same size.")
    values = ops.binary_cross_entropy(input, target)
    if weight is not None:
        values = values * weight
    return reduced(values, legacy_reduction(reduction, size_average, reduce))


def _bce_kernel(xp: Any, x: Any, target: Any) -> Any:
    if not ((x >= 0) & (x <= 1)).all():
        raise RuntimeError("all elements of input should be between 0 and 1")
    return (target - 1) * xp.maximum(xp.log1p(-x), -100) - target * xp.maximum(xp.log(x), -100)


def _bce_parts(x: Any, target: Any) -> Any:
    return (target - 1) * ops.clamp(ops.log1p(-x), -100, None) - target * ops.clamp(ops.log(x), -100, None)


composite("binary_cross_entropy(Tensor self, Tensor target) -> Tensor", _bce_parts,
          tags=("raises",), api=(), kernel=_bce_kernel, promote="default",
          collapse="none",
          vjp=(lambda g, out, x, target: g * (x - target) / ops.clamp((1 - x) * x, 1e-12, None),
               lambda g, out, x, target: g * (ops.log1p(-x) - ops.log(x))),
          samples=lambda: [S(T((3, 4), 0.1, 0.9), T((3, 4), 0.0, 1.0))], doc="Cross entropy of probabilities, elementwise.")


@public("nn.functional.binary_cross_entropy_with_logits", "torch.binary_cross_entropy_with_logits")
@runs_in("float32")
def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, size_average: bool | None = None,
                                     reduce: bool | None = None, reduction: str = "mean", pos_weight: Any = None) -> Any:
    """Cross entropy of logits and targets in [0, 1], stable for large logits. Shapes: equal -> [] (or theirs)."""
    if tuple(target.shape) != tuple(input.shape):
        raise ValueError(f"Target size ({_size(target)}) must be the same as input size ({_size(input)})")
    soft = -ops.logsigmoid(input)
    if pos_weight is None:
        values = (1 - target) * input + soft
    else:
        values = (1 - target) * input + ((pos_weight - 1) * target + 1) * soft
    if weight is not None:
        values = values * weight
    return reduced(values, legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.soft_margin_loss")
@runs_in("float32")
def soft_margin_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Any:
    """``log(1 + exp(-target * input))`` for targets 1 and -1. Shapes: equal -> [] (or theirs)."""
    return reduced(ops.softplus(-target * input), legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.multilabel_soft_margin_loss")
def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, size_average: bool | None = None,
                                reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Binary cross entropy of logits, averaged over the classes. Shapes: [*, C], [*, C] -> [] (or [*])."""
    values = -(target * ops.logsigmoid(input) + (1 - target) * ops.logsigmoid(-input))
    if weight is not None:
        values = values * weight
    return reduced(ops.sum(values, -1) / input.shape[-1], legacy_reduction(reduction, size_average, reduce))


# ---- distributions --------------------------------------------------------------------------------------------------


@public("nn.functional.kl_div")
@runs_in("float32")
def kl_div(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
           log_target: bool = False) -> Any:
    """Kullback-Leibler divergence of log-probabilities ``input`` from ``target``. Shapes: equal -> [] (or theirs)."""
    reduction = legacy_reduction(reduction, size_average, reduce)
    if reduction == "mean":
        warnings.warn("reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
                      "only by the batch size, and aligns with the KL div math definition. 'mean' will be changed to behave the "
                      "same as 'batchmean' in the next major release.", stacklevel=2)
    values = ops.exp(target) * (target - input) if log_target else ops.xlogy(target, target) - target * input
    if reduction == "batchmean":
        return ops.sum(values) / input.shape[0] if input.ndim else values
    return reduced(values, reduction)


@public("nn.functional.poisson_nll_loss", "torch.poisson_nll_loss")
@runs_in("float32")
def poisson_nll_loss(input: Any, target: Any, log_input: bool = True, full: bool = False, size_average: bool | None = None,
                     eps: float = 1e-8, reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Negative log likelihood of Poisson counts of rate ``exp(input)`` (or ``input``). Shapes: equal -> [] (or theirs)."""
    values = ops.exp(input) - target * input if log_input else input - target * ops.log(input + eps)
    if full:
        stirling = target * ops.log(target) - target + 0.5 * ops.log(2 * math.pi * target)
        values = values + ops.where(target <= 1, 0, stirling)
    return reduced(values, legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.gaussian_nll_loss")
def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Any:
    """Negative log likelihood of normal targets. Shapes: [*], [*], variance [*] (or without its last dimension) -> []."""
    if not hasattr(var, "shape"):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = ops.full(tuple(input.shape), float(var), dtype=input.dtype, device=input.device)
    elif var.ndim < input.ndim and tuple(input.shape[:-1]) == tuple(var.shape):
        var = ops.unsqueeze(var, -1)
    elif tuple(var.shape) != tuple(input.shape) and (
            var.ndim != input.ndim or sum(v for n, v in zip(input.shape, var.shape) if n != v) != 1):
        raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    safe = var + ops.detach(ops.clamp(var, eps, None) - var)  # the value is clamped, the gradient is not
    difference = input - target
    values = 0.5 * (ops.log(safe) + difference * difference / safe)
    return reduced(values + 0.5 * math.log(2 * math.pi) if full else values, reduction)


def weight_of(weight: Any, target: Any) -> Any:
    """The class weight of each target."""
    flat = ops.at_class(weight, 0, ops.reshape(target, (target.numel(),)))
    return ops.reshape(flat, tuple(target.shape))


# ---- distances and margins --------------------------------------------------------------------------------------------


@public("nn.functional.cosine_similarity", "torch.cosine_similarity")
@runs_in("float32@cuda")
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """Cosine of the angle between vectors along ``dim``. Shapes: two that broadcast -> theirs without ``dim``."""
    shape = broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    x1, x2 = ops.expand(x1, shape), ops.expand(x2, shape)  # before the norms: dim is one of the common dimensions
    n1 = ops.clamp(p_norm(x1, 2, dim, True), eps, None)
    n2 = ops.clamp(p_norm(x2, 2, dim, True), eps, None)
    return ops.sum((x1 / n1) * (x2 / n2), dim)


@public("nn.functional.pairwise_distance", "torch.pairwise_distance")
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The ``p``-norm of ``x1 - x2 + eps`` over the last dimension. Shapes: [*, D], [*, D] -> [*]."""
    return p_norm(x1 - x2 + eps, p, -1, keepdim)


@public("torch.cdist")
@runs_in("float32")
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Any:
    """The ``p``-norm distance of every pair of rows. Shapes: [*, N, D], [*, M, D] -> [*, N, M]."""
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    return p_norm(ops.unsqueeze(x1, -2) - ops.unsqueeze(x2, -3), p, -1, False)


@public("nn.functional.pdist", "torch.pdist")
@runs_in("float32")
def pdist(input: Any, p: float = 2.0) -> Any:
    """The ``p``-norm distance of every pair of rows, the first before the second. Shapes: [N, D] -> [N (N - 1) / 2]."""
    n = input.shape[0]
    first, second = zip(*((i, j) for i in range(n) for j in range(i + 1, n))) if n > 1 else ((), ())
    rows = [ops.narrow(input, 0, i, 1) - ops.narrow(input, 0, i + 1, n - i - 1) for i in range(n - 1)]
    return p_norm(ops.cat(rows, 0), p, -1, False) if len(first) == len(second) and rows else ops.sum(input, 1)[:0]


def _margin(values: Any) -> Any:
    return ops.clamp(values, 0, None)


@public("nn.functional.cosine_embedding_loss", "torch.cosine_embedding_loss")
@runs_in("float32")
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0, size_average: bool | None = None,
                          reduce: bool | None = None, reduction: str = "mean") -> Any:
    """``1 - cos`` for targets 1, ``max(0, cos - margin)`` for -1. Shapes: [N, D], [N, D], [N] -> [] (or [N])."""
    dot = ops.sum(input1 * input2, -1)
    squares = (ops.sum(input1 * input1, -1) + 1e-12) * (ops.sum(input2 * input2, -1) + 1e-12)
    cosine = dot / ops.sqrt(squares)
    values = ops.where(target == 1, 1 - cosine, 0) + ops.where(target == -1, _margin(cosine - margin), 0)
    return reduced(values, legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.margin_ranking_loss", "torch.margin_ranking_loss")
@runs_in("float32")
def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Any:
    """``max(0, -target (input1 - input2) + margin)``. Shapes: equal -> [] (or theirs)."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
                           f"{_size(input1)}, input2: {_size(input2)}, target: {_size(target)} ")
    return reduced(_margin(-target * (input1 - input2) + margin), legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.hinge_embedding_loss", "torch.hinge_embedding_loss")
@runs_in("float32")
def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Any:
    """``x`` for targets 1, ``max(0, margin - x)`` for -1. Shapes: equal -> [] (or theirs)."""
    values = ops.where(target != -1, input, 0) + ops.where(target != 1, _margin(margin - input), 0)
    return reduced(values, legacy_reduction(reduction, size_average, reduce))


def _check_triplet(anchor: Any, positive: Any, negative: Any, margin: float) -> None:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, but "
                           f"got: anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")


@public("nn.functional.triplet_margin_loss", "torch.triplet_margin_loss")
@runs_in("float32")
def triplet_margin_loss(anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
                        swap: bool = False, size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Any:
    """``max(0, |anchor - positive| - |anchor - negative| + margin)``. Shapes: three of [N, D] -> [] (or [N])."""
    _check_triplet(anchor, positive, negative, margin)
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = ops.minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced(_margin(near - far + margin), legacy_reduction(reduction, size_average, reduce))


@public("nn.functional.triplet_margin_with_distance_loss")
def triplet_margin_with_distance_loss(anchor: Any, positive: Any, negative: Any, *, distance_function: Any = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Any:
    """``triplet_margin_loss`` with a distance of the caller's. Shapes: three of [N, *] -> [] (or the distances')."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    _check_triplet(anchor, positive, negative, margin)
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = ops.minimum(far, distance(positive, negative))
    return reduced(_margin(near - far + margin), reduction)


triplet_margin_with_distance_loss.__flambeau_pure__ = False  # traced inside: its distance is a function or a module


def _check_multi_margin(x: Any, target: Any, weight: Any) -> None:
    if x.ndim > 2 or any(isinstance(s, int) and s == 0 for s in x.shape[-1:]):
        raise RuntimeError("multi_margin_loss: Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
                           f"{list(x.shape)}")
    rows = x.shape[0] if x.ndim == 2 else 1
    if target.ndim > 1 or target.numel() != rows:
        raise RuntimeError("multi_margin_loss: The target tensor should be 1-D with size equal to the number of rows. "
                           f"Expected target size [{rows}], but got {list(target.shape)}")
    if target.dtype is not _dtype.int64:
        raise RuntimeError(f"multi_margin_loss: expected scalar type Long but found {type_name(target.dtype)}")
    if weight is not None and weight.numel() != (x.shape[-1] if x.ndim else 1):
        raise RuntimeError(f"inconsistent weight size, expected {x.shape[-1] if x.ndim else 1} but got {list(weight.shape)}")


@public("nn.functional.multi_margin_loss")
@runs_in("float32")
def multi_margin_loss(input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Margin of the target class over the others, powered and averaged. Shapes: [N, C] (or [C]), [N] -> [] (or [N])."""
    _check_reduction(reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    reduction = legacy_reduction(reduction, size_average, reduce)
    _check_multi_margin(input, target, weight)
    rows = input if input.ndim == 2 else ops.reshape(input, (1, input.numel()))
    index = ops.reshape(target, (rows.shape[0], 1))
    values = _margin(margin - ops.gather(rows, 1, index) + rows) ** p
    if weight is not None:
        values = values * ops.unsqueeze(weight_of(weight, ops.squeeze(index, 1)), 1)
    classes = ops.arange(0, rows.shape[1], 1, device=input.device)
    values = ops.sum(ops.where(classes == index, 0, values), 1) / rows.shape[1]
    return reduced(values if input.ndim == 2 else ops.squeeze(values, 0), reduction)


@public("nn.functional.multilabel_margin_loss")
@runs_in("float32")
def multilabel_margin_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Any:
    """Margins of the target classes (a row up to its first -1) over all others. Shapes: [N, C], [N, C] -> [] (or [N])."""
    _check_reduction(reduction)
    if input.ndim > 2 or any(isinstance(s, int) and s == 0 for s in input.shape[-1:]):
        raise RuntimeError("multilabel_margin_loss: Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
                           f"{list(input.shape)}")
    reduction = legacy_reduction(reduction, size_average, reduce)
    if tuple(target.shape) != tuple(input.shape) and not (input.ndim < 2 and target.ndim < 2 and target.numel() == input.numel()):
        raise RuntimeError(f"multilabel_margin_loss: inconsistent target size: {list(target.shape)} for input of size: "
                           f"{list(input.shape)}")
    rows, wanted = (input, target) if input.ndim == 2 else (ops.reshape(t, (1, t.numel())) for t in (input, target))
    n, c = rows.shape
    valid = ops.cumsum(ops.cast(wanted < 0, _dtype.int64), 1) == 0
    safe = ops.where(valid, wanted, 0)
    classes = ops.arange(0, c, 1, device=input.device)
    hits = (ops.unsqueeze(safe, 2) == classes) & ops.unsqueeze(valid, 2)  # [N, target, class]
    is_target = ops.any(hits, 1)
    gaps = _margin(1 - ops.unsqueeze(ops.gather(rows, 1, safe), 2) + ops.unsqueeze(rows, 1))
    counted = ops.unsqueeze(valid, 2) & ~ops.unsqueeze(is_target, 1)
    values = ops.sum(ops.where(counted, gaps, 0), (1, 2)) / c
    return reduced(values if input.ndim == 2 else ops.squeeze(values, 0), reduction)
