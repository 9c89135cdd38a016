"""Helpers around training (PyTorch: ``torch.utils``), each imported when it is first asked for."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

__all__ = ["checkpoint", "data", "dlpack"]


def __getattr__(name: str) -> Any:
    if name.startswith("__") or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
