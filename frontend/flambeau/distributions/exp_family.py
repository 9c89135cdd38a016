"""PyTorch's module of the exponential family."""

from .distribution import ExponentialFamily

__all__ = ["ExponentialFamily"]
