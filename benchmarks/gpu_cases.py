"""What the GPU benchmark runs: each case makes its inputs, its kernels, an exact reference, and the peer's version."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from hand_kernels import gelu_add, row_sum, softmax

from flambeau.codegen.triton_attention import Shape, Strided, attention, attention_tiles
from flambeau.codegen.triton_build import TritonSource
from flambeau.codegen.triton_templates import Epilogue, Matrix, matmul, matmul_tiles

KINDS = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 3e-2}


@dataclass
class Case:
    """One kernel at one size.

    ``candidates`` are (label, source, grid) to choose from by time; ``inputs`` come before ``outputs`` in the
    kernel's parameters, then ``numbers``. ``exact`` maps the outputs, as float64 arrays, to pairs (got, expected) of
    the checked part. ``peer`` maps torch tensors of the inputs to the result. ``amount`` is bytes or operations.
    """

    name: str
    candidates: list[tuple[str, TritonSource, tuple[int, ...]]]
    inputs: list[np.ndarray]
    outputs: list[tuple[tuple[int, ...], np.dtype]]
    exact: Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]
    peer: Callable[..., Any]
    amount: float
    unit: str
    tolerance: float
    numbers: Sequence[int] = ()
    peer_compiles: bool = False


def cases(small: bool) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Names and makers, so that a case that cannot be made is reported like one that cannot run."""
    for kind in ("fp32", "bf16"):
        yield f"gelu_add {kind}", lambda kind=kind: pointwise_case(kind, 1000 if small else 1 << 26)
        yield f"softmax {kind}", lambda kind=kind: softmax_case(kind, *((5, 100) if small else (16384, 4096)))
        yield f"row_sum {kind}", lambda kind=kind: row_sum_case(kind, *((6, 90) if small else (16384, 8192)))
    for kind, size in (("bf16", 4096), ("bf16", 8192), ("fp16", 4096), ("fp32", 2048)):
        side = 40 if small else size
        yield f"matmul+bias+relu {kind} {side}", lambda kind=kind, side=side: matmul_case(kind, 1, side, side, side)
    batched, thin = ((2, 33, 20, 24), (1, 8, 48, 40)) if small else ((64, 1024, 64, 1024), (1, 16, 8192, 8192))
    yield "matmul+bias+relu bf16 batch", lambda: matmul_case("bf16", *batched)
    yield "matmul+bias+relu bf16 thin", lambda: matmul_case("bf16", *thin)
    for size in (64, 128):
        for causal in (False, True):
            shape = (1, 2, 40, 16) if small else (4, 16, 4096, size)
            yield f"attention bf16 {size}{' causal' if causal else ''}", (
                lambda shape=shape, causal=causal: attention_case("bf16", *shape, causal))


