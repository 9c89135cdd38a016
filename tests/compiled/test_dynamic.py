"""Graphs with symbolic sizes, forward and backward: one compile serves every size."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flambeau as ft
from flambeau.frontend.backends import list_backends

BACKENDS = [name for name in ("aot_eager", "numpy", "cpp") if name in list_backends()]


def mlp(x):
    w = ft.ones(x.shape[1], 4) * 0.5
    return ft.nn.functional.gelu(ft.nn.functional.layer_norm(x, (6,)) @ w)


def attention(x):
    b, t, c = x.shape
    q, k, v = x.view(b, t, 3, c // 3).unbind(2)
    y = ft.nn.functional.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), is_causal=True)
    return ft.cat([y.squeeze(1), q[:, :1]], 1).sum((0, 2))


def outputs_that_share(x):
    y = (x * 2).view(-1)
    return y, y.view(x.shape)


def size_only_in_the_backward(x):
    return x.sum(0).exp().sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("fn", "shapes"), [
    (mlp, [(3, 6), (5, 6), (8, 6)]),
    (attention, [(2, 3, 12), (4, 5, 12), (2, 7, 12)]),
    (outputs_that_share, [(2, 3), (4, 5), (3, 7)]),
    (size_only_in_the_backward, [(2, 3), (4, 5), (3, 7)]),
], ids=lambda v: getattr(v, "__name__", ""))
def test_every_size(fn, shapes, backend):
    run = ft.compile(fn, backend=backend, dynamic=True, fullgraph=True)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in shapes:
            x = ft.from_numpy(rng.normal(size=shape).astype(np.float32)).requires_grad_()
            found, expected = run(x), fn(x)
            pairs = list(zip(found, expected)) if isinstance(expected, tuple) else [(found, expected)]
            for a, e in pairs:
                np.testing.assert_allclose(a.detach().numpy(), e.detach().numpy(), rtol=1e-4, atol=1e-5)
                ga, = ft.autograd.grad((a * a).sum(), [x], retain_graph=True)
                ge, = ft.autograd.grad((e * e).sum(), [x], retain_graph=True)
                np.testing.assert_allclose(ga.numpy(), ge.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_missing_gradients_and_second_derivatives_of_symbolic_sizes(backend):
    run = ft.compile(lambda x, y: (x * x * x, (x * y).sum()), backend=backend, dynamic=True, fullgraph=True)
    for n in (3, 5, 8):
        x = ft.full((n,), 2.0).requires_grad_()
        _, total = run(x, ft.ones(n))
        np.testing.assert_array_equal(ft.autograd.grad(total, [x])[0].numpy(), np.ones(n))
        cube, _ = run(x, ft.ones(n))
        first, = ft.autograd.grad(cube.sum(), [x], create_graph=True)
        np.testing.assert_allclose(ft.autograd.grad(first.sum(), [x])[0].numpy(), np.full(n, 12.0))


@pytest.mark.parametrize("fn", [
    lambda x, n: ft.zeros(8 // n) + x[:1, 0, 0, 0], lambda x, n: x[..., :8 // n] + 1,
    lambda x, n: ft.nn.functional.max_pool2d(x, 3, n, 1),
    lambda x, n: ft.nn.functional.unfold(x, 3, padding=1, stride=n),
    lambda x, n: ft.nn.functional.conv2d(x, x[:, :, :3, :3].transpose(0, 1), None, (n, n), 1),
], ids=["size", "slice", "pool", "unfold", "conv"])
def test_numbers_divided_by_one_that_changes(fn):
    """A stride that changes from call to call divides the sizes."""
    x, compiled = ft.randn(1, 1, 6, 9), ft.compile(fn)
    for n in (1, 2, 3, 4, 2, 5):
        found, wanted = compiled(x, n), fn(x, n)
        assert found.shape == wanted.shape and ft.allclose(found, wanted, atol=1e-5), n
