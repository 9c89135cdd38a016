"""Kernels written by hand, as yardsticks: they tell a fault of the lowering from a fault of the generated text."""

from __future__ import annotations

from flambeau.codegen.triton_build import TritonSource

_HEAD = "import triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n\n"

_GELU = _HEAD + '''@triton.jit
def gelu_add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < n
    x = tl.load(x_ptr + index, mask=inside).to(tl.float32)  # model.py:3
    y = tl.load(y_ptr + index, mask=inside).to(tl.float32)  # model.py:3
    gelu = 0.5 * x * (1.0 + libdevice.erf(x * 0.7071067811865476))  # model.py:4
    tl.store(out_ptr + index, gelu + y, mask=inside)  # model.py:5
'''

_SOFTMAX = _HEAD + '''@triton.jit
def softmax(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    x = tl.load(x_ptr + row * columns + column, mask=inside, other=-float("inf")).to(tl.float32)  # model.py:8
    weight = tl.exp(x - tl.max(x, 0))  # model.py:8
    tl.store(out_ptr + row * columns + column, weight / tl.sum(weight, 0), mask=inside)  # model.py:8
'''

_ROW_SUM = _HEAD + '''@triton.jit
def row_sum(x_ptr, out_ptr, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = (row < rows) & (column < columns)
        total += tl.load(x_ptr + row * columns + column, mask=inside, other=0.0).to(tl.float32)  # model.py:11
    row_index = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tl.store(out_ptr + row_index, tl.sum(total, 1), mask=row_index < rows)  # model.py:11
'''

_MATMUL = _HEAD + '''@triton.jit
def matmul_bias_relu(a_ptr, b_ptr, bias_ptr, out_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
                     GROUP: tl.constexpr):
    program = tl.program_id(0)
    tiles_m = tl.cdiv(M, BM)
    tiles_n = tl.cdiv(N, BN)
    first = program // (GROUP * tiles_n) * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    tile_m = first + program % (GROUP * tiles_n) % height
    tile_n = program % (GROUP * tiles_n) // height
    m = tile_m * BM + tl.arange(0, BM)
    n = tile_n * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = a_ptr + m[:, None] * K + k[None, :]
    b = b_ptr + k[:, None] * N + n[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        left = tl.load(a, mask=(m[:, None] < M) & (k[None, :] < K - start), other=0.0)  # model.py:20
        right = tl.load(b, mask=(k[:, None] < K - start) & (n[None, :] < N), other=0.0)  # model.py:20
        total = tl.dot(left, right, total, input_precision="ieee")  # model.py:20
        a += BK
        b += BK * N
    total += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)[None, :]  # model.py:21
    inside = (m[:, None] < M) & (n[None, :] < N)
    tl.store(out_ptr + m[:, None] * N + n[None, :], tl.maximum(total, 0.0), mask=inside)  # model.py:22
'''


def gelu_add(kind: str = "fp32", block: int = 1024) -> TritonSource:
    pointer = f"*{kind}"
    return TritonSource("gelu_add", _GELU,
                        {"x_ptr": pointer, "y_ptr": pointer, "out_ptr": pointer, "n": "i32", "BLOCK": "constexpr"},
                        {"BLOCK": block}, frozenset({"x_ptr", "y_ptr", "out_ptr", "n"}))


def softmax(kind: str = "fp32", block: int = 1024) -> TritonSource:
    pointer = f"*{kind}"
    return TritonSource("softmax", _SOFTMAX,
                        {"x_ptr": pointer, "out_ptr": pointer, "columns": "i32", "BLOCK": "constexpr"},
                        {"BLOCK": block}, frozenset({"x_ptr", "out_ptr"}))


def row_sum(kind: str = "fp32", rows: int = 4, block: int = 256) -> TritonSource:
    return TritonSource("row_sum", _ROW_SUM,
                        {"x_ptr": f"*{kind}", "out_ptr": "*fp32", "rows": "i32", "columns": "i32",
                         "ROWS": "constexpr", "BLOCK": "constexpr"},
                        {"ROWS": rows, "BLOCK": block}, frozenset({"x_ptr", "out_ptr"}))


def matmul_bias_relu(kind: str = "fp32", tile: tuple[int, int, int] = (64, 64, 32), warps: int = 4,
                     stages: int = 3) -> TritonSource:
    pointer = f"*{kind}"
    pointers = {name: pointer for name in ("a_ptr", "b_ptr", "bias_ptr", "out_ptr")}
    sizes = {name: "i32" for name in "MNK"}
    blocks = dict(zip(("BM", "BN", "BK"), tile), GROUP=8)
    signature = {**pointers, **sizes, **dict.fromkeys(blocks, "constexpr")}
    return TritonSource("matmul_bias_relu", _MATMUL, signature, blocks, frozenset({*pointers, *sizes}), num_warps=warps,
                        num_stages=stages)
