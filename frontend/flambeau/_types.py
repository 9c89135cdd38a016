"""Small public types and constants: number limits, memory formats, the default device, deterministic flags."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from flambeau.ir import device as _device
from flambeau.ir import dtype as _dtype
from flambeau.ir.dtype import DType
from flambeau.ir.family import broadcast_shapes as _combine
from flambeau.ir.ops.convert import LEGACY_TYPES
from flambeau.runtime.tensor import Layout, Size, Tensor

layout = Layout  # PyTorch's name
sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc, jagged = map(
    Layout, ("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged"))


def _float_limits(dtype: DType) -> tuple[float, float, float, float, float]:
    """eps, largest, lowest and smallest normal number, and resolution; traced code calls this with the dtype it knows."""
    info = ml_dtypes.finfo(dtype.np)
    return float(info.eps), float(info.max), float(info.min), float(info.smallest_normal), 10.0**-int(info.precision)


def _integer_limits(dtype: DType) -> tuple[int, int, int]:
    """Bits, smallest and largest number."""
    info = np.iinfo(dtype.np)
    return int(info.bits), int(info.min), int(info.max)


_float_limits.__flambeau_pure__ = _integer_limits.__flambeau_pure__ = True  # type: ignore[attr-defined]


class finfo:  # noqa: N801 - PyTorch's name
    """Limits of a floating-point dtype. Raises ``TypeError`` for another one."""

    def __init__(self, dtype: DType | None = None) -> None:
        dtype = (dtype or _dtype.get_default_dtype()).to_real()
        if not dtype.is_floating_point:
            raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                            f"'{dtype}'")
        self.bits = dtype.itemsize * 8
        self.eps, self.max, self.min, self.tiny, self.resolution = _float_limits(dtype)
        self.smallest_normal = self.tiny
        self.dtype = dtype.name

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:  # noqa: N801 - PyTorch's name
    """Limits of an integer dtype. Raises ``TypeError`` for another one."""

    def __init__(self, dtype: DType) -> None:
        if not dtype.is_integral or dtype is _dtype.bool_:
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle "
                            f"'{dtype}'")
        self.bits, self.min, self.max = _integer_limits(dtype)
        self.dtype = dtype.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


class memory_format:  # noqa: N801 - PyTorch's name
    """How dimensions are ordered in memory; accepted where PyTorch accepts it, results are row-major."""

    __flambeau_constant__ = True  # traced code holds it as it is

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")


def set_default_device(device: Any) -> None:
    """Where tensors are made when no device is given (None: the CPU)."""
    _device.set_default(device)


def get_default_device() -> _device.Device:
    """Where tensors are made when no device is given."""
    return _device.as_device(None)


_deterministic = False


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Accepted: every CPU algorithm here is deterministic for a given number of threads."""
    global _deterministic
    _deterministic = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """What :func:`use_deterministic_algorithms` was last given."""
    return _deterministic


_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Accepted: float32 products are computed in float32. Raises ``ValueError`` for an unknown name."""
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"invalid float32 matmul precision {precision!r}: one of 'highest', 'high', 'medium'")
    _precision = precision


def get_float32_matmul_precision() -> str:
    """What :func:`set_float32_matmul_precision` was last given."""
    return _precision


def typename(obj: Any) -> str:
    """The type's name as PyTorch writes it."""
    if hasattr(obj, "type") and hasattr(obj, "requires_grad"):
        return obj.type()
    kind = type(obj)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ not in ("builtins", "__builtin__") else kind.__name__


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that ``shapes`` (tuples or ints) broadcast to. Raises ``RuntimeError`` when they do not."""
    return Size(_combine(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes]))


class _LegacyType:
    """One of PyTorch's old tensor types: makes tensors of its dtype, and knows them (``isinstance``)."""

    def __init__(self, name: str, dtype: DType) -> None:
        self.__name__, self.dtype = name, dtype

    def __call__(self, *args: Any) -> Tensor:
        return Tensor(*args).to(self.dtype)

    def __instancecheck__(self, obj: Any) -> bool:
        return isinstance(obj, Tensor) and obj.dtype is self.dtype and not obj.is_cuda

    def __repr__(self) -> str:
        return f"<class 'torch.{self.__name__}'>"


LEGACY = {name: _LegacyType(name, dtype) for name, dtype in LEGACY_TYPES.items()}
globals().update(LEGACY)
