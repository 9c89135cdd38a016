"""Sources: how a value from outside the trace is reached again from the frame's own values.

A source knows three things: the Python expression that fetches it (for generated guards), how to fetch it now (to say
which guard failed), and how a person would write it.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau.frontend.trace.writer import Writer


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


class _Structural(Source):
    """A source that `parts` tells from others: the arguments of its `__init__`."""

    parts: tuple[Any, ...]
    _hash: int | None = None                                      # nested deeply and looked up often: kept

    def __eq__(self, other: object) -> bool:
        return self is other or type(self) is type(other) and self.parts == other.parts

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            found = self._hash = hash((type(self), self.parts))
        return found


class Root(_Structural):
    """A value of the frame: an argument, a live local, a cell, a stack entry."""

    base = None

    def __init__(self, name: str, label: str = "") -> None:
        self.parts = self.name, self.label = name, label

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


class Attr(_Structural):
    """`base.name`."""

    base: Source

    def __init__(self, base: Source, name: str) -> None:
        self.parts = self.base, self.name = base, name

    def code(self, w: Writer) -> str:
        if self.name.isidentifier():
            return f"{w.fetch(self.base)}.{self.name}"
        return f"getattr({w.fetch(self.base)}, {self.name!r})"

    def step(self, base: Any) -> Any:
        return getattr(base, self.name)

    def __str__(self) -> str:
        return f"{self.base}.{self.name}"


class Namespace(_Structural):
    """The `__dict__` of an object whose class answers every attribute itself: read without asking it."""

    base: Source

    def __init__(self, base: Source) -> None:
        self.base, self.parts = base, (base,)

    def code(self, w: Writer) -> str:
        return f"{w.constant(object.__getattribute__)}({w.fetch(self.base)}, '__dict__')"

    def step(self, base: Any) -> Any:
        return object.__getattribute__(base, "__dict__")

    def __str__(self) -> str:
        return f"{self.base}.__dict__"


class Item(_Structural):
    """`base[key]` for a constant key (of a list, tuple or dict)."""

    base: Source

    def __init__(self, base: Source, key: Any) -> None:
        self.parts = self.base, self.key = base, key

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}[{w.literal(self.key)}]"

    def step(self, base: Any) -> Any:
        return base[self.key]

    @property
    def is_argument(self) -> bool:
        return self.base.is_argument

    def __str__(self) -> str:
        return f"{self.base}[{self.key!r}]"


class Global(_Structural):
    """A global of the module whose namespace is `base`."""

    base: Source

    def __init__(self, base: Source, name: str) -> None:
        self.parts = self.base, self.name = base, name

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}[{self.name!r}]"

    def step(self, base: Any) -> Any:
        return base[self.name]

    def __str__(self) -> str:
        return self.name


class ClassItem(_Structural):
    """A class attribute found in the namespace of one class of an MRO (so descriptors do not run)."""

    base: Source

    def __init__(self, base: Source, name: str) -> None:
        self.parts = self.base, self.name = base, name

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}.__dict__[{self.name!r}]"

    def step(self, base: Any) -> Any:
        return base.__dict__[self.name]

    def __str__(self) -> str:
        return f"{self.base}.{self.name}"


class CellContents(_Structural):
    """What a closure cell holds."""

    base: Source

    def __init__(self, base: Source) -> None:
        self.base, self.parts = base, (base,)

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}.cell_contents"

    def step(self, base: Any) -> Any:
        return base.cell_contents

    def __str__(self) -> str:
        return str(self.base).removeprefix("cell_")


class KeyedItem(_Structural):
    """`base[key]` for a key that is reached by a source of its own (a dict by objects)."""

    base: Source

    def __init__(self, base: Source, key: Source) -> None:
        self.parts = self.base, self.key = base, key

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


class KeptResult(_Structural):
    """What a function that keeps its results (`lru_cache`) returns for constants."""

    base: Source

    def __init__(self, base: Source, args: tuple[Any, ...]) -> None:
        self.parts = self.base, self.args = base, args

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}({', '.join(map(w.literal, self.args))})"

    def step(self, base: Any) -> Any:
        return base(*self.args)

    def __str__(self) -> str:
        return f"{self.base}({', '.join(map(repr, self.args))})"


class Keys(_Structural):
    """The keys of a dict, or the elements of a set, in iteration order."""

    base: Source

    def __init__(self, base: Source) -> None:
        self.base, self.parts = base, (base,)

    def code(self, w: Writer) -> str:
        return f"tuple({w.fetch(self.base)})"

    def step(self, base: Any) -> Any:
        return tuple(base)

    def __str__(self) -> str:
        return f"the keys of {self.base}"


class DictKey(_Structural):
    """The key at a position of a dict, or an element of a set, in iteration order."""

    base: Source

    def __init__(self, base: Source, index: int) -> None:
        self.parts = self.base, self.index = base, index

    def code(self, w: Writer) -> str:
        return f"{w.fetch(Keys(self.base))}[{self.index}]"

    def step(self, base: Any) -> Any:
        return tuple(base)[self.index]

    def __str__(self) -> str:
        return f"key {self.index} of {self.base}"


class Length(_Structural):
    """`len(base)`."""

    base: Source

    def __init__(self, base: Source) -> None:
        self.base, self.parts = base, (base,)

    def code(self, w: Writer) -> str:
        return f"len({w.fetch(self.base)})"

    def step(self, base: Any) -> Any:
        return len(base)

    def __str__(self) -> str:
        return f"len({self.base})"
