"""Calls and their inputs as bytes that another process can read: what no other process could import goes by value.

A script that shows a mismatch runs far from the program: in its own `__main__`, without the program's folders. So functions
and classes of the program, local ones too, are taken apart (code, cells, attributes); those of libraries go by name. Tensors
keep strides, aliases and `.grad`; they leave the tape.
"""
from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import io
import itertools
import marshal
import pickle
import sys
import types
from typing import Any

import numpy as np

from flambeau.frontend.checking.state import code_names, is_library
from flambeau.ir import dtype as dtypes
from flambeau.runtime.autograd import GradMode, mode
from flambeau.runtime.rng import default_generator
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Tensor

_tokens: dict[int, tuple[str, Any]] = {}            # id of what is saved by value -> its name in scripts, and the thing itself
_numbers = itertools.count()
_made: dict[str, Any] = {}                          # name -> the class or function made of it, so that later calls have the same


def _token(value: Any) -> str:
    return _tokens.setdefault(id(value), (f"{value.__qualname__} {next(_numbers)}", value))[0]


# --------------------------------------------------------------------------- calls

def save_call(fn: types.FunctionType, args: tuple, kwargs: dict[str, Any]) -> bytes | str:
    """A call as bytes: its arguments and the globals that the function names; a sentence where that cannot be done."""
    names = code_names(fn.__code__)
    space = {n: fn.__globals__[n] for n in sorted(names) if n in fn.__globals__}
    space |= dict(zip(fn.__code__.co_freevars, [_contents(c) for c in fn.__closure__ or ()]))
    space = {n: v for n, v in space.items() if not isinstance(v, types.ModuleType)}
    file = io.BytesIO()
    try:
        Pickler(file, fn.__globals__).dump((args, kwargs, space, mode.grad, default_generator().get_state()))
    except Exception as error:
        return f"the call cannot be saved ({type(error).__name__}: {error})"
    return file.getvalue()


class SavedCall:
    """A call read back: its arguments, and the globals, grad mode and random numbers of its time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def run(self, fn: Any, space: dict[str, Any]) -> Any:
        """Make the call; ``space`` gets the globals."""
        args, kwargs, found, grad, random = _Unpickler(io.BytesIO(self.data), space).load()
        space.update(found)
        default_generator().set_state(random)
        with GradMode(grad):
            return fn(*args, **kwargs)


def load_calls(path: str) -> list[SavedCall]:
    """The calls saved beside a script."""
    with open(path, "rb") as file:
        return [SavedCall(data) for data in pickle.load(file)]


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


# --------------------------------------------------------------------------- anything

def importable(value: Any) -> bool:
    """Whether any process finds a function or class by its name: one of a library, installed or Python's own."""
    name, place = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name == "__main__":
        return False
    file = getattr(module, "__file__", None) or ""
    if not is_library(name) and not {"site-packages", "dist-packages"} & set(file.split("/")):
        return False
    found: Any = module
    for part in place.split("."):
        found = getattr(found, part, None)
    return found is value


#: Types of the interpreter that go by another name.
_UNNAMED = {v: n for n, v in vars(types).items() if isinstance(v, type) and v.__module__ == "builtins"}


