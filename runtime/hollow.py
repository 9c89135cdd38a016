"""Tensors of the meta device: a shape, strides and a dtype, and nothing in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir.op import Op

from .storage import Storage
from .tensor import Tensor


class Hollow(np.ndarray):
    """An array whose elements nobody may ask for. Its memory is reserved, but no page of it is ever touched."""

    def item(self, *args: Any) -> Any:
        """Raise ``RuntimeError``."""
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    tolist = item

    def copy(self, order: Any = "C") -> Hollow:  # type: ignore[override]
        """Another one."""
        return hollow(self.shape, self.dtype)

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Hollow:  # type: ignore[override]
        """One of another dtype."""
        return hollow(self.shape, dtype)


def hollow(shape: Any, dtype: Any) -> Hollow:
    """A row-major array without data."""
    return np.empty(tuple(shape), dtype).view(Hollow)


def hollow_tensor(shape: Any, dtype: Any) -> Tensor:
    """A tensor of the meta device; ``dtype`` is NumPy's."""
    array = hollow(shape, dtype)
    return Tensor(array, Storage(array, _device.meta))


def run(op: Op, args: tuple) -> Any:
    """What the op gives, as far as shapes tell. Raises ``NotImplementedError`` where the shape depends on data."""
    from flambeau.ir.tracing import infer_call  # noqa: PLC0415 - graphs are not loaded before they are wanted
    found = infer_call(op, args)
    if isinstance(found, tuple):
        return tuple(None if m is None else hollow_tensor(m.shape, m.dtype.np) for m in found)
    return hollow_tensor(found.shape, found.dtype.np)
