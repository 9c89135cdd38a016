"""DLPack both ways, over NumPy's: what NumPy lacks is bfloat16, which travels as uint16 with the right label."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.ir import dtype as _dtype

_UINT, _BFLOAT = 1, 4  # codes of DLDataType
_CODE = 20             # of the dtype's code in a DLTensor: behind data, device and ndim
_DLTENSOR = {b"dltensor": 0, b"dltensor_versioned": 32}  # where a capsule's struct has its DLTensor

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]


def _code_of(capsule: Any) -> Any:
    """The dtype's code in a capsule, to be read and written. Raises ``BufferError`` for a capsule that was used."""
    for name, at in _DLTENSOR.items():
        if _is_valid(capsule, name):
            return ctypes.c_uint8.from_address(_pointer_of(capsule, name) + at + _CODE)
    raise BufferError("from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so you "
                      "might have already constructed a tensor from it once.")


def export(t: Any, **options: Any) -> Any:
    """A capsule over the tensor's memory (``Tensor.__dlpack__``). Raises ``BufferError`` where a gradient would be lost."""
    if t.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if t.device.type == "cuda":
        return t._a.__dlpack__(**options)
    array = t._a
    options.pop("stream", None)
    if t.dtype is not _dtype.bfloat16:
        return array.__dlpack__(**options)
    capsule = array.view(np.uint16).__dlpack__(**options)
    _code_of(capsule).value = _BFLOAT
    return capsule


class _Writable:
    """An array's memory, to be written to: NumPy takes all memory for read-only where the protocol's version cannot say so."""

    def __init__(self, array: Any) -> None:
        self.owner = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


class _Relabelled:
    """Another library's tensor, whose bfloat16 is called uint16 on the way to NumPy."""

    def __init__(self, source: Any) -> None:
        self.source, self.bfloat, self.says_read_only = source, False, False

    def __dlpack_device__(self) -> Any:
        return self.source.__dlpack_device__() if hasattr(self.source, "__dlpack_device__") else (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        if not hasattr(self.source, "__dlpack__"):
            capsule = self.source
        else:
            try:
                capsule = self.source.__dlpack__(**options)
            except TypeError:  # written for an older version of the protocol
                capsule = self.source.__dlpack__()
        code = _code_of(capsule)
        self.says_read_only = bool(_is_valid(capsule, b"dltensor_versioned"))
        if code.value == _BFLOAT:
            code.value, self.bfloat = _UINT, True
        return capsule


def array_of(source: Any, copy: bool | None = None) -> np.ndarray:
    """An array over the memory of an object with ``__dlpack__``, or of a capsule.

    ``copy`` True copies, False forbids it (``BufferError``); memory that cannot be written to is copied.
    """
    relabelled = _Relabelled(source)
    array = np.from_dlpack(relabelled)
    if not array.flags.writeable and not relabelled.says_read_only:
        array = np.asarray(_Writable(array))
    if relabelled.bfloat:
        array = array.view(ml_dtypes.bfloat16)
    if copy or (copy is None and not array.flags.writeable):
        return array.copy()
    if not array.flags.writeable:
        raise BufferError("the memory is read-only: a tensor of it needs a copy, which copy=False forbids")
    return array
