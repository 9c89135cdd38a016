"""What names mean in classes of the library, asked again only when a class has changed.

CPython gives each class a number that is another one after every change of the class or of its bases. While the number is
the same, what was looked up in the class is what it was: one comparison in place of a look at each name.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Mapping
from typing import Any

MISSING: Any = object()


class Lookups:
    """What a class and its bases say under some names. ``hold`` looks again; ``tag.value == known`` spares that."""

    __slots__ = ("cls", "found", "mro", "tag", "known")

    def __init__(self, cls: type, found: Mapping[str, Any]) -> None:
        self.cls, self.found, self.mro = cls, dict(found), cls.__mro__
        at = place()
        self.tag: Any = _Never if at is None else ctypes.c_uint32.from_address(id(cls) + at)
        self.known = 0
        self.hold()

    def hold(self) -> bool:
        """Whether all names still mean the same."""
        getattr(self.cls, "__init__", None)                           # an unchanged class has its number after a look
        seen = self.tag.value
        for name, value in self.found.items():
            if lookup(self.cls, name) is not value:
                return False
        if self.cls.__mro__ is not self.mro:
            return False
        self.known = seen if seen and seen == self.tag.value else -1
        return True


class _Never:
    """Stands for a number that is never known."""

    value = 0


def lookup(cls: type, name: str) -> Any:
    """The class attribute under a name, as it stands in the class that has it."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return MISSING


@functools.cache
def place() -> int | None:
    """From a class to its number; None where it is not found, or this is not CPython."""
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 14) or hasattr(sys, "gettotalrefcount"):
        return None

    class Base:
        pass

    class Probe(Base):
        pass

    def words() -> list[int]:
        return [ctypes.c_uint32.from_address(id(Probe) + at).value for at in places]

    def changed(owner: Any, name: str) -> tuple[list[int], list[int]]:
        setattr(owner, name, 1)
        after = words()
        getattr(Probe, name)
        return after, words()

    size: int = type(Probe).__dict__["__basicsize__"].__get__(type)
    places = range(16, size & ~3, 4)
    getattr(Probe, "x", None)                                          # gives it a number
    first = words()
    off, second = changed(Probe, "x")
    off_again, third = changed(Base, "y")
    found = [at for at, a, b, c, d, e in zip(places, first, off, second, off_again, third)
             if a and not b and c and not d and e and len({a, c, e}) == 3]
    return found[0] if len(found) == 1 else None
