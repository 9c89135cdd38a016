"""``save`` and ``load`` in PyTorch's zip format: a restricted pickle beside raw storages.

A file is a zip archive of uncompressed members ``NAME/data.pkl`` (the object, with storages replaced by persistent
ids), ``NAME/data/N`` (the bytes of storage N), ``NAME/byteorder`` and ``NAME/version``. Loading never runs code from the
file unless ``weights_only=False`` is asked for by name.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import io
import os
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.device import Device
from flambeau.nn.parameter import Parameter, rebuild_parameter
from flambeau.runtime.storage import Storage, to_device
from flambeau.runtime.tensor import Size, Tensor

_STORAGE_NAMES = {
    "FloatStorage": _dtype.float32, "DoubleStorage": _dtype.float64, "HalfStorage": _dtype.float16,
    "BFloat16Storage": _dtype.bfloat16, "LongStorage": _dtype.int64, "IntStorage": _dtype.int32,
    "ShortStorage": _dtype.int16, "CharStorage": _dtype.int8, "ByteStorage": _dtype.uint8, "BoolStorage": _dtype.bool_,
    "ComplexFloatStorage": _dtype.complex64, "ComplexDoubleStorage": _dtype.complex128, "UntypedStorage": _dtype.uint8}
_STORAGE_OF = {d: name for name, d in _STORAGE_NAMES.items() if name != "UntypedStorage"}


# ---- writing ------------------------------------------------------------------------------------------------------


class _Global:
    """A name that the file refers to, whether or not it can be imported here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _StorageRef:
    def __init__(self, storage: Storage, dtype: _dtype.DType) -> None:
        self.storage, self.dtype = storage, dtype


class _Call:
    """An object that pickles as ``function(*args)``."""

    def __init__(self, function: _Global, args: tuple) -> None:
        self.function, self.args = function, args


_PurePickler: Any = pickle._Pickler  # type: ignore[attr-defined]  # the one written in Python: its steps can be overridden


class _Pickler(_PurePickler):
    """Pickles tensors as PyTorch does; their storages go to ``storages`` (bytes owner -> number)."""

    def __init__(self, file: BinaryIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[int, tuple[str, Storage]] = {}
        self._kept: list[Any] = []  # ids are memo keys: what they belong to must stay alive

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _StorageRef):
            return None
        found = self.storages.setdefault(id(obj.storage), (str(len(self.storages)), obj.storage))
        numel = _owner_bytes(obj.storage).nbytes // obj.dtype.itemsize
        return ("storage", _Global("torch", _STORAGE_OF[obj.dtype]), found[0], str(obj.storage.device), numel)

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


def _owner_bytes(storage: Storage) -> np.ndarray:
    """The storage's bytes on the host, as a flat uint8 array."""
    array = storage.array if storage.device.type == "cpu" else storage.array.get()
    if array.flags.c_contiguous:
        return array.reshape(-1).view(np.uint8)
    return np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,)).view(np.uint8)


