"""Keys of dicts and members of sets that are objects with a hash of their own."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.said import type_name
from flambeau.frontend.trace.values import Const, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


class HashedKey:
    """Stands for an object in the tracer's own dicts, with the hash and the equality that its class defines."""

    __slots__ = ("tr", "value", "hash")

    def __init__(self, tr: Tracer, value: Any) -> None:
        self.tr, self.value = tr, value
        method = value.dunder(tr, "__hash__")
        if method is None:
            raise tr.observe(TypeError(f"unhashable type: '{type_name(value)}'"))
        found = tr.call(method, [], {})
        if not isinstance(found, Const) or not isinstance(found.value, int):
            raise Unsupported("dict-key", f"the hash of a {value.pytype().__name__} is not known while tracing")
        self.hash = hash(found.value)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Value):
            return False
        theirs = other.value if isinstance(other, HashedKey) else Const(other)
        return theirs is self.value or self.tr.truth(self.tr.compare("==", self.value, theirs))


def after_attributes(out: Rebuilder, lines: list[str], depth: int = 3) -> None:
    """Write lines that hash rebuilt objects, once these (and objects in them, some levels deep) have their attributes."""
    if depth:
        out.later(lambda: after_attributes(out, lines, depth - 1))
    else:
        for line in lines:
            out.line(line)


def is_known(key: Any) -> bool:
    """Whether a key is a plain constant, which the real dict can be asked for."""
    return all(map(is_known, key)) if type(key) is tuple else not isinstance(key, (Value, HashedKey))
