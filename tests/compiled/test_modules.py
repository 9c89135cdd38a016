"""Modules as models use them, compiled whole: outputs, gradients of parameters and inputs, buffers, in training and eval."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flambeau as ft
from flambeau import nn
from flambeau.ir.tree import leaves

F = nn.functional
R = ft.randn


class Losses(nn.Module):
    def forward(self, x, y):
        similar = F.kl_div(x.log_softmax(-1), y.softmax(-1), reduction="batchmean") + F.cosine_similarity(x, y).sum()
        return F.mse_loss(x, y) + F.l1_loss(x, y) + F.smooth_l1_loss(x, y) + similar + (
            F.binary_cross_entropy_with_logits(x, y.sigmoid()))


class Classes(nn.Module):
    def forward(self, x, target):
        return F.cross_entropy(x, target, label_smoothing=0.1) + F.nll_loss(x.log_softmax(1), target)


class Assorted(nn.Module):
    def forward(self, x):
        _, at = x.topk(2, dim=1)
        written = x.clone()
        written[0] = 0
        written[:, 1] += 1
        parts = [x.sort(1)[0], x.cumsum(1) ** 2, x[x.shape[0] // 2:, ::2], ft.einsum("ij,kj->ik", x, x), x.gather(1, at),
                 ft.where(x > 0, x, x * 0.1), ft.stack([x, x * 2]).mean(0), x.max(1)[0], ft.logsumexp(x, 1)]
        return sum(p.sum() for p in parts) + written.var() + x.min() + x.norm() + x.std()


class MaskedAttention(nn.Module):
    """Attention as small GPTs spell it out."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        t = x.shape[1]
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.transpose(-2, -1)) * 8 ** -0.5
        weights = weights.masked_fill(ft.tril(ft.ones(t, t)) == 0, float("-inf"))
        return F.softmax(weights, -1) @ v


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)


MODULES = {
    "conv": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                                   nn.Flatten(), nn.Linear(128, 5)), lambda: [R(4, 3, 8, 8)]),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.Tanh()), lambda: [R(2, 3, 5, 5)]),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.GroupNorm(2, 6), nn.SiLU(), nn.AdaptiveAvgPool1d(2)),
               lambda: [R(2, 3, 10)]),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), lambda: [R(1, 2, 4, 4, 4)]),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8, padding=1, stride=2), lambda: [R(2, 8, 7, 7)]),
    "lstm": (lambda: nn.LSTM(5, 7, num_layers=2, batch_first=True), lambda: [R(3, 4, 5)]),
    "gru": (lambda: nn.GRU(5, 7), lambda: [R(4, 3, 5)]),
    "attention": (lambda: SelfAttention(8, 2, batch_first=True), lambda: [R(2, 5, 8)]),
    # without dropout: of a transposed input compiled code draws rows first, eager in the order of memory (docs/random.md)
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), lambda: [R(2, 5, 8)]),
    "masked attention": (MaskedAttention, lambda: [R(2, 5, 8)]),
    "norms": (lambda: nn.Sequential(nn.InstanceNorm2d(3, affine=True), nn.LayerNorm([4, 4]), nn.RMSNorm(4)),
              lambda: [R(2, 3, 4, 4)]),
    "embedding": (lambda: nn.Sequential(nn.Embedding(10, 4), nn.Dropout(0.5)), lambda: [ft.randint(0, 10, (3, 5))]),
    "pooling": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(1)), lambda: [R(2, 3, 8, 8)]),
    "activations": (lambda: nn.Sequential(nn.ELU(), nn.LeakyReLU(), nn.Hardswish(), nn.Mish(), nn.Softplus(), nn.PReLU(),
                                          nn.GELU(approximate="tanh"), nn.LogSoftmax(-1)), lambda: [R(3, 4)]),
    "losses": (Losses, lambda: [R(3, 4), R(3, 4)]),
    "classes": (Classes, lambda: [R(6, 4), ft.randint(0, 4, (6,))]),
    "assorted": (Assorted, lambda: [R(4, 6)]),
    "upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), lambda: [R(1, 2, 3, 3)]),
    "double": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double(), lambda: [R(3, 4).double()]),
}


def run(module, call, inputs, state):
    """Outputs, gradients and buffers after one forward and backward from the same state."""
    module.load_state_dict(state)
    for t in [*module.parameters(), *inputs]:
        t.grad = None
    ft.manual_seed(3)
    outs = [t for t in leaves((call(*inputs),)) if isinstance(t, ft.Tensor)]
    sum((t * (k + 1) * 0.3).sum() for k, t in enumerate(outs) if t.requires_grad).backward()
    return [*outs, *(t.grad for t in [*module.parameters(), *inputs]), *(b.clone() for b in module.buffers())]


@pytest.mark.parametrize("backend", ["numpy", "cpp"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", MODULES)
def test_module(name, training, backend):
    make, make_inputs = MODULES[name]
    ft.manual_seed(1)
    module, inputs = make().train(training), make_inputs()
    for t in inputs:
        t.requires_grad_(t.is_floating_point())
    state = {key: value.clone() for key, value in module.state_dict().items()}
    if not any(t.requires_grad for t in [*inputs, *module.parameters()]):
        pytest.skip("nothing to differentiate")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actual = run(module, ft.compile(module, backend=backend, fullgraph=True), inputs, state)
    for a, e in zip(actual, run(module, module, inputs, state), strict=True):
        assert (a is None) == (e is None)
        if e is not None:
            np.testing.assert_allclose(a.detach().numpy(), e.detach().numpy(), rtol=2e-3, atol=2e-5)
