"""Where random ops get their generator: the runtime installs it, as a generator's state lives there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_resolve: Callable[[Any], Any] | None = None


def set_source(resolve: Callable[[Any], Any]) -> None:
    """Install what turns a ``generator`` argument (None: the default one) into a generator."""
    global _resolve
    _resolve = resolve


def generator(given: Any) -> Any:
    """The generator for a random op's ``generator`` argument."""
    if _resolve is None:
        raise RuntimeError("no runtime is installed: import flambeau")
    return _resolve(given)
