"""The matrix product and attention templates: values by the interpreter, and that they lower for every target."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from flambeau.codegen.triton_attention import Mask, Shape, Strided, attention, attention_tiles  # noqa: E402
from flambeau.codegen.triton_build import lower  # noqa: E402
from flambeau.codegen.triton_interp import interpret  # noqa: E402
from flambeau.codegen.triton_templates import Epilogue, Matrix, Tile, matmul, matmul_tiles  # noqa: E402

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


def strided(x: np.ndarray) -> Strided:
    return Strided(tuple(0 if size == 1 else step // x.itemsize for size, step in zip(x.shape, x.strides)))


def softmax(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and log-sum-exp in float64; a row of minus infinities has zero weights."""
    with np.errstate(divide="ignore"):
        lse = np.log(np.exp(score).sum(-1))
    return np.exp(score - np.where(np.isinf(lse), 0, lse)[..., None]), lse


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries, keys, size, values, groups", [(40, 40, 16, 16, 4), (32, 70, 20, 24, 2)])
def test_attention_values(queries: int, keys: int, size: int, values: int, groups: int, causal: bool) -> None:
    q, k, v = normal(2, 4, queries, size), normal(2, groups, keys, size), normal(2, keys, groups, values)
    v = v.transpose(0, 2, 1, 3)
    out, lse = np.empty((2, 4, queries, values), np.float32), np.empty((2, 4, queries), np.float32)
    places = {"query": strided(q), "key": strided(k), "value": strided(v), "out": strided(out)}
    kernel, grid = attention("flash", Shape(2, 4, groups, queries, keys, size, values), places, "fp32", scale=0.3,
                             causal=causal, tile=Tile(16, 32, 0))
    interpret(kernel, grid, [q, k, v, out, lse])
    score = 0.3 * q.astype(np.float64) @ np.repeat(k, 4 // groups, 1).transpose(0, 1, 3, 2)
    if causal:
        score = np.where(np.tri(queries, keys, dtype=bool), score, -np.inf)
    weight, exact_lse = softmax(score)
    close(out, weight @ np.repeat(v, 4 // groups, 1), 1e-5)
    close(lse, exact_lse, 1e-5)


@pytest.mark.parametrize("kind", ["i1", "fp32"])
def test_attention_with_a_broadcast_mask_and_a_blind_row(kind: str) -> None:
    q, k, v = normal(2, 2, 20, 16), normal(2, 2, 40, 16), normal(2, 2, 40, 16)
    mask = RNG.random((2, 1, 20, 40)) < 0.7 if kind == "i1" else normal(2, 1, 20, 40)
    mask[0, 0, 3] = False if kind == "i1" else -np.inf
    out, lse = np.empty_like(q), np.empty((2, 2, 20), np.float32)
    places = {"query": strided(q), "key": strided(k), "value": strided(v), "out": strided(out)}
    kernel, grid = attention("flash", Shape(2, 2, 2, 20, 40, 16, 16), places, "fp32", scale=0.25, causal=False,
                             tile=Tile(16, 16, 0), mask=Mask(kind, strided(mask)))
    interpret(kernel, grid, [q, k, v, mask, out, lse])
    score = 0.25 * q.astype(np.float64) @ k.transpose(0, 1, 3, 2)
    weight, exact_lse = softmax(np.where(mask, score, -np.inf) if kind == "i1" else score + mask)
    close(out, weight @ v, 1e-5)
    close(lse, exact_lse, 1e-5)
    assert (out[0, :, 3] == 0).all()


def test_bfloat16_attention() -> None:
    q, k, v = (normal(1, 1, 32, 16, dtype=ml_dtypes.bfloat16) for _ in range(3))
    out, lse = np.empty_like(q), np.empty((1, 1, 32), np.float32)
    places = {name: strided(q) for name in ("query", "key", "value", "out")}
    kernel, grid = attention("flash", Shape(1, 1, 1, 32, 32, 16, 16), places, "bf16", scale=0.25, causal=False,
                             tile=Tile(16, 16, 0))
    interpret(kernel, grid, [q, k, v, out, lse])
    wide = [x.astype(np.float64) for x in (q, k, v)]
    close(out, softmax(0.25 * wide[0] @ wide[1].transpose(0, 1, 3, 2))[0] @ wide[2], 2e-2)


@pytest.mark.parametrize("target", TARGETS)
def test_templates_lower(target: str) -> None:
    row_major = Matrix("bf16", (512 * 512, 512, 1))
    kernel, _ = matmul("product", (4, 512, 512, 512), row_major, row_major, bias_relu(512, 512, "bf16"),
                       matmul_tiles(512, 512, 512, 2)[0], origin="net.py:8")
    product = lower(kernel, target)
    assert "net.py:8" in list(product.stages.values())[-1]
    places = dict.fromkeys(("query", "key", "value", "out"), Strided((1024 * 512, 64, 512, 1)))
    for causal, mask in ((True, None), (False, Mask("i1", Strided((0, 0, 1024, 1))))):
        kernel, _ = attention("flash", Shape(2, 8, 8, 1024, 1024, 64, 64), places, "bf16", scale=0.125, causal=causal,
                              tile=attention_tiles(64, 2)[0], mask=mask, origin="net.py:12")
        assert "net.py:12" in list(lower(kernel, target).stages.values())[-1]
