"""Objects as PyTorch pickles them: tensors by reference to storages, which are kept beside the pickle."""

from __future__ import annotations

import collections
import pickle
from typing import Any, BinaryIO

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.device import Device
from flambeau.nn.parameter import Parameter
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Size, Tensor, wrap

STORAGE_NAMES = {
    "FloatStorage": _dtype.float32, "DoubleStorage": _dtype.float64, "HalfStorage": _dtype.float16,
    "BFloat16Storage": _dtype.bfloat16, "LongStorage": _dtype.int64, "IntStorage": _dtype.int32,
    "ShortStorage": _dtype.int16, "CharStorage": _dtype.int8, "ByteStorage": _dtype.uint8, "BoolStorage": _dtype.bool_,
    "ComplexFloatStorage": _dtype.complex64, "ComplexDoubleStorage": _dtype.complex128, "UntypedStorage": _dtype.uint8}
_STORAGE_OF = {d: name for name, d in STORAGE_NAMES.items() if name != "UntypedStorage"}


class _Global:
    """A name that the file refers to, whether or not it can be imported here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _StorageRef:
    def __init__(self, storage: Storage, name: str, numel: int) -> None:
        self.storage, self.name, self.numel = storage, name, numel


class _Call:
    """An object that pickles as ``function(*args)``."""

    def __init__(self, function: _Global, args: tuple) -> None:
        self.function, self.args = function, args


_PurePickler: Any = pickle._Pickler  # type: ignore[attr-defined]  # the one written in Python: its steps can be overridden


class Pickler(_PurePickler):
    """Pickles tensors as PyTorch does; their storages go to ``storages`` (bytes owner -> number)."""

    def __init__(self, file: BinaryIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[int, tuple[str, Storage]] = {}
        self._kept: list[Any] = []  # ids are memo keys: what they belong to must stay alive

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            obj = _StorageRef(obj, "UntypedStorage", owner_bytes(obj).nbytes)
        if not isinstance(obj, _StorageRef):
            return None
        found = self.storages.setdefault(id(obj.storage), (str(len(self.storages)), obj.storage))
        module = "torch.storage" if obj.name == "UntypedStorage" else "torch"
        return ("storage", _Global(module, obj.name), found[0], str(obj.storage.device), obj.numel)

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(obj, _Global):
            return self._write_global(obj)
        if isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.args)
            return self.write(pickle.REDUCE)
        if isinstance(obj, Tensor) and id(obj) not in self.memo:
            call = _tensor_call(obj)
            self._kept.append((obj, call))
            self.save(call)
            return self.memoize(obj)
        if isinstance(obj, _dtype.DType):
            return self._write_global(_Global("torch", obj.name))
        if isinstance(obj, Device):
            args = (obj.type,) if obj.index is None else (obj.type, obj.index)
            return self.save(_Call(_Global("torch", "device"), args))
        if isinstance(obj, Size):
            return self.save(_Call(_Global("torch", "Size"), (tuple(obj),)))
        return super().save(obj, save_persistent_id)

    def _write_global(self, obj: _Global) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())


def owner_bytes(storage: Storage) -> np.ndarray:
    """The storage's bytes on the host, as a flat uint8 array."""
    return storage.cpu().flat()


def _tensor_call(t: Tensor) -> _Call:
    """A tensor as PyTorch rebuilds it: from a storage, an offset, sizes and strides; then what its class and user added."""
    storage, source = t._storage, t
    if not _spans(storage.array):
        source = wrap(np.ascontiguousarray(t.detach().cpu()._a))
        storage = source._storage
    strides = source.stride() if source._a.size else _row_major(t.shape)
    reference = _StorageRef(storage, _STORAGE_OF[t.dtype], owner_bytes(storage).nbytes // t.dtype.itemsize)
    hooks: dict = collections.OrderedDict()
    needs = t.requires_grad and not isinstance(t, Parameter)
    call = _Call(_Global("torch._utils", "_rebuild_tensor_v2"),
                 (reference, source.storage_offset(), tuple(t.shape), strides, needs, hooks))
    state = {k: v for k, v in t.__dict__.items() if not k.startswith("_flambeau")}
    if isinstance(t, Parameter):
        name = "_rebuild_parameter_with_state" if state else "_rebuild_parameter"
        return _Call(_Global("torch._utils", name), (call, t.requires_grad, hooks, *((state,) if state else ())))
    if state:
        return _Call(_Global("torch._tensor", "_rebuild_from_type_v2"),
                     (call.function, _Global("torch", "Tensor"), call.args, state))
    return call


def _row_major(shape: tuple) -> tuple:
    return tuple(int(np.prod([max(n, 1) for n in shape[i + 1:]])) for i in range(len(shape)))


def _spans(array: Any) -> bool:
    """Whether the array's elements fill one stretch of memory from its first element on."""
    if any(s < 0 for s in array.strides):
        return False
    reach = sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize if array.size else 0
    return reach == array.size * array.itemsize
