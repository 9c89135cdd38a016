"""The last layer of a classifier and its loss in one: the logits of a chunk of rows at a time."""

from __future__ import annotations

import warnings
from typing import Any

from .. import dtype as _dtype
from ..family import composite, ops
from ..op import PUBLIC, public
from ..samples import S, T


def _chunks(n: int, chunk: int) -> list[tuple[int, int]]:
    return [(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def _logits(x: Any, weight: Any, bias: Any) -> Any:
    return ops.linear(x, weight, bias)


def _rows(x: Any, weight: Any, bias: Any, target: Any, ignore_index: int, chunk: int) -> Any:
    parts = [ops.nll_loss(ops.log_softmax(_logits(ops.slice(x, 0, a, b), weight, bias), 1), ops.slice(target, 0, a, b), None,
                          ignore_index, "none") for a, b in _chunks(x.shape[0], chunk)]
    return ops.cat(parts, 0) if parts else ops.full((0,), 0.0, dtype=x.dtype, device=x.device)


def _rows_grads(g: Any, out: Any, x: Any, weight: Any, bias: Any, target: Any, ignore_index: int, chunk: int, *,
                needs: tuple) -> tuple:
    """The logits of each chunk are computed again; their gradient is ``(softmax - one_hot) * g``."""
    dxs, dw, db = [], None, None
    for a, b in _chunks(x.shape[0], chunk):
        rows, at = ops.slice(x, 0, a, b), ops.unsqueeze(ops.slice(target, 0, a, b), 1)
        kept = ops.ne(at, ignore_index)
        p = ops.softmax(_logits(rows, weight, bias), 1)
        safe = ops.where(kept, at, 0)
        scale = ops.where(kept, ops.unsqueeze(ops.slice(g, 0, a, b), 1), 0)
        d = ops.scatter_add(p, 1, safe, ops.full(tuple(at.shape), -1.0, dtype=p.dtype, device=p.device)) * scale
        if needs[0]:
            dxs.append(ops.matmul(d, weight))
        if needs[1]:
            part = ops.matmul(ops.t(d), rows)
            dw = part if dw is None else dw + part
        if needs[2]:
            part = ops.sum(d, (0,))
            db = part if db is None else db + part
    if not x.shape[0]:
        return ops.zeros_like(x), ops.zeros_like(weight), ops.zeros_like(bias) if bias is not None else None, None
    return ops.cat(dxs, 0) if needs[0] else None, dw, db, None


linear_nll = composite(
    "linear_nll(Tensor self, Tensor weight, Tensor? bias, Tensor target, int ignore_index, int chunk) -> Tensor", _rows,
    tags=("raises",), joint_vjp=_rows_grads, api=(),
    samples=lambda: [S(T((5, 3)), T((4, 3)), T((4,)), T((5,), dtype=_dtype.int64, grad=False, values=[0, 3, 1, 2, 0]), 1, 2),
                     S(T((2, 3)), T((4, 3)), None, T((2,), dtype=_dtype.int64, grad=False, values=[3, 1]), -100, 8)],
    doc="Cross entropy of each row of ``linear(self, weight, bias)`` [N, C] with its class, ``chunk`` rows at a time: [N].")


def _check(x: Any, weight: Any, target: Any, bias: Any, ignore_index: Any) -> tuple:
    """The logits' shape. Raises PyTorch's errors."""
    if x.ndim not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {x.ndim}")
    if weight.ndim < 2:
        raise RuntimeError(f"expected linear_weight with dimensionality at least 2, got {weight.ndim}")
    if x.shape[-1] != weight.shape[-1]:
        raise RuntimeError("expected equal input and linear_weight last dimensions (in_features), got "
                           f"{x.shape[-1]} and {weight.shape[-1]}, respectively")
    outs = tuple(weight.shape[:-1])
    if bias is not None and tuple(bias.shape) != outs:
        raise RuntimeError(f"expected linear_bias shape {outs}, got {tuple(bias.shape)}")
    if len(outs) > 1 and x.ndim == 1:
        raise RuntimeError(f"K-dimensional loss defined by linear_weight shape {tuple(weight.shape)} requires batched input, "
                           f"(N, {x.shape[-1]}), got unbatched input with shape {tuple(x.shape)}")
    shape = (*x.shape[:-1], *outs)
    if tuple(target.shape) == shape and ignore_index is not None:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    return shape


@public("nn.functional.linear_cross_entropy")
def linear_cross_entropy(input: Any, linear_weight: Any, target: Any, *, linear_bias: Any = None,  # noqa: A002
                         weight: Any = None, reduction: str = "mean", ignore_index: int | None = None,
                         label_smoothing: float = 0.0, options: Any = None) -> Any:
    """``cross_entropy(linear(input, linear_weight, linear_bias), target)``; with ``options`` without all logits at once.

    Shapes: input [in] or [N, in], linear_weight [C, *d, in], target of classes [N, *d] or probabilities [N, C, *d].
    """
    shape = _check(input, linear_weight, target, linear_bias, ignore_index)
    ignored = -100 if ignore_index is None else ignore_index
    plain = len(shape) - input.ndim == 0 and not label_smoothing and target.dtype is _dtype.int64
    if options is not None and plain and reduction in ("none", "mean", "sum"):
        return _chunked(input, linear_weight, target, linear_bias, weight, reduction, ignored, options)
    if options is not None:
        warnings.warn("linear_cross_entropy: ``options`` ignored; chunked path needs reduction in {'mean','sum','none'}, "
                      f"label_smoothing == 0, target.dtype == int64, out_features == (). Got reduction={reduction!r}, "
                      f"label_smoothing={label_smoothing}, target.dtype={target.dtype}.", stacklevel=2)
    flat = ops.reshape(linear_weight, (-1, linear_weight.shape[-1]))
    bias = None if linear_bias is None else ops.reshape(linear_bias, (-1,))
    logits = ops.reshape(_logits(input, flat, bias), shape)
    return PUBLIC["nn.functional"]["cross_entropy"](logits, target, weight=weight, ignore_index=ignored, reduction=reduction,
                                                    label_smoothing=label_smoothing)


linear_cross_entropy.__flambeau_pure__ = False  # traced inside: its options are an object


def _chunked(x: Any, linear_weight: Any, target: Any, bias: Any, weight: Any, reduction: str, ignored: int,
             options: Any) -> Any:
    single = x.ndim == 1
    rows, classes = (ops.unsqueeze(x, 0), ops.reshape(target, (1,))) if single else (x, target)
    chunk = options.rows(rows.shape[0], rows.shape[1], linear_weight.shape[0])
    losses = ops.linear_nll(rows, linear_weight, bias, classes, ignored, chunk)
    kept = ops.ne(classes, ignored)
    scale = ops.cast(kept, losses.dtype)
    if weight is not None:
        scale = ops.where(kept, ops.index_select(weight, 0, ops.where(kept, classes, 0)), 0)
        losses = losses * scale
    if reduction == "none":
        return ops.squeeze(losses, (0,)) if single else losses
    return ops.sum(losses) / ops.sum(scale) if reduction == "mean" else ops.sum(losses)
