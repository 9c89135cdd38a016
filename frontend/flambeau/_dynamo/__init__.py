"""PyTorch's older names of the compiler's controls (``torch._dynamo``)."""

from __future__ import annotations

from flambeau.compiler import disable, explain, is_compiling, list_backends, register_backend, reset
from flambeau.frontend import config

__all__ = ["config", "disable", "explain", "is_compiling", "list_backends", "register_backend", "reset"]
