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


def _rnn(t, mode, packed):
    several = 4 if mode == "lstm" else 3 if mode == "gru" else 1
    params = []
    for below in (3, 10):
        for _ in range(2):
            params += [t.randn(5 * several, below), t.randn(5 * several, 5), t.randn(5 * several), t.randn(5 * several)]
    state = t.randn(4, 2, 5)
    hx = [state, t.randn(4, 2, 5)] if mode == "lstm" else state
    if packed:
        return getattr(t, mode)(t.randn(7, 3), t.tensor([2, 2, 2, 1]), hx, params, True, 2, 0.0, False, True)
    return getattr(t, mode)(t.randn(2, 6, 3), hx, params, True, 2, 0.0, False, True, True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_recurrent_functions(mode, packed):
    both(lambda t: list(_rnn(t, mode, packed)))


def test_second_signatures():
    both(lambda t: t.alpha_dropout(t.randn(20), 0.3, True))
    both(lambda t: t.feature_dropout(t.randn(3, 4, 5), 0.3, True))
    both(lambda t: t.dropout_(t.randn(20), 0.3, True))
    both(lambda t: t.kl_div(t.randn(5), t.rand(5), 2))
    both(lambda t: t.instance_norm(t.randn(2, 3, 5), None, None, None, None, True, 0.1, 1e-5, False))
    both(lambda t: t.convolution(t.randn(2, 4, 9), t.randn(6, 2, 3), t.randn(6), [2], [1], [1], False, [0], 2))
    both(lambda t: t.convolution(t.randn(2, 4, 9), t.randn(4, 3, 3), None, [2], [1], [1], True, [1], 2))
    both(lambda t: t.conv_tbc(t.randn(7, 2, 3), t.randn(3, 3, 4), t.randn(4), 1))
    both(lambda t: t.norm_except_dim(t.randn(3, 4, 5), 2, 1))
    both(lambda t: t.affine_grid_generator(t.randn(2, 2, 3), [2, 1, 4, 5], False))
    both(lambda t: t.native_channel_shuffle(t.randn(1, 6, 4), 3))
    both(lambda t: t.randn(4, dtype=t.float64).abs().float_power_(1.5))
    both(lambda t: t.randn(2, 3).apply_(lambda x: 2 * x))
    both(lambda t: t.randn(2, 3).map_(t.ones(2, 3), lambda x, y: x - y))
    both(lambda t: t.arccos_(t.rand(3)))


def test_switches():
    for t in (torch, fl):
        with pytest.raises((TypeError, RuntimeError)):
            t.set_default_tensor_type("torch.LongTensor")
        for name in ("sparse", "quantized", "nested", "mkldnn", "mps", "xpu", "cuda"):
            assert not getattr(t.ones(2), f"is_{name}")
        assert t.ones(2).is_cpu and not t.is_inference(t.ones(2)) and t.get_device(t.ones(2)) == -1
        assert t.zeros(2, 3, 4).permute(2, 0, 1).dim_order() == (1, 2, 0)
    fl.set_default_tensor_type(fl.DoubleTensor)
    assert fl.ones(1).dtype is fl.float64
    fl.set_default_tensor_type("torch.FloatTensor")
    assert fl.ones(1).dtype is fl.float32
