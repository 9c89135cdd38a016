"""The compiler's public face (PyTorch: ``torch.compile``, ``torch.compiler``)."""

from __future__ import annotations

import importlib
from typing import Any

from flambeau.frontend.backends import list_backends, register_backend
from flambeau.frontend.compile import compile, disable, is_compiling, reset  # noqa: A004 - PyTorch's name

__all__ = ["CheckError", "CheckWarning", "compile", "disable", "explain", "is_compiling", "list_backends", "register_backend",
           "reset"]


def __getattr__(name: str) -> Any:
    """``explain`` and the errors of checked calls are imported by those who ask for them."""
    where = {"explain": "explain", "CheckError": "checking", "CheckWarning": "checking"}.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"flambeau.frontend.{where}"), name)
