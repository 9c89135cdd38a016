"""Last layers that are losses as well: for many classes, where computing all logits costs too much."""

from __future__ import annotations

import itertools
import math
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.ir.op import ops

from . import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .loss import _WeightedLoss
from .module import Module

_ASMoutput = namedtuple("_ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """Softmax over frequent classes and clusters of rare ones (Grave et al., "Efficient softmax approximation for GPUs").

    ``cutoffs`` divide the classes, sorted by frequency. The result has ``output``, the log-probability of each target, and
    ``loss``, their negative mean. Shapes: [N, in_features], [N] -> [N] and [].
    """

    def __init__(self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0,
                 head_bias: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if cutoffs != sorted(set(cutoffs)) or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1 or any(
                int(c) != c for c in cutoffs):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where "
                             "each value is between 1 and n_classes-1")
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, device=device, dtype=dtype)
        self.tail = ModuleList()
        for i, (start, stop) in enumerate(itertools.pairwise(self.cutoffs)):
            hidden = int(in_features // div_value ** (i + 1))
            self.tail.append(Sequential(Linear(in_features, hidden, bias=False, device=device, dtype=dtype),
                                        Linear(hidden, stop - start, bias=False, device=device, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Draw all weights again."""
        self.head.reset_parameters()
        for layer in itertools.chain(*self.tail):
            layer.reset_parameters()

    def forward(self, input_: Any, target_: Any) -> Any:
        self._check(input_, target_)
        single = target_.ndim == 0
        input, target = (input_.unsqueeze(0), target_.unsqueeze(0)) if single else (input_, target_)  # noqa: A001
        place = target  # in the head: the class itself, or its cluster
        local = input.new_zeros(target.shape[0])
        for i, (start, stop) in enumerate(itertools.pairwise(self.cutoffs)):
            rows = ((target >= start) & (target < stop)).nonzero().squeeze(1)
            if rows.numel():
                found = F.log_softmax(self.tail[i](input.index_select(0, rows)), dim=1)
                within = (target.index_select(0, rows) - start).unsqueeze(1)
                local = local.index_copy(0, rows, found.gather(1, within).squeeze(1))
                place = place.index_fill(0, rows, self.shortlist_size + i)
        head = F.log_softmax(self.head(input), dim=1)
        output = local + head.gather(1, place.unsqueeze(1)).squeeze(1)
        return _ASMoutput(output.squeeze(0) if single else output, (-output).mean())

    def _check(self, x: Any, target: Any) -> None:
        if target.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if x.ndim != target.ndim + 1:
            raise RuntimeError(f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with "
                               f"size {x.shape}")
        if target.ndim and x.shape[0] != target.shape[0]:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if target.numel() and bool(((target < 0) | (target >= self.n_classes)).any()):
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                               f"[{target.min().item()}, {target.max().item()}] were found. ")

    def log_prob(self, input: Any) -> Any:
        """The log-probabilities of all classes. Shapes: [N, in_features] -> [N, n_classes]."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, :self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            at = self.shortlist_size + i
            parts.append(F.log_softmax(cluster(input), dim=1) + head[:, at:at + 1])
        return ops.cat(parts, 1)

    def predict(self, input: Any) -> Any:
        """The likeliest class of each row; clusters are looked into only where the head points to one. [N, in] -> [N]."""
        best = self.head(input).argmax(1)
        rows = (best >= self.shortlist_size).nonzero().squeeze(1)
        if not rows.numel():
            return best
        return best.index_copy(0, rows, self.log_prob(input.index_select(0, rows)).argmax(1))


@dataclass(frozen=True)
class LinearCrossEntropyOptions:
    """How :func:`~flambeau.nn.functional.linear_cross_entropy` divides its rows, so that never all logits are in memory.

    ``chunking_method`` "aspect_ratio:N" makes the logits of a chunk about as large as the input, over N ("auto": N is 2);
    ``batch_chunk_size`` is their number of rows. ``acc_policy``, ``acc_dtype`` and ``allow_retain_graph`` are accepted: sums
    are formed in the input's dtype, halves in float32 where products are, and the backward may run again.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        if self.batch_chunk_size is not None and self.batch_chunk_size < 1:
            raise ValueError(f"batch_chunk_size must be positive, got {self.batch_chunk_size}")
        if self.acc_policy not in ("accurate", "balanced", "compact", "auto"):
            raise ValueError(f"acc_policy must be one of accurate, balanced, compact, auto, got {self.acc_policy!r}")
        self._parts(1, 1)

    def _parts(self, classes: int, features: int) -> int | None:
        """Into how many parts the rows are divided by the chunking method; None where it does not say."""
        method = self.chunking_method
        if method is None or (method == "auto" and self.batch_chunk_size is not None):
            return None
        name, _, count = ("aspect_ratio:2" if method == "auto" else method).partition(":")
        if name != "aspect_ratio" or (count and not (count.isdigit() and int(count))):
            raise ValueError(f"chunking_method must be 'auto', 'aspect_ratio', 'aspect_ratio:N' or None, got {method!r}")
        return -(-classes // features) * int(count or 1)

    def rows(self, batch: int, features: int, classes: int) -> int:
        """The rows of a chunk. Raises ``ValueError`` where size and method disagree."""
        parts = self._parts(classes, features)
        if parts is None:
            return max(1, min(self.batch_chunk_size or batch, batch))
        size = max(1, min(1 << max(0, -(-batch // parts) - 1).bit_length(), batch))
        if self.batch_chunk_size not in (None, size):
            raise ValueError(f"batch_chunk_size (={self.batch_chunk_size}) and chunking_method ('{self.chunking_method}') give "
                             f"different chunk sizes ({self.batch_chunk_size} vs {size}); pass only one.")
        return size


class LinearCrossEntropyLoss(_WeightedLoss):
    """A linear layer and the cross entropy of its logits in one. Shapes: [N, in_features], [N, *out_features] -> []."""

    def __init__(self, in_features: int, num_classes: int, *, out_features: tuple[int, ...] = (), bias: bool = False,
                 device: Any = None, dtype: Any = None, reduction: str = "mean", weight: Any = None,
                 ignore_index: int | None = None, label_smoothing: float = 0.0,
                 options: LinearCrossEntropyOptions | None = None) -> None:
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        super().__init__(weight, reduction=reduction)
        self.num_classes, self.out_features = num_classes, out_features
        self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
        self.linear = Linear(in_features, math.prod(out_features, start=num_classes), bias=bias, device=device, dtype=dtype)

    def forward(self, input: Any, target: Any) -> Any:
        outs = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return F.linear_cross_entropy(
            input, self.linear.weight.reshape((*outs, self.linear.in_features)), target,
            linear_bias=None if bias is None else bias.reshape(outs), weight=self.weight, reduction=self.reduction,
            ignore_index=self.ignore_index, label_smoothing=self.label_smoothing, options=self.options)

    def extra_repr(self) -> str:
        return (f"in_features={self.linear.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
                f"bias={self.linear.bias is not None}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
                f"label_smoothing={self.label_smoothing}, options={self.options}")


__all__ = ["AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss", "LinearCrossEntropyOptions"]
