"""Words of memory by which it is seen that objects have not changed: a thousand of them are read in a microsecond or two.

CPython counts the changes of each dict (PEP 509), whoever makes them: an assignment, ``object.__setattr__``, ``vars(x)``. An
object's class and dict, a tensor's array and that array's shape are pointers and numbers at fixed places. NumPy gathers such
words wherever they are, so hundreds of modules and parameters cost one call. Places are looked for, not assumed, and a trial
(:func:`works`) makes every kind of change once; where one goes unseen (another Python, another build) nothing is watched.

Words lie in objects that the watcher keeps alive, or in what those point to, which is read only after the pointers were found
unchanged: hence the three ``stages``.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import operator
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import versions
from .tensor import Tensor

_FIRST = 4096 >> 3  # addresses of words start here: NumPy takes no buffer at 0
_MISSING = object()
_CONSTANTS = (str, int, float, bool, bytes, type(None))
HEAP = 1 << 9  # the flag of classes that programs make
_DICTS = (dict, OrderedDict, defaultdict)
_TYPE = 8  # where an object's class is
_USED, _TAG, _KEYS, _VALUES = 16, 24, 32, 40  # in a dict: its length, the count of changes, the keys, values apart from them
_LENGTH, _ELEMENTS = 16, 24  # in a list
_ARRAY = (24, 32, 40, 56)  # in an array: number of dimensions, sizes, strides, dtype
_INLINE = sys.version_info >= (3, 13)  # values may lie in the object itself, and their changes are not counted


class Unwatchable(Exception):
    """What a value depends on cannot be seen in words."""


@functools.cache
def _memory() -> np.ndarray:
    """All memory as an array of words."""
    everything: Any = (ctypes.c_uint64 * ((1 << 45) - _FIRST)).from_address(_FIRST << 3)
    return np.frombuffer(everything, np.uint64)


def _word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


class Names:
    """What is known of some names of a dict. ``keys``: all it has, in their order (None: nobody asks)."""

    __slots__ = ("of", "values", "present", "absent", "keys")

    def __init__(self, of: dict) -> None:
        self.of = of
        self.keys: tuple[Any, ...] | None = None
        self.values: dict[Any, Any] = {}
        self.present: set[Any] = set()
        self.absent: set[Any] = set()

    def hold(self) -> bool:
        """Whether these names still are as they were read."""
        of = self.of
        return all([of.get(n, _MISSING) is v for n, v in self.values.items()]) and all(
            [n in of for n in self.present]) and self.absent.isdisjoint(of) and (self.keys is None or tuple(of) == self.keys)


class Watcher:
    """Collects words while values are read: what is read through it is watched from then on."""

    def __init__(self) -> None:
        self.stages: tuple[dict[int, Names | None], ...] = ({}, {}, {})  # address -> names that explain a change of the word
        self.alive: list[Any] = []
        self._names: dict[int, Names] = {}
        self._own: dict[int, Names] = {}
        self._classes: dict[type, Names] = {}
        self._plain: set[tuple[type, str]] = set()  # attributes that no class stands before
        self._lists: dict[int, tuple[list, tuple, int]] = {}
        self._tensors: dict[int, tuple[Any, ...]] = {}

    # ---- reading

    def attribute(self, x: Any, name: str) -> Any:
        """An attribute that is found in the object's own dict."""
        names, cls = self.own(x), type(x)
        if (cls, name) not in self._plain:
            for found in self._class(cls, name):
                for part in ("__set__", "__delete__") if found is not _MISSING else ():
                    if hasattr(type(found), part):
                        raise Unwatchable
                    if type(found).__flags__ & HEAP:
                        self._class(type(found), part)
            self._plain.add((cls, name))
        return self._value(names, name)

    def item(self, x: Any, key: Any) -> Any:
        """``x[key]`` of a dict, a list or a tuple."""
        if type(x) is list:
            self.elements(x)
        if type(x) in (tuple, list):
            return x[key]
        self._key(key)
        return self._value(self.contents(x), key)

    def contains(self, x: Any, key: Any) -> None:
        """Whether a dict has a key."""
        self._key(key)
        names = self.contents(x)
        (names.present if key in x else names.absent).add(key)

    def whole(self, x: Any) -> None:
        """Length and keys of a dict, in their order (which a filled OrderedDict can change unseen), or a tuple's length."""
        if type(x) is list:
            self.elements(x)
        elif type(x) is not tuple:
            if type(x) is OrderedDict and x:
                raise Unwatchable
            self.contents(x).keys = tuple(x)

    def elements(self, x: list) -> None:
        """All elements of a list."""
        if id(x) not in self._lists:
            objects, further, _ = self.stages
            start = _word(id(x) + _ELEMENTS)
            objects[id(x) + _LENGTH] = objects[id(x) + _ELEMENTS] = None
            further.update(dict.fromkeys(range(start, start + 8 * len(x), 8)))
            self._lists[id(x)] = (x, tuple(x), start)
            self.alive.append(x)

    def own(self, x: Any, keep: bool = True) -> Names:
        """The object's own dict. ``keep`` False: somebody else sees to it that nobody asks once the object is gone."""
        found = self._own.get(id(x))
        if found is None:
            self.kind(x, keep)
            if (type(x), "__getattribute__") not in self._plain:
                if type(x).__getattribute__ is not object.__getattribute__:
                    raise Unwatchable
                self._class(type(x), "__getattribute__")
                self._plain.add((type(x), "__getattribute__"))
            d = x.__dict__
            place = id(x) + _offset(type(x))
            if type(d) is not dict or _word(place) != id(d):
                raise Unwatchable
            self.stages[0][place] = None
            found = self._own[id(x)] = self.contents(d)
        return found

    def kind(self, x: Any, keep: bool = True) -> None:
        """The object's class."""
        if id(x) + _TYPE not in self.stages[0]:
            self.stages[0][id(x) + _TYPE] = None
            self.alive += [x, type(x)] if keep else [type(x)]

    def version(self, cls: type) -> None:
        """That a class and its bases are as they are."""
        at = versions.place()
        if at is None:
            raise Unwatchable
        self.stages[0][(id(cls) + at) & ~7] = None
        self.alive.append(cls)

    def contents(self, d: Any) -> Names:
        """A dict: the names to enter in."""
        found = self._names.get(id(d))
        if found is None:
            if type(d) not in _DICTS:
                raise Unwatchable
            found = self._names[id(d)] = Names(d)
            self.alive.append(d)
            objects, apart = _words_of(d)
            self.stages[0].update(dict.fromkeys(objects, found))
            self.stages[1].update(dict.fromkeys(apart))
        return found

    def tensor(self, t: Any) -> None:
        """Class, shape, strides, dtype, device, and whether it requires a gradient."""
        if id(t) in self._tensors:
            return
        a = t._a
        if type(a) is not np.ndarray or not isinstance(t, Tensor):
            raise Unwatchable
        self.kind(t)
        objects, headers, sizes = self.stages
        for offset in _slots("_a", "_storage", "_rg"):
            objects[id(t) + offset] = None
        headers[id(a) + _TYPE] = None
        for offset in _ARRAY:
            headers[id(a) + offset] = None
        starts = (_word(id(a) + 32), _word(id(a) + 40))
        for start in starts:
            sizes.update(dict.fromkeys(range(start, start + 8 * a.ndim, 8)))
        self._tensors[id(t)] = (t, a, a.ndim, *starts)

    def untaped(self, t: Any) -> None:
        """That a tensor is a leaf of the tape, is no view, has no hooks and no attributes."""
        self.own(t).keys = ()
        for offset in _slots("_grad_fn", "_view", "_hooks"):
            self.stages[0][id(t) + offset] = None

    # ---- parts

    def _key(self, key: Any) -> None:
        """A key is found again as long as it is what it is: a constant, or an object known by its identity."""
        kind = type(key)
        if kind is tuple:
            for part in key:
                self._key(part)
        elif kind not in _CONSTANTS:
            if kind.__hash__ is not object.__hash__:
                raise Unwatchable
            self._class(kind, "__hash__")

    @staticmethod
    def _value(names: Names, key: Any) -> Any:
        found = names.of.get(key, _MISSING)
        if found is _MISSING:
            raise Unwatchable
        names.values[key] = found
        return found

    def _class(self, cls: type, name: str) -> list[Any]:
        """What a class and its bases have under a name: each what it says itself."""
        found = []
        for base in cls.__mro__:
            if base.__flags__ & HEAP:  # else it is made in C and never changes
                names = self._class_names(base)
                value = names.of.get(name, _MISSING)
                if value is _MISSING:
                    names.absent.add(name)
                else:
                    names.values[name] = value
            else:
                value = base.__dict__.get(name, _MISSING)
            found.append(value)
        return found

    def _class_names(self, cls: type) -> Names:
        found = self._classes.get(cls)
        if found is None:
            [d] = [r for r in gc.get_referents(cls.__dict__) if type(r) is dict]
            place = id(cls) + _bases_offset()
            if _word(place) != id(cls.__mro__):
                raise Unwatchable
            self.stages[0][place] = None
            found = self._classes[cls] = self.contents(d)
            self.alive += [cls, cls.__mro__]
        return found

    # ---- the words

    def snapshot(self) -> Snapshot | None:
        """What the words are now; None if another thread has changed what was read in the meantime."""
        found = Snapshot(self)
        same = all([names.hold() for names in self._names.values()]) and all(
            [t._a is a and a.ndim == n and _word(id(a) + 32) == sizes and _word(id(a) + 40) == strides
             for t, a, n, sizes, strides in self._tensors.values()]) and all(
            [len(x) == len(seen) and _word(id(x) + _ELEMENTS) == start and all(map(operator.is_, x, seen))
             for x, seen, start in self._lists.values()])
        return found if same and found.unchanged() else None


