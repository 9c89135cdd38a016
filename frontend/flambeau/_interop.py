"""Tensors over other people's memory, and the global generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.device import as_device
from flambeau.ir.op import PUBLIC
from flambeau.runtime import eager
from flambeau.runtime.tensor import Tensor, wrap


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor that shares the array's memory. Raises ``TypeError`` for other things and unsupported dtypes."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if any(s < 0 for s in ndarray.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not "
                         "currently supported. (You can probably work around this by making a copy of your array with "
                         "array.copy().)")
    known = _dtype.from_numpy(ndarray.dtype)
    if known.np != ndarray.dtype:
        raise TypeError(f"can't convert np.ndarray of type {ndarray.dtype}: byte-swapped and unsigned wide integers are not "
                        "supported; convert it with .astype first")
    return wrap(ndarray)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy when it is an array or tensor of that dtype and device already."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(dtype=dtype, device=device)  # type: ignore[attr-defined]
    if isinstance(data, np.ndarray) and (dtype is None or dtype.np == data.dtype) and all(s >= 0 for s in data.strides):
        t = from_numpy(data)
        return t if as_device(device).type == "cpu" else t.to(device=device)  # type: ignore[attr-defined]
    return PUBLIC["torch"]["tensor"](data, dtype=dtype, device=device)


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False) -> Tensor:
    """``obj`` as a tensor; ``copy`` True always copies, False never does (``ValueError`` when one is needed)."""
    t = from_dlpack(obj) if hasattr(obj, "__dlpack__") and not isinstance(obj, (Tensor, np.ndarray)) else as_tensor(
        obj, dtype, device)
    shared = isinstance(obj, (Tensor, np.ndarray)) and np.shares_memory(np.asarray(t._a), getattr(obj, "_a", obj))
    if copy is False and not shared and isinstance(obj, (Tensor, np.ndarray)):
        raise ValueError("can't alias the given object without a copy, which copy=False forbids")
    if copy and shared:
        t = t.clone()  # type: ignore[attr-defined]
    return t.requires_grad_() if requires_grad else t


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A one-dimensional tensor over a writable buffer's memory."""
    t = wrap(np.frombuffer(buffer, dtype.np, count, offset))
    return t.requires_grad_() if requires_grad else t


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of any object with ``__dlpack__``."""
    array = np.from_dlpack(ext_tensor)
    return wrap(array if array.flags.writeable else array.copy())


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def _default() -> Any:
    return eager.generator(None)


def manual_seed(seed: int) -> Any:
    """Seed the default generator; returns it."""
    return _default().manual_seed(seed)


def seed() -> int:
    """Seed the default generator from entropy; returns the seed."""
    return _default().seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return _default().initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's state."""
    return _default().get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Put the default generator into a state that :func:`get_rng_state` returned."""
    _default().set_state(new_state)


def __getattr__(name: str) -> Any:
    """``Generator`` needs numpy.random, which is loaded when the first number is drawn."""
    if name != "Generator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flambeau.runtime.rng import Generator  # noqa: PLC0415
    return Generator
