"""Memory that is used again: fresh pages cost more than the arithmetic that is done on them.

Compiled code has its own recycled blocks. NumPy takes its memory from the C library, which by default returns each big
array to the system when it is freed; :func:`keep_freed_memory` asks it not to.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

import numpy as np

from .storage import Storage

#: Blocks of at least this many bytes are recycled; smaller ones are as cheap from the allocator.
BIG = 1 << 18
#: Free blocks are given back to the system when more than this many bytes lie idle.
IDLE_LIMIT = 2 << 30

#: What the C library keeps of freed memory for the next arrays, and up to which size of an array.
_KEPT, _LARGEST_KEPT = (2 << 30) - 1, 256 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def keep_freed_memory() -> bool:
    """Let the C library (glibc) keep freed arrays for the next ones; whether it does so now.

    ``FLAMBEAU_KEEP_MEMORY=0`` leaves it out, and so does a setting of the user's own (``MALLOC_TRIM_THRESHOLD_``,
    ``MALLOC_MMAP_THRESHOLD_``). Other C libraries have no such setting.
    """
    own = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    if own or os.environ.get("FLAMBEAU_KEEP_MEMORY") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    largest = mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) or mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # older ones: at most this
    return bool(largest and mallopt(_M_TRIM_THRESHOLD, _KEPT))


_lock = threading.Lock()
_blocks: dict[int, list[tuple[np.ndarray, int]]] = {}
_address, _from_buffer = ctypes.addressof, ctypes.c_char.from_buffer
_getrefcount = sys.getrefcount


def address(array: np.ndarray) -> int:
    """Where the array's first element is."""
    try:
        return _address(_from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, not contiguous, or empty
        return array.__array_interface__["data"][0]


def block(nbytes: int) -> tuple[np.ndarray, int]:
    """A byte array of ``nbytes`` that nobody uses, and its address. It is free again when no view of it is left."""
    with _lock:
        kept = _blocks.setdefault(nbytes, [])
        for pair in kept:
            if _getrefcount(pair[0]) == 2:  # the pair's, and the argument
                return pair[0], pair[1]  # a new tuple: from here on it is held twice
        _drop_idle(nbytes)
        fresh = np.empty(nbytes, np.uint8)
        pair = fresh, address(fresh)
        kept.append(pair)
        return fresh, pair[1]


def _drop_idle(wanted: int) -> None:
    """Give free blocks back when they and the one wanted exceed the limit."""
    idle = [(size, pair) for size, pairs in _blocks.items() for pair in pairs if _getrefcount(pair[0]) == 2]
    if sum(size for size, _ in idle) + wanted <= IDLE_LIMIT:
        return
    for size, pair in idle:
        _blocks[size].remove(pair)


def empty_cache() -> None:
    """Give all free blocks back to the system."""
    with _lock:
        for size, pairs in list(_blocks.items()):
            _blocks[size] = [p for p in pairs if _getrefcount(p[0]) > 2]


def new_array(shape: tuple[int, ...], dtype: np.dtype, nbytes: int) -> tuple[np.ndarray, int]:
    """An uninitialised row-major array and its address."""
    if nbytes < BIG:
        array = np.empty(shape, dtype)
        return array, (_address(_from_buffer(array)) if nbytes else 0)  # type: ignore[arg-type]
    base, at = block(nbytes)
    return np.ndarray(shape, dtype, base), at


def dense_pointer(storage: Storage) -> int:
    """The address of the storage's array if that is row-major, else 0; remembered on the storage."""
    array: Any = storage.array
    found = storage.pointer = address(array) if array.flags.c_contiguous else 0
    return found
