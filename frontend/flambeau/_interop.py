"""Tensors over other people's memory, and the global generator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.device import as_device
from flambeau.ir.op import PUBLIC, type_name
from flambeau.runtime import eager
from flambeau.runtime.tensor import Tensor, wrap

_READ_ONLY = ("The given {what} is not writable, and PyTorch does not support non-writable tensors. This means {means}. You may "
              "want to copy the {noun} to protect its data or make it writable before converting it to a tensor. This type of "
              "warning will be suppressed for the rest of this program.")
_warned: set[str] = set()


def _warn_once(what: str, noun: str, means: str) -> None:
    if what not in _warned:
        _warned.add(what)
        warnings.warn(_READ_ONLY.format(what=what, noun=noun, means=means), UserWarning, stacklevel=3)


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor that shares the array's memory; warns once when the array is read-only.

    Raises ``TypeError`` for other things and unsupported dtypes, ``ValueError`` for negative strides and foreign byte order.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if any(s < 0 for s in ndarray.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not "
                         "currently supported. (You can probably work around this by making a copy of your array with "
                         "array.copy().)")
    if any(s % ndarray.itemsize for s in ndarray.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate "
                         "the memory.")
    if not ndarray.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between byte orders "
                         "is currently not supported.")
    _dtype.from_numpy(ndarray.dtype)
    if not ndarray.flags.writeable:
        _warn_once("NumPy array", "array", "writing to this tensor will result in undefined behavior")
    return wrap(ndarray if type(ndarray) is np.ndarray else ndarray.view(np.ndarray))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy when it is an array or tensor of that dtype and device already."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(dtype=dtype, device=device)  # type: ignore[attr-defined]
    if isinstance(data, np.ndarray):
        t = from_numpy(data)
        return t.to(dtype=dtype, device=as_device(device))  # type: ignore[attr-defined]
    return PUBLIC["torch"]["tensor"](data, dtype=dtype, device=device)


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False) -> Tensor:
    """``obj`` as a tensor: a tensor, an array, anything with ``__dlpack__``, a buffer, a scalar or a sequence.

    The first four share their memory where dtype and device allow it. ``copy`` True always copies; False never does, and
    raises ``ValueError`` when a copy is needed.
    """
    t, shares = _aliased(obj, dtype)
    if t is None:
        if copy is False:
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        t = PUBLIC["torch"]["tensor"](obj, dtype=dtype, device=device)
    if copy is False:
        if dtype is not None and dtype is not t.dtype:
            raise ValueError(f"can't alias tensor with dtype '{type_name(t.dtype)}' into dtype '{type_name(dtype)}'.")
        if device is not None and as_device(device) != t.device:
            raise ValueError(f"can't alias tensor from device '{t.device}' to '{as_device(device)}'.")
    moved = t.to(dtype=dtype, device=device) if dtype is not None or device is not None else t  # type: ignore[attr-defined]
    if copy and shares and moved is t:
        moved = t.clone()  # type: ignore[attr-defined]
    if isinstance(obj, Tensor) and obj.requires_grad and not requires_grad:
        moved = moved.detach()
    return moved.requires_grad_() if requires_grad and not moved.requires_grad else moved


def _aliased(obj: Any, dtype: Any) -> tuple[Any, bool]:
    """``obj`` as a tensor over its own memory, or None; and whether it is over that memory."""
    if isinstance(obj, Tensor):
        return obj, True
    if isinstance(obj, np.ndarray):
        return from_numpy(obj), True
    if isinstance(obj, np.generic):
        return from_numpy(np.array(obj)), False
    if hasattr(obj, "__dlpack__"):
        return from_dlpack(obj), True
    try:
        view = memoryview(obj)
    except TypeError:
        return None, False
    return frombuffer(view.cast("B") if view.contiguous else view, dtype=dtype or _dtype.get_default_dtype()), True


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A one-dimensional tensor over a buffer's memory. Raises ``ValueError`` for lengths that do not fit; warns once when the
    buffer is read-only."""
    size, n = memoryview(buffer).nbytes, dtype.itemsize
    if size == 0 or count == 0:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1")
    if count < 0 and (size - offset) % n:
        raise ValueError(f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a multiple of element "
                         f"size ({n})")
    if count > 0 and offset + count * n > size:
        raise ValueError(f"requested buffer length ({count} * {n} bytes) after offset ({offset} bytes) must not be greater than "
                         f"actual buffer length ({size} bytes)")
    array = np.frombuffer(buffer, dtype.np, count, offset)
    if not array.flags.writeable:
        _warn_once("buffer", "buffer", "you can write to the underlying (supposedly non-writable) buffer using the tensor")
    t = wrap(array)
    return t.requires_grad_() if requires_grad else t


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of any object with ``__dlpack__``, or of a capsule.

    ``copy`` True copies, False forbids it (``BufferError``). Memory that cannot be written to is copied.
    """
    if isinstance(ext_tensor, Tensor) and device is None and not copy:
        return ext_tensor.detach()  # type: ignore[attr-defined]
    if hasattr(ext_tensor, "__dlpack_device__") and ext_tensor.__dlpack_device__()[0] == 2:
        from flambeau.runtime.storage import cupy  # noqa: PLC0415 - only where a GPU is
        t = wrap(cupy().from_dlpack(ext_tensor), as_device("cuda"))
    else:
        from flambeau.runtime.dlpack import array_of  # noqa: PLC0415 - needs ctypes; few programs do this
        array = array_of(ext_tensor, copy)
        _dtype.from_numpy(array.dtype)
        t = wrap(array)
    return t if device is None else t.to(device)  # type: ignore[attr-defined]


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
