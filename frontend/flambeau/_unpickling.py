"""Reading pickles without running what they ask for: only known names are built, from known instructions.

:class:`SafeReader` is Python's own unpickler with its risky instructions replaced. It finds names on a list and nowhere
else, calls only functions on that list, sets no attributes except those that the list's classes have for it, and refuses
what could make it run or grow without end. :class:`AnyReader` is the other one, for ``weights_only=False``.
"""

from __future__ import annotations

import collections
import functools
import importlib
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.device import Device
from flambeau.nn.parameter import Parameter, rebuild_parameter
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Size, Tensor, strided

from ._pickling import STORAGE_NAMES

#: (key, dtype, number of elements, location) -> the storage
Fetch = Callable[[str, _dtype.DType, int, str], Storage]


class StorageType:
    """What a file calls a storage's class: in fact its dtype."""

    def __init__(self, name: str) -> None:
        self.dtype, self.untyped = STORAGE_NAMES[name], name == "UntypedStorage"


class TypedBytes:
    """A storage and the dtype in which a tensor sees it."""

    __slots__ = ("storage", "dtype")

    def __init__(self, storage: Storage, dtype: _dtype.DType) -> None:
        self.storage, self.dtype = storage, dtype


# ---- what files call ------------------------------------------------------------------------------------------------


def _damaged(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"{what}: the file is damaged")


def _is_size(n: Any) -> bool:
    return type(n) is int and n >= 0


def rebuild_tensor(storage: TypedBytes, offset: int, size: Any, stride: Any, requires_grad: bool = False, hooks: Any = None,
                   metadata: Any = None, *, dtype: Any = None) -> Tensor:
    """A tensor over a storage. Raises ``UnpicklingError`` for sizes and strides that the storage does not hold."""
    if isinstance(storage, Storage):
        storage = TypedBytes(storage, _dtype.uint8)
    if not isinstance(storage, TypedBytes):
        raise _damaged(f"a tensor is made of a {type(storage).__name__} where a storage belongs")
    owner, dtype = storage.storage, dtype or storage.dtype
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or len(size) > 64 or not all(map(_is_size, (*size, *stride, offset))):
        raise _damaged("a tensor has malformed sizes or strides")
    if isinstance(owner.array, np.ndarray) and owner.device.type == "cpu":
        count = owner.array.nbytes // dtype.itemsize
        last = offset + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else offset - 1
        if last >= count:
            raise _damaged(f"a tensor of sizes {size} and strides {stride} reaches past its storage of {count} elements")
        steps = tuple(s * dtype.itemsize for s in stride)
        view: Any = np.ndarray(size, dtype.np, owner.array, offset * dtype.itemsize, steps)
    else:
        flat = owner.array.view(dtype.np)
        view = _strided_elsewhere(flat[offset:], size, tuple(s * dtype.itemsize for s in stride))
    t = Tensor(view, owner)
    if requires_grad:
        t.requires_grad_()
    return t


def _strided_elsewhere(flat: Any, size: tuple, steps: tuple) -> Any:
    from flambeau.runtime.storage import cupy  # noqa: PLC0415 - only where a GPU is
    return cupy().lib.stride_tricks.as_strided(flat, size, steps)


def _rebuild_v3(storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, dtype: Any,
                metadata: Any = None) -> Tensor:
    return rebuild_tensor(storage, offset, size, stride, requires_grad, dtype=dtype)


def _parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Parameter:
    if not isinstance(data, Tensor):
        raise _damaged(f"a parameter is made of a {type(data).__name__} where a tensor belongs")
    found = rebuild_parameter(data, bool(requires_grad), hooks)
    _add_attributes(found, state)
    return found


def _of_class(make: Any, kind: Any, args: Any, state: Any) -> Any:
    if make not in _TENSOR_MAKERS or kind not in (Tensor, Parameter) or not isinstance(args, tuple):
        raise pickle.UnpicklingError(f"a tensor of class {getattr(kind, '__name__', kind)!r} cannot be built from this file; "
                                     "only plain tensors and parameters can")
    found = make(*args)
    if kind is Parameter and not isinstance(found, Parameter):
        found = Parameter(found, found.requires_grad)
    _add_attributes(found, state)
    return found


def _add_attributes(t: Any, state: Any) -> None:
    if state is None:
        return
    plain = state[0] if isinstance(state, tuple) and len(state) == 2 else state
    if not isinstance(plain, dict) or not all(isinstance(k, str) for k in plain):
        raise _damaged("the attributes of a tensor are not a dict with names")
    t.__dict__.update(plain)


