"""flambeau: PyTorch's eager API in plain Python on NumPy, with a graph compiler one can read."""

from __future__ import annotations

from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir import ops as _ops  # noqa: F401 - registers the ops
from flambeau.ir.device import Device as device  # noqa: N813 - PyTorch's name
from flambeau.ir.dtype import DType as dtype  # noqa: N813 - PyTorch's name
from flambeau.ir.dtype import can_cast, get_default_dtype, promote_types, set_default_dtype
from flambeau.ir.op import PUBLIC as _PUBLIC
from flambeau.runtime import eager as _eager  # noqa: F401 - installs the eager handler
from flambeau.runtime.tensor import Size, Tensor, strided

__version__ = "0.1.0"

globals().update(_dtype.BY_NAME)
bool = _dtype.bool_  # noqa: A001 - PyTorch's name
globals().update(_PUBLIC["torch"])
