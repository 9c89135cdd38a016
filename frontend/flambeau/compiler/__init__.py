"""The compiler's public face (PyTorch: ``torch.compile``, ``torch.compiler``)."""

from __future__ import annotations

from flambeau.frontend.backends import list_backends, register_backend
from flambeau.frontend.compile import compile, disable, is_compiling, reset  # noqa: A004 - PyTorch's name
from flambeau.frontend.explain import explain

__all__ = ["compile", "disable", "explain", "is_compiling", "list_backends", "register_backend", "reset"]