_TENSOR_MAKERS = (rebuild_tensor, _rebuild_v3, _parameter)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise pickle.UnpicklingError(f"unexpected encoding of bytes in this file: {str(encoding)[:40]!r}")
    return text.encode(encoding)


def _bytearray(source: Any = b"", encoding: str = "latin1") -> bytearray:
    if isinstance(source, int):
        raise pickle.UnpicklingError("the file asks for an empty bytearray of a size of its choice, which is refused")
    return bytearray(source.encode(encoding) if isinstance(source, str) else source)


def _ordered(items: Any = ()) -> collections.OrderedDict:
    return collections.OrderedDict(_pairs(items))


def _counted(items: Any = ()) -> collections.Counter:
    return collections.Counter(dict(_pairs(items)) if isinstance(items, dict) else _keys(items))


def _with_default(factory: Any = None, items: Any = ()) -> collections.defaultdict:
    if factory is not None and factory not in (dict, list, set, _set, int, float, str, _ordered):
        raise pickle.UnpicklingError("a defaultdict in this file makes its values by something else than a plain container")
    return collections.defaultdict(set if factory is _set else factory, _pairs(items))


def _set(items: Any = ()) -> set:
    return set(_keys(items))


def _frozenset(items: Any = ()) -> frozenset:
    return frozenset(_keys(items))


def _complex(real: Any = 0, imag: Any = 0) -> complex:
    return complex(real, imag) if not isinstance(real, str) else complex(real)


def _layout(name: str) -> Any:
    if name != "torch.strided":
        raise pickle.UnpicklingError(f"tensors of layout {str(name)[:40]!r} are not supported: only strided ones")
    return strided


def _pairs(items: Any) -> Any:
    pairs = list(items.items()) if isinstance(items, dict) else [tuple(pair) for pair in items]
    _keys([k for k, _ in pairs])
    return pairs


def _keys(items: Iterable[Any]) -> list[Any]:
    found = list(items)
    for key in found:
        check_key(key)
    return found


def check_key(key: Any, budget: int = 4096) -> int:
    """Raise ``UnpicklingError`` for nested tuples that take for ever to hash: a tuple's parts are hashed again each time."""
    if isinstance(key, tuple):
        for part in key:
            budget = check_key(part, budget - 1)
            if budget <= 0:
                raise pickle.UnpicklingError("a key in this file is a tuple nested without measure, which is refused")
    return budget


@functools.cache
def _safe_names() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor, ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3, ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter, ("torch._tensor", "_rebuild_from_type_v2"): _of_class,
        ("torch.serialization", "_get_layout"): _layout,
        ("torch", "Size"): Size, ("torch", "device"): Device, ("torch", "Tensor"): Tensor,
        ("torch.nn.parameter", "Parameter"): Parameter,
        ("collections", "OrderedDict"): _ordered, ("collections", "Counter"): _counted,
        ("collections", "defaultdict"): _with_default, ("_codecs", "encode"): _encode}
    for module in ("builtins", "__builtin__"):
        found |= {(module, "set"): _set, (module, "frozenset"): _frozenset, (module, "bytearray"): _bytearray,
                  (module, "complex"): _complex}
        found |= {(module, base.__name__): base for base in (dict, list, int, float, str)}  # as a defaultdict's factory
    for module in ("torch", "torch.storage"):
        found |= {(module, name): StorageType(name) for name in STORAGE_NAMES}
    return found | {("torch", d.name): d for d in _dtype.ALL}


_callable: frozenset[Any] = frozenset({rebuild_tensor, _rebuild_v3, _parameter, _of_class, _layout, Size, Device, _ordered,
                                       _counted, _with_default, _encode, _set, _frozenset, _bytearray, _complex})
_WITH_ATTRIBUTES = (collections.OrderedDict, collections.Counter, collections.defaultdict)


# ---- names that the user adds -----------------------------------------------------------------------------------------

