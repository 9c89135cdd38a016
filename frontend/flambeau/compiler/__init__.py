"""The compiler's public face (PyTorch: ``torch.compile``, ``torch.compiler``)."""

from __future__ import annotations

import importlib
from typing import Any

from flambeau.frontend.backends import list_backends, register_backend
from flambeau.frontend.compile import compile, disable, is_compiling, reset  # noqa: A004 - PyTorch's name

__all__ = ["compile", "disable", "explain", "is_compiling", "list_backends", "register_backend", "reset"]


def __getattr__(name: str) -> Any:
    """``explain`` is imported by those who ask for an explanation."""
    if name != "explain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("flambeau.frontend.explain").explain
