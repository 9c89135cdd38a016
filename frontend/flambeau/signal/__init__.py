"""Signal processing (PyTorch: ``torch.signal``)."""

from . import windows

__all__ = ["windows"]