class _Space:
    """The globals of functions that go by value, made anew; those of the function that is called are the script's."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__builtins__": __builtins__}


class Pickler(pickle.Pickler):
    """Writes what the standard one cannot; ``script`` are globals for which those of the reader stand."""

    def __init__(self, file: Any, script: dict[str, Any] | None = None) -> None:
        super().__init__(file, protocol=4)
        self.spaces: dict[int, _Space] = {}
        self.script = self._space(script) if script is not None else None

    def _space(self, names: dict[str, Any]) -> _Space:
        return self.spaces.setdefault(id(names), _Space())

    def persistent_id(self, value: Any) -> Any:
        return "globals" if value is self.script and value is not None else None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type):
            named = _UNNAMED.get(value)
            return (getattr, (types, named)) if named else NotImplemented if importable(value) else _class(value)
        if isinstance(value, enum.Enum) and not importable(type(value)):
            return getattr, (type(value), value.name)
        if type(value) is types.FunctionType:
            return NotImplemented if importable(value) else self._function(value)
        reduce = _REDUCERS.get(type(value)) or (_tensor if isinstance(value, Tensor) else None)
        return NotImplemented if reduce is None else reduce(value)

    def _function(self, fn: types.FunctionType) -> Any:
        original = fn.__dict__.get("__flambeau_original__")
        if original is not None:
            return _itself, (original,)
        named = {n: fn.__globals__[n] for n in sorted(code_names(fn.__code__)) if n in fn.__globals__}
        state = (named, fn.__closure__, fn.__defaults__, fn.__kwdefaults__, fn.__dict__, fn.__qualname__, fn.__module__)
        start = (_token(fn), self._space(fn.__globals__), marshal.dumps(fn.__code__), fn.__name__, len(fn.__closure__ or ()))
        return _make_function, start, state, None, None, _fill_function


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, script: dict[str, Any]) -> None:
        super().__init__(file)
        self.script = _Space()
        self.script.names = script

    def persistent_load(self, name: str) -> Any:
        return self.script


def _itself(value: Any) -> Any:
    return value


# ---- functions

def _make_function(token: str, space: _Space, code: bytes, name: str, cells: int) -> types.FunctionType:
    if token not in _made:
        closure = tuple(types.CellType() for _ in range(cells))
        _made[token] = types.FunctionType(marshal.loads(code), space.names, name, None, closure)
    return _made[token]


def _fill_function(fn: Any, state: tuple) -> None:
    named, cells, fn.__defaults__, fn.__kwdefaults__, own, fn.__qualname__, fn.__module__ = state
    fn.__globals__.update(named)
    for cell, kept in zip(fn.__closure__ or (), cells or ()):
        _fill_cell(cell, (_contents(kept),) if _is_filled(kept) else ())
    fn.__dict__.update(own)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asked for the error
    except ValueError:
        return False
    return True


def _cell(cell: types.CellType) -> Any:
    return types.CellType, (), (cell.cell_contents,) if _is_filled(cell) else (), None, None, _fill_cell


def _fill_cell(cell: Any, contents: tuple) -> None:
    if contents:
        cell.cell_contents = contents[0]


# ---- classes

_NOT_STATE = ("__dict__", "__weakref__", "__slots__", "_abc_impl", "__module__", "__qualname__", "__mro__",
              "__static_attributes__", "__firstlineno__")


def _class(cls: Any) -> Any:
    token = _token(cls)
    if isinstance(cls, enum.EnumMeta):
        members: Any = cls.__members__
        start = {name: members[name].value for name in members}
        return _make_enum, (token, cls.__bases__, cls.__name__, start)
    start = {k: v for k, v in vars(cls).items() if k in ("__slots__", "__module__", "__qualname__")}
    kinds = (types.MemberDescriptorType, types.GetSetDescriptorType)
    state = {k: v for k, v in vars(cls).items() if k not in _NOT_STATE and not isinstance(v, kinds)}
    return _make_class, (token, type(cls), cls.__name__, cls.__bases__, start), state, None, None, _fill_class


def _make_class(token: str, kind: Any, name: str, bases: tuple, start: dict[str, Any]) -> Any:
    if token not in _made:
        _made[token] = types.new_class(name, bases, {"metaclass": kind}, lambda space: space.update(start))
    return _made[token]


def _make_enum(token: str, bases: tuple, name: str, members: dict[str, Any]) -> Any:
    if token not in _made:
        _made[token] = bases[-1](name, members)
    return _made[token]


def _fill_class(cls: Any, state: dict[str, Any]) -> None:
    for name in [n for n in vars(cls) if n not in state and not n.startswith("__") and n not in _NOT_STATE]:
        if not isinstance(vars(cls)[name], types.MemberDescriptorType):
            delattr(cls, name)
    for name, value in state.items():
        if not _same(vars(cls).get(name, state), value):
            setattr(cls, name, value)


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, (staticmethod, classmethod)) and type(old) is type(new):
        return old.__func__ is new.__func__
    if isinstance(old, property) and isinstance(new, property):
        return (old.fget, old.fset, old.fdel) == (new.fget, new.fset, new.fdel)
    return old is new


# ---- tensors

def _storage(value: Storage) -> Any:
    return Storage, (_flat(value.array),)


def _flat(array: Any) -> Any:
    """The elements of an array as they lie in memory."""
    if array.flags.c_contiguous:
        return array
    order = sorted(range(array.ndim), key=lambda d: -abs(array.strides[d]))
    laid_out = array.transpose(order)
    return laid_out if laid_out.flags.c_contiguous else np.ascontiguousarray(array)


def _tensor(value: Tensor) -> Any:
    base, array = value._storage.array, value._a
    if isinstance(base, np.ndarray) and np.may_share_memory(_flat(base), base):
        storage, strides = value._storage, array.strides
        offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    else:
        storage, offset = Storage(np.ascontiguousarray(array)), 0
        strides = storage.array.strides
    kept = (value._grad, dict(value.__dict__)) if value._grad is not None or value.__dict__ else None
    start = (type(value), storage, array.shape, strides, offset, value.dtype.name, bool(value.requires_grad))
    return _rebuilt, start, kept, None, None, _fill_tensor


def _rebuilt(kind: Any, storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, dtype: str,
             requires_grad: bool) -> Tensor:
    dtype_ = getattr(dtypes, dtype if dtype != "bool" else "bool_")
    found: Any = object.__new__(kind)
    Tensor.__init__(found, np.ndarray(shape, dtype_.np, storage.array, offset, strides), storage)
    found._dtype = dtype_
    return found.requires_grad_() if requires_grad else found


def _fill_tensor(t: Any, kept: tuple) -> None:
    t._grad = kept[0]
    t.__dict__.update(kept[1])


_REDUCERS: dict[Any, Any] = {
    Storage: _storage, types.CellType: _cell,
    types.ModuleType: lambda value: (importlib.import_module, (value.__name__,)),
    types.MappingProxyType: lambda value: (types.MappingProxyType, (dict(value),)),
    property: lambda value: (property, (value.fget, value.fset, value.fdel, value.__doc__)),
    staticmethod: lambda value: (staticmethod, (value.__func__,)),
    classmethod: lambda value: (classmethod, (value.__func__,)),
    functools._lru_cache_wrapper: lambda value: (_cached, (value.__wrapped__, value.cache_parameters()["maxsize"])),
    type(dataclasses.MISSING): lambda value: (getattr, (dataclasses, "MISSING")),
    type(dataclasses._FIELD): lambda value: (getattr, (dataclasses, value.name)),       # type: ignore[attr-defined]
}


def _cached(fn: Any, maxsize: int | None) -> Any:
    return functools.lru_cache(maxsize)(fn)


__all__ = ["Pickler", "SavedCall", "importable", "load_calls", "save_call"]
