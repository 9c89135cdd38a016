"""Sources: how a value from outside the trace is reached again from the frame's own values.

A source knows three things: the Python expression that fetches it (for generated guards), how to fetch it now (to say
which guard failed), and how a person would write it.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flambeau.frontend.trace.writer import Writer

T = TypeVar("T")


def _hash_once(cls: type[T]) -> type[T]:
    """Sources are nested deeply and looked up often: keep the hash that their fields give."""
    structural: Any = cls.__hash__

    def cached(self: Any) -> int:
        found = self.__dict__.get("_hash")
        if found is None:
            found = structural(self)
            object.__setattr__(self, "_hash", found)
        return found

    cls.__hash__ = cached                                         # type: ignore[assignment,method-assign]
    return cls


class Source:
    """Base. Sources are immutable and compare by structure, so guards and fetches deduplicate."""

    base: Source | None

    def code(self, w: Writer) -> str:
        """Expression that fetches the value inside a generated function; the base is already a variable there."""
        raise NotImplementedError

    def step(self, base: Any) -> Any:
        """The value, given the base's value."""
        raise NotImplementedError

    def fetch(self, roots: Mapping[str, Any]) -> Any:
        """The value for a frame whose values are `roots`; raises whatever the access raises."""
        return self.step(self.base.fetch(roots) if self.base is not None else None)

    @property
    def root(self) -> Source:
        return self if self.base is None else self.base.root

    @property
    def is_argument(self) -> bool:
        """Whether the value comes in a call, by itself or in a container: no attribute, global or closure variable."""
        return False


@_hash_once
@dataclass(frozen=True)
class Root(Source):
    """A value of the frame: an argument, a live local, a cell, a stack entry."""

    name: str
    label: str = ""
    base = None

    def code(self, w: Writer) -> str:
        return self.name

    def fetch(self, roots: Mapping[str, Any]) -> Any:
        return roots[self.name]

    @property
    def is_argument(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.label or self.name


class Constant(Source):
    """An object known when the trace was made (a globals dict, a class, a captured tensor). Compares by identity."""

    base = None

    def __init__(self, value: Any, label: str) -> None:
        self.value, self.label = value, label

    def code(self, w: Writer) -> str:
        return w.constant(self.value)

    def step(self, base: Any) -> Any:
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

    def __str__(self) -> str:
        return self.label


@_hash_once
@dataclass(frozen=True)
class Attr(Source):
    """`base.name`."""

    base: Source
    name: str

    def code(self, w: Writer) -> str:
        if self.name.isidentifier():
            return f"{w.fetch(self.base)}.{self.name}"
        return f"getattr({w.fetch(self.base)}, {self.name!r})"

    def step(self, base: Any) -> Any:
        return getattr(base, self.name)

    def __str__(self) -> str:
        return f"{self.base}.{self.name}"


@_hash_once
@dataclass(frozen=True)
class Namespace(Source):
    """The `__dict__` of an object whose class answers every attribute itself: read without asking it."""

    base: Source

    def code(self, w: Writer) -> str:
        return f"{w.constant(object.__getattribute__)}({w.fetch(self.base)}, '__dict__')"

    def step(self, base: Any) -> Any:
        return object.__getattribute__(base, "__dict__")

    def __str__(self) -> str:
        return f"{self.base}.__dict__"


@_hash_once
@dataclass(frozen=True)
class Item(Source):
    """`base[key]` for a constant key (of a list, tuple or dict)."""

    base: Source
    key: Any

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}[{w.literal(self.key)}]"

    def step(self, base: Any) -> Any:
        return base[self.key]

    @property
    def is_argument(self) -> bool:
        return self.base.is_argument

    def __str__(self) -> str:
        return f"{self.base}[{self.key!r}]"


@_hash_once
@dataclass(frozen=True)
class Global(Source):
    """A global of the module whose namespace is `base`."""

    base: Source
    name: str

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}[{self.name!r}]"

    def step(self, base: Any) -> Any:
        return base[self.name]

    def __str__(self) -> str:
        return self.name


@_hash_once
@dataclass(frozen=True)
class ClassItem(Source):
    """A class attribute found in the namespace of one class of an MRO (so descriptors do not run)."""

    base: Source
    name: str

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}.__dict__[{self.name!r}]"

    def step(self, base: Any) -> Any:
        return base.__dict__[self.name]

    def __str__(self) -> str:
        return f"{self.base}.{self.name}"


@_hash_once
@dataclass(frozen=True)
class CellContents(Source):
    """What a closure cell holds."""

    base: Source

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}.cell_contents"

    def step(self, base: Any) -> Any:
        return base.cell_contents

    def __str__(self) -> str:
        return str(self.base).removeprefix("cell_")


@_hash_once
@dataclass(frozen=True)
class KeyedItem(Source):
    """`base[key]` for a key that is reached by a source of its own (a dict by objects)."""

    base: Source
    key: Source

    def code(self, w: Writer) -> str:
        base, key = w.fetch(self.base), w.fetch(self.key)
        return f"({base}[{key}] if {key} in {base} else {{}}[0])"  # looking must not make an item of a defaultdict

    def fetch(self, roots: Mapping[str, Any]) -> Any:
        base, key = self.base.fetch(roots), self.key.fetch(roots)
        if key not in base:
            raise KeyError(key)
        return base[key]

    def __str__(self) -> str:
        return f"{self.base}[{self.key}]"


@_hash_once
@dataclass(frozen=True)
class KeptResult(Source):
    """What a function that keeps its results (`lru_cache`) returns for constants."""

    base: Source
    args: tuple[Any, ...]

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}({', '.join(map(w.literal, self.args))})"

    def step(self, base: Any) -> Any:
        return base(*self.args)

    def __str__(self) -> str:
        return f"{self.base}({', '.join(map(repr, self.args))})"


@_hash_once
@dataclass(frozen=True)
class Keys(Source):
    """The keys of a dict, or the elements of a set, in iteration order."""

    base: Source

    def code(self, w: Writer) -> str:
        return f"tuple({w.fetch(self.base)})"

    def step(self, base: Any) -> Any:
        return tuple(base)

    def __str__(self) -> str:
        return f"the keys of {self.base}"


@_hash_once
@dataclass(frozen=True)
class DictKey(Source):
    """The key at a position of a dict, or an element of a set, in iteration order."""

    base: Source
    index: int

    def code(self, w: Writer) -> str:
        return f"{w.fetch(Keys(self.base))}[{self.index}]"

    def step(self, base: Any) -> Any:
        return tuple(base)[self.index]

    def __str__(self) -> str:
        return f"key {self.index} of {self.base}"


@_hash_once
@dataclass(frozen=True)
class Length(Source):
    """`len(base)`."""

    base: Source

    def code(self, w: Writer) -> str:
        return f"len({w.fetch(self.base)})"

    def step(self, base: Any) -> Any:
        return len(base)

    def __str__(self) -> str:
        return f"len({self.base})"
