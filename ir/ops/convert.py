"""Conversions between dtypes and devices: methods on top of ``cast``, ``to_device`` and ``clone``."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..device import Device, as_device
from ..dtype import DType
from ..family import ops
from ..op import public
from ..tensorlike import TensorLike


def _convert(x: Any, dtype: DType | None, device: Device | None, copy: bool, non_blocking: bool = False) -> Any:
    moved = x
    if device is not None and device != x.device:
        moved = ops.to_device(moved, device, non_blocking)
    if dtype is not None and dtype is not x.dtype:
        moved = ops.cast(moved, dtype)
    return ops.clone(moved) if copy and moved is x else moved


@public("Tensor.to")
def to(self: Any, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False,
       memory_format: Any = None) -> Any:
    """``to(dtype)``, ``to(device)``, ``to(device, dtype)`` or ``to(other)``: converted, or this tensor when nothing changes.

    Raises ``TypeError`` for anything else, ``RuntimeError`` for a device that is not there.
    """
    flags = []
    for a in args:
        if isinstance(a, TensorLike):
            dtype, device = a.dtype, a.device
        elif isinstance(a, DType):
            dtype = a
        elif isinstance(a, bool):
            flags.append(a)
        elif isinstance(a, (str, int, Device)):
            device = a
        elif a is not None:
            raise TypeError(f"to() received an invalid combination of arguments - got ({type(a).__name__}), but expected a "
                            "dtype, a device or a tensor")
    if flags:
        non_blocking, copy = flags[0], flags[1] if len(flags) > 1 else copy
    if dtype is not None and not isinstance(dtype, DType):
        raise TypeError(f"to(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    return _convert(self, dtype, None if device is None else as_device(device), copy, non_blocking)


def _to_dtype(name: str, dtype: DType) -> None:
    def method(self: Any, memory_format: Any = None) -> Any:
        return _convert(self, dtype, None, False)
    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"This tensor as {dtype}."
    public(f"Tensor.{name}")(method)


for _name, _target in (("float", _dtype.float32), ("double", _dtype.float64), ("half", _dtype.float16),
                       ("bfloat16", _dtype.bfloat16), ("long", _dtype.int64), ("int", _dtype.int32), ("short", _dtype.int16),
                       ("char", _dtype.int8), ("byte", _dtype.uint8), ("bool", _dtype.bool_), ("cfloat", _dtype.complex64),
                       ("cdouble", _dtype.complex128)):
    _to_dtype(_name, _target)

LEGACY_TYPES = {"FloatTensor": _dtype.float32, "DoubleTensor": _dtype.float64, "HalfTensor": _dtype.float16,
           "BFloat16Tensor": _dtype.bfloat16, "LongTensor": _dtype.int64, "IntTensor": _dtype.int32,
           "ShortTensor": _dtype.int16, "CharTensor": _dtype.int8, "ByteTensor": _dtype.uint8, "BoolTensor": _dtype.bool_}
_LEGACY_OF = {d: name for name, d in LEGACY_TYPES.items()}


@public("Tensor.type")
def type_(self: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The legacy type name (``'torch.FloatTensor'``), or this tensor as ``dtype`` (a dtype or such a name)."""
    if dtype is None:
        place = "torch.cuda" if self.is_cuda else "torch"
        return f"{place}.{_LEGACY_OF.get(self.dtype, 'Tensor')}"
    if isinstance(dtype, str):
        name = dtype.rpartition(".")[2]
        if name not in LEGACY_TYPES:
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = LEGACY_TYPES[name]
    return _convert(self, dtype, None, False, non_blocking)


@public("Tensor.type_as")
def type_as(self: Any, other: Any) -> Any:
    """This tensor in ``other``'s dtype, on its device."""
    return _convert(self, other.dtype, other.device, False)


@public("Tensor.cpu")
def cpu(self: Any, memory_format: Any = None) -> Any:
    """This tensor in host memory."""
    return _convert(self, None, as_device("cpu"), False)


@public("Tensor.cuda")
def cuda(self: Any, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Any:
    """This tensor on a CUDA device (default: the first). Needs CuPy and a GPU (``RuntimeError`` otherwise)."""
    return _convert(self, None, as_device("cuda" if device is None else device), False, non_blocking)


@public("Tensor.get_device")
def get_device(self: Any) -> int:
    """The number of the CUDA device, or -1 on the CPU."""
    return self.device.index or 0 if self.is_cuda else -1


@public("Tensor.is_same_size")
def is_same_size(self: Any, other: Any) -> bool:
    """Whether the shapes are equal."""
    return tuple(self.shape) == tuple(other.shape)


@public("Tensor.pin_memory")
def pin_memory(self: Any, device: Any = None) -> Any:
    """This tensor: host memory is never pinned here."""
    return self


@public("Tensor.is_pinned")
def is_pinned(self: Any, device: Any = None) -> bool:
    """False: host memory is never pinned here."""
    return False
