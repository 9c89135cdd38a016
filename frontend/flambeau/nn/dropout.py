"""Dropout layers."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _DropoutNd(Module):
    """Zero with probability ``p`` in training."""

    drop: Any = None

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        return self.drop(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_DropoutNd):
    """Zero elements. Shape: any -> same."""

    drop: Any = staticmethod(F.dropout)


class Dropout1d(_DropoutNd):
    """Zero channels. Shapes: [N, C, L] (or [C, L]) -> same."""

    drop: Any = staticmethod(F.dropout1d)


class Dropout2d(_DropoutNd):
    """Zero channels. Shapes: [N, C, H, W] -> same."""

    drop: Any = staticmethod(F.dropout2d)


class Dropout3d(_DropoutNd):
    """Zero channels. Shapes: [N, C, D, H, W] (or [C, D, H, W]) -> same."""

    drop: Any = staticmethod(F.dropout3d)


class AlphaDropout(_DropoutNd):
    """Dropout that keeps mean 0 and variance 1. Shape: any -> same."""

    def forward(self, input: Any) -> Any:
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_DropoutNd):
    """``AlphaDropout`` of whole channels. Shapes: [N, C, *] -> same."""

    def forward(self, input: Any) -> Any:
        return F.feature_alpha_dropout(input, self.p, self.training)


__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]
