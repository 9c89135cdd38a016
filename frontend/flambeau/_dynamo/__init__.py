"""PyTorch's older names of the compiler's controls (``torch._dynamo``)."""

from __future__ import annotations

from typing import Any

from flambeau import compiler
from flambeau._dynamo import exc
from flambeau.compiler import disable, is_compiling, list_backends, register_backend, reset
from flambeau.frontend.compile import graph_break, mark_dynamic, mark_static, maybe_mark_dynamic
from flambeau.frontend.config import config

__all__ = ["config", "disable", "exc", "explain", "graph_break", "is_compiling", "list_backends", "mark_dynamic", "mark_static",
           "maybe_mark_dynamic", "register_backend", "reset"]


def __getattr__(name: str) -> Any:
    if name != "explain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return compiler.explain
