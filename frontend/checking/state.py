"""Pictures: everything a call can reach and change, recorded, compared later, and put back as it was.

The original and the compiled function run one after the other on the *same* objects, so that identities, aliases and
guards are those of the program. Between the two everything reachable from the roots (arguments, closure cells, the globals
that the code names) is put back by the picture taken before.
"""
from __future__ import annotations

import collections
import functools
import random
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.runtime.autograd import mode
from flambeau.runtime.rng import Generator, default_generator
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Tensor, wrap

_LIBRARIES = frozenset({"flambeau", "numpy", "scipy", "sympy", "pytest", "_pytest", *sys.stdlib_module_names}) - {"__main__"}
_TENSOR_SLOTS = ("_a", "_storage", "_rg", "_grad_fn", "_out_nr", "_view", "_grad", "_hooks", "_dtype")
_WALKED = ("flambeau.nn", "flambeau.optim", "flambeau.amp", "flambeau.distributions", "types", "collections", "argparse")
_SEQUENCES = (list, tuple, collections.deque)
_SETS = (set, frozenset)
_PLAIN = frozenset({bool, int, float, str, bytes, complex, range, slice, types.BuiltinFunctionType})
_ONE_WAY: tuple[Any, ...] = (
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, type(iter([])), type(iter(())), type(iter({})),
    type(iter(range(0))), map, filter, zip, enumerate, reversed)


@dataclass
class Held:
    """What an object held: its kind, the objects it led to under their names, and data that is compared as it is."""

    value: Any
    kind: str
    parts: dict[Any, Any] = field(default_factory=dict)
    data: Any = None


class Picture:
    """All that can be reached from ``roots`` (name -> object), as it is now."""

    def __init__(self, roots: dict[str, Any]) -> None:
        self.roots = roots
        self.held: dict[int, Held] = {}
        self.one_way: list[str] = []                # things that cannot be run through twice
        self.generator = default_generator().get_state()._a.copy()
        self.grad_mode = mode.grad
        self.random, self.numpy = random.getstate(), np.random.get_state()
        self._queue: collections.deque[Any] = collections.deque(roots.values())
        while self._queue:
            self._visit(self._queue.popleft())
        del self._queue

    # ---- taking

    def _visit(self, value: Any) -> None:
        if id(value) in self.held:
            return
        found = _held(value)
        if found is None:
            return
        self.held[id(value)] = found
        if found.kind == "one way":
            self.one_way.append(type(value).__name__)
        self._queue.extend(found.parts.values())

    # ---- putting back

    def restore(self) -> None:
        """Give every recorded object its recorded contents."""
        for held in self.held.values():
            _RESTORE.get(held.kind, _leave)(held)
        default_generator().set_state(wrap(self.generator.copy()))
        mode.grad = self.grad_mode
        random.setstate(self.random)
        np.random.set_state(self.numpy)

    def at(self, trail: tuple[Any, ...]) -> Any:
        """What lies at the end of a trail: a root's name, then names of parts."""
        found = self.roots.get(trail[0]) if trail else None
        for key in trail[1:]:
            held = self.held.get(id(found))
            found = None if held is None else held.parts.get(key)
        return found

    def shake(self, seed: int) -> None:
        """Move all values of recorded tensors and arrays by about their rounding."""
        rng = np.random.default_rng(seed)
        for held in self.held.values():
            array = held.value.array if held.kind == "storage" else held.value if held.kind == "array" else None
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = shaken(array, rng)

    @property
    def tensors(self) -> list[Held]:
        return [h for h in self.held.values() if h.kind == "tensor"]