def _tensor_call(t: Tensor) -> _Call:
    """A tensor as PyTorch rebuilds it: from a storage, an offset, sizes and strides."""
    storage, source = t._storage, t
    if not _spans(storage.array):
        source = Tensor(np.ascontiguousarray(t.detach().cpu()._a))
        storage = source._storage
    strides = tuple(s // source._a.itemsize for s in source._a.strides) if source._a.size else _row_major(t.shape)
    args: tuple[Any, ...] = (_StorageRef(storage, t.dtype), source.storage_offset(), tuple(t.shape), strides,
            t.requires_grad and t.is_leaf, collections.OrderedDict())
    call = _Call(_Global("torch._utils", "_rebuild_tensor_v2"), args)
    if isinstance(t, Parameter):
        plain = _Call(call.function, (*args[:4], False, args[5]))
        return _Call(_Global("torch._utils", "_rebuild_parameter"), (plain, t.requires_grad, collections.OrderedDict()))
    return call


def _row_major(shape: tuple) -> tuple:
    return tuple(int(np.prod([max(n, 1) for n in shape[i + 1:]])) for i in range(len(shape)))


def _spans(array: Any) -> bool:
    """Whether the array's elements fill one stretch of memory from its first element on."""
    if any(s < 0 for s in array.strides):
        return False
    reach = sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize if array.size else 0
    return reach == array.size * array.itemsize


@contextlib.contextmanager
def _replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file that takes ``path``'s place when the block ends well, and leaves nothing behind when it does not."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=".saving-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def save(obj: Any, f: Any, pickle_module: Any = pickle, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Write ``obj`` to ``f``, a path or a binary file, so that PyTorch reads it too (``torch.save``).

    A path is written atomically: the old file stays until the new one is complete.
    """
    if isinstance(f, (str, os.PathLike)):
        name = os.path.splitext(os.path.basename(os.fspath(f)))[0] or "archive"
        with _replacing(f) as file:
            _write_archive(obj, file, name, pickle_protocol)
    elif hasattr(f, "write"):
        _write_archive(obj, f, "archive", pickle_protocol)
    else:
        raise AttributeError(f"expected 'f' to be string, path, or a file-like object with a 'write' attribute, got {type(f)}")


def _write_archive(obj: Any, file: BinaryIO, name: str, protocol: int) -> None:
    data = io.BytesIO()
    pickler = _Pickler(data, protocol)
    pickler.dump(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        def put(member: str, content: Any) -> None:
            info = zipfile.ZipInfo(f"{name}/{member}")
            header = 30 + len(info.filename)
            at = archive.fp.tell() if archive.fp is not None else 0
            padding = -(at + header + 4) % 64  # PyTorch maps storages: they start at multiples of 64 bytes
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            archive.writestr(info, content)

        put("data.pkl", data.getvalue())
        put("byteorder", b"little")
        for number, storage in pickler.storages.values():
            put(f"data/{number}", _owner_bytes(storage).data)
        put("version", b"3\n")


# ---- reading ------------------------------------------------------------------------------------------------------


class _StorageType:
    def __init__(self, dtype: _dtype.DType) -> None:
        self.dtype = dtype


def _rebuild_tensor(storage: tuple[Storage, _dtype.DType], offset: int, size: tuple, stride: tuple,
                    requires_grad: bool = False, hooks: Any = None, metadata: Any = None) -> Tensor:
    owner, dtype = storage
    flat = owner.array.view(dtype.np) if owner.array.size % dtype.itemsize == 0 else owner.array
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or any(not isinstance(n, int) or n < 0 for n in (*size, *stride, offset)):
        raise pickle.UnpicklingError("a tensor in this file has malformed sizes or strides")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if 0 not in size and last >= flat.size:
        raise pickle.UnpicklingError(f"a tensor of sizes {size} and strides {stride} reaches past its storage of {flat.size} "
                                     "elements: the file is damaged")
    view = np.lib.stride_tricks.as_strided(flat[offset:], size, tuple(s * dtype.itemsize for s in stride))
    t = Tensor(view, owner)
    if requires_grad:
        t.requires_grad_()
    return t


def _safe_globals() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("torch", "Size"): Size, ("torch", "device"): Device, ("torch", "Tensor"): Tensor,
        ("torch.nn.parameter", "Parameter"): Parameter,
        ("collections", "OrderedDict"): collections.OrderedDict, ("collections", "Counter"): collections.Counter,
        ("collections", "defaultdict"): collections.defaultdict, ("builtins", "set"): set, ("__builtin__", "set"): set,
        ("builtins", "bytearray"): bytearray, ("builtins", "complex"): complex, ("_codecs", "encode"): _encode}
    found |= {("torch", name): _StorageType(d) for name, d in _STORAGE_NAMES.items()}
    found |= {("torch.storage", name): _StorageType(d) for name, d in _STORAGE_NAMES.items()}
    found |= {("torch", d.name): d for d in _dtype.ALL}
    for base in ("dict", "list", "tuple", "int", "float", "str", "bool", "bytes"):
        found[("builtins", base)] = getattr(builtins, base)
    return found


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r} of bytes")
    return text.encode("latin1")


_added: dict[tuple[str, str], Any] = {}


def add_safe_globals(names: list[Any]) -> None:
    """Let ``load`` build these classes and functions too (``torch.serialization.add_safe_globals``)."""
    _added.update({(x.__module__, x.__qualname__): x for x in names})


class _Unpickler(pickle.Unpickler):
    """Builds only what is on the list, unless ``anything``."""

    def __init__(self, file: BinaryIO, storages: Callable[[str, _dtype.DType, int, str], Storage], anything: bool) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages, self._anything = storages, anything
        self._safe = _safe_globals() | _added

    def find_class(self, module: str, name: str) -> Any:
        found = self._safe.get((module, name))
        if found is not None:
            return found
        if not self._anything:
            raise pickle.UnpicklingError(
                f"Weights only load failed: the file refers to {module}.{name}, which is not on the list of safe names. "
                "If you trust the file's source, allow the name with flambeau.serialization.add_safe_globals, or load with "
                "weights_only=False, which can run code from the file.")
        if module == "torch" or module.startswith("torch."):
            module = "flambeau" + module[5:].replace("nn.modules", "nn")
        return super().find_class(module, name)

    def persistent_load(self, saved: Any) -> Any:
        if not (isinstance(saved, tuple) and len(saved) == 5 and saved[0] == "storage" and isinstance(saved[1], _StorageType)):
            raise pickle.UnpicklingError(f"unknown persistent id {saved!r}")
        _, kind, key, location, numel = saved
        return self._storages(str(key), kind.dtype, int(numel), str(location)), kind.dtype


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:
    """Read what ``save`` (ours or PyTorch's) wrote to ``f``, a path or a binary file (``torch.load``).

    Only tensors and plain containers are built; ``weights_only=False`` builds anything the file asks for, which can
    run code: do it for files you trust. Raises ``pickle.UnpicklingError`` for names off the list and damaged files,
    ``FileNotFoundError`` for a missing one.
    """
    if weights_only is False:
        warnings.warn("load(weights_only=False) can run code contained in the file: only do this with files you trust.",
                      FutureWarning, stacklevel=2)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(f, "rb")) if isinstance(f, (str, os.PathLike)) else f
        if not hasattr(file, "read") or not hasattr(file, "seek"):
            raise AttributeError("expected 'f' to be a path or a binary file with 'read' and 'seek'")
        try:
            return _read_archive(file, map_location, weights_only is False)
        except zipfile.BadZipFile:
            raise pickle.UnpicklingError(f"{f} is not a PyTorch zip archive, or is damaged or truncated") from None
        except (EOFError, KeyError, IndexError, ValueError, struct.error, UnicodeDecodeError, AttributeError,
                TypeError) as error:
            raise pickle.UnpicklingError(f"{f} is damaged: {type(error).__name__}: {error}") from error



def _read_archive(file: BinaryIO, map_location: Any, anything: bool) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = {name.split("/", 1)[1]: name for name in archive.namelist() if "/" in name}
        if "data.pkl" not in names:
            raise pickle.UnpicklingError("the archive has no data.pkl: it is not a file of save()")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise pickle.UnpicklingError("the file holds big-endian data, which is not supported")
        loaded: dict[str, Storage] = {}

        def storage(key: str, dtype: _dtype.DType, numel: int, location: str) -> Storage:
            if key not in loaded:
                content = archive.read(names[f"data/{key}"])
                if len(content) < numel * dtype.itemsize:
                    raise pickle.UnpicklingError(f"storage {key} has {len(content)} bytes where {numel * dtype.itemsize} belong: "
                                                 "the file is damaged")
                loaded[key] = _place(np.frombuffer(bytearray(content), np.uint8), location, map_location)
            return loaded[key]

        return _Unpickler(io.BytesIO(archive.read(names["data.pkl"])), storage, anything).load()


def _place(content: np.ndarray, location: str, map_location: Any) -> Storage:
    """The storage on the device that ``map_location`` says (None: where it was)."""
    if callable(map_location):
        moved = map_location(Storage(content), location)
        return Storage(content) if moved is None else moved
    if isinstance(map_location, dict):
        location = map_location.get(location, location)
    elif map_location is not None:
        location = str(Device(map_location) if not isinstance(map_location, Device) else map_location)
    device = Device(location)
    if device.type == "cpu":
        return Storage(content)
    return Storage(to_device(content, Device("cpu"), device), device)
