"""Tensors from data that Python holds: numbers, nested sequences, arrays."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..device import as_device
from ..family import ops, primitive
from ..meta import TensorMeta
from ..op import public
from ..samples import S
from ..tensorlike import TensorLike
from ..tree import leaves


def to_array(data: Any, dtype: Any) -> np.ndarray:
    """Nested sequences (tensors and arrays may be among them) as an array of PyTorch's dtype for them."""
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data)
        return array.astype((dtype or _dtype.from_numpy(array.dtype)).np)
    plain = _plain(data)
    try:
        array = np.array(plain)
    except ValueError:
        raise ValueError(_ragged(plain)) from None
    except OverflowError:
        raise ValueError("Overflow when unpacking long long: a number does not fit in 64 bits") from None
    if array.dtype.kind in "OUSV":
        raise _bad_element(plain)
    return array.astype((dtype or _dtype_of(data, array)).np)


def _dtype_of(data: Any, array: np.ndarray) -> _dtype.DType:
    if any(hasattr(x, "dtype") for x in leaves(data)):
        kinds = [_dtype.of_number(x) if not hasattr(x, "dtype") else x.dtype if isinstance(x, TensorLike)
                 else _dtype.from_numpy(x.dtype) for x in leaves(data)]
        return functools.reduce(_dtype.promote_types, kinds)
    if array.dtype.kind == "f":
        return _dtype.get_default_dtype()
    return _dtype.get_default_dtype().to_complex() if array.dtype.kind == "c" else _dtype.from_numpy(array.dtype)


def _plain(data: Any) -> Any:
    if isinstance(data, TensorLike):
        return data.detach().cpu().numpy()  # type: ignore[attr-defined]
    if isinstance(data, (list, tuple)) or (hasattr(data, "__len__") and hasattr(data, "__getitem__")
                                           and not isinstance(data, (str, bytes, dict)) and not hasattr(data, "__array__")):
        return [_plain(x) for x in data]
    return data


def _ragged(data: Any, depth: int = 0) -> str:
    """PyTorch's message for the first sequence whose length differs from its siblings'."""
    lengths = [len(x) if isinstance(x, list) else None for x in data]
    for n in lengths:
        if n != lengths[0]:
            return f"expected sequence of length {lengths[0] or 0} at dim {depth + 1} (got {n or 0})"
    for x in data:
        if isinstance(x, list) and (found := _ragged(x, depth + 1)):
            return found
    return ""


def _bad_element(data: Any) -> Exception:
    for x in leaves(data):
        if isinstance(x, (str, bytes)):
            return TypeError(f"new(): invalid data type '{type(x).__name__}'")
        if not isinstance(x, (bool, int, float, complex, np.generic, np.ndarray)):
            return RuntimeError(f"Could not infer dtype of {type(x).__name__}")
    return ValueError("Overflow when unpacking long long: a number does not fit in 64 bits")


def _meta(data: Any, dtype: Any, device: Any) -> TensorMeta:
    array = to_array(data, dtype)
    return TensorMeta(array.shape, _dtype.from_numpy(array.dtype), as_device(device))


constant = primitive(
    "constant(any data, *, dtype? dtype=None, device? device=None) -> Tensor", "create", tags=("extern",), api=(), infer=_meta,
    kernel=lambda xp, data, dtype, device: xp.asarray(to_array(data, dtype)),
    samples=lambda: [S([[1.0, 2.0], [3.0, 4.0]]), S([1, 2, 3]), S(2.5, dtype=_dtype.float64), S([]), S([True, False])])


@public("torch.tensor")
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A leaf tensor with a copy of ``data``: a number, nested sequences, an array or a tensor.

    Raises ``ValueError`` for sequences of unequal length, ``RuntimeError`` or ``TypeError`` for what is no number.
    """
    if isinstance(data, TensorLike):
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
                      UserWarning, stacklevel=2)
        t = data.detach().to(dtype=dtype, device=device, copy=True)  # type: ignore[attr-defined]
    else:
        t = ops.constant(data, dtype=dtype, device=device)
    return t.requires_grad_() if requires_grad else t


@public("torch.scalar_tensor")
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, layout: Any = None, pin_memory: bool = False,
                  requires_grad: bool = False) -> Any:
    """A zero-dimensional tensor, of the default dtype unless ``dtype`` says another."""
    t = ops.full((), s, dtype=dtype or _dtype.get_default_dtype(), device=device)
    return t.requires_grad_() if requires_grad else t
