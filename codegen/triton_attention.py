"""Attention as a Triton template: ``softmax(q k^T * scale + mask) v``, the scores never in memory.

Keys are taken in blocks; a running maximum and sum per query make the softmax exact. Exponentials are of base 2, which
the hardware has. A query that sees no key gets zeros, and minus infinity as its log-sum-exp.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from flambeau.codegen.triton_build import TritonSource
from flambeau.codegen.triton_templates import HEADER, Tile, comment

_LOG2_E = 1.4426950408889634
_LN_2 = 0.6931471805599453


@dataclass(frozen=True)
class Strided:
    """A four-dimensional tensor in memory: element strides along (batch, head, position, feature), and the offset."""

    strides: tuple[int, int, int, int]
    offset: int = 0

    def base(self, pointer: str, head: str) -> str:
        """The pointer to position 0, feature 0 of this program's batch and ``head``."""
        return f"{pointer} + {self.offset} + batch * {self.strides[0]} + {head} * {self.strides[1]}"

    def cell(self, position: str, feature: str) -> str:
        """The offset of an element within a head."""
        return f"{position} * {self.strides[2]} + {feature} * {self.strides[3]}"


@dataclass(frozen=True)
class Mask:
    """What is added to the scores (``kind`` a floating type) or where a key is seen (``"i1"``): ``[B, H, N, M]``."""

    kind: str
    place: Strided


@dataclass(frozen=True)
class Shape:
    """Sizes of an attention: ``groups`` key heads serve ``heads`` query heads; ``features`` of q and k, ``values`` of v."""

    batch: int
    heads: int
    groups: int
    queries: int
    keys: int
    features: int
    values: int


_TEMPLATE = Template(HEADER + '''@triton.jit
def attend(acc, total, top, query, keys, values$mask_param, m, first, last, PARTIAL: tl.constexpr):
    """Fold keys [first, last) into the running maximum ``top``, the sum ``total`` and the weighted sum ``acc``."""
    d = tl.arange(0, $bd)
    e = tl.arange(0, $be)
    for start in range(first, last, $bn):
        n = start + tl.arange(0, $bn)
        key = tl.load(keys + $key_cell, mask=(n[None, :] < $keys) & (d[:, None] < $features), other=0.0)$origin
        score = tl.dot(query, key, input_precision="ieee") * $scale$origin
$apply_mask        if PARTIAL:
            score = tl.where($visible, score, -float("inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        base = tl.where(higher == -float("inf"), 0.0, higher)
        weight = tl.exp2(score - base[:, None])$origin
        shrink = tl.exp2(top - base)
        total = total * shrink + tl.sum(weight, 1)
        value = tl.load(values + $value_cell, mask=(n[:, None] < $keys) & (e[None, :] < $values), other=0.0)$origin
        acc = tl.dot(weight.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")$origin
        top = higher
    return acc, total, top


@triton.jit
def $name($params):
    program = tl.program_id(0)
    tile = $tiles - 1 - program % $tiles  # the longest rows of a causal mask first
    batch = (program // $tiles // $heads).to(tl.int64)
    head = (program // $tiles % $heads).to(tl.int64)
    m = tile * $bm + tl.arange(0, $bm)
    d = tl.arange(0, $bd)
    e = tl.arange(0, $be)
    query = tl.load($query_base + $query_cell, mask=(m[:, None] < $queries) & (d[None, :] < $features), other=0.0)$origin
    keys = $key_base
    values = $value_base
$mask_base    top = tl.full(($bm,), -float("inf"), tl.float32)
    total = tl.zeros(($bm,), tl.float32)
    acc = tl.zeros(($bm, $be), tl.float32)
    whole = $whole
    acc, total, top = attend(acc, total, top, query, keys, values$mask_argument, m, 0, whole, False)
    acc, total, top = attend(acc, total, top, query, keys, values$mask_argument, m, whole, $last, True)
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]$origin
    tl.store($out_base + $out_cell, out, mask=(m[:, None] < $queries) & (e[None, :] < $values))$origin
    lse = (top + tl.log2(total)) * $ln2
    tl.store(lse_ptr + (batch * $heads + head) * $queries + m, lse, mask=m < $queries)
''')


