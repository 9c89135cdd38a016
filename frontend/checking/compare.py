"""What counts as the same: values within the tolerance of their dtype, objects by structure, old objects by identity."""
from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.frontend.checking.state import Held, Picture, Storage
from flambeau.frontend.config import config
from flambeau.runtime.tensor import Tensor

#: dtype -> (relative, absolute): a difference d from e is accepted up to relative*|e| + absolute*max(1, largest |e|).
TOLERANCES: dict[str, tuple[float, float]] = {
    "float64": (1e-7, 1e-9), "complex128": (1e-7, 1e-9), "float32": (2e-4, 2e-5), "complex64": (2e-4, 2e-5),
    "float16": (2e-2, 2e-3), "bfloat16": (4e-2, 1e-2)}
_EIGHT_BITS = (0.15, 0.02)
_NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?|-?\d+e[+-]?\d+|\bnan\b|-?\binf\b")


@dataclass
class Difference:
    """Where two outcomes part, in words; ``trail`` is the way there in a picture: the root's name, then names of parts."""

    path: str
    text: str
    trail: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text

    @property
    def of_values(self) -> bool:
        """Whether it is one of numbers, not of their types, shapes or identities."""
        return "values differ" in self.text or self.path == "printed text" or bool(_NUMBER.match(self.text))


_coarsest: list[str] = []                # the dtypes in which values on the way were kept


@contextlib.contextmanager
def by_way_of(dtypes: Iterable[str]) -> Iterator[None]:
    """Compare values that were computed by way of these dtypes: no better than the coarsest of them."""
    before = list(_coarsest)
    _coarsest[:] = [d for d in dtypes if not d.startswith(("int", "uint", "bool", "complex"))]
    try:
        yield
    finally:
        _coarsest[:] = before


def tolerance(dtype: str) -> tuple[float, float]:
    """(relative, absolute) for values of a dtype; integers and booleans must be equal."""
    if dtype.startswith(("int", "uint", "bool")):
        return 0.0, 0.0
    rtol, atol = max(TOLERANCES.get(d, _EIGHT_BITS) for d in (dtype, *_coarsest))
    return rtol * config.check_tolerance, atol * config.check_tolerance


#: Times that rounding in the inputs moves a value, what may be between two ways to compute it.
UNSTABLE = 16.0


def compare_arrays(expected: Any, actual: Any, dtype: str = "", shaken: Sequence[Any] = ()) -> str:
    """What is different between two arrays; empty when they are the same within the tolerance of the dtype. ``shaken``: what
    came of inputs moved by rounding, where that is known."""
    dtype = dtype or str(expected.dtype)
    if expected.shape != actual.shape:
        return f"shape {list(actual.shape)} instead of {list(expected.shape)}"
    if expected.dtype != actual.dtype:
        return f"dtype {actual.dtype} instead of {expected.dtype}"
    rtol, atol = tolerance(dtype)
    if rtol == 0.0:
        wrong = np.asarray(expected != actual)
        for other in shaken:
            wrong &= np.asarray(expected == other)
    else:
        wide = np.complex128 if "complex" in dtype else np.float64
        e, a = np.asarray(expected).astype(wide), np.asarray(actual).astype(wide)
        finite = np.isfinite(e) & np.isfinite(a)
        with np.errstate(all="ignore"):
            error = np.where(finite, np.abs(np.where(finite, e, 0) - np.where(finite, a, 0)), 0)
            scale = max(1.0, float(np.abs(e[finite]).max())) if finite.any() else 1.0
            wrong = error > rtol * np.abs(np.where(finite, e, 0)) + atol * scale
            wrong |= ~finite & ~((e == a) | (np.isnan(e) & np.isnan(a)))
            if shaken and wrong.any():
                moved = np.max([np.abs(np.asarray(o).astype(wide) - e) for o in shaken], 0)
                wrong &= ~(error <= UNSTABLE * moved) & (np.isfinite(moved) | ~finite)
    if not wrong.any():
        return ""
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    share = f"{int(wrong.sum())} of {wrong.size} values differ"
    return f"{share}, first at {[int(k) for k in at]}: {actual[at]} instead of {expected[at]}"


