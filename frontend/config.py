"""Settings of the compiler. Set attributes of `config`; `options=` of one compile overrides them."""
from __future__ import annotations

import os
from typing import Any


class Config:
    """The one mutable settings object of the frontend."""

    recompile_limit: int = 8                  # entries per resume point before it runs eagerly
    max_points: int = 256                     # resume points per compiled function
    automatic_dynamic_shapes: bool = True     # a size that changes becomes a symbol
    assume_static_by_default: bool = True     # the first trace takes every size as it is
    suppress_errors: bool = True              # an internal error of the compiler falls back to eager (with a warning)
    disable: bool = False                     # compiled functions run eagerly
    warm_start: bool = os.environ.get("FLAMBEAU_WARM", "1") not in ("", "0")   # entries are kept on disk, and found there
    check: bool = os.environ.get("FLAMBEAU_CHECK", "0") not in ("", "0")   # compare every call with the original
    check_tolerance: float = 1.0              # factor on the tolerances of checked calls
    #: (object, attribute, what it means): while such an attribute is not empty, functions run eagerly
    watched: list[tuple[Any, str, str]]

    def __init__(self) -> None:
        self.watched = []

    @property
    def cache_size_limit(self) -> int:
        """PyTorch's older name of `recompile_limit`."""
        return self.recompile_limit

    @cache_size_limit.setter
    def cache_size_limit(self, limit: int) -> None:
        self.recompile_limit = limit

    @property
    def is_watched(self) -> bool:
        """Whether something looks at every operation now (a mode of `overrides`)."""
        return any(getattr(owner, name) for owner, name, _ in self.watched)


config = Config()