_added: list[Any] = []
_NEVER = frozenset({"os", "sys", "posix", "nt", "subprocess", "builtins", "importlib", "runpy", "pty", "shutil", "socket"})


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Let ``load`` build these classes and call these functions too (``torch.serialization.add_safe_globals``).

    A pair ``(object, "module.name")`` is for an object that files know by another name. Raises ``ValueError`` or
    ``TypeError`` for other pairs.
    """
    for entry in safe_globals:
        if isinstance(entry, tuple):
            if len(entry) != 2:
                raise ValueError("Expected tuple of length 2 (global, str of callable full path), but got tuple of length: "
                                 f"{len(entry)}")
            if type(entry[1]) is not str:
                raise TypeError("Expected second item in tuple to be str of callable full path, but got: "
                                f"{type(entry[1])}")
        if entry not in _added:
            _added.append(entry)


def get_safe_globals() -> list[Any]:
    """What :func:`add_safe_globals` was given."""
    return list(_added)


def clear_safe_globals() -> None:
    """Forget what :func:`add_safe_globals` was given."""
    _added.clear()


@contextmanager
def safe_globals(safe_globals: list[Any]) -> Iterator[None]:
    """:func:`add_safe_globals` for a block."""
    before = list(_added)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _added[:] = before


def _users_names() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for entry in _added:
        thing, full = entry if isinstance(entry, tuple) else (entry, f"{entry.__module__}.{entry.__qualname__}")
        module, _, name = full.rpartition(".")
        if not isinstance(entry, tuple):
            module, name = entry.__module__, entry.__qualname__
        found[module, name] = thing
        if module.startswith("flambeau"):  # a file of PyTorch's calls it torch's
            found["torch" + module[8:], name] = thing
            found["torch" + module[8:].replace(".nn.", ".nn.modules."), name] = thing
    return found


# ---- the readers ------------------------------------------------------------------------------------------------------

_PureUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the one written in Python: its steps can be overridden


def _no_storages(key: str, dtype: _dtype.DType, numel: int, location: str) -> Storage:
    raise _damaged("a storage stands where none belongs")


def _storage_of(saved: Any, fetch: Fetch) -> Any:
    """The storage that a persistent id names."""
    if not (isinstance(saved, tuple) and len(saved) in (5, 6) and saved[0] == "storage" and isinstance(saved[1], StorageType)):
        raise _damaged("a reference to a storage is malformed")
    _, kind, key, location, numel = saved[:5]
    if not isinstance(key, (str, int)) or not isinstance(location, str) or not _is_size(numel) or numel >= 1 << 60:
        raise _damaged("a reference to a storage is malformed")
    if len(saved) == 6 and saved[5] is not None:
        raise pickle.UnpicklingError("the file shares parts of storages as PyTorch did before 0.4, which is not supported")
    storage = fetch(str(key), kind.dtype, numel, location)
    return storage if kind.untyped else TypedBytes(storage, kind.dtype)


class SafeReader(_PureUnpickler):
    """Builds what is on the list. Raises ``UnpicklingError`` for everything else."""

    dispatch = dict(_PureUnpickler.dispatch)

    def __init__(self, file: BinaryIO, fetch: Fetch = _no_storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._fetch = fetch
        self._users = _users_names()
        self._names = _safe_names()
        self._may_call = {id(f) for f in _callable} | {id(f) for f in self._users.values()}

    def find_class(self, module: str, name: str) -> Any:
        if isinstance(module, str) and isinstance(name, str):
            found = self._names.get((module, name), None) or self._users.get((module, name))
            if found is not None:
                return found
        full = f"{str(module)[:80]}.{str(name)[:80]}"
        if str(module).partition(".")[0] in _NEVER:
            raise pickle.UnpicklingError(f"Weights only load failed: Unsupported global: GLOBAL {full}, which is never allowed. "
                                         "It is not on the list of safe names. weights_only=False would let the file use it: "
                                         "do that only with a file you trust.")
        raise pickle.UnpicklingError(
            f"Weights only load failed: Unsupported global: GLOBAL {full} was not an allowed global by default: it is not on "
            f"the list of safe names. If you trust it, allow it with torch.serialization.add_safe_globals([{full}]) or the "
            "safe_globals context manager, or load with weights_only=False, which can run code from the file.")

    def persistent_load(self, saved: Any) -> Any:
        return _storage_of(saved, self._fetch)

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack[-1]
        if id(function) not in self._may_call or not isinstance(args, tuple):
            raise pickle.UnpicklingError(f"Trying to call reduce for unrecognized function {_named(function)}: the file asks for "
                                         "a call that is not allowed")
        self.stack[-1] = function(*args)

    def load_newobj(self) -> None:
        args, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(args, tuple) or not isinstance(kind, type) or id(kind) not in self._may_call:
            raise pickle.UnpicklingError("Can only create new object for nn.Parameter or classes allowlisted via "
                                         f"`add_safe_globals` but got {_named(kind)}")
        self.append(kind.__new__(kind, *args))

    def load_build(self) -> None:
        state, thing = self.stack.pop(), self.stack[-1]
        if type(thing) in _WITH_ATTRIBUTES and isinstance(state, dict):
            thing.__dict__.update(state)
        elif isinstance(thing, Tensor):
            _add_attributes(thing, state)
        elif any(type(thing) is kind for kind in self._users.values()):
            self.append(state)
            _PureUnpickler.load_build(self)
        else:
            raise pickle.UnpicklingError("Can only build Tensor, Parameter, OrderedDict or types allowlisted via "
                                         f"`add_safe_globals`, but got {_named(type(thing))}")

    def load_setitem(self) -> None:
        check_key(self.stack[-2])
        self._settable(self.stack[-3])
        _PureUnpickler.load_setitem(self)

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            check_key(key)
        self._settable(self.metastack[-1][-1] if self.metastack and self.metastack[-1] else None)
        _PureUnpickler.load_setitems(self)

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            check_key(key)
        _PureUnpickler.load_dict(self)

    def load_frozenset(self) -> None:
        for key in self.stack:
            check_key(key)
        _PureUnpickler.load_frozenset(self)

    def load_additems(self) -> None:
        for key in self.stack:
            check_key(key)
        _PureUnpickler.load_additems(self)

    def load_frame(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        frame = self._unframer.file_read(min(size, 1 << 31))
        if len(frame) != size:
            raise pickle.UnpicklingError("pickle exhausted before end of frame: the file is truncated")
        self._unframer.current_frame = io.BytesIO(frame)

    def _settable(self, thing: Any) -> None:
        if not isinstance(thing, dict) and not any(type(thing) is kind for kind in self._users.values()):
            raise _damaged(f"an item of a {_named(type(thing))} is set")

    def refuse(self) -> None:
        raise pickle.UnpicklingError("Unsupported operand: the file uses an instruction of pickle that tensors never need and "
                                     "that could build anything, which is refused")


for _code, _step in (
        (pickle.REDUCE, SafeReader.load_reduce), (pickle.NEWOBJ, SafeReader.load_newobj), (pickle.BUILD, SafeReader.load_build),
        (pickle.SETITEM, SafeReader.load_setitem), (pickle.SETITEMS, SafeReader.load_setitems),
        (pickle.DICT, SafeReader.load_dict), (pickle.FROZENSET, SafeReader.load_frozenset),
        (pickle.ADDITEMS, SafeReader.load_additems), (pickle.FRAME, SafeReader.load_frame),
        *((code, SafeReader.refuse) for code in (
            pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX, pickle.BYTEARRAY8,
            pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.PERSID))):
    SafeReader.dispatch[_code[0]] = _step


def _named(thing: Any) -> str:
    return f"{getattr(thing, '__module__', type(thing).__module__)}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


class AnyReader(pickle.Unpickler):
    """Builds whatever the file asks for, which can run code from it."""

    def __init__(self, file: BinaryIO, fetch: Fetch = _no_storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._fetch, self._names = fetch, _safe_names()

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "torch":
            found = self._names.get((module, name))
            return _ours(module, name) if found is None else found
        return super().find_class(module, name)

    def persistent_load(self, saved: Any) -> Any:
        return _storage_of(saved, self._fetch)


def _ours(module: str, name: str) -> Any:
    """The thing here that has a name of PyTorch's. Raises ``AttributeError`` or ``ImportError``."""
    for path in dict.fromkeys((module, module.replace("nn.modules", "nn"), module.rpartition(".")[0])):
        try:
            found: Any = importlib.import_module("flambeau" + path[5:])
            for part in name.split("."):
                found = getattr(found, part)
            return found
        except (ImportError, AttributeError):
            continue
    raise AttributeError(f"flambeau has nothing called {module}.{name}, which this file refers to")


def globals_of(data: bytes) -> list[str]:
    """The names that a pickle refers to, read without building anything."""
    import pickletools  # noqa: PLC0415 - only who inspects files needs it
    found: dict[str, None] = {}
    strings: list[str] = []
    for op, arg, _ in pickletools.genops(data):
        if op.name in ("GLOBAL", "INST"):
            found[str(arg).replace(" ", ".", 1)] = None
        elif op.name == "STACK_GLOBAL" and len(strings) >= 2:
            found[".".join(strings[-2:])] = None
        elif isinstance(arg, str):
            strings.append(arg)
    return list(found)


def is_allowed(full: str) -> bool:
    """Whether :class:`SafeReader` builds the name."""
    module, _, name = full.rpartition(".")
    return (module, name) in _safe_names() or (module, name) in _users_names()
