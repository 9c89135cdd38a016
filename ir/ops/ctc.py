"""Connectionist temporal classification: the log-probability of a labelling, summed over its alignments.

The recursion runs over time on whole batches; its derivative is that of its parts.
"""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import ops
from ..op import public


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
    times, sizes = _numbers(input_lengths), _numbers(target_lengths)
    if len(times) != log_probs.shape[1] or len(sizes) != log_probs.shape[1]:
        raise RuntimeError(f"input_lengths must be of size batch_size: expected {log_probs.shape[1]}, got {len(times)}")
    if any(t > log_probs.shape[0] for t in times):
        raise RuntimeError(f"Expected input_lengths to have value at most {log_probs.shape[0]}, but got value {max(times)}")
    loss = -_alignments(log_probs, ops.cast(_padded_targets(targets, sizes), _dtype.int64), times, sizes, blank)
    loss = loss + _slope_of_logits(log_probs, times)
    if zero_infinity:
        loss = ops.where(loss == math.inf, 0, loss)
    if reduction == "mean":
        return ops.mean(loss / _vector([max(n, 1) for n in sizes], log_probs))
    return ops.sum(loss) if reduction == "sum" else loss


def _slope_of_logits(log_probs: Any, times: list[int]) -> Any:
    """Zeros [N] whose gradient is the probabilities, of the steps that count.

    PyTorch's derivative is that of the loss as a function of what ``log_probs`` are the log-softmax of. Behind a log-softmax
    this makes no difference; to who looks at the gradient of ``log_probs`` it does.
    """
    steps = ops.arange(0, log_probs.shape[0], 1, device=log_probs.device)
    counts = ops.unsqueeze(steps, 1) < ops.cast(_vector(times, log_probs), _dtype.int64)
    total = ops.sum(ops.where(ops.unsqueeze(counts, 2), ops.exp(log_probs), 0), (0, 2))
    return total - ops.detach(total)


def _vector(values: list[int], like: Any) -> Any:
    """Numbers as a tensor [N] of the dtype of ``like``."""
    return ops.stack([ops.full((), v, dtype=like.dtype, device=like.device) for v in values], 0)


def _alignments(log_probs: Any, targets: Any, times: list[int], sizes: list[int], blank: int) -> Any:
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
    for t in range(1, max(times)):
        one = ops.constant_pad_nd(ops.narrow(alpha, 1, 0, states - 1), (1, 0), -math.inf)
        two = ops.constant_pad_nd(ops.narrow(alpha, 1, 0, max(states - 2, 0)), (min(2, states), 0), -math.inf)
        alpha = _log_add([alpha, one, ops.where(skips, two, -math.inf)]) + ops.select(emit, 0, t)
        final = alpha if min(times) > t else ops.where(
            ops.unsqueeze(_vector([int(m > t) for m in times], log_probs) > 0, 1), alpha, final)
    ends = ops.unsqueeze(ops.cast(_vector([2 * s for s in sizes], log_probs), _dtype.int64), 1)
    last = ops.where((place == ends) | (place == ends - 1), final, -math.inf)
    return _log_add([ops.select(last, 1, i) for i in range(states)])
