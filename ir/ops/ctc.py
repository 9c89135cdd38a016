"""Connectionist temporal classification: the log-probability of a labelling, summed over its alignments.

The recursion runs over time on whole batches; its derivative is that of its parts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import ops
from ..op import public
from ..symint import DataDependentError
from ..tensorlike import TensorLike


def _numbers(lengths: Any) -> list[int]:
    return [int(n) for n in (lengths.tolist() if hasattr(lengths, "tolist") else lengths)]


def _padded_targets(targets: Any, sizes: list[int]) -> Any:
    """Targets [N, S] or one after the other [sum], as [N, longest]."""
    longest = max(sizes, default=0)
    if targets.ndim == 2:
        return ops.narrow(targets, 1, 0, longest)
    rows, start = [], 0
    for n in sizes:
        rows.append(ops.constant_pad_nd(ops.narrow(targets, 0, start, n), (0, longest - n)))
        start += n
    return ops.stack(rows, 0)


def _log_add(terms: list[Any]) -> Any:
    """log(sum(exp)) of a few tensors, -inf (and no NaN gradient) where all are."""
    top = terms[0]
    for t in terms[1:]:
        top = ops.maximum(top, t)
    top = ops.detach(top)
    none = top == -math.inf
    safe = ops.where(none, 0, top)
    total: Any = 0
    for t in terms:
        total = total + ops.exp(t - safe)
    return ops.where(none, -math.inf, ops.log(ops.where(none, 1, total)) + safe)


@public("nn.functional.ctc_loss", "torch.ctc_loss")
@runs_in("float32")
def ctc_loss(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: Any = "mean",
             zero_infinity: bool = False) -> Any:
    """Minus the log-probability of the targets. Shapes: [T, N, C] (or [T, C]), [N, S] (or [sum]), [N], [N] -> [] (or [N]).

    The mean divides each sequence's loss by its length first, as PyTorch does.
    """
    reduction = {0: "none", 1: "mean", 2: "sum"}.get(reduction, reduction)
    if log_probs.ndim == 2:
        out = ctc_loss(ops.unsqueeze(log_probs, 1), ops.reshape(targets, (1, targets.numel())), [int(input_lengths)],
                       [int(target_lengths)], blank, "none" if reduction == "none" else reduction, zero_infinity)
        return ops.squeeze(out, 0) if out.ndim else out
    try:
        times, sizes = _numbers(input_lengths), _numbers(target_lengths)
    except DataDependentError:
        if targets.ndim != 2:
            raise
        loss, divisors = _of_unknown_lengths(log_probs, targets, input_lengths, target_lengths, blank)
        return _reduced(loss, divisors, reduction, zero_infinity)
    if len(times) != log_probs.shape[1] or len(sizes) != log_probs.shape[1]:
        raise RuntimeError(f"input_lengths must be of size batch_size: expected {log_probs.shape[1]}, got {len(times)}")
    if any(t > log_probs.shape[0] for t in times):
        raise RuntimeError(f"Expected input_lengths to have value at most {log_probs.shape[0]}, but got value {max(times)}")
    counted = _Lengths(_vector(times, log_probs), _vector(sizes, log_probs), min(times, default=0), max(times, default=0))
    loss = -_alignments(log_probs, _labels(_padded_targets(targets, sizes), counted.sizes, blank), counted, blank)
    loss = loss + _slope_of_logits(log_probs, counted.times)
    return _reduced(loss, _vector([max(n, 1) for n in sizes], log_probs), reduction, zero_infinity)


def _of_unknown_lengths(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int) -> tuple[Any, Any]:
    """The losses and what their mean divides by, where the lengths are values of a graph: every step is computed, and counts
    for the sequences that are so long."""
    times, sizes = (ops.cast(n, log_probs.dtype) if isinstance(n, TensorLike) else _vector(_numbers(n), log_probs)
                    for n in (input_lengths, target_lengths))
    loss = -_alignments(log_probs, _labels(targets, sizes, blank), _Lengths(times, sizes, 0, int(log_probs.shape[0])), blank)
    return loss + _slope_of_logits(log_probs, times), ops.clamp(sizes, 1)


def _labels(targets: Any, sizes: Any, blank: int) -> Any:
    """Targets [N, S] with blanks where a sequence has ended: there may be any number."""
    place = ops.arange(0, targets.shape[1], 1, device=targets.device)
    return ops.where(place < ops.unsqueeze(ops.cast(sizes, _dtype.int64), 1), ops.cast(targets, _dtype.int64), blank)


def _reduced(loss: Any, divisors: Any, reduction: str, zero_infinity: bool) -> Any:
    if zero_infinity:
        loss = ops.where(loss == math.inf, 0, loss)
    if reduction == "mean":
        return ops.mean(loss / divisors)
    return ops.sum(loss) if reduction == "sum" else loss


class _Lengths(NamedTuple):
    """Steps and labels of each sequence [N], as numbers of the dtype of the probabilities; the least and most steps."""

    times: Any
    sizes: Any
    least: int
    most: int


def _slope_of_logits(log_probs: Any, times: Any) -> Any:
    """Zeros [N] whose gradient is the probabilities, of the steps that count.

    PyTorch's derivative is that of the loss as a function of what ``log_probs`` are the log-softmax of. Behind a log-softmax
    this makes no difference; to who looks at the gradient of ``log_probs`` it does.
    """
    steps = ops.arange(0, log_probs.shape[0], 1, device=log_probs.device)
    counts = ops.unsqueeze(steps, 1) < ops.cast(times, _dtype.int64)
    total = ops.sum(ops.where(ops.unsqueeze(counts, 2), ops.exp(log_probs), 0), (0, 2))
    return total - ops.detach(total)


def _vector(values: list[int], like: Any) -> Any:
    """Numbers as a tensor [N] of the dtype of ``like``."""
    return ops.stack([ops.full((), v, dtype=like.dtype, device=like.device) for v in values], 0)


def _alignments(log_probs: Any, targets: Any, lengths: _Lengths, blank: int) -> Any:
    """The log-probability of each sequence [N]; states are blank, label, blank, label, ..., blank."""
    n, longest = targets.shape
    labels = ops.full((n, 2 * longest + 1), blank, dtype=_dtype.int64, device=targets.device)
    if longest:
        pairs = ops.stack([targets, ops.full((n, longest), blank, dtype=_dtype.int64, device=targets.device)], 2)
        labels = ops.cat([ops.narrow(labels, 1, 0, 1), ops.reshape(pairs, (n, 2 * longest))], 1)
    states = 2 * longest + 1
    emit = ops.gather(log_probs, 2, ops.expand(ops.unsqueeze(labels, 0), (log_probs.shape[0], n, states)))
    before = ops.constant_pad_nd(ops.narrow(labels, 1, 0, max(states - 2, 0)), (min(2, states), 0), blank)
    skips = (labels != blank) & (labels != before)
    place = ops.arange(0, states, 1, device=targets.device)
    alpha = ops.where(place < 2, ops.select(emit, 0, 0), -math.inf)
    final = alpha
    for t in range(1, lengths.most):
        one = ops.constant_pad_nd(ops.narrow(alpha, 1, 0, states - 1), (1, 0), -math.inf)
        two = ops.constant_pad_nd(ops.narrow(alpha, 1, 0, max(states - 2, 0)), (min(2, states), 0), -math.inf)
        alpha = _log_add([alpha, one, ops.where(skips, two, -math.inf)]) + ops.select(emit, 0, t)
        final = alpha if lengths.least > t else ops.where(ops.unsqueeze(lengths.times > t, 1), alpha, final)
    ends = ops.unsqueeze(ops.cast(lengths.sizes * 2, _dtype.int64), 1)
    last = ops.where((place == ends) | (place == ends - 1), final, -math.inf)
    return _log_add([ops.select(last, 1, i) for i in range(states)])
