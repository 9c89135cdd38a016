"""Packages whose files are imported when one of their names is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any


def attributes(space: dict[str, Any], file_of: Mapping[str, str], files: Collection[str]
               ) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for the package with the globals ``space``: ``file_of`` says which of its files has a
    name, ``files`` are those that can be asked for themselves."""
    package = space["__name__"]

    def find(name: str) -> Any:
        if name in file_of:
            found = getattr(importlib.import_module(f"{package}.{file_of[name]}"), name)
        elif name in files:
            found = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        space[name] = found
        return found

    return find, lambda: sorted({*space, *file_of, *files})
