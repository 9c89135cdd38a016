"""Scaled dot-product attention: one op that never needs to store the scores, its backward, and PyTorch's function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import broadcast_shapes, composite, ops
from ..meta import TensorMeta, meta_of
from ..op import public
from ..samples import S, T
from .norm import upcast
from .reduce import top as highest

# ---- the op --------------------------------------------------------------------------------------------------------


def _grouped(x: Any, heads: Any) -> Any:
    """[B, G, L, E] with each head repeated so that there are ``heads``."""
    b, g, n, e = x.shape
    if g == heads:
        return x
    wide = ops.expand(ops.unsqueeze(x, 2), (b, g, heads // g, n, e))
    return ops.reshape(wide, (b, heads, n, e))


def _scores(q: Any, k: Any, mask: Any, causal: bool, scale: float) -> Any:
    scores = ops.matmul(q, ops.transpose(k, -1, -2)) * scale
    if causal:
        n, m = scores.shape[-2:]
        rows = ops.unsqueeze(ops.arange(0, n, 1, device=q.device), 1)
        scores = ops.where(ops.arange(0, m, 1, device=q.device) <= rows, scores, -math.inf)
    if mask is not None:
        scores = ops.where(mask, scores, -math.inf) if mask.dtype is _dtype.bool_ else scores + mask
    return scores


def _like(x: Any, dtype: Any) -> Any:
    return x if x.dtype is dtype else ops.cast(x, dtype)


def _attention_parts(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> tuple:
    """Softmax by its log-sum-exp; a row that sees no key has -inf there and gets zeros."""
    k, v = _grouped(k, q.shape[1]), _grouped(v, q.shape[1])
    scores = _scores(upcast(q), upcast(k), upcast(mask), causal, scale)
    top = highest(scores, -1)
    top = ops.where(top == -math.inf, 0, top)
    weights = ops.exp(scores - top)
    total = ops.sum(weights, -1, True)
    out = ops.matmul(weights, upcast(v)) / ops.where(total == 0, 1, total)
    return _like(out, q.dtype), ops.squeeze(ops.log(total) + top, -1)


def _attention_metas(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> tuple:
    out = meta_of(q).with_shape((*q.shape[:-1], v.shape[-1]))
    stats = _dtype.float32 if q.dtype in (_dtype.float16, _dtype.bfloat16) else q.dtype
    return out, TensorMeta(tuple(q.shape[:-1]), stats, q.device)


def _wide(xp: Any, x: Any) -> Any:
    return x.astype(xp.float32) if x.dtype.itemsize == 2 else x


def _repeat(xp: Any, x: Any, heads: int) -> Any:
    return x if x.shape[1] == heads else xp.repeat(x, heads // x.shape[1], axis=1)


def _scores_array(xp: Any, q: Any, k: Any, mask: Any, causal: bool, scale: float) -> Any:
    scores = xp.matmul(q, k.swapaxes(-1, -2))
    scores *= q.dtype.type(scale)
    if causal:
        n, m = scores.shape[-2:]
        scores[..., xp.arange(m) > xp.arange(n)[:, None]] = -math.inf
    if mask is not None:
        if mask.dtype.kind == "b":
            xp.copyto(scores, -math.inf, where=xp.broadcast_to(~mask, scores.shape))
        else:
            scores += mask.astype(scores.dtype, copy=False)
    return scores


def _attention_kernel(xp: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> tuple:
    kind = q.dtype
    q, k, v = _wide(xp, q), _wide(xp, _repeat(xp, k, q.shape[1])), _wide(xp, _repeat(xp, v, q.shape[1]))
    scores = _scores_array(xp, q, k, mask, causal, scale)
    top = scores.max(-1, keepdims=True, initial=-math.inf)
    top[top == -math.inf] = 0
    scores -= top
    xp.exp(scores, out=scores)
    total = scores.sum(-1, keepdims=True)
    out = xp.matmul(scores, v)
    out /= xp.where(total == 0, q.dtype.type(1), total)
    with np.errstate(divide="ignore"):
        lse = xp.log(total) + top
    return out.astype(kind, copy=False), lse[..., 0]


def _attention_grads(g: Any, out: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float, *,
                     needs: tuple[bool, ...]) -> tuple:
    return (*ops.attention_backward(g[0], g[1], q, k, v, out[0], out[1], mask, causal, scale), None)


_QKV = lambda e=4: (T((1, 2, 3, e)), T((1, 2, 5, e)), T((1, 2, 5, e)))

attention = composite(
    "attention(Tensor self, Tensor key, Tensor value, Tensor? mask, bool causal, float scale) -> (Tensor, Tensor)",
    _attention_parts, kernel=_attention_kernel, infer=_attention_metas, joint_vjp=_attention_grads, api=(),
    tags=("amp:lower", "attention"),
    samples=lambda: [S(*_QKV(), None, False, 0.5), S(*_QKV(), None, True, 0.5), S(*_QKV(), T((3, 5), grad=False), False, 0.5),
                     S(T((1, 4, 3, 2)), *_QKV(2)[1:], None, False, 1.0)],
    doc="``softmax(q k^T * scale + mask) v`` and the log-sum-exp. [B, H, N, E], [B, G, M, E], [B, G, M, V] -> [B, H, N, V], "
        "[B, H, N]; H a multiple of G; the mask is boolean (True: seen) or added, and has no gradient here.")


def _attention_backward_parts(g: Any, g_lse: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, mask: Any, causal: bool,
                              scale: float) -> tuple:
    heads, groups = q.shape[1], k.shape[1]
    wq, wk, wv, wg = upcast(q), upcast(_grouped(k, heads)), upcast(_grouped(v, heads)), upcast(g)
    hidden = lse == -math.inf
    base = ops.unsqueeze(ops.where(hidden, 0, lse), -1)
    weights = ops.exp(_scores(wq, wk, upcast(mask), causal, scale) - base)
    gv = ops.matmul(ops.transpose(weights, -1, -2), wg)
    lead = ops.sum(wg * upcast(out), -1, True) - ops.unsqueeze(g_lse, -1)
    gs = weights * (ops.matmul(wg, ops.transpose(wv, -1, -2)) - lead) * scale
    gq, gk = ops.matmul(gs, wk), ops.matmul(ops.transpose(gs, -1, -2), wq)
    return _like(gq, q.dtype), _like(_ungrouped(gk, groups), k.dtype), _like(_ungrouped(gv, groups), v.dtype)


def _ungrouped(g: Any, groups: Any) -> Any:
    """Gradients of repeated heads, added up."""
    b, h, n, e = g.shape
    return g if h == groups else ops.sum(ops.reshape(g, (b, groups, h // groups, n, e)), 2)


def _attention_backward_kernel(xp: Any, g: Any, g_lse: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, mask: Any,
                               causal: bool, scale: float) -> tuple:
    kind, heads, groups = q.dtype, q.shape[1], k.shape[1]
    wq, wk, wv = _wide(xp, q), _wide(xp, _repeat(xp, k, heads)), _wide(xp, _repeat(xp, v, heads))
    wg = _wide(xp, g)
    weights = _scores_array(xp, wq, wk, mask, causal, scale)
    weights -= xp.where(lse == -math.inf, lse.dtype.type(0), lse)[..., None]
    xp.exp(weights, out=weights)
    gv = xp.matmul(weights.swapaxes(-1, -2), wg)
    gs = xp.matmul(wg, wv.swapaxes(-1, -2))
    gs -= (xp.einsum("bhne,bhne->bhn", wg, _wide(xp, out)) - g_lse)[..., None]
    gs *= weights
    gs *= wq.dtype.type(scale)
    gq, gk = xp.matmul(gs, wk), xp.matmul(gs.swapaxes(-1, -2), wq)
    if groups != heads:
        gk, gv = (x.reshape(x.shape[0], groups, heads // groups, *x.shape[2:]).sum(2) for x in (gk, gv))
    return gq.astype(kind, copy=False), gk.astype(kind, copy=False), gv.astype(kind, copy=False)


attention_backward = composite(
    "attention_backward(Tensor grad, Tensor grad_lse, Tensor self, Tensor key, Tensor value, Tensor out, Tensor lse,"
    " Tensor? mask, bool causal, float scale) -> (Tensor, Tensor, Tensor)", _attention_backward_parts,
    kernel=_attention_backward_kernel, api=(), tags=("attention",),
    infer=lambda g, g_lse, q, k, v, *rest: (meta_of(q), meta_of(k), meta_of(v)),
    samples=lambda: [S(T((1, 2, 3, 4)), T((1, 2, 3)), *_QKV(), T((1, 2, 3, 4)), T((1, 2, 3), 2.0, 4.0), None, False, 0.5),
                     S(T((1, 2, 3, 4)), T((1, 2, 3)), *_QKV(), T((1, 2, 3, 4)), T((1, 2, 3), 2.0, 4.0), None, True, 0.5)],
    doc="Gradients of attention's query, key and value, given those of its two results and these results.")

for _op in (attention, attention_backward):
    _op.extra.update(template=_op.name, template_dtypes=("float32",))

# ---- PyTorch's function --------------------------------------------------------------------------------------------


@public("nn.functional.scaled_dot_product_attention")
@runs_in("lower")
def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Any:
    """``softmax(query key^T * scale + attn_mask) value``.

    Shapes: [*, H, N, E], [*, H, M, E], [*, H, M, V] -> [*, H, N, V]; with ``enable_gqa`` key and value may have fewer heads.
    A boolean mask is True where a key is seen; a floating one is added. ``scale`` None means ``1 / sqrt(E)``.
    """
    _check_sdpa(query, key, value, attn_mask, is_causal, enable_gqa)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    if dropout_p > 0.0 or (attn_mask is not None and attn_mask.requires_grad):
        return _with_weights(query, key, value, attn_mask, dropout_p, is_causal, scale)
    ndim = max(query.ndim, key.ndim, value.ndim)
    query, key, value = (_raised(x, ndim) for x in (query, key, value))
    lead = tuple(query.shape[:-3])
    if any(tuple(x.shape[:-3]) != lead for x in (key, value)):
        lead = broadcast_shapes(*(tuple(x.shape[:-3]) for x in (query, key, value)))
    q, k, v = (_four(x, lead) for x in (query, key, value))
    mask = _mask_of_four(attn_mask, ndim)
    out = ops.attention(q, k, v, mask, is_causal, scale)[0]
    return ops.reshape(out, (*lead, *query.shape[-3 if ndim > 2 else -2:-1], value.shape[-1]))


def _check_sdpa(q: Any, k: Any, v: Any, mask: Any, causal: bool, gqa: bool) -> None:
    for name, x in (("query", q), ("key", k), ("value", v)):
        if x.ndim < 2:
            raise RuntimeError(f"Expected query, key, and value to all be at least 2 dimensional, but got {name}.dim(): {x.ndim}")
    if not q.dtype is k.dtype is v.dtype:
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got query.dtype: {q.dtype} key.dtype: "
                           f"{k.dtype} and value.dtype: {v.dtype} instead.")
    if mask is not None and causal:
        raise RuntimeError("scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if mask is not None and mask.dtype is not _dtype.bool_ and mask.dtype is not q.dtype and mask.dtype is not _dtype.float32:
        raise RuntimeError(f"Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                           f"{mask.dtype} and  query.dtype: {q.dtype} instead.")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(f"scaled_dot_product_attention: sizes of query {list(q.shape)}, key {list(k.shape)} and value "
                           f"{list(v.shape)} do not match")
    if gqa and (q.ndim < 3 or q.shape[-3] % k.shape[-3] or q.shape[-3] % v.shape[-3]):
        raise RuntimeError("Number of heads in key and value must divide the number of heads in query")


def _raised(x: Any, ndim: int) -> Any:
    return x if x.ndim == ndim else ops.reshape(x, (*(1,) * (ndim - x.ndim), *x.shape))


def _four(x: Any, lead: tuple) -> Any:
    """As [B, H, L, E], leading dimensions broadcast to ``lead`` and made one."""
    if x.ndim < 4:
        return ops.reshape(x, ((1, 1) if x.ndim == 2 else (1,)) + tuple(x.shape))
    if x.ndim > 4 or tuple(x.shape[:-3]) != lead:
        x = ops.reshape(ops.expand(x, (*lead, *x.shape[-3:])), (math.prod(lead), *x.shape[-3:]))
    return x


def _mask_of_four(mask: Any, ndim: int) -> Any:
    """The mask, broadcastable to [B, H, N, M]; the leading dimensions beyond 4 must be its own or absent."""
    if mask is None or ndim <= 4 or mask.ndim <= 3:
        return mask
    return ops.reshape(mask, (math.prod(mask.shape[:-3]), *mask.shape[-3:]))


def _with_weights(q: Any, k: Any, v: Any, mask: Any, dropout_p: float, causal: bool, scale: float) -> Any:
    """The plain form, which stores the weights: for dropout on them and for masks that need a gradient."""
    if q.ndim > 2 and q.shape[-3] != k.shape[-3]:
        repeat = q.shape[-3] // k.shape[-3]
        k, v = ops.repeat_interleave(k, repeat, -3), ops.repeat_interleave(v, repeat, -3)
    weights = ops.softmax(_scores(q, k, mask, causal, scale), -1)
    if mask is not None and mask.dtype is _dtype.bool_:
        weights = ops.where(ops.any(mask, -1, True), weights, 0)
    if dropout_p > 0.0:
        keep = ops.bernoulli_fill(tuple(weights.shape), 1.0 - dropout_p, dtype=weights.dtype, device=weights.device)
        weights = weights * (keep / (1.0 - dropout_p))
    return ops.matmul(weights, v)
