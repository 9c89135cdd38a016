"""Hand-written kernels by Triton's interpreter on NumPy arrays, and the mends it needs to be trusted."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

triton = pytest.importorskip("triton")

from gpu.hand_kernels import gelu_add, matmul_bias_relu, row_sum, softmax  # noqa: E402

from flambeau.codegen.triton_build import TritonSource, lower  # noqa: E402
from flambeau.codegen.triton_interp import interpret  # noqa: E402

RNG = np.random.default_rng(0)
BF16 = np.dtype(ml_dtypes.bfloat16)


def normal(*shape: int, dtype: object = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def test_pointwise_with_a_ragged_end() -> None:
    x, y, out = normal(300), normal(300), np.full(310, 7, np.float32)
    interpret(gelu_add(block=128), (3,), [x, y, out, 300])
    gelu = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    np.testing.assert_allclose(out[:300], gelu + y, rtol=1e-5, atol=1e-6)
    assert (out[300:] == 7).all()


def test_softmax_row() -> None:
    x, out = normal(5, 100), np.empty((5, 100), np.float32)
    interpret(softmax(block=128), (5,), [x, out, 100])
    weight = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(out, weight / weight.sum(1, keepdims=True), rtol=1e-5)


def test_looped_reduction() -> None:
    x, out = normal(7, 90), np.empty(7, np.float32)
    interpret(row_sum(rows=4, block=32), (2,), [x, out, 7, 90])
    np.testing.assert_allclose(out, x.sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype, kind", [(np.float32, "fp32"), (BF16, "bf16"), (np.float16, "fp16")], ids=str)
def test_matmul_with_epilogue(dtype: object, kind: str) -> None:
    a, b, bias = normal(33, 40, dtype=dtype), normal(40, 21, dtype=dtype), normal(21, dtype=dtype)
    out = np.empty((33, 21), dtype)
    interpret(matmul_bias_relu(kind, tile=(16, 16, 16)), (6,), [a, b, bias, out, 33, 21, 40])
    wide = [array.astype(np.float64) for array in (a, b, bias)]
    exact = np.maximum(wide[0] @ wide[1] + wide[2], 0)
    np.testing.assert_allclose(out.astype(np.float64), exact, rtol=1e-2 if kind == "bf16" else 1e-3, atol=1e-4)


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    x = normal(1000)
    out = np.empty(1000, BF16)
    copy = gelu_add(block=1024)
    signature = {**copy.signature, "out_ptr": "*bf16"}
    source = copy.source.replace("gelu + y", "x")
    interpret(TritonSource(copy.name, source, signature, copy.constants), (1,), [x, x, out, 1000])
    np.testing.assert_array_equal(out, x.astype(BF16))


def test_the_compiler_still_works_after_the_interpreter() -> None:
    before = dict(vars(triton.language.core.tensor))
    x, out = normal(2, 8), np.empty((2, 8), np.float32)
    interpret(softmax(block=8), (2,), [x, out, 8])
    assert dict(vars(triton.language.core.tensor)) == before
    assert lower(softmax(block=8), "cuda:80").stages["ptx"]
    interpret(softmax(block=8), (2,), [x, out, 8])


def test_errors_inside_a_kernel_surface_and_leave_nothing_behind() -> None:
    good = softmax(block=8)
    bad = TritonSource("softmax", good.source.replace("tl.exp(x", "tl.exp(unknown"), good.signature, good.constants)
    x, out = normal(2, 8), np.empty((2, 8), np.float32)
    with pytest.raises(Exception, match="unknown"):
        interpret(bad, (2,), [x, out, 8])
    with pytest.raises(TypeError, match="takes 3 arguments, got 2"):
        interpret(good, (2,), [x, out])
    interpret(good, (2,), [x, out, 8])
    np.testing.assert_allclose(out.sum(1), 1, rtol=1e-5)
