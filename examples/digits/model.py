"""A small convolutional net with an attention block for 8x8 images of handwritten digits."""

from __future__ import annotations

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn


class ConvBlock(nn.Module):
    """A 3x3 convolution, normalised over the batch, then GELU. Shapes: [N, C_in, H, W] -> [N, C_out, H, W]."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x)))


class AttentionBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each normalised first and added to its input. [N, T, D] -> same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def attend(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    """Ten logits from a batch of images. [N, 1, 8, 8] -> [N, 10].

    Every part is smooth. A maximum (ReLU, max pooling) would turn the last bit in which two correct runs differ into
    another winner now and then, and after some steps into loss curves that can no longer be compared.
    """

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(ConvBlock(1, width // 2), ConvBlock(width // 2, width), nn.AvgPool2d(2))
        self.position = nn.Parameter(flambeau.zeros(16, width))
        self.attention = AttentionBlock(width, heads)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.features(images).flatten(2).transpose(1, 2) + self.position   # [N, 16, width]
        return self.head(self.norm(self.attention(tokens)).mean(dim=1))


def example_inputs() -> tuple[Tensor, ...]:
    """A batch of the size that training uses; `flambeau dump` and `flambeau explain` call this."""
    return (flambeau.randn(64, 1, 8, 8),)
