"""Triton kernels that are more than one loop nest: matrix product and attention, with room for a fused epilogue.

A template is text with static sizes and strides written in as numbers: address arithmetic then folds at compile time,
and Triton sees every divisibility by itself. The generated names are plain (``m``, ``n`` for rows and columns of the
output tile, ``acc`` for its float32 value), because the epilogue is written in terms of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template

from flambeau.codegen.triton_build import TritonSource

HEADER = "import triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n\n"


@dataclass(frozen=True)
class Tile:
    """How a matrix product is cut: tile sizes, and the resources of one program."""

    m: int
    n: int
    k: int
    warps: int = 4
    stages: int = 3

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k} w{self.warps} s{self.stages}"


@dataclass(frozen=True)
class Matrix:
    """A batched matrix in memory: element strides along batch, rows and columns; ``kind`` as Triton names it."""

    kind: str
    strides: tuple[int, int, int]
    offset: int = 0

    def address(self, pointer: str, batch: str, row: str, column: str) -> str:
        terms = [f"{index} * {stride}" if stride != 1 else index
                 for index, stride in zip((batch, row, column), self.strides) if stride]
        return " + ".join([pointer, *([str(self.offset)] if self.offset else []), *terms])


@dataclass(frozen=True)
class Epilogue:
    """What follows ``acc``: ``statements`` over ``row``, ``column`` (where ``row_in`` and ``column_in``) and ``batch``,
    ending with the stores; the parameters that they read or write, with Triton's types; functions that they call."""

    statements: Sequence[str]
    params: Mapping[str, str] = field(default_factory=dict)
    helpers: Sequence[str] = ()


_MATMUL = Template(HEADER + '''$helpers@triton.jit
def $name($params):
    program = tl.program_id(0)
    batch = tl.program_id(1)
    # Neighbouring programs share rows of the left and columns of the right matrix, which then stay in cache.
    group = program // $group_size
    height = tl.minimum($tiles_m - group * $group, $group)
    tile_m = group * $group + program % $group_size % height
    tile_n = program % $group_size // height
    m = (tile_m * $bm + tl.arange(0, $bm))$wide
    n = (tile_n * $bn + tl.arange(0, $bn))$wide
    k = tl.arange(0, $bk)$wide
    acc = tl.zeros(($bm, $bn), $acc_type)
    for start in range(0, $size_k, $bk):
        depth = start + k
        left = tl.load($left$left_mask)$origin
        right = tl.load($right$right_mask)$origin
        acc = tl.dot(left, right, acc, input_precision="ieee"$out_type)$origin
    row, column = m[:, None], n[None, :]
    row_in, column_in = row < $size_m, column < $size_n
$epilogue
''')