def normal(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Standard normal values; large arrays repeat one block of them, which costs no time to draw."""
    rng = np.random.default_rng(0)
    total = math.prod(shape)
    block = rng.standard_normal(min(total, (1 << 22) + 17), np.float32)
    return np.resize(block, total).reshape(shape).astype(KINDS[kind])


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def pointwise_case(kind: str, size: int) -> Case:
    x, y = normal((size,), kind), normal((size + 5,), kind)[5:]
    check = slice(0, 100_000)

    def exact(out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        part = wide(x[check])
        yield out[check], 0.5 * part * (1 + np.vectorize(math.erf)(part / math.sqrt(2))) + wide(y[check])
        yield out[-3:], 0.5 * wide(x[-3:]) * (1 + np.vectorize(math.erf)(wide(x[-3:]) / math.sqrt(2))) + wide(y[-3:])

    def peer(torch: Any, x: Any, y: Any) -> Any:
        return torch.nn.functional.gelu(x) + y

    blocks = [1024] if size < 5000 else [1024, 2048, 4096]
    return Case(f"gelu_add {kind}", [(f"block {b}", gelu_add(kind, b), (-(-size // b),)) for b in blocks],
                [x, np.ascontiguousarray(y)], [((size,), KINDS[kind])], exact, peer,
                3 * size * KINDS[kind].itemsize, "GB/s", TOLERANCE[kind], (size,), peer_compiles=True)


def softmax_case(kind: str, rows: int, columns: int) -> Case:
    x = normal((rows, columns), kind)

    def exact(out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in (slice(0, 50), slice(rows - 3, rows)):
            weight = np.exp(wide(x[part]) - wide(x[part]).max(1, keepdims=True))
            yield out[part], weight / weight.sum(1, keepdims=True)

    block = 1 << (columns - 1).bit_length()
    return Case(f"softmax {kind}", [(f"block {block}", softmax(kind, block), (rows,))], [x], [(x.shape, x.dtype)],
                exact, lambda torch, x: torch.softmax(x, -1), 2 * x.nbytes, "GB/s", TOLERANCE[kind], (columns,),
                peer_compiles=True)


def row_sum_case(kind: str, rows: int, columns: int) -> Case:
    x = normal((rows, columns), kind)

    def exact(out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield out, x.sum(1, dtype=np.float64)

    shapes = [(1, 128)] if columns < 1000 else [(1, 2048), (2, 1024), (4, 512), (1, 4096)]
    return Case(f"row_sum {kind}", [(f"{r}x{b}", row_sum(kind, r, b), (-(-rows // r),)) for r, b in shapes], [x],
                [((rows,), KINDS["fp32"])], exact, lambda torch, x: x.sum(1, dtype=torch.float32), x.nbytes, "GB/s",
                1e-3, (rows, columns))


def matmul_case(kind: str, batch: int, m: int, n: int, k: int) -> Case:
    a, b, bias = normal((batch, m, k), kind), normal((batch, k, n), kind), normal((n,), kind)
    b = (wide(b) / math.sqrt(k)).astype(b.dtype) if b.size < 1 << 22 else (b / np.float32(math.sqrt(k))).astype(b.dtype)
    epilogue = Epilogue(
        [f"acc += tl.load(bias_ptr + n, mask=n < {n}, other=0.0).to(tl.float32)[None, :]",
         f"tl.store(out_ptr + batch.to(tl.int64) * {m * n} + m[:, None] * {n} + n[None, :], tl.maximum(acc, 0.0), "
         "mask=row_in & column_in)"], {"bias_ptr": f"*{kind}", "out_ptr": f"*{kind}"})
    left, right = Matrix(kind, (m * k, k, 1)), Matrix(kind, (k * n, n, 1))
    candidates = [(str(tile), *matmul("matmul", (batch, m, n, k), left, right, epilogue, tile))
                  for tile in matmul_tiles(m, n, k, KINDS[kind].itemsize)]
    rows = sorted({0, 1, m // 2, m - 2, m - 1})

    def exact(out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for one in sorted({0, batch - 1}):
            yield out[one][rows], np.maximum(wide(a[one][rows]) @ wide(b[one]) + wide(bias), 0)

    def peer(torch: Any, a: Any, b: Any, bias: Any) -> Any:
        return torch.relu(a @ b + bias) if batch > 1 else torch.relu(torch.addmm(bias, a[0], b[0]))

    return Case(f"matmul+bias+relu {kind}", candidates, [a, b, bias], [((batch, m, n), KINDS[kind])], exact, peer,
                2 * batch * m * n * k, "TFLOP/s", TOLERANCE[kind])


def attention_case(kind: str, batch: int, heads: int, length: int, size: int, causal: bool) -> Case:
    q, k, v = (normal((batch, heads, length, size), kind) for _ in range(3))
    place = Strided((heads * length * size, length * size, size, 1))
    places = dict.fromkeys(("query", "key", "value", "out"), place)
    scale = 1 / math.sqrt(size)
    candidates = [(str(tile), *attention("flash", Shape(batch, heads, heads, length, length, size, size), places, kind,
                                         scale=scale, causal=causal, tile=tile))
                  for tile in attention_tiles(size, KINDS[kind].itemsize)]
    rows = sorted({0, 1, length // 2, length - 1})

    def exact(out: np.ndarray, lse: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for b, h in {(0, 0), (batch - 1, heads - 1)}:
            score = scale * wide(q[b, h][rows]) @ wide(k[b, h]).T
            if causal:
                score = np.where(np.arange(length) <= np.array(rows)[:, None], score, -np.inf)
            weight = np.exp(score - score.max(1, keepdims=True))
            yield out[b, h][rows], weight / weight.sum(1, keepdims=True) @ wide(v[b, h])
            yield lse[b, h][rows], np.log(weight.sum(1)) + score.max(1)

    def peer(torch: Any, q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return Case(f"attention {kind}", candidates, [q, k, v], [(q.shape, KINDS[kind]), (q.shape[:3], KINDS["fp32"])],
                exact, peer, 4 * batch * heads * length * length * size / (2 if causal else 1), "TFLOP/s", TOLERANCE[kind])
