"""Names for annotations (PyTorch: ``torch.types``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from flambeau.ir.device import Device as _device
from flambeau.runtime.tensor import Size as _size_type
from flambeau.runtime.tensor import Tensor

Number = Union[int, float, bool]  # noqa: UP007 - scripts test it with typing's functions
_int, _float, _bool = int, float, bool
_size = Union[_size_type, list[int], tuple[int, ...]]  # noqa: UP007
Device = Union[_device, str, int, None]  # noqa: UP007
FileLike = Any
_TensorOrTensors = Union[Tensor, Sequence[Tensor]]  # noqa: UP007

__all__ = ["Device", "FileLike", "Number"]
