"""Multi-head attention as one function: projections, heads, masks, attention, output projection."""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..family import ops
from ..op import public
from .attention import scaled_dot_product_attention
from .dropout import dropout


def _check_shapes(query: Any, key: Any, value: Any, key_padding_mask: Any, attn_mask: Any, heads: int) -> bool:
    """Whether the input is batched. Raises ``RuntimeError``/``AssertionError`` for dimensions that do not fit."""
    if query.ndim not in (2, 3):
        raise RuntimeError(f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor")
    batched = query.ndim == 3
    kind, n = ("batched", 3) if batched else ("unbatched", 2)
    if key.ndim != n or value.ndim != n:
        raise RuntimeError(f"For {kind} ({n}-D) `query`, expected `key` and `value` to be {n}-D but found {key.ndim}-D and "
                           f"{value.ndim}-D tensors respectively")
    if key_padding_mask is not None and key_padding_mask.ndim != n - 1:
        raise RuntimeError(f"For {kind} ({n}-D) `query`, expected `key_padding_mask` to be `None` or {n - 1}-D but found "
                           f"{key_padding_mask.ndim}-D tensor instead")
    if attn_mask is not None and attn_mask.ndim not in (2, 3):
        raise RuntimeError(f"For {kind} ({n}-D) `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found "
                           f"{attn_mask.ndim}-D tensor instead")
    return batched


@public()
def canonical_mask(mask: Any, name: str, like: Any) -> Any:
    """A mask as one that is added: -inf where a boolean one is True."""
    if mask is None:
        return None
    if mask.dtype is _dtype.bool_:
        return ops.where(mask, -math.inf, ops.full((), 0.0, dtype=like, device=mask.device))
    if not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return ops.cast(mask, like) if mask.dtype is not like else mask


def _project(query: Any, key: Any, value: Any, weights: Any, bias: Any) -> list[Any]:
    """Query, key and value through the packed weight [3 E, E] or their own three."""
    e = query.shape[-1]
    if isinstance(weights, tuple):
        parts = [None] * 3 if bias is None else [ops.narrow(bias, 0, i * e, e) for i in range(3)]
        return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, parts)]
    if query is key and key is value:
        packed = ops.linear(query, weights, bias)
        return [ops.narrow(packed, -1, i * e, e) for i in range(3)]
    return [ops.linear(x, ops.narrow(weights, 0, i * e, e), None if bias is None else ops.narrow(bias, 0, i * e, e))
            for i, x in enumerate((query, key, value))]


def _extend(x: Any, row: Any, batch: Any) -> Any:
    """``x`` [L, B, E] with one more position, ``row`` [1, 1, E] (None: none)."""
    return x if row is None else ops.cat([x, ops.expand(row, (1, batch, x.shape[2]))], 0)