class Snapshot:
    """What words of memory were."""

    __slots__ = ("indices", "values", "explained", "alive")

    def __init__(self, watcher: Watcher) -> None:
        self.alive = watcher.alive
        self.indices = tuple(np.array(list(s), np.intp) // 8 - _FIRST for s in watcher.stages)
        self.explained = list(watcher.stages[0].values())
        self.values = tuple(take(i).tobytes() for i in self.indices)

    def unchanged(self) -> bool:
        """Whether all are as they were."""
        return all([take(i).tobytes() == v for i, v in zip(self.indices, self.values)])

    def renewed(self) -> Snapshot | None:
        """A later snapshot where all that has changed are names nobody asked about; None if more has."""
        now = take(self.indices[0])
        for at in np.flatnonzero(now != np.frombuffer(self.values[0], np.uint64)).tolist():
            names = self.explained[at]
            if names is None or not names.hold():
                return None
        found: Snapshot = object.__new__(Snapshot)
        found.alive, found.indices, found.explained = self.alive, self.indices, self.explained
        found.values = (now.tobytes(), *self.values[1:])
        return found if found.unchanged() else None


def take(indices: np.ndarray) -> np.ndarray:
    """The words at these places."""
    return _memory().take(indices)


# ---- where the words are ----------------------------------------------------------------------------------------------


def _words_of(d: dict) -> tuple[Iterable[int], Iterable[int]]:
    """The words of a dict that change with it: in objects, and in what those point to."""
    start = id(d)
    values = _word(start + _VALUES)
    if not _INLINE or not values:
        return [start + _TAG], ()
    capacity, embedded = _word(values) & 0xFF, _word(values) >> 16 & 0xFF
    own, found = [start + _USED, start + _TAG, start + _KEYS, start + _VALUES], range(values, values + 8 + 8 * capacity, 8)
    return ([*own, *found], ()) if embedded else (own, found)  # in the object whose dict it is, or apart


def _offset(cls: type) -> int:
    """From an object to the pointer to its dict."""
    if cls.__dictoffset__ == 0:
        raise Unwatchable
    return cls.__dictoffset__ if cls.__dictoffset__ > 0 else -24


@functools.cache
def _bases_offset() -> int:
    """From a class to the pointer to its method resolution order."""
    return next(n for n in range(0, 1000, 8) if _word(id(_Probe) + n) == id(_Probe.__mro__))


@functools.cache
def _slots(*names: str) -> tuple[int, ...]:
    """From a tensor to the pointers that are these attributes."""
    t = Tensor(np.zeros((2, 3), np.float32))
    places = []
    for name in names:
        before = {n: _word(id(t) + n) for n in range(16, 16 + 8 * len(Tensor.__slots__), 8)}
        old, mark = getattr(t, name), object()
        setattr(t, name, mark)
        places += [n for n, word in before.items() if word == id(old) and _word(id(t) + n) == id(mark)]
        setattr(t, name, old)
    if len(places) != len(names):
        raise Unwatchable
    return tuple(places)


# ---- the trial ---------------------------------------------------------------------------------------------------------


class _Probe:
    def __init__(self) -> None:
        self.x, self.table = 1000, {"k": 1}
        self.ordered: OrderedDict[str, int] = OrderedDict()
        self.list = [object(), object()]
        self.made: defaultdict[str, int] = defaultdict(int)


class _Other(_Probe):
    pass


def _assign_again(p: Any) -> None:
    for n in range(60):  # often enough to be specialized by the interpreter
        p.x = 2000 + n


_CHANGES: tuple[Callable[[Any], Any], ...] = (
    _assign_again, lambda p: setattr(p, "y", 1), lambda p: object.__setattr__(p, "x", 5), lambda p: delattr(p, "x"),
    lambda p: p.__dict__.update(x=7), lambda p: vars(p).__setitem__("x", 8), lambda p: dict.__setitem__(vars(p), "x", 9),
    lambda p: vars(p).pop("x"), lambda p: vars(p).clear(), lambda p: setattr(p, "__dict__", dict(vars(p))),
    lambda p: setattr(p, "__class__", _Other), lambda p: p.table.update(k=2), lambda p: p.table.setdefault("z", 2),
    lambda p: p.table.clear(), lambda p: p.table.__ior__({"k": 5}), lambda p: p.ordered.update(a=1),
    lambda p: dict.update(p.ordered, a=1), lambda p: p.list.append(1), lambda p: p.list.reverse(), lambda p: p.list.pop(),
    lambda p: p.list.__setitem__(1, None), lambda p: p.list.extend(range(1000)), lambda p: p.list.clear(),
    lambda p: p.made["k"])
_TENSOR_CHANGES: tuple[Callable[[Any], Any], ...] = (
    lambda t: setattr(t, "_rg", True), lambda t: setattr(t, "_a", t._a.T), lambda t: setattr(t._a, "shape", (3, 2)),
    lambda t: setattr(t, "data", Tensor(np.zeros((2, 3), np.float32))), lambda t: setattr(t, "__class__", _Kin),
    lambda t: setattr(t._a, "dtype", np.int32), lambda t: setattr(t, "_grad_fn", 1), lambda t: setattr(t, "_hooks", {}),
    lambda t: setattr(t, "_view", t), lambda t: setattr(t, "mark", 1))


class _Kin(Tensor):
    __slots__ = ()


@functools.cache
def works() -> bool:
    """Whether the words of this Python change with the objects, and only then."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little" \
            or sys.version_info >= (3, 14) or hasattr(sys, "gettotalrefcount"):
        return False
    try:
        return all(map(_seen, _CHANGES)) and all(map(_seen_of_tensor, _TENSOR_CHANGES)) and _class_is_seen()
    except Exception:  # noqa: BLE001 - anything unexpected means no
        return False


def _seen(change: Callable[[Any], Any]) -> bool:
    p, w = _Probe(), Watcher()
    w.attribute(p, "x")
    w.item(w.attribute(p, "table"), "k")
    w.whole(w.attribute(p, "ordered"))
    w.item(w.attribute(p, "list"), 0)
    w.contains(w.attribute(p, "made"), "k")
    before = Snapshot(w)
    quiet = before.unchanged()
    change(p)
    return quiet and not before.unchanged()


def _seen_of_tensor(change: Callable[[Any], Any]) -> bool:
    t, w = Tensor(np.zeros((2, 3), np.float32)), Watcher()
    w.tensor(t)
    w.untaped(t)
    before = Snapshot(w)
    t._a += 1  # data is no matter
    quiet = before.unchanged()
    change(t)
    return quiet and not before.unchanged()


def _class_is_seen() -> bool:
    class Local(_Probe):
        pass

    changes: list[Callable[[], Any]] = [lambda: setattr(Local, "new", property(lambda p: 1)), lambda: delattr(Local, "new"),
                                        lambda: setattr(Local, "__bases__", (_Other,))]
    for change in changes:
        w, p = Watcher(), Local()
        w._class(type(p), "new")
        before = Snapshot(w)
        quiet = before.unchanged()
        change()
        if not quiet or before.unchanged():
            return False
    return True
