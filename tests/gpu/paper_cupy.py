"""As much of CuPy as the GPU path uses, on NumPy arrays: with the stand-in ``libcuda``, a GPU made of paper.

Installed as the module ``cupy`` of a process of its own. Launches compute nothing, so results are whatever memory
holds; what is checked is that every step up to the driver is taken, with the right arguments.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
from numpy import *  # noqa: F403 - CuPy mirrors NumPy's functions


class _Memory:
    """A position in an array's memory, as CuPy's MemoryPointer."""

    def __init__(self, owner: np.ndarray, ptr: int) -> None:
        self.owner, self.ptr = owner, ptr

    def __add__(self, step: int) -> _Memory:
        return _Memory(self.owner, self.ptr + step)


class ndarray(np.ndarray):  # noqa: N801 - CuPy's name
    """NumPy's array, whose ``data`` is a pointer on the paper GPU."""

    def __new__(cls, shape: Any, dtype: Any, memory: _Memory, strides: Any) -> ndarray:
        offset = memory.ptr - memory.owner.ctypes.data
        raw = np.ndarray((memory.owner.nbytes,), np.uint8, np.ndarray.view(memory.owner.reshape(-1), np.uint8))
        return np.ndarray(shape, dtype, raw, offset, strides).view(cls)

    @property
    def data(self) -> _Memory:  # type: ignore[override]
        return _Memory(self, self.ctypes.data)

    def get(self) -> np.ndarray:
        return np.asarray(self)


def asarray(array: Any, dtype: Any = None, order: Any = None) -> ndarray:
    return np.array(array, dtype, order=order or "K", copy=not isinstance(array, ndarray) or None).view(ndarray)


def asnumpy(array: np.ndarray) -> np.ndarray:
    return np.array(array)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    return np.zeros(shape, dtype).view(ndarray)


class _Device:
    def __init__(self, index: int) -> None:
        self.id = index

    def use(self) -> None:
        pass

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass


cuda = types.SimpleNamespace(Device=_Device, get_current_stream=lambda: types.SimpleNamespace(ptr=7),
                             runtime=types.SimpleNamespace(getDeviceCount=lambda: 1))
sys.modules["cupy"] = sys.modules[__name__]
