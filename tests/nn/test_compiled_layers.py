"""Layers captured whole and compiled: results and gradients of parameters are those of eager execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)[0]


def normal(*shape: int) -> Any:
    return flambeau.tensor(np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32))


INDEX = flambeau.tensor([[1, 2], [0, 1]])
LAYERS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "lstm": (lambda: nn.LSTM(4, 5, 2, bidirectional=True), normal(3, 2, 4)),
    "gru": (lambda: nn.GRU(4, 5), normal(3, 2, 4)),
    "attention": (SelfAttention, normal(2, 5, 8)),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), normal(2, 5, 8)),
    "embedding": (lambda: nn.Embedding(5, 4, padding_idx=1), INDEX),
    "bag": (lambda: nn.EmbeddingBag(5, 4), INDEX),
    "convolutions": (lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 3)), normal(2, 1, 8, 8)),
    "pools": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same", groups=2, padding_mode="reflect"), nn.GroupNorm(2, 4), nn.Hardswish(),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.AdaptiveAvgPool2d((3, 2))), normal(2, 2, 8, 8)),
    "resizing": (lambda: nn.Sequential(
        nn.ConvTranspose2d(2, 4, 3, stride=2), nn.InstanceNorm2d(4, affine=True), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.PixelShuffle(2)), normal(2, 2, 4, 4)),
    "overlapping maxima": (lambda: nn.Sequential(nn.Conv1d(2, 3, 1), nn.MaxPool1d(3, 2, 1), nn.LPPool1d(2, 2)), normal(2, 2, 9)),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5)), normal(2, 4)),
    "folding": (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.Unfold(3), nn.Fold((6, 6), 3)), normal(2, 2, 6, 6)),
}


def step(module: nn.Module, run: Any, x: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first result, and the gradients of its squares' sum."""
    flambeau.manual_seed(1)
    module.zero_grad()
    out = run(x)
    out = out[0] if isinstance(out, tuple) else out
    (out * out).sum().backward()
    return out.detach().numpy(), {name: p.grad.numpy().copy() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, x = LAYERS[name]
    flambeau.manual_seed(0)
    module = make()
    compiled = flambeau.compile(module, fullgraph=True, backend="numpy")
    expected, wanted = step(module, module, x)
    actual, found = step(module, compiled, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=1e-4, err_msg=key)
