"""Memory that several processes see: a storage moved into a memfd, and its way to another process."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from typing import Any

import numpy as np

from .storage import Storage


class Mapping:
    """A piece of shared memory: open as long as a storage lies in it."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size
        self.memory = mmap.mmap(fd, max(size, 1))

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self.fd)  # (the memory itself goes with the last array over it)


def _references(t: Any) -> int:
    return sys.getrefcount(t._storage)


class _Probe:
    """Holds a storage that nothing else holds: what the interpreter itself adds to the count differs between versions."""

    def __init__(self) -> None:
        self._storage = Storage(np.empty(0))


def share(t: Any) -> None:
    """Move the bytes of a tensor's storage into shared memory, with the shape and strides they have.

    Raises ``RuntimeError`` where other tensors look at it: theirs would be left behind.
    """
    if _references(t) > _references(_Probe()):
        raise RuntimeError("share_memory_() moves a tensor's memory, and other tensors look at this one: call it before making "
                           "views, or clone() the tensor first")
    storage = t._storage
    owner = storage.array
    mapping = mapped(max(owner.nbytes, 1))
    new = np.ndarray(owner.shape, owner.dtype, mapping.memory) if owner.flags.c_contiguous else np.ndarray(
        owner.shape, owner.dtype, mapping.memory, strides=_dense_strides(owner))
    new[...] = owner
    storage.array, storage.shared, storage.pointer = new, mapping, None


def mapped(size: int) -> Mapping:
    """New shared memory. Raises ``OSError`` where the system has none."""
    fd = os.memfd_create("flambeau-shared", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return Mapping(fd, size)


def _dense_strides(array: np.ndarray) -> tuple[int, ...]:
    """Strides in the order of ``array``'s, without gaps."""
    strides, step = [0] * array.ndim, array.itemsize
    for d in sorted(range(array.ndim), key=lambda d: array.strides[d]):
        strides[d], step = step, step * array.shape[d]
    return tuple(strides)


def send(storage: Storage) -> tuple[Any, ...]:
    """What another process needs to map a shared storage: goes through ``multiprocessing``'s queues and arguments."""
    from multiprocessing.reduction import DupFd  # noqa: PLC0415 - only where processes are

    mapping, owner = storage.shared, storage.array
    return DupFd(mapping.fd), mapping.size, owner.shape, owner.dtype, owner.strides


def receive(handle: Any, size: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...]) -> Storage:
    """The storage that :func:`send` sent, over the same memory."""
    mapping = Mapping(handle.detach(), size)
    storage = Storage(np.ndarray(shape, dtype, mapping.memory, strides=strides))
    storage.shared = mapping
    return storage
