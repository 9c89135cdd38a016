"""Small classes of C in the standard library: weak references, namespaces, read-only views of dicts."""
from __future__ import annotations

import os
import types
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.builtins import on
from flambeau.frontend.trace.mappings import DictValue, dict_pairs
from flambeau.frontend.trace.objects import ObjectValue
from flambeau.frontend.trace.source import Source
from flambeau.frontend.trace.source import _Structural as Structural
from flambeau.frontend.trace.values import Const, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer
    from flambeau.frontend.trace.writer import Writer


# --------------------------------------------------------------------------- weak references

class Referent(Structural):
    """What a weak reference leads to."""

    base: Source

    def __init__(self, base: Source) -> None:
        self.base, self.parts = base, (base,)

    def code(self, w: Writer) -> str:
        return f"{w.fetch(self.base)}()"

    def step(self, base: Any) -> Any:
        return base()

    def __str__(self) -> str:
        return f"{self.base}()"


class WeakReference(Value):
    """`weakref.ref` to an object from outside, which lives as long as the trace."""

    def __init__(self, target: Value, source: Source | None = None) -> None:
        self.target, self.source = target, source

    def pytype(self) -> type:
        return weakref.ref

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if args or kwargs:
            raise tr.observe(TypeError("__call__() takes no arguments"))
        return self.target

    def children(self) -> Iterator[Value]:
        yield self.target

    def rebuild(self, out: Rebuilder) -> str:
        return f"{out.constant(weakref.ref)}({out.expr(self.target)})"


def wrap_reference(tr: Tracer, raw: weakref.ref[Any], source: Source) -> Value:
    """A weak reference from outside: what it leads to now, which may be gone at the next call."""
    return WeakReference(tr.wrap(raw(), Referent(source)), source)


@on(weakref.ref)
def _reference(tr: Tracer, target: Value, *rest: Value) -> Value:
    if target.source is None or rest or isinstance(target, Const):
        raise Unsupported("construct", "a weak reference is made to an object of the compiled function, or with a callback",
                          "make it outside the compiled function")
    return WeakReference(target)


# --------------------------------------------------------------------------- namespaces and proxies

@on(types.SimpleNamespace)
def _namespace(tr: Tracer, *pairs: Value, **kwargs: Value) -> Value:
    made = ObjectValue(types.SimpleNamespace)
    for other in pairs[:1]:
        for key, value in dict_pairs(tr, other):
            made.store(tr, tr.index_key(key), value)
    for name, value in kwargs.items():
        made.store(tr, name, value)
    return made


class ProxyValue(Value):
    """A read-only view of a dict that the trace knows (`types.MappingProxyType`)."""

    mutable = True

    def __init__(self, owner: DictValue) -> None:
        self.owner = owner

    def pytype(self) -> type:
        return types.MappingProxyType

    def truth(self, tr: Tracer) -> bool:
        return self.owner.truth(tr)

    def length(self, tr: Tracer) -> int:
        return self.owner.length(tr)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        return self.owner.getitem(tr, key)

    def contains(self, tr: Tracer, item: Value) -> bool:
        return self.owner.contains(tr, item)

    def iterate(self, tr: Tracer) -> Value:
        return self.owner.iterate(tr)

    def method(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if name in ("keys", "values", "items", "get", "copy"):
            return self.owner.method(tr, name, args, kwargs)
        return super().method(tr, name, args, kwargs)

    def children(self) -> Iterator[Value]:
        yield self.owner

    def rebuild(self, out: Rebuilder) -> str:
        return f"{out.constant(types.MappingProxyType)}({out.expr(self.owner)})"


@on(types.MappingProxyType)
def _proxy(tr: Tracer, mapping: Value) -> Value:
    if not isinstance(mapping, DictValue):
        raise Unsupported("construct", f"a mappingproxy of a {mapping.pytype().__name__} is made")
    return ProxyValue(mapping)


# --------------------------------------------------------------------------- paths

@on(os.fspath)
def _fspath(tr: Tracer, path: Value) -> Value:
    plain = path.plain(tr)
    if isinstance(plain, Const) and isinstance(plain.value, (str, bytes)):
        return path
    if isinstance(path, ObjectValue):
        method = path.dunder(tr, "__fspath__")
        if method is not None:
            return tr.call(method, [], {})
    raise tr.observe(TypeError(f"expected str, bytes or os.PathLike object, not {path.pytype().__name__}"))


