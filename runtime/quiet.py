"""Silence for NumPy's floating-point warnings: tensors follow IEEE arithmetic without comment, as PyTorch's do."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

import numpy as np


def _setting() -> tuple[Any, Any]:
    """NumPy's own context variable and its silent value; ``(None, None)`` where it cannot be reached."""
    try:
        from numpy._core.umath import _extobj_contextvar as variable  # noqa: PLC0415 - private: hence the other ways below
        with np.errstate(all="ignore"):
            return variable, variable.get()
    except (ImportError, LookupError, AttributeError):
        return None, None


def _switches(variable: Any, silent: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """``(hush, restore)``: by the context variable (0.1 us), else ``errstate`` (1 us)."""
    if variable is not None:
        return partial(variable.set, silent), variable.reset

    def hush() -> Any:
        state = np.errstate(all="ignore")
        state.__enter__()
        return state

    return hush, lambda state: state.__exit__()


def _runner(variable: Any, silent: Any) -> Callable[..., Any]:
    """``quietly(function, *args)``: the call in a context of its own where NumPy is silent (0.03 us).

    One call at a time can be in that context: one that comes in between (from another thread while NumPy works without the
    interpreter's lock, or from a finalizer) gets a ``RuntimeError`` before the function is called, and takes another way.
    """
    if variable is not None:
        context = Context()
        context.run(variable.set, silent)
        return context.run

    def quietly(function: Callable[..., Any], *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return quietly


hush, restore = _switches(*_setting())
quietly = _runner(*_setting())
