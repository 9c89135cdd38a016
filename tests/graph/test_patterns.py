"""Attention is found in the spellings that models use, and only where the replacement means the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from capture import capture

import flambeau as ft
from flambeau.frontend.backends import lookup
from flambeau.passes.patterns import attention_patterns, use_kernels


def scaled(q, k, v):
    return ft.softmax(q @ k.transpose(-2, -1) * 0.25, -1) @ v


def divided(q, k, v):
    return ft.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1) @ v


def scaled_query(q, k, v):
    return ft.matmul(ft.softmax((q * 0.5) @ k.mT, dim=3), v)


def unscaled(q, k, v):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def masked(q, k, v):
    mask = ft.zeros(q.shape[-2], k.shape[-2])
    mask[0, 1:] = -math.inf
    return ft.softmax(q @ k.transpose(-2, -1) / 2 + mask, -1) @ v


def mask_first(q, k, v):
    mask = ft.ones(q.shape[-2], k.shape[-2])
    return ft.softmax(mask + 2.0 * (q @ k.transpose(-2, -1)), -1) @ v


def wrong_axis(q, k, v):
    return ft.softmax(q @ k.transpose(-2, -1) * 0.25, -2) @ v


def not_transposed(q, k, v):
    return ft.softmax(q @ q.transpose(-2, -1) @ k, -1) @ v.transpose(-2, -1)


def weights_returned(q, k, v):
    weights = ft.softmax(q @ k.transpose(-2, -1), -1)
    return weights @ v, weights


def tensors(lead=(2, 3), n=5, m=7, e=8, w=8, grad=True):
    rng = np.random.default_rng(3)
    shapes = [(*lead, n, e), (*lead, m, e), (*lead, m, w)]
    return [ft.from_numpy(rng.normal(size=s).astype(np.float32)).requires_grad_(grad) for s in shapes]


def rewritten(fn, inputs):
    return [n.op.name for n in use_kernels(capture(fn, inputs)).nodes]


@pytest.mark.parametrize("fn", [scaled, divided, scaled_query, unscaled, mask_first], ids=lambda f: f.__name__)
def test_found(fn):
    found = rewritten(fn, tensors())
    assert "attention" in found and "softmax" not in found


@pytest.mark.parametrize("fn", [wrong_axis, weights_returned], ids=lambda f: f.__name__)
def test_not_found(fn):
    assert "attention" not in rewritten(fn, tensors())


def test_a_product_of_other_things_is_not_attention():
    assert "attention" not in rewritten(not_transposed, tensors(m=5))


def test_three_dimensions():
    assert "attention" in rewritten(lambda q, k, v: ft.bmm(ft.softmax(ft.bmm(q, k.transpose(1, 2)), 2), v), tensors((4,)))


def test_broadcast_heads_are_left_alone():
    q, k, v = tensors()
    assert "attention" not in rewritten(scaled, [q, k[:, :1], v[:, :1]])


@pytest.mark.parametrize("fn", [scaled, divided, scaled_query, unscaled, masked, mask_first], ids=lambda f: f.__name__)
def test_values_and_gradients_stay(fn):
    a, b = tensors(), tensors()
    out = lookup("aot_eager")(capture(fn, a), a, {}, True)(a)[0]
    expected = fn(*b)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for g, e in zip(ft.autograd.grad(out.sum(), a), ft.autograd.grad(expected.sum(), b)):
        np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-3, atol=1e-5)


def test_a_row_that_sees_nothing_stays_nan():
    def fn(q, k, v):
        mask = ft.full((q.shape[-2], k.shape[-2]), -math.inf)
        return ft.softmax(q @ k.transpose(-2, -1) + mask, -1) @ v

    inputs = tensors(grad=False)
    out = lookup("aot_eager")(capture(fn, inputs), inputs, {}, True)(inputs)[0]
    assert np.isnan(out.numpy()).all()


def test_patterns_read_as_text():
    texts = [str(p.graph) for p in attention_patterns()]
    assert len(set(texts)) == len(texts)
    assert all("ops.softmax" in text for text in texts)
