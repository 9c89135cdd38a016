"""Storages as objects (PyTorch: ``torch.storage``): the bytes that tensors look at, with or without a dtype."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from flambeau._pickling import STORAGE_NAMES
from flambeau.ir.dtype import DType
from flambeau.runtime.storage import Storage
from flambeau.runtime.typed_storage import TypedStorage


class _Untyped(type):
    """Every storage here is an instance, and calling the class makes one."""

    def __instancecheck__(cls, obj: Any) -> bool:
        return isinstance(obj, Storage)

    def __call__(cls, content: Any = 0, *, device: Any = "cpu") -> Storage:
        """Zeroed bytes (``content`` a number), or the ints of a sequence."""
        array = np.zeros(content, np.uint8) if isinstance(content, int) else np.array(content, np.uint8)
        found = Storage(array)
        return found if str(device) == "cpu" else found.cuda(device)


class UntypedStorage(metaclass=_Untyped):
    """Bytes (``tensor.untyped_storage()``)."""

    @staticmethod
    def from_buffer(buffer: Any, byte_order: str = "native", dtype: Any = None, **_: Any) -> Storage:
        """A copy of a buffer's bytes."""
        return Storage(np.frombuffer(bytearray(buffer), np.uint8))

    @staticmethod
    def from_file(filename: str, shared: bool = False, nbytes: int = 0) -> Storage:
        """A file's bytes, mapped; ``shared``: writes go to the file, which is made or lengthened to ``nbytes``."""
        if shared:
            with open(filename, "ab") as file:
                file.truncate(max(nbytes, file.tell()))
        return Storage(np.asarray(np.memmap(filename, np.uint8, "r+" if shared else "c", shape=(nbytes,) if nbytes else None)))


def _load_from_bytes(b: bytes) -> Any:
    """What PyTorch's own pickles call to bring back a storage."""
    from flambeau.serialization import load  # noqa: PLC0415 - only old pickles come here
    return load(io.BytesIO(b))


class _OfDtype(type):
    """One of PyTorch's storage classes of one dtype."""

    dtype: DType

    def __call__(cls, *content: Any) -> TypedStorage:
        return TypedStorage(*content, dtype=cls.dtype)

    def __instancecheck__(cls, obj: Any) -> bool:
        return isinstance(obj, TypedStorage) and obj.dtype is cls.dtype


LEGACY = {name: _OfDtype(name, (), {"dtype": d}) for name, d in STORAGE_NAMES.items() if name != "UntypedStorage"}
globals().update(LEGACY)

__all__ = ["TypedStorage", "UntypedStorage", *LEGACY]