def compare_tensors(expected: Any, actual: Any, shaken: Sequence[Any] = ()) -> str:
    """What is different between two values of ops (tensors, tuples of them, numbers)."""
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        if expected.dtype is not actual.dtype:
            return f"dtype {actual.dtype} instead of {expected.dtype}"
        return compare_arrays(expected._a, actual._a, expected.dtype.name, alike(expected._a, [
            getattr(s, "_a", None) for s in shaken]))
    if isinstance(expected, (tuple, list)) and isinstance(actual, (tuple, list)):
        if len(expected) != len(actual):
            return f"{len(actual)} values instead of {len(expected)}"
        return next((t for t in map(compare_tensors, expected, actual) if t), "")
    if type(expected) is not type(actual):
        return f"{type(actual).__name__} instead of {type(expected).__name__}"
    return "" if expected is actual or same_number(expected, actual) else f"{actual!r} instead of {expected!r}"


def alike(array: Any, others: Iterable[Any]) -> list[Any]:
    """Those of the others that are arrays of the same shape and dtype."""
    return [o for o in others if isinstance(o, np.ndarray) and o.shape == array.shape and o.dtype == array.dtype]


def same_number(expected: Any, actual: Any, shaken: Sequence[Any] = ()) -> bool:
    """Whether two plain values are equal; floats may come from a tensor of single precision."""
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, float):
        if not (math.isfinite(expected) and math.isfinite(actual)):
            return repr(expected) == repr(actual)
        rtol, atol = tolerance("float32")
        moved = max((abs(s - expected) for s in shaken if isinstance(s, float)), default=0.0)
        return abs(expected - actual) <= rtol * abs(expected) + atol * max(1.0, abs(expected)) + UNSTABLE * moved
    if isinstance(expected, int) and any(type(s) is type(expected) and s != expected for s in shaken):
        return True
    if isinstance(expected, str) and expected != actual:
        return same_text(expected, actual)
    try:
        return bool(expected == actual)
    except Exception:
        return expected is actual


def same_text(expected: str, actual: str) -> bool:
    """Whether two texts differ in nothing but the last digits of numbers."""
    if _NUMBER.sub("#", expected) != _NUMBER.sub("#", actual):
        return False
    return all(same_number(float(a), float(b)) for a, b in zip(_NUMBER.findall(expected), _NUMBER.findall(actual)))


