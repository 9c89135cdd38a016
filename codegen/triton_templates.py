"""The matrix product as a Triton template, with room for a fused epilogue.

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
    program = tl.program_id(0) % $tiles
    batch = tl.program_id(0) // $tiles
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
        params=", ".join(signature), group=group, group_size=group * tiles_n, tiles_m=tiles_m, tiles=tiles_m * tiles_n, bm=tile.m,
        bn=tile.n, bk=tile.k, acc_type=acc_type, size_m=size_m, size_n=size_n, size_k=size_k,
        left=left.address("left_ptr", _wide("batch", batch), "m[:, None]", "depth[None, :]"),
        right=right.address("right_ptr", _wide("batch", batch), "depth[:, None]", "n[None, :]"),
        left_mask=_mask([] if whole_m else [f"(m[:, None] < {size_m})"],
                        [] if whole_k else [f"(depth[None, :] < {size_k})"]),
        right_mask=_mask([] if whole_k else [f"(depth[:, None] < {size_k})"],
                         [] if whole_n else [f"(n[None, :] < {size_n})"]),
        out_type="" if acc_type == "tl.float32" else f", out_dtype={acc_type}", origin=comment(origin),
        epilogue="\n".join("    " + line.strip() for line in epilogue.statements))
    aligned = frozenset(name for name, kind in signature.items() if kind.startswith("*"))
    source = TritonSource(name, text, signature, aligned=aligned, num_warps=tile.warps, num_stages=tile.stages)
    return source, (tiles_m * tiles_n * batch, 1, 1)


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


def _mask(*conditions: Sequence[str]) -> str:
    parts = [part for group in conditions for part in group]
    return f", mask={' & '.join(parts)}, other=0.0" if parts else ""


def _wide(index: str, size: int) -> str:
    """A batch index times its stride may pass 2^31."""
    return f"{index}.to(tl.int64)" if size > 1 else index


def comment(origin: str) -> str:
    return f"  # {origin}" if origin else ""