def _heads(x: Any, heads: int) -> Any:
    """[L, B, E] as [B, heads, L, E / heads]."""
    length, batch, e = x.shape
    return ops.permute(ops.reshape(x, (length, batch, heads, e // heads)), (1, 2, 0, 3))


def _own_heads(static: Any, batch: Any, heads: int, name: str) -> Any:
    """A given static key or value [B * heads, L, D] as [B, heads, L, D]."""
    if static.shape[0] != batch * heads:
        raise AssertionError(f"expecting {name}.size(0) of {batch * heads}, but got {static.shape[0]}")
    return ops.reshape(static, (batch, heads, *static.shape[1:]))


def _pad_mask(mask: Any, extra: int) -> Any:
    return mask if mask is None or not extra else ops.constant_pad_nd(mask, (0, extra))


@public("nn.functional.multi_head_attention_forward")
def multi_head_attention_forward(
        query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any, in_proj_bias: Any,
        bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Any, out_proj_bias: Any,
        training: bool = True, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
        use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
        v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
        is_causal: bool = False) -> tuple:
    """Attention of several heads. Shapes: [L, B, E], [S, B, Ek], [S, B, Ev] (or without B) -> [L, B, E] and the weights
    [B, L, S] ([B, heads, L, S] unless averaged; None unless needed).

    Boolean masks are True where a key is *hidden*; floating ones are added.
    """
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    if not batched:
        key, value, query = _unsqueezed_alike(query, key, value)
        key_padding_mask = None if key_padding_mask is None else ops.unsqueeze(key_padding_mask, 0)
    length, batch, embed = query.shape
    if embed != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed}")
    if embed % num_heads:
        raise AssertionError(f"embed_dim {embed} not divisible by num_heads {num_heads}")
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight
    q, k, v = _project(query, key, value, weights, in_proj_bias)
    k, v = _extend(k, bias_k, batch), _extend(v, bias_v, batch)
    extra = int(bias_k is not None) + int(add_zero_attn)
    q = _heads(q, num_heads)
    k = _heads(k, num_heads) if static_k is None else _own_heads(static_k, batch, num_heads, "static_k")
    v = _heads(v, num_heads) if static_v is None else _own_heads(static_v, batch, num_heads, "static_v")
    if add_zero_attn:
        k, v = (ops.constant_pad_nd(x, (0, 0, 0, 1)) for x in (k, v))
    mask = _merged_mask(attn_mask, key_padding_mask, q, k, extra)
    p = dropout_p if training else 0.0
    if need_weights:
        scores = ops.matmul(q * (1.0 / math.sqrt(q.shape[-1])), ops.transpose(k, -2, -1))
        attention = dropout(ops.softmax(scores if mask is None else scores + mask, -1), p, p > 0.0)
        out = ops.matmul(attention, v)
    else:
        out, attention = scaled_dot_product_attention(q, k, v, mask, p), None
    out = ops.reshape(ops.permute(out, (2, 0, 1, 3)), (length, batch, embed))
    out = ops.linear(out, out_proj_weight, out_proj_bias)
    if attention is not None and average_attn_weights:
        attention = ops.mean(attention, 1)
    if batched:
        return out, attention
    return ops.squeeze(out, 1), None if attention is None else ops.squeeze(attention, 0)


def _unsqueezed_alike(query: Any, key: Any, value: Any) -> tuple:
    """Key, value, query with a batch of one; what was the same tensor stays the same."""
    q = ops.unsqueeze(query, 1)
    k = q if key is query else ops.unsqueeze(key, 1)
    return k, k if value is key else ops.unsqueeze(value, 1), q


def _merged_mask(attn_mask: Any, key_padding_mask: Any, q: Any, k: Any, extra: int) -> Any:
    """Both masks as one that is added to scores [B, heads, L, S] (None: none)."""
    batch, heads, length, _ = q.shape
    source = k.shape[2] - extra
    mask = canonical_mask(attn_mask, "attn_mask", q.dtype)
    if mask is not None:
        if mask.ndim == 2:
            if tuple(mask.shape) != (length, source):
                raise RuntimeError(f"The shape of the 2D attn_mask is {_shown(mask)}, but should be {(length, source)}.")
        elif tuple(mask.shape) != (batch * heads, length, source):
            raise RuntimeError(f"The shape of the 3D attn_mask is {_shown(mask)}, but should be "
                               f"{(batch * heads, length, source)}.")
        else:
            mask = ops.reshape(mask, (batch, heads, length, source))
        mask = _pad_mask(mask, extra)
    if key_padding_mask is None:
        return mask
    if tuple(key_padding_mask.shape) != (batch, source):
        raise AssertionError(f"expecting key_padding_mask shape of {(batch, source)}, but got {_shown(key_padding_mask)}")
    padding = _pad_mask(canonical_mask(key_padding_mask, "key_padding_mask", q.dtype), extra)
    padding = ops.reshape(padding, (batch, 1, 1, padding.shape[1]))
    return padding if mask is None else mask + padding


def _shown(x: Any) -> str:
    return f"torch.Size([{', '.join(str(s) for s in x.shape)}])"
