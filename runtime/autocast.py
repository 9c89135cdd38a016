"""Autocast in eager mode: the thread's setting, the handler it installs, and the casts of weights it keeps."""

from __future__ import annotations

import threading
from types import FunctionType
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir.autocast import OFF, Autocast, Settings
from flambeau.ir.dtype import DType
from flambeau.ir.op import ops, state


class AutocastMode(threading.local):
    """The part of the thread's mode that autocast has: setting ``autocast`` installs or removes the handler."""

    _settings: Settings = OFF
    _casts: dict[tuple, tuple] | None = None
    grad = True

    @property
    def autocast(self) -> Settings:
        """Which devices autocast is on for, and in which dtypes."""
        return self._settings

    @autocast.setter
    def autocast(self, settings: Settings) -> None:
        self._settings = settings
        handler = state.handler
        inner = handler.inner if isinstance(handler, Autocast) else handler
        state.handler = inner if settings == OFF else _handler(self, settings, inner)
        if not settings[0] and not settings[2]:
            self._casts = None

    def cast_weight(self, x: Any, dtype: DType) -> Any:
        """``x`` in ``dtype``; for a parameter, the cast made before in this region, unless the parameter has changed."""
        if not (x.requires_grad and x.dtype is _dtype.float32 and self._settings[4] and x.is_leaf):
            return ops.cast(x, dtype)
        if self._casts is None:
            self._casts = {}
        key = (id(x), dtype, self.grad)
        found = self._casts.get(key)
        if found is None or found[1] != x._storage.version:
            found = self._casts[key] = (x, x._storage.version, ops.cast(x, dtype))
        return found[2]


_handlers: dict[tuple, Autocast] = {}  # one for each setting: compiled code knows a setting by its handler


def known_handler(mode: AutocastMode, settings: Settings) -> Autocast:
    """The handler of regions with these settings around which there is nothing else."""
    return _handler(mode, settings, type(state).handler)


def _handler(mode: AutocastMode, settings: Settings, inner: Any) -> Autocast:
    if not isinstance(inner, FunctionType):  # a transform's, which comes and goes
        return Autocast(settings, inner, mode.cast_weight)
    found = _handlers.get((settings, inner))
    if found is None:
        found = _handlers[settings, inner] = Autocast(settings, inner, mode.cast_weight)
    return found
