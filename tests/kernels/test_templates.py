"""The template library: matrix products, attention and convolution against plain NumPy, on awkward sizes."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import flambeau  # noqa: F401 - installs the builder of templates
from flambeau.ir.op import get_op
from flambeau.runtime import kernels, native

pytestmark = pytest.mark.skipif(not native.available(), reason="no C++ compiler")

SIZES = [
    ((), 1, 1, 1),
    ((), 7, 17, 3),
    ((), 6, 16, 256),
    ((), 5, 33, 1000),
    ((3,), 13, 50, 70),
    ((2, 3, 4), 20, 33, 9),
    ((), 1, 513, 64),
    ((), 100, 530, 513),
    ((), 97, 600, 2),
    ((), 0, 5, 3),
    ((), 4, 5, 0),
    ((), 40, 50, 0),
]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = native.get_num_threads()
    native.set_num_threads(request.param)
    yield request.param
    native.set_num_threads(before)


@pytest.mark.parametrize(
    "dtype,tolerance",
    [(np.float32, 1e-5), (np.float64, 1e-13), (ml_dtypes.bfloat16, 1e-2), (np.float16, 2e-3)],
    ids=["f32", "f64", "bf16", "f16"],
)
@pytest.mark.parametrize("batch,m,n,k", SIZES)
def test_matmul_of_any_layout(threads, dtype, tolerance, batch, m, n, k):
    rng = np.random.default_rng(0)
    for turned_a, turned_b in itertools.product((False, True), repeat=2):
        a = rng.standard_normal((*batch, k, m) if turned_a else (*batch, m, k)).astype(dtype)
        b = rng.standard_normal((*batch, n, k) if turned_b else (*batch, k, n)).astype(dtype)
        a = a.swapaxes(-1, -2) if turned_a else a
        b = b.swapaxes(-1, -2) if turned_b else b
        expected = a.astype(np.float64) @ b.astype(np.float64)
        found = kernels.matmul(a, b)
        assert found.shape == expected.shape and found.dtype == a.dtype
        np.testing.assert_allclose(found.astype(np.float64), expected, rtol=tolerance, atol=tolerance * max(1, k) ** 0.5)


def test_matmul_keeps_nan_and_infinity_where_they_are():
    a, b = np.ones((8, 20), np.float32), np.ones((20, 40), np.float32)
    a[3, 5], b[7, 9] = np.nan, np.inf
    found = kernels.matmul(a, b)
    assert np.isnan(found[3]).all() and np.isinf(found[[0, 1, 2, 4], 9]).all()
    assert np.isfinite(np.delete(np.delete(found, 3, 0), 9, 1)).all()


def reference_attention(q, k, v, mask, causal, scale, grad):
    q, k, v, grad = (x.astype(np.float64) for x in (q, k, v, grad))
    groups = q.shape[1] // k.shape[1]
    keys, values = np.repeat(k, groups, 1), np.repeat(v, groups, 1)
    scores = q @ keys.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    slopes = grad @ values.swapaxes(-1, -2)
    slopes = weights * (slopes - (slopes * weights).sum(-1, keepdims=True)) * scale

    def ungrouped(x):
        return x.reshape(x.shape[0], k.shape[1], groups, *x.shape[2:]).sum(2)

    turned = slopes.swapaxes(-1, -2)
    return weights @ values, slopes @ keys, ungrouped(turned @ q), ungrouped(weights.swapaxes(-1, -2) @ grad)


MASKS = {
    "no mask": lambda rng, n, m: None,
    "added": lambda rng, n, m: rng.standard_normal((n, m)).astype(np.float32),
    "bool": lambda rng, n, m: rng.random((n, m)) > 0.3,
    "keys": lambda rng, n, m: rng.random((1, 1, 1, m)) > 0.3,
    "nothing seen": lambda rng, n, m: np.zeros((n, m), bool),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(
    "b,h,g,n,m,d,e", [(1, 1, 1, 1, 1, 1, 1), (2, 3, 3, 17, 33, 8, 8), (1, 4, 2, 50, 100, 7, 13), (1, 1, 1, 16, 200, 16, 40)]
)
def test_attention_and_its_gradients(threads, mask, causal, b, h, g, n, m, d, e):
    rng = np.random.default_rng(1)
    q, k, v, grad = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((b, h, n, d), (b, g, m, d), (b, g, m, e), (b, h, n, e))
    )
    hide, scale = MASKS[mask](rng, n, m), d**-0.5
    out, lse = kernels.attention(q, k, v, hide, causal, scale)
    grads = kernels.attention_backward(grad, None, q, k, v, out, lse, hide, causal, scale)
    for found, expected in zip((out, *grads), reference_attention(q, k, v, hide, causal, scale, grad), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * max(1, np.abs(expected).max()))


def test_attention_takes_the_gradient_of_its_second_result():
    rng = np.random.default_rng(2)
    q, k, v, grad = (rng.standard_normal((1, 2, 19, 8)).astype(np.float32) for _ in range(4))
    grad_lse = rng.standard_normal((1, 2, 19)).astype(np.float32)
    out, lse = kernels.attention(q, k, v, None, False, 0.5)
    found = kernels.attention_backward(grad, grad_lse, q, k, v, out, lse, None, False, 0.5)
    expected = get_op("attention_backward").kernel(np, grad, grad_lse, q, k, v, out, lse, None, False, 0.5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


CONVOLUTIONS = [
    ((2, 3), (8, 9), (5, 3), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 4), (8, 9), (6, 2), (3, 2), (2, 1), (1, 0), (1, 2), 2),
    ((3, 6), (15,), (6, 1), (5,), (2,), (2,), (1,), 6),
    ((1, 2), (5, 6, 7), (4, 2), (2, 3, 2), (1, 2, 2), (0, 1, 1), (2, 1, 1), 1),
    ((2, 8), (7, 7), (16, 8), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 8), (14, 14), (8, 1), (3, 3), (2, 2), (1, 1), (1, 1), 8),
    ((2, 4), (9, 9), (8, 1), (3, 3), (3, 3), (0, 0), (1, 1), 4),
    ((2, 40), (19, 18), (30, 40), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((1, 3), (4, 4), (18, 1), (2, 2), (1, 1), (1, 1), (1, 1), 3),
]


@pytest.mark.parametrize("x,sizes,weight,kernel,stride,padding,dilation,groups", CONVOLUTIONS)
def test_convolution_and_its_gradients(threads, x, sizes, weight, kernel, stride, padding, dilation, groups):
    rng = np.random.default_rng(3)
    data = rng.standard_normal((*x, *sizes)).astype(np.float32)
    weights = rng.standard_normal((*weight, *kernel)).astype(np.float32)
    bias = rng.standard_normal(weight[0]).astype(np.float32)
    geometry = (stride, padding, dilation, groups)
    wide = data.astype(np.float64), weights.astype(np.float64), bias.astype(np.float64)
    expected = get_op("conv").kernel(np, *wide, *geometry)
    grad = rng.standard_normal(expected.shape).astype(np.float32)
    found = [
        kernels.conv(data, weights, bias, *geometry),
        kernels.conv_input_grad(grad, weights, sizes, *geometry),
        kernels.conv_weight_grad(grad, data, kernel, *geometry),
    ]
    expected = [
        expected,
        get_op("conv_input_grad").kernel(np, grad.astype(np.float64), wide[1], sizes, *geometry),
        get_op("conv_weight_grad").kernel(np, grad.astype(np.float64), wide[0], kernel, *geometry),
    ]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: kernels.conv(x, w[:, :2], None, (1, 1), (0, 0), (1, 1), 1),
        lambda x, w: kernels.conv(x, w, np.zeros(7, np.float32), (1, 1), (0, 0), (1, 1), 1),
        lambda x, w: kernels.conv(x, w, None, (0, 1), (0, 0), (1, 1), 1),
        lambda x, w: kernels.conv(x, w, None, (1,), (0,), (1,), 1),
        lambda x, w: kernels.conv(x[:, :, :2], w, None, (1, 1), (0, 0), (1, 1), 1),
        lambda x, w: kernels.conv(x.astype(np.float64), w, None, (1, 1), (0, 0), (1, 1), 1),
        lambda x, w: kernels.attention(x, x[:, :2], x, None, False, 1.0),
        lambda x, w: kernels.attention(x, x, x, np.zeros((5, 3), bool), False, 1.0),
    ],
)
def test_what_does_not_fit_is_left_to_numpy(call):
    x, w = np.zeros((2, 3, 6, 6), np.float32), np.zeros((4, 3, 3, 3), np.float32)
    assert call(x, w) is None
