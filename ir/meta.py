"""What is known of a tensor without its data: shape, dtype, device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import device as _device
from .dtype import DType


class TensorMeta:
    """Shape (ints or SymInts), dtype and device of a value; what shape rules take and return. Not to be changed."""

    __slots__ = ("shape", "dtype", "device")

    def __init__(self, shape: tuple[Any, ...], dtype: DType, device: _device.Device = _device.cpu) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorMeta) and (self.shape, self.dtype, self.device) == (other.shape, other.dtype, other.device)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.device))

    def __repr__(self) -> str:
        return f"TensorMeta(shape={self.shape!r}, dtype={self.dtype!r}, device={self.device!r})"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numel(self) -> Any:
        n: Any = 1
        for s in self.shape:
            n = n * s
        return n

    def dim(self) -> int:
        return len(self.shape)

    def size(self, dim: int) -> Any:
        return self.shape[dim]

    def is_complex(self) -> bool:
        return self.dtype.is_complex

    def with_shape(self, shape: Sequence[Any]) -> TensorMeta:
        return TensorMeta(tuple(shape), self.dtype, self.device)

    def with_dtype(self, dtype: DType) -> TensorMeta:
        return self if dtype is self.dtype else TensorMeta(self.shape, dtype, self.device)

    def __str__(self) -> str:
        text = f"{self.dtype.short}[{', '.join(map(str, self.shape))}]"
        return text if self.device == _device.cpu else f"{text}@{self.device}"


def meta_of(x: Any) -> TensorMeta:
    """The meta of anything with ``shape``, ``dtype`` and ``device``."""
    return x if type(x) is TensorMeta else TensorMeta(tuple(x.shape), x.dtype, x.device)


def contiguous_strides(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Row-major strides, in elements."""
    strides: list[Any] = []
    step: Any = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * (size if not isinstance(size, int) else max(size, 1))
    return tuple(reversed(strides))
