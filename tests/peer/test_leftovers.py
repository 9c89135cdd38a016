"""What the database of operators does not hold: adaptive softmax, antialiased resizing, operators below the layers."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer


def both(make, tolerance=2e-5):
    torch.manual_seed(3)
    fl.manual_seed(3)
    theirs, ours = make(torch), make(fl)
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, (tuple, list)) else [(ours, theirs)]
    for a, b in pairs:
        assert tuple(a.shape) == tuple(b.shape) and str(a.dtype) == str(b.dtype)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cutoffs", [[2], [3, 7], [1, 2, 3]])
def test_adaptive_softmax(cutoffs):
    def run(t):
        model = t.nn.AdaptiveLogSoftmaxWithLoss(16, 12, cutoffs, div_value=2.0, head_bias=True)
        x = t.randn(30, 16, requires_grad=True)
        target = t.randint(0, 12, (30,))
        output, loss = model(x, target)
        loss.backward()
        single = model(x[0].detach(), target[0])
        return [output, loss, x.grad, *[p.grad for p in model.parameters() if p.grad is not None], model.log_prob(x),
                model.predict(x), *single]
    both(run)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 4), (5, 20), (17, 2), (1, 1)])
def test_antialiased(mode, size):
    def run(t):
        x = t.randn(2, 3, 11, 9, requires_grad=True)
        out = t.nn.functional.interpolate(x, size, mode=mode, antialias=True)
        (out * out).sum().backward()
        return out, x.grad
    both(run, 1e-4)
    both(lambda t: t.nn.functional.interpolate(t.randn(1, 1, 9, 9), scale_factor=0.37, mode=mode, antialias=True), 1e-4)


def test_aten():
    both(lambda t: t.ops.aten.slice.Tensor(t.randn(5, 4), 0, 1, 4, 2))
    both(lambda t: t.ops.aten.native_dropout_backward(t.randn(5), t.rand(5) < 0.5, 2.0))
    both(lambda t: t.ops.aten.add.Tensor(t.randn(5), t.randn(5)))
    both(lambda t: t.ops.aten._safe_softmax.default(t.full((2, 3), -float("inf")), 1))
    both(lambda t: t.native_dropout(t.randn(20), 0.4, True)[0])


@pytest.mark.parametrize("layer", ["FractionalMaxPool2d", "FractionalMaxPool3d"])
def test_fractional_pools_draw_alike(layer):
    n = int(layer[-2])
    both(lambda t: getattr(t.nn, layer)(2, output_ratio=0.5)(t.randn(2, 3, *[9] * n)))