def matmul(name: str, sizes: tuple[int, int, int, int], left: Matrix, right: Matrix, epilogue: Epilogue, tile: Tile, *,
           group: int = 8, origin: str = "") -> tuple[TritonSource, tuple[int, int, int]]:
    """``[batch, m, k] @ [batch, k, n]`` followed by ``epilogue``: the kernel and its grid.

    ``sizes`` is ``(batch, m, n, k)``, all static. Accumulates in float32 (float64 and int32 for those inputs); float32
    inputs are multiplied in full precision. The parameters are ``left_ptr``, ``right_ptr``, then the epilogue's.
    """
    batch, size_m, size_n, size_k = sizes
    tiles_m, tiles_n = -(-size_m // tile.m), -(-size_n // tile.n)
    acc_type = {"fp64": "tl.float64", "i8": "tl.int32"}.get(left.kind, "tl.float32")
    signature = {"left_ptr": f"*{left.kind}", "right_ptr": f"*{right.kind}", **epilogue.params}
    whole_m, whole_n, whole_k = size_m % tile.m == 0, size_n % tile.n == 0, size_k % tile.k == 0
    far = any(abs(stride) * size > 2**31 - 1 for matrix in (left, right) for stride, size in
              zip(matrix.strides[1:], (max(size_m, size_k), max(size_n, size_k))))
    text = _MATMUL.substitute(
        wide=".to(tl.int64)" if far else "", helpers="".join(text + "\n" for text in epilogue.helpers), name=name,
        params=", ".join(signature), group=group, group_size=group * tiles_n, tiles_m=tiles_m, bm=tile.m,
        bn=tile.n, bk=tile.k, acc_type=acc_type, size_m=size_m, size_n=size_n, size_k=size_k,
        left=left.address("left_ptr", _wide("batch", batch), "m[:, None]", "depth[None, :]"),
        right=right.address("right_ptr", _wide("batch", batch), "depth[:, None]", "n[None, :]"),
        left_mask=_mask([] if whole_m else [f"(m[:, None] < {size_m})"],
                        [] if whole_k else [f"(depth[None, :] < {size_k})"]),
        right_mask=_mask([] if whole_k else [f"(depth[:, None] < {size_k})"],
                         [] if whole_n else [f"(n[None, :] < {size_n})"]),
        out_type="" if acc_type == "tl.float32" else f", out_dtype={acc_type}", origin=_comment(origin),
        epilogue="\n".join("    " + line.strip() for line in epilogue.statements))
    aligned = frozenset(name for name, kind in signature.items() if kind.startswith("*"))
    source = TritonSource(name, text, signature, aligned=aligned, num_warps=tile.warps, num_stages=tile.stages)
    return source, (tiles_m * tiles_n, batch, 1)


def matmul_tiles(m: int, n: int, k: int, itemsize: int) -> list[Tile]:
    """Tiles worth timing for a product of this size, the likeliest first; larger tiles only where they fill the GPU."""
    if min(m, n) <= 32:
        return [Tile(16, 64, 64, 4, 4), Tile(16, 128, 64, 4, 4), Tile(32, 64, 64, 4, 4)]
    if itemsize >= 4:
        return [Tile(64, 64, 32, 4, 3), Tile(128, 64, 32, 4, 3), Tile(128, 128, 16, 8, 3), Tile(128, 128, 32, 8, 3)]
    small = [Tile(64, 64, 64, 4, 4), Tile(128, 64, 64, 4, 4), Tile(64, 128, 64, 4, 4)]
    large = [Tile(128, 256, 64, 8, 3), Tile(128, 128, 64, 8, 4), Tile(256, 128, 64, 8, 3), Tile(128, 128, 64, 4, 3),
             Tile(128, 256, 64, 8, 4)]
    return large + small[1:] if m * n >= 2048 * 2048 else small + large[1:2]


_ATTENTION = Template(HEADER + '''@triton.jit
def attend(acc, total, top, query, key_ptr, value_ptr, base_k, base_v, m, first, last, MASKED: tl.constexpr):
    """Fold keys [first, last) into the running maximum ``top``, weight ``total`` and weighted sum ``acc``."""
    d = tl.arange(0, $bd)
    for start in range(first, last, $bn):
        n = start + tl.arange(0, $bn)
        key = tl.load($key$key_mask)$origin
        score = tl.dot(query, key, input_precision="ieee") * $scale$origin
        if MASKED:
            score = tl.where($visible, score, -float("inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp2(score - higher[:, None])$origin
        shrink = tl.exp2(top - higher)
        total = total * shrink + tl.sum(weight, 1)
        value = tl.load($value$value_mask)$origin
        acc = tl.dot(weight.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")$origin
        top = higher
    return acc, total, top


@triton.jit
def $name(query_ptr, key_ptr, value_ptr, out_ptr$lse_param):
    program = tl.program_id(0)
    tile = $tiles - 1 - program % $tiles  # the longest rows of a causal mask first
    batch = (program // $tiles // $heads).to(tl.int64)
    head = (program // $tiles % $heads).to(tl.int64)
    m = tile * $bm + tl.arange(0, $bm)
    d = tl.arange(0, $bd)
    query = tl.load($query, mask=$query_mask, other=0.0)$origin
    base_k = $base_k
    base_v = $base_v
    top = tl.full(($bm,), -float("inf"), tl.float32)
    total = tl.zeros(($bm,), tl.float32)
    acc = tl.zeros(($bm, $bd), tl.float32)
    whole = $whole
    acc, total, top = attend(acc, total, top, query, key_ptr, value_ptr, base_k, base_v, m, 0, whole, False)
    acc, total, top = attend(acc, total, top, query, key_ptr, value_ptr, base_k, base_v, m, whole, $last, True)
    out = acc / total[:, None]$origin
    tl.store($out, out, mask=$query_mask)$origin
$store_lse''')


def attention(name: str, sizes: tuple[int, int, int, int, int], strides: Mapping[str, tuple[int, int, int, int]],
              kind: str, *, scale: float, causal: bool, tile: Tile, keep_lse: bool = False,
              origin: str = "") -> tuple[TritonSource, tuple[int, int, int]]:
    """``softmax(q @ k^T * scale) @ v`` without the scores in memory: the kernel and its grid.

    ``sizes`` is ``(batch, heads, queries, keys, head_size)``; ``strides`` gives the element strides of ``query``,
    ``key``, ``value`` and ``out`` along (batch, head, position, feature). ``causal`` lets query ``i`` see keys
    ``0..i``. ``tile.m`` and ``tile.n`` cut queries and keys. With ``keep_lse`` the kernel also stores each row's
    log-sum-exp, float32 ``[batch, heads, queries]``, for the backward pass.
    """
    batch, heads, queries, keys, size = sizes
    width = max(16, 1 << (size - 1).bit_length())
    tiles = -(-queries // tile.m)
    whole_keys = keys // tile.n * tile.n
    last = f"tl.minimum((tile + 1) * {tile.m}, {keys})" if causal else str(keys)
    whole = f"tl.minimum(tile * {tile.m} // {tile.n} * {tile.n}, {whole_keys})" if causal else str(whole_keys)
    visible = f"(n[None, :] < {keys})" + (" & (m[:, None] >= n[None, :])" if causal else "")
    features = f"d[None, :] < {size}"
    text = _ATTENTION.substitute(
        name=name, bm=tile.m, bn=tile.n, bd=width, tiles=tiles, heads=heads, scale=repr(scale * 1.4426950408889634),
        visible=visible, whole=whole, last=last, origin=_comment(origin),
        key="key_ptr + base_k + " + _rows(strides["key"], "n[None, :]", "d[:, None]"),
        value="value_ptr + base_v + " + _rows(strides["value"], "n[:, None]", "d[None, :]"),
        key_mask=f", mask=(n[None, :] < {keys}) & (d[:, None] < {size}), other=0.0",
        value_mask=f", mask=(n[:, None] < {keys}) & ({features}), other=0.0",
        query="query_ptr + " + _base(strides["query"]) + " + " + _rows(strides["query"], "m[:, None]", "d[None, :]"),
        out="out_ptr + " + _base(strides["out"]) + " + " + _rows(strides["out"], "m[:, None]", "d[None, :]"),
        query_mask=f"(m[:, None] < {queries}) & ({features})",
        base_k=_base(strides["key"]), base_v=_base(strides["value"]),
        lse_param=", lse_ptr" if keep_lse else "",
        store_lse=f"    tl.store(lse_ptr + (batch * {heads} + head) * {queries} + m, (top + tl.log2(total)) * "
                  f"0.6931471805599453, mask=m < {queries})\n" if keep_lse else "")
    signature = {pointer: f"*{kind}" for pointer in ("query_ptr", "key_ptr", "value_ptr", "out_ptr")}
    if keep_lse:
        signature["lse_ptr"] = "*fp32"
    source = TritonSource(name, text, signature, aligned=frozenset(signature), num_warps=tile.warps,
                          num_stages=tile.stages)
    return source, (tiles * batch * heads, 1, 1)


def attention_tiles(head_size: int, itemsize: int) -> list[Tile]:
    """Tiles worth timing for attention, the likeliest first."""
    if itemsize >= 4:
        return [Tile(64, 32, 0, 4, 2), Tile(32, 32, 0, 4, 2)]
    if head_size <= 64:
        return [Tile(128, 64, 0, 4, 3), Tile(128, 128, 0, 8, 3), Tile(64, 64, 0, 4, 3)]
    return [Tile(128, 64, 0, 8, 3), Tile(128, 128, 0, 8, 2), Tile(64, 64, 0, 4, 3)]


def _mask(*conditions: Sequence[str]) -> str:
    parts = [part for group in conditions for part in group]
    return f", mask={' & '.join(parts)}, other=0.0" if parts else ""


def _wide(index: str, size: int) -> str:
    """A batch index times its stride may pass 2^31."""
    return f"{index}.to(tl.int64)" if size > 1 else index


def _base(strides: tuple[int, int, int, int]) -> str:
    return f"batch * {strides[0]} + head * {strides[1]}"


def _rows(strides: tuple[int, int, int, int], position: str, feature: str) -> str:
    return f"{position} * {strides[2]} + {feature}" + (f" * {strides[3]}" if strides[3] != 1 else "")


def _comment(origin: str) -> str:
    return f"  # {origin}" if origin else ""
