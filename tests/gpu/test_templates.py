"""The matrix product and attention templates: values by the interpreter, and that they lower for every target."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from flambeau.codegen.triton_build import lower  # noqa: E402
from flambeau.codegen.triton_interp import interpret  # noqa: E402
from flambeau.codegen.triton_templates import (  # noqa: E402
    Epilogue,
    Matrix,
    Tile,
    attention,
    attention_tiles,
    matmul,
    matmul_tiles,
)

RNG = np.random.default_rng(0)
TARGETS = ("cuda:80", "cuda:90", "hip:gfx942")
BIAS_RELU = ["acc += tl.load(bias_ptr + n, mask=n < {n}, other=0.0).to(tl.float32)[None, :]  # net.py:9",
             "tl.store(out_ptr + batch * {m} * {n} + m[:, None] * {n} + n[None, :], tl.maximum(acc, 0.0), "
             "mask=row_in & column_in)"]


def normal(*shape: int, dtype: object = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def bias_relu(m: int, n: int, kind: str) -> Epilogue:
    return Epilogue([line.format(m=m, n=n) for line in BIAS_RELU], {"bias_ptr": f"*{kind}", "out_ptr": f"*{kind}"})


def close(actual: np.ndarray, exact: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual.astype(np.float64), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("batch, m, n, k", [(1, 33, 21, 40), (3, 16, 32, 16), (2, 5, 70, 3)])
def test_matmul_values(batch: int, m: int, n: int, k: int, transposed: bool) -> None:
    a, bias, out = normal(batch, m, k), normal(n), np.empty((batch, m, n), np.float32)
    b = normal(batch, n, k).transpose(0, 2, 1) if transposed else normal(batch, k, n)
    left, right = (Matrix("fp32", tuple(step // 4 for step in x.strides)) for x in (a, b))
    kernel, grid = matmul("product", (batch, m, n, k), left, right, bias_relu(m, n, "fp32"), Tile(16, 16, 16), group=2)
    interpret(kernel, grid, [a, b.base if transposed and b.base is not None else b, bias, out])
    close(out, np.maximum(a.astype(np.float64) @ b + bias, 0), 1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries, keys, size", [(40, 40, 16), (32, 70, 20)])
def test_attention_values(queries: int, keys: int, size: int, causal: bool) -> None:
    q, k, v = normal(2, 3, queries, size), normal(2, 3, keys, size), normal(2, keys, 3, size)
    out, lse = np.empty_like(q), np.empty((2, 3, queries), np.float32)
    strides = {"query": q, "key": k, "value": v.transpose(0, 2, 1, 3), "out": out}
    kernel, grid = attention("flash", (2, 3, queries, keys, size),
                             {name: tuple(step // 4 for step in x.strides) for name, x in strides.items()}, "fp32",
                             scale=0.3, causal=causal, tile=Tile(16, 32, 0), keep_lse=True)
    interpret(kernel, grid, [q, k, v, out, lse])
    score = 0.3 * q.astype(np.float64) @ k.transpose(0, 1, 3, 2)
    if causal:
        score = np.where(np.tri(queries, keys, dtype=bool), score, -np.inf)
    exact_lse = np.log(np.exp(score).sum(-1))
    close(out, np.exp(score - exact_lse[..., None]) @ v.transpose(0, 2, 1, 3), 1e-5)
    close(lse, exact_lse, 1e-5)


def test_bfloat16_attention() -> None:
    q, k, v = (normal(1, 1, 32, 16, dtype=ml_dtypes.bfloat16) for _ in range(3))
    out = np.empty_like(q)
    strides = dict.fromkeys(("query", "key", "value", "out"), (512, 512, 16, 1))
    kernel, grid = attention("flash", (1, 1, 32, 32, 16), strides, "bf16", scale=0.25, causal=False,
                             tile=Tile(16, 16, 0))
    interpret(kernel, grid, [q, k, v, out])
    wide = [x.astype(np.float64) for x in (q, k, v)]
    weight = np.exp(0.25 * wide[0] @ wide[1].transpose(0, 1, 3, 2))
    close(out, weight / weight.sum(-1, keepdims=True) @ wide[2], 2e-2)


@pytest.mark.parametrize("target", TARGETS)
def test_templates_lower(target: str) -> None:
    row_major = Matrix("bf16", (512 * 512, 512, 1))
    kernel, _ = matmul("product", (4, 512, 512, 512), row_major, row_major, bias_relu(512, 512, "bf16"),
                       matmul_tiles(512, 512, 512, 2)[0], origin="net.py:8")
    product = lower(kernel, target)
    assert "net.py:8" in list(product.stages.values())[-1]
    strides = dict.fromkeys(("query", "key", "value", "out"), (1024 * 512, 64, 512, 1))
    kernel, _ = attention("flash", (2, 8, 1024, 1024, 64), strides, "bf16", scale=0.125, causal=True,
                          tile=attention_tiles(64, 2)[0], origin="net.py:12")
    assert "net.py:12" in list(lower(kernel, target).stages.values())[-1]