def attention(name: str, shape: Shape, places: dict[str, Strided], kind: str, *, scale: float, causal: bool,
              tile: Tile, mask: Mask | None = None, origin: str = "") -> tuple[TritonSource, tuple[int, int, int]]:
    """The kernel and its grid. Parameters: query, key, value, the mask if there is one, out, and the log-sum-exp.

    ``places`` are those of ``query``, ``key``, ``value`` and ``out``; the log-sum-exp is float32 ``[B, H, N]``,
    contiguous. ``causal`` lets query ``i`` see keys ``0..i``. ``tile.m`` and ``tile.n`` cut queries and keys.
    """
    tiles = -(-shape.queries // tile.m)
    last = f"tl.minimum((tile + 1) * {tile.m}, {shape.keys})" if causal else str(shape.keys)
    whole_keys = shape.keys // tile.n * tile.n
    whole = f"tl.minimum(tile * {tile.m} // {tile.n} * {tile.n}, {whole_keys})" if causal else str(whole_keys)
    group = "head" if shape.groups == shape.heads else f"(head // {shape.heads // shape.groups})"
    pointers = ["query_ptr", "key_ptr", "value_ptr", *(["mask_ptr"] if mask else []), "out_ptr", "lse_ptr"]
    text = _TEMPLATE.substitute(
        name=name, params=", ".join(pointers), bm=tile.m, bn=tile.n, bd=_width(shape.features), be=_width(shape.values),
        tiles=tiles, heads=shape.heads, queries=shape.queries, keys=shape.keys, features=shape.features,
        values=shape.values, scale=repr(scale * _LOG2_E), ln2=_LN_2, whole=whole, last=last, origin=comment(origin),
        visible=f"(n[None, :] < {shape.keys})" + (" & (m[:, None] >= n[None, :])" if causal else ""),
        query_base=places["query"].base("query_ptr", "head"), query_cell=places["query"].cell("m[:, None]", "d[None, :]"),
        key_base=places["key"].base("key_ptr", group), key_cell=places["key"].cell("n[None, :]", "d[:, None]"),
        value_base=places["value"].base("value_ptr", group), value_cell=places["value"].cell("n[:, None]", "e[None, :]"),
        out_base=places["out"].base("out_ptr", "head"), out_cell=places["out"].cell("m[:, None]", "e[None, :]"),
        **_mask_texts(mask, shape, comment(origin)))
    signature = {pointer: f"*{kind}" for pointer in pointers} | {"lse_ptr": "*fp32"}
    if mask:
        signature["mask_ptr"] = f"*{mask.kind}"
    source = TritonSource(name, text, signature, aligned=frozenset(signature), num_warps=tile.warps,
                          num_stages=tile.stages)
    return source, (tiles * shape.batch * shape.heads, 1, 1)


def _mask_texts(mask: Mask | None, shape: Shape, origin: str) -> dict[str, str]:
    if mask is None:
        return dict.fromkeys(("mask_param", "mask_argument", "mask_base", "apply_mask"), "")
    load = (f"        seen = tl.load(mask_row + {mask.place.cell('m[:, None]', 'n[None, :]')}, "
            f"mask=(m[:, None] < {shape.queries}) & (n[None, :] < {shape.keys}), other=0){origin}\n")
    use = 'tl.where(seen, score, -float("inf"))' if mask.kind == "i1" else f"score + seen.to(tl.float32) * {_LOG2_E}"
    return {"mask_param": ", mask_row", "mask_argument": ", mask_row",
            "mask_base": f"    mask_row = {mask.place.base('mask_ptr', 'head')}\n",
            "apply_mask": f"{load}        score = {use}{origin}\n"}


def _width(features: int) -> int:
    return max(16, 1 << (features - 1).bit_length())


def attention_tiles(head_size: int, itemsize: int) -> list[Tile]:
    """Tiles worth timing for attention, the likeliest first."""
    if itemsize >= 4:
        return [Tile(64, 32, 0, 4, 2), Tile(32, 32, 0, 4, 2)]
    if head_size <= 64:
        return [Tile(128, 64, 0, 4, 3), Tile(128, 128, 0, 8, 3), Tile(64, 64, 0, 4, 3)]
    return [Tile(128, 64, 0, 8, 3), Tile(128, 128, 0, 8, 2), Tile(64, 64, 0, 4, 3)]