class Comparison:
    """Two pictures, taken after the original and after the compiled call, that began with the objects of ``before``.

    ``shaken``: pictures taken after the original was called with values moved by rounding.
    """

    def __init__(self, before: Picture, expected: Picture, actual: Picture, shaken: Sequence[Picture] = ()) -> None:
        self.before, self.expected, self.actual, self.shaken = before, expected, actual, shaken
        self.pairs: dict[int, int] = {}              # of objects by identity, of memory by address
        self.memory = {h.data[0].__array_interface__["data"][0] for h in before.held.values()
                       if h.kind == "storage" and isinstance(h.data[0], np.ndarray) and h.data[0].size}

    def difference(self) -> Difference | None:
        """The first difference that is met, from the roots on, results first."""
        queue = [(name, value, self.actual.roots[name], (name,)) for name, value in self.expected.roots.items()]
        while queue:
            path, a, b, trail = queue.pop(0)
            found = self._compare(path, a, b, trail, queue)
            if found:
                return Difference(path, found, trail)
        return None

    def _compare(self, path: str, a: Any, b: Any, trail: tuple[Any, ...], queue: list[Any]) -> str:
        one, other = self.expected.held.get(id(a)), self.actual.held.get(id(b))
        if one is None or other is None:
            return self._plain(a, b, trail)
        if one.kind == "storage":
            return self._memory(one, other)
        known = self.pairs.get(id(a))
        if known is not None:
            return "" if known == id(b) else "it is another object than where the original has the same one"
        old = id(a) in self.before.held or id(b) in self.before.held
        if one.kind in ("tuple", "frozenset", "function", "other"):
            old = False                              # what cannot change may be made anew
        elif old and a is not b:
            return f"{_name(b)} is not the object that the original leaves there ({_name(a)})"
        self.pairs[id(a)] = id(b)
        if type(a) is not type(b):
            return f"a {type(b).__name__} instead of a {type(a).__name__}"
        found = self._contents(one, other, trail)
        if found:
            return found
        if list(one.parts) != list(other.parts):
            return _names_differ(one, other)
        queue += [(_join(path, key), one.parts[key], other.parts[key], (*trail, key)) for key in one.parts]
        return ""

    def _memory(self, one: Held, other: Held) -> str:
        """Storages are the same where their memory is: `.data` has one of its own."""
        e, a = (held.data[0] for held in (one, other))
        if not all(isinstance(array, np.ndarray) and array.size for array in (e, a)):
            return self._contents(one, other, ())
        mine, theirs = (array.__array_interface__["data"][0] for array in (e, a))
        if self.pairs.setdefault(mine, theirs) != theirs:
            return "it shares memory with something else than where the original does"
        if mine != theirs and not self.memory.isdisjoint((mine, theirs)):
            return "its memory is not that which the original leaves there"
        return self._contents(one, other, ())

    def _moved(self, trail: tuple[Any, ...], kind: str) -> list[Any]:
        """What lies at a place in the shaken pictures."""
        found = [picture.at(trail) for picture in self.shaken]
        if not kind:
            return found
        held = [picture.held.get(id(value)) for picture, value in zip(self.shaken, found)]
        return [h.data[1] if kind == "tensor" else h.data for h in held if h is not None and h.kind == kind]

    def _contents(self, one: Held, other: Held, trail: tuple[Any, ...]) -> str:
        """What is compared by value."""
        if one.kind == "tensor":
            e, a = one.data, other.data
            if e[2] is not a[2]:
                return f"dtype {a[2]} instead of {e[2]}"
            if e[3] != a[3]:
                return f"requires_grad is {a[3]} instead of {e[3]}"
            if e[4] != a[4]:
                return f"is_leaf is {a[4]} instead of {e[4]}"
            return compare_arrays(e[1], a[1], e[2].name, alike(e[1], self._moved(trail, "tensor")))
        if one.kind in ("array", "generator"):
            return compare_arrays(one.data, other.data, "", alike(one.data, self._moved(trail, "array")))
        counted = one.kind == "storage" and one.value is other.value and isinstance(one.data[2], int)
        if counted and (one.data[2] > self._version(one)) != (other.data[2] > self._version(other)):
            return "its version counter does not tell of the write" if one.data[2] > other.data[2] else \
                "its version counter tells of a write that the original does not make"
        if one.kind in ("set", "frozenset"):
            if not all(_atomic(v) for v in one.data | other.data):
                return "" if len(one.data) == len(other.data) else f"{len(other.data)} elements instead of {len(one.data)}"
            return "" if one.data == other.data else f"{set(other.data)} instead of {set(one.data)}"
        if one.kind in ("list", "tuple", "deque") and one.data != other.data:
            return f"{other.data} items instead of {one.data}"
        if one.kind == "function" and one.data[2] is not other.data[2]:
            return "another function"
        return ""

    def _version(self, held: Held) -> int:
        found = self.before.held.get(id(held.value))
        return found.data[2] if found is not None else 0

    def _plain(self, a: Any, b: Any, trail: tuple[Any, ...]) -> str:
        if type(a) is not type(b):
            return f"a {type(b).__name__} instead of a {type(a).__name__}"
        if a is b or same_number(a, b, self._moved(trail, "")):
            return ""
        if type(a).__eq__ is object.__eq__:
            return ""                                # objects without contents: their types are all there is
        return f"{b!r} instead of {a!r}"


def _names_differ(one: Held, other: Held) -> str:
    gone = [k for k in one.parts if k not in other.parts]
    more = [k for k in other.parts if k not in one.parts]
    words = [f"{' '.join(map(str, names))} {what}" for names, what in ((gone, "is missing"), (more, "is too much")) if names]
    return ", ".join(words) or "its items are in another order"


def _atomic(value: Any) -> bool:
    return isinstance(value, (int, float, str, bytes, type(None), tuple))


def _name(value: Any) -> str:
    return f"a {type(value).__name__}"


def _join(path: str, key: str) -> str:
    return path if key in ("storage", "globals", "") else f"{path}{key}" if key[:1] in ".[" else f"{path}.{key}"


__all__ = ["Comparison", "Difference", "Storage", "compare_arrays", "compare_tensors", "same_text", "tolerance"]
