"""Where PyTorch keeps what its loader is made of, and programs look for it."""

from . import collate

__all__ = ["collate"]
