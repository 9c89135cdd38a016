"""Marks for profilers (PyTorch: ``torch.autograd.profiler``)."""

from __future__ import annotations

import contextlib
from typing import Any


class record_function(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """Names a block; nothing listens."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name

    def __enter__(self) -> record_function:
        return self

    def __exit__(self, *exc: Any) -> None:
        return None


__all__ = ["record_function"]
