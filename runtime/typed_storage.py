"""Storages seen as elements of one dtype, which PyTorch deprecates and programs still ask for."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.dtype import DType

from .storage import Storage


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
