"""DLPack (PyTorch: ``torch.utils.dlpack``)."""

from __future__ import annotations

from typing import Any

from flambeau._interop import from_dlpack


def to_dlpack(tensor: Any) -> Any:
    """A capsule over the tensor's memory, to be taken once."""
    return tensor.__dlpack__()


__all__ = ["from_dlpack", "to_dlpack"]
