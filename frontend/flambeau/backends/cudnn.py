"""Switches of cuDNN, which is not used here (PyTorch: ``torch.backends.cudnn``): kept, without effect."""

from __future__ import annotations

enabled, benchmark, deterministic, allow_tf32 = True, False, False, True


def is_available() -> bool:
    """False."""
    return False


def version() -> None:
    """None."""
    return None
