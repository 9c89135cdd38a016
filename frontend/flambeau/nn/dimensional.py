"""Layers that come in several numbers of dimensions."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class Dimensional(Module):
    """Base of layers that are one function of ``nn.functional`` for each number of dimensions.

    A family names the ``function`` without its ending; each member is a subclass made with ``dims``: ``run`` is then the
    function of that many dimensions. (One that is loaded late is for ``forward`` to look up.)
    """

    function = ""
    dims = 0
    run: Any

    def __init_subclass__(cls, dims: int = 0, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if dims:
            cls.dims, function = dims, vars(F).get(f"{cls.function}{dims}d")
            if function is not None:
                cls.run = staticmethod(function)

    def filled(self, value: Any) -> tuple:
        """``value``, or one number for each dimension."""
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.dims