def shaken(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An array's values, moved by about their rounding; whole numbers stay."""
    if array.dtype.kind in "iubOSUM":
        return array
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    eps = 2.0 * float(ml_dtypes.finfo(array.dtype).eps)
    with np.errstate(all="ignore"):
        return (array.astype(wide) * (1 + eps * rng.uniform(-1, 1, array.shape))).astype(array.dtype)


@dataclass
class Space:
    """The globals (or attributes of a module) that code names."""

    names: tuple[str, ...]
    where: dict[str, Any]


def roots_of(fn: types.FunctionType, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a call of ``fn`` starts from: its arguments by name, and the function with cells and globals."""
    code = fn.__code__
    named = dict(zip(code.co_varnames, args))
    extra = {f"argument {k}": v for k, v in enumerate(args[len(named):], len(named))}
    return {**named, **extra, **kwargs, fn.__qualname__: fn}


def code_names(code: types.CodeType) -> set[str]:
    """Every name that a code object or one inside it uses."""
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= code_names(const)
    return found


def is_library(module: Any) -> bool:
    """Whether a module's own state is nobody's business: flambeau, NumPy, the standard library."""
    return not isinstance(module, str) or module.partition(".")[0] in _LIBRARIES


def _held(value: Any) -> Held | None:
    """The contents of an object; None for one without any that could change."""
    cls = type(value)
    if value is None or cls in _PLAIN:
        return None
    for kinds, take in _TAKE:
        if isinstance(value, kinds):
            return take(value)
    return _object(value)


def _tensor(t: Tensor) -> Held:
    parts = {"storage": t._storage, "grad": t._grad, **{f".{k}": v for k, v in t.__dict__.items()}}
    data = {name: getattr(t, name) for name in _TENSOR_SLOTS} | {"leaf": t}
    return Held(t, "tensor", parts, (data, t._a.copy(), t.dtype, bool(t.requires_grad), t.grad_fn is None, dict(t._hooks or {})))


def _storage(s: Storage) -> Held:
    return Held(s, "storage", {}, (s.array, s.array.copy(), s.version))


def _array(a: np.ndarray) -> Held:
    return Held(a, "array", {}, a.copy())


def _generator(g: Generator) -> Held:
    return Held(g, "generator", {}, g.get_state()._a.copy())


def _sequence(value: Any) -> Held:
    kind = "list" if isinstance(value, list) else "deque" if isinstance(value, collections.deque) else "tuple"
    return Held(value, kind, {**{f"[{k}]": v for k, v in enumerate(value)}, **_attributes(value)}, len(value))


def _set(value: Any) -> Held:
    return Held(value, "set" if isinstance(value, set) else "frozenset", {}, frozenset(value))


def _dict(value: Any) -> Held:
    keys = list(value)
    parts = {f"key {k}": key for k, key in enumerate(keys)}
    parts |= {f"[{_shown(key)}]" if isinstance(key, (str, int)) else f"value {k}": dict.__getitem__(value, key)
              for k, key in enumerate(keys)}
    return Held(value, "dict", {**parts, **_attributes(value)}, [(key, dict.__getitem__(value, key)) for key in keys])


def _cell(value: types.CellType) -> Held:
    try:
        return Held(value, "cell", {"": value.cell_contents}, True)
    except ValueError:
        return Held(value, "cell", {}, False)


def _function(fn: types.FunctionType) -> Held:
    original = fn.__dict__.get("__flambeau_original__")
    if original is not None:
        return Held(fn, "other", {"original": original})
    parts: dict[str, Any] = {f"closure of {n}": c for n, c in zip(fn.__code__.co_freevars, fn.__closure__ or ())}
    parts |= {"defaults": fn.__defaults__, "keyword defaults": fn.__kwdefaults__}
    parts |= {f".{k}": v for k, v in fn.__dict__.items()}
    if not is_library(fn.__globals__.get("__name__")):
        names = code_names(fn.__code__)
        parts["globals"] = Space(tuple(sorted(n for n in names if n in fn.__globals__)), fn.__globals__)
        for name in names:
            module = fn.__globals__.get(name)
            if isinstance(module, types.ModuleType) and not is_library(module.__name__):
                parts[f"module {name}"] = Space(tuple(sorted(names & set(vars(module)))), vars(module))
    return Held(fn, "function", parts, (fn.__defaults__, fn.__kwdefaults__, fn.__code__))


def _space(value: Space) -> Held:
    return Held(value, "space", {n: value.where[n] for n in value.names if n in value.where})


def _method(value: types.MethodType) -> Held:
    return Held(value, "other", {"self": value.__self__, "function": value.__func__})


def _partial(value: functools.partial) -> Held:
    return Held(value, "other", {"func": value.func, "args": value.args, "keywords": value.keywords})


def _class(cls: type) -> Held | None:
    if is_library(getattr(cls, "__module__", None)):
        return None
    parts = {n: v for n, v in vars(cls).items() if (isinstance(v, types.FunctionType) or not _dunder(n))
             and not isinstance(v, (types.MemberDescriptorType, types.GetSetDescriptorType))}
    return Held(cls, "class", parts | {f"base {k}": b for k, b in enumerate(cls.__bases__) if not is_library(b.__module__)})


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _wrapped(value: Any) -> Held:
    return Held(value, "other", {"function": value.__func__})


def _property(value: property) -> Held:
    return Held(value, "other", {k: f for k, f in (("get", value.fget), ("set", value.fset)) if f is not None})


def _error(value: BaseException) -> Held:
    return Held(value, "object", {"args": value.args, **_attributes(value)})


def _one_way(value: Any) -> Held:
    return Held(value, "one way")


def _nothing(value: Any) -> None:
    return None


def _object(value: Any) -> Held | None:
    cls = type(value)
    if is_library(cls.__module__) and not cls.__module__.startswith(_WALKED):
        return None
    parts = _attributes(value)
    return Held(value, "object", parts) if parts or _own(value) is not None or _slots(cls) else None


_slots_known: dict[Any, tuple[str, ...]] = {}


def _slots(cls: type) -> tuple[str, ...]:
    """The names of a class's slots, as they are stored."""
    known = _slots_known.get(cls)
    if known is None:
        found: list[str] = []
        for c in cls.__mro__:
            slots = c.__dict__.get("__slots__", ())
            for s in (slots,) if isinstance(slots, str) else slots:
                if s not in ("__dict__", "__weakref__"):
                    found.append(f"_{c.__name__.lstrip('_')}{s}" if s.startswith("__") and not s.endswith("__") else s)
        known = _slots_known[cls] = tuple(found)
    return known


def _own(value: Any) -> dict[str, Any] | None:
    """An object's own namespace, whatever its class does to attributes; None if it has none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def _attributes(value: Any) -> dict[str, Any]:
    parts = {f".{k}": v for k, v in (_own(value) or {}).items()}
    for name in _slots(type(value)):
        try:
            parts[f".{name}"] = object.__getattribute__(value, name)
        except AttributeError:
            continue
    if not is_library(type(value).__module__):
        parts["class"] = type(value)
    return parts


def _shown(key: Any) -> str:
    return repr(key)


_TAKE: list[tuple[Any, Callable[[Any], Held | None]]] = [
    (Tensor, _tensor), (Storage, _storage), (np.ndarray, _array), (Generator, _generator), (_SEQUENCES, _sequence), (_SETS, _set),
    (dict, _dict), (types.CellType, _cell), (types.FunctionType, _function), (Space, _space), (types.MethodType, _method),
    (functools.partial, _partial), (type, _class), ((staticmethod, classmethod), _wrapped), (property, _property),
    (BaseException, _error), (_ONE_WAY, _one_way), ((types.ModuleType, np.generic, np.dtype, types.CodeType), _nothing)]


# --------------------------------------------------------------------------- putting back

def _leave(held: Held) -> None:
    """Nothing in it changes."""


def _restore_tensor(held: Held) -> None:
    t, data = held.value, held.data[0]
    for name in _TENSOR_SLOTS:
        setattr(t, name, data[name])
    if held.data[5] != (t._hooks or {}):
        t._hooks = dict(held.data[5])
    _restore_attributes(held)


def _restore_storage(held: Held) -> None:
    s = held.value
    array, kept, version = held.data
    if s.array is not array:
        s.array = array
        s.__dict__.pop("pointer", None)
    if array.flags.writeable:
        array[...] = kept
    if isinstance(version, int) and s.version != version:   # (in inference mode nothing is counted)
        s.version = version


def _restore_array(held: Held) -> None:
    if held.value.flags.writeable:
        held.value[...] = held.data


def _restore_list(held: Held) -> None:
    values = [v for k, v in held.parts.items() if k[0] == "["]
    if len(held.value) != len(values) or any(a is not b for a, b in zip(held.value, values)):
        if held.kind == "list":
            list.__setitem__(held.value, slice(None), values)
        else:
            held.value.clear()
            held.value.extend(values)
    _restore_attributes(held)


def _restore_dict(held: Held) -> None:
    d, items = held.value, held.data
    if len(d) != len(items) or any(a is not c or b is not e for (a, b), (c, e) in zip(dict.items(d), items)):
        if isinstance(d, collections.OrderedDict):
            collections.OrderedDict.clear(d)
            for k, v in items:
                collections.OrderedDict.__setitem__(d, k, v)
        else:
            dict.clear(d)
            dict.update(d, items)
    _restore_attributes(held)


def _restore_set(held: Held) -> None:
    if held.value != held.data:
        set.clear(held.value)
        set.update(held.value, held.data)


def _restore_cell(held: Held) -> None:
    if held.data:
        held.value.cell_contents = held.parts[""]
    else:
        try:
            del held.value.cell_contents
        except ValueError:
            pass


def _restore_function(held: Held) -> None:
    fn = held.value
    if fn.__code__ is not held.data[2]:
        fn.__code__ = held.data[2]
    if fn.__defaults__ is not held.data[0]:
        fn.__defaults__ = held.data[0]
    if fn.__kwdefaults__ is not held.data[1]:
        fn.__kwdefaults__ = held.data[1]
    _restore_attributes(held)


def _restore_space(held: Held) -> None:
    space: Space = held.value
    for name in space.names:
        if name in held.parts and space.where.get(name, held) is not held.parts[name]:
            space.where[name] = held.parts[name]


def _restore_class(held: Held) -> None:
    cls = held.value
    for name in [n for n in vars(cls) if n not in held.parts and not n.startswith("__") and isinstance(
            vars(cls)[n], (int, float, str, list, dict, tuple, set, Tensor))]:
        delattr(cls, name)
    for name, value in held.parts.items():
        if not name.startswith("base ") and vars(cls).get(name, held) is not value:
            setattr(cls, name, value)


def _restore_attributes(held: Held) -> None:
    value = held.value
    space = _own(value)
    wanted = {k[1:]: v for k, v in held.parts.items() if isinstance(k, str) and k[:1] == "."}
    if space is not None:
        own = {k: v for k, v in wanted.items() if k not in _slots(type(value))}
        if len(space) != len(own) or any(a != c or b is not e for (a, b), (c, e) in zip(space.items(), own.items())):
            space.clear()
            space.update(own)
    for name in _slots(type(value)):
        if name in wanted:
            object.__setattr__(value, name, wanted[name])


_RESTORE: dict[str, Callable[[Held], None]] = {
    "tensor": _restore_tensor, "storage": _restore_storage, "array": _restore_array, "list": _restore_list,
    "deque": _restore_list, "dict": _restore_dict, "set": _restore_set, "cell": _restore_cell, "function": _restore_function,
    "space": _restore_space, "class": _restore_class, "object": _restore_attributes,
    "generator": lambda held: held.value.set_state(wrap(held.data.copy()))}


def live(items: Iterable[Held]) -> list[Tensor]:
    """The tensors among recorded objects."""
    return [h.value for h in items if h.kind == "tensor"]
