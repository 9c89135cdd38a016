"""Storages as objects (PyTorch: ``torch.storage``): the bytes that tensors look at, with or without a dtype."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from flambeau._pickling import STORAGE_NAMES
from flambeau.ir import dtype as _dtype
from flambeau.ir.dtype import DType
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Tensor


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


class TypedStorage:
    """A storage seen as elements of one dtype (``tensor.storage()``, which PyTorch deprecates)."""

    def __init__(self, *content: Any, wrap_storage: Storage | None = None, dtype: DType | None = None, device: Any = None,
                 _internal: bool = False) -> None:
        self.dtype = dtype or _dtype.get_default_dtype()
        if wrap_storage is None:
            first = content[0] if content else 0
            array = np.zeros(first, self.dtype.np) if isinstance(first, int) else np.array(first, self.dtype.np)
            wrap_storage = Storage(array)
        self._untyped_storage = wrap_storage

    def _elements(self) -> Any:
        return self._untyped_storage.flat().view(self.dtype.np)

    def untyped(self) -> Storage:
        """The bytes."""
        return self._untyped_storage

    @property
    def device(self) -> Any:
        return self._untyped_storage.device

    def size(self) -> int:
        """The number of elements."""
        return self._untyped_storage.nbytes() // self.dtype.itemsize

    __len__ = size

    def nbytes(self) -> int:
        """The number of bytes."""
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """Address of the first element."""
        return self._untyped_storage.data_ptr()

    def tolist(self) -> list:
        """The elements as Python numbers."""
        return self._elements().tolist()

    def __getitem__(self, index: Any) -> Any:
        found = self._elements()[index]
        return TypedStorage(wrap_storage=Storage(found), dtype=self.dtype) if isinstance(index, slice) else found.item()

    def __setitem__(self, index: Any, value: Any) -> None:
        self._elements()[index] = value
        self._untyped_storage.version += 1

    def clone(self) -> TypedStorage:
        """A copy."""
        return TypedStorage(wrap_storage=self._untyped_storage.clone(), dtype=self.dtype)

    def fill_(self, value: Any) -> TypedStorage:
        """Set every element."""
        self[:] = value
        return self

    def __repr__(self) -> str:
        shown = "\n".join(f" {x}" for x in self.tolist())
        return f"{shown}\n[torch.storage.TypedStorage(dtype={self.dtype}, device={self.device}) of size {len(self)}]"


def typed(t: Tensor) -> TypedStorage:
    """A tensor's storage in its dtype (``Tensor.storage``)."""
    return TypedStorage(wrap_storage=t._storage, dtype=t.dtype)


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
