"""Python's ``multiprocessing`` under PyTorch's name (``torch.multiprocessing``): tensors are pickled, not shared."""

from __future__ import annotations

from multiprocessing import *  # noqa: F403


def set_sharing_strategy(new_strategy: str) -> None:
    """Accepted: nothing is shared."""


def get_sharing_strategy() -> str:
    """PyTorch's default."""
    return "file_descriptor"
