"""The rewrites of graphs that every target profits from: what programs spell out and a kernel of ours does whole."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir.graph import Graph
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops

from .pattern import Pattern, rewrite


def use_kernels(graph: Graph) -> Graph:
    """``graph`` with attention written out as ``softmax(q k^T * s + mask) v`` replaced by the attention op."""
    return rewrite(graph, attention_patterns())


@functools.cache
def attention_patterns() -> tuple[Pattern, ...]:
    """Attention in the spellings met in models: scaled before or after the product or not at all, with a mask or without."""
    return tuple(_attention(scale, mask, product) for product, scale, mask in
                 itertools.product((ops.matmul, ops.bmm), _SCALES, (True, False)))


_SCALES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[float], float]]] = {
    # name: (what is done to q, what is done to the scores, the factor that the number means)
    "times": (lambda q, s: q, lambda x, s: x * s, lambda s: s),
    "divided": (lambda q, s: q, lambda x, s: x / s, lambda s: 1.0 / s),
    "q_times": (lambda q, s: q * s, lambda x, s: x, lambda s: s),
    "q_divided": (lambda q, s: q / s, lambda x, s: x, lambda s: 1.0 / s),
    "plain": (lambda q, s: q, lambda x, s: x, lambda s: 1.0),
}


def _attention(scale: str, masked: bool, product: Callable[..., Any]) -> Pattern:
    on_query, on_scores, factor = _SCALES[scale]
    numbers = 0 if scale == "plain" else 1
    tensors = 4 if masked else 3

    def form(*given: Any) -> Any:
        q, k, v, mask, s = _split(given, masked, numbers)
        scores = on_scores(product(on_query(q, s), ops.transpose(k, -2, -1)), s)
        return product(ops.softmax(scores if mask is None else scores + mask, -1), v)

    def make(*given: Any) -> Any:
        q, k, v, mask, s = _split(given, masked, numbers)
        return _attended(q, k, v, mask, factor(s))

    def fits(*given: Any) -> bool:
        q, k, v, mask, s = _split(given, masked, numbers)
        if not (q.dtype is k.dtype is v.dtype and q.dtype.is_floating_point) or (numbers and s == 0):
            return False
        same = tuple(q.shape[:-2]) == tuple(k.shape[:-2]) == tuple(v.shape[:-2]) and q.ndim in (3, 4)
        return same and (mask is None or mask.dtype is q.dtype and not mask.requires_grad and _broadcasts(mask, q, k))

    lead = (2, 3) if product is ops.matmul else (6,)
    metas = [TensorMeta((*lead, n, m), _dtype.float32) for n, m in ((5, 8), (7, 8), (7, 9), (5, 7))[:tensors]]
    name = f"attention_{scale}{'_masked' if masked else ''}"
    return Pattern(name, form, make, metas, numbers, fits)


def _split(given: tuple, masked: bool, numbers: int) -> tuple:
    """(q, k, v, mask or None, the number or 1.0) of a pattern's arguments."""
    return (*given[:3], given[3] if masked else None, given[-1] if numbers else 1.0)


def _attended(q: Any, k: Any, v: Any, mask: Any, scale: float) -> Any:
    """The attention op on three or four dimensions. Where a mask hides every key, softmax gives NaN; the op zeros."""
    shape = (*q.shape[:-1], v.shape[-1])
    if q.ndim == 3:
        q, k, v = (ops.unsqueeze(x, 0) for x in (q, k, v))
    out, lse = ops.attention(q, k, v, mask, False, float(scale))
    if mask is not None:
        out = ops.where(ops.eq(ops.unsqueeze(lse, -1), -math.inf), math.nan, out)
    return ops.reshape(out, shape) if len(shape) == 3 else out


def _broadcasts(mask: Any, q: Any, k: Any) -> bool:
    """Whether the mask broadcasts to the scores without making them larger."""
    scores = (*q.shape[:-1], k.shape[-2])
    return mask.ndim <= len(scores) and all(m == 1 or m == n for m, n in zip(mask.shape[::-1], scores[::-1]))
