"""The CPU as a device (PyTorch: ``torch.cpu``)."""

from __future__ import annotations

from typing import Any

from . import amp


def is_available() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """"cpu"."""
    return "cpu"


def synchronize(device: Any = None) -> None:
    """Nothing is ever pending on the CPU."""


__all__ = ["amp", "current_device", "device_count", "is_available", "synchronize"]
