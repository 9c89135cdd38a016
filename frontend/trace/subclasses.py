"""Objects of classes that derive from a built-in container or number: attributes of an object, contents of the built-in.

The contents are a symbolic value of the built-in type. What the class does not override in Python is done to them.
"""
from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.builtins import on
from flambeau.frontend.trace.callables import BoundMethod
from flambeau.frontend.trace.mappings import DictValue, dict_pairs
from flambeau.frontend.trace.objects import ClassValue, ObjectValue, native_new
from flambeau.frontend.trace.sequences import ListValue, Pending
from flambeau.frontend.trace.source import Item, Source
from flambeau.frontend.trace.trust import find
from flambeau.frontend.trace.values import NONE, Const, Observed, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer
    from flambeau.frontend.trace.writer import Writer

#: built-in type -> its contents as an object of exactly that type, whatever a subclass overrides
_PLAIN: dict[type, Callable[[Any], Any]] = {
    collections.OrderedDict: lambda v: dict(collections.OrderedDict.items(v)),
    dict: dict.copy, list: list.copy, str: str.__str__, int: int.__int__, float: float.__float__,
}
_BINARY = {"__add__": "+", "__mul__": "*", "__or__": "|", "__sub__": "-", "__truediv__": "/", "__floordiv__": "//",
           "__mod__": "%", "__pow__": "**", "__and__": "&", "__xor__": "^"}
_COMPARED = {"__eq__": "==", "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}


def builtin_base(cls: type) -> type | None:
    """The built-in type that a class of the program adds to; None for other classes."""
    if cls.__flags__ & (1 << 9) and not issubclass(cls, collections.defaultdict):
        for base in cls.__mro__:
            if base in _PLAIN:
                return base
    return None


@dataclass(frozen=True)
class Contents(Source):
    """What an outside object holds, as an object of the built-in type."""

    base: Source
    kind: type

    def code(self, w: Writer) -> str:
        return f"{w.constant(_PLAIN[self.kind])}({w.fetch(self.base)})"

    def step(self, base: Any) -> Any:
        return _PLAIN[self.kind](base)

    def __str__(self) -> str:
        return str(self.base)


class ContentsObject(ObjectValue):
    """An object with contents of the type `kind`."""

    def __init__(self, cls: type, kind: type, contents: Value, raw: Any = None, source: Source | None = None) -> None:
        super().__init__(cls, raw, source)
        self.kind, self.contents = kind, contents

    def children(self) -> Any:
        yield from super().children()
        yield self.contents

    def as_python(self, tr: Tracer) -> Any:
        return self.contents.as_python(tr) if isinstance(self.contents, Const) else super().as_python(tr)

    def plain(self, tr: Tracer, *names: str) -> Value:
        """The number or string in it, where the class does not override the operators `names`."""
        simple = isinstance(self.contents, Const) and not any(
            [isinstance(find(tr, self.cls, name)[1], types.FunctionType) for name in names])
        return self.contents if simple else self

    def _overridden(self, name: str) -> bool:
        return isinstance(getattr(self.cls, name, None), types.FunctionType)

    # ---- methods that the class has from the built-in type

    def method(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        tr.effects.touch(self)
        if hasattr(self, "m_" + name):
            return super().method(tr, name, args, kwargs)
        if name in _BINARY and len(args) == 1:
            return self._binary(tr, _BINARY[name], self.contents, _bare(args[0]))
        if name[2:] in _REFLECTED and len(args) == 1:
            return self._binary(tr, _BINARY["__" + name[3:]], _bare(args[0]), self.contents)
        if name in _COMPARED and len(args) == 1:
            return self._compare(tr, _COMPARED[name], _bare(args[0]))
        return self.contents.method(tr, name, args, kwargs)

    def _binary(self, tr: Tracer, op: str, a: Value, b: Value) -> Value:
        if type(a) is not type(b) and not (isinstance(a, Const) and isinstance(b, Const)) and op != "*":
            return Const(NotImplemented)
        return tr.binary(op, a, b)

    def _compare(self, tr: Tracer, op: str, other: Value) -> Value:
        alike = type(other) is type(self.contents)
        if not alike:
            return Const(NotImplemented)
        return tr.compare(op, self.contents, other)

    def m___init__(self, tr: Tracer, *args: Value, **kwargs: Value) -> None:
        if self.kind is list and args:
            self.contents.method(tr, "extend", list(args), {})
        elif isinstance(self.contents, DictValue) and (args or kwargs):
            self.m_update(tr, *args, **kwargs)

    def m_update(self, tr: Tracer, *args: Value, **kwargs: Value) -> Value:
        """`OrderedDict.update` stores through the class's own `__setitem__`, `dict.update` does not."""
        if self.kind is collections.OrderedDict and self._overridden("__setitem__"):
            pairs = [p for a in args for p in dict_pairs(tr, a)] + [(Const(k), v) for k, v in kwargs.items()]
            for key, value in pairs:
                self.setitem(tr, key, value)
            return NONE
        return self.contents.method(tr, "update", list(args), kwargs)

    def m_copy(self, tr: Tracer) -> Value:
        if self.kind is collections.OrderedDict:
            raise Unsupported("copy", f"a {self.cls.__name__} is copied")
        return self.contents.method(tr, "copy", [], {})

    def m___len__(self, tr: Tracer) -> Value:
        return Const(self.contents.length(tr))

    def m___bool__(self, tr: Tracer) -> Value:
        return Const(self.contents.truth(tr))

    def m___iter__(self, tr: Tracer) -> Value:
        return self.contents.iterate(tr)

    def m___contains__(self, tr: Tracer, item: Value) -> Value:
        return Const(self.contents.contains(tr, item))

    def m___getitem__(self, tr: Tracer, key: Value) -> Value:
        try:
            return self.contents.getitem(tr, key)
        except Observed as error:
            missing = self.dunder(tr, "__missing__") if isinstance(self.contents, DictValue) else None
            if missing is None or not issubclass(error.value.pytype(), KeyError):
                raise
            return tr.call(missing, [key], {})

    def m___setitem__(self, tr: Tracer, key: Value, value: Value) -> None:
        self.contents.setitem(tr, key, value)

    def m___delitem__(self, tr: Tracer, key: Value) -> None:
        self.contents.delitem(tr, key)

    def m___reversed__(self, tr: Tracer) -> Value:
        return tr.iterator(tr.unpack(self.contents)[::-1])

    def m___hash__(self, tr: Tracer) -> Value:
        return tr.fold(hash, [self.contents], {})

    def m___int__(self, tr: Tracer) -> Value:
        return tr.fold(int, [self.contents], {})

    def m___float__(self, tr: Tracer) -> Value:
        return tr.fold(float, [self.contents], {})

    def m___str__(self, tr: Tracer) -> Value:
        shown = self.dunder(tr, "__repr__") if self.kind is not str else None
        if isinstance(shown, BoundMethod):
            return tr.call(shown, [], {})
        return tr.fold(str, [self.contents], {})

    def m___repr__(self, tr: Tracer) -> Value:
        if self.kind is collections.OrderedDict:
            raise Unsupported("format", f"the text of a {self.cls.__name__} is asked")
        return tr.fold(repr, [self.contents], {})

    # ---- making it real

    def rebuild(self, out: Rebuilder) -> str:
        cls, new = out.constant(self.cls), out.constant(native_new(self.cls))
        value = "" if self.mutable_contents else f", {out.expr(self.contents)}"
        name = out.variable(f"{new}({cls}{value})")
        out.remember(self, name)
        out.later(functools.partial(self._fill, out, name))
        return name

    @property
    def mutable_contents(self) -> bool:
        return not isinstance(self.contents, Const)

    def _fill(self, out: Rebuilder, name: str) -> None:
        for line in self._stores(out, name):
            out.line(line)
        for attribute, value in self.attrs.items():
            if value is not None:
                self._set(out, name, attribute, value)

    def _stores(self, out: Rebuilder, target: str) -> list[str]:
        """Statements that put the contents into an empty object."""
        kind = out.constant(self.kind)
        if isinstance(self.contents, ListValue):
            return [f"{kind}.extend({target}, [{', '.join(out.item(v) for v in self.contents.items)}])"]
        if isinstance(self.contents, DictValue):
            return [f"{kind}.__setitem__({target}, {out.expr(k)}, {out.item(v)})" for k, v in self.contents.entries.values()]
        return []

    def replay(self, out: Rebuilder, target: str) -> list[str]:
        before, now = self._before(), self.contents.items if isinstance(self.contents, ListValue) else \
            {k: v[1] for k, v in self.contents.entries.items()} if isinstance(self.contents, DictValue) else None
        found = super().replay(out, target)
        if now is not None and not _same(before, now):
            found = [f"{out.constant(self.kind)}.clear({target})", *self._stores(out, target), *found]
        return found

    def _before(self) -> Any:
        return self.contents.before if isinstance(self.contents, (ListValue, DictValue)) else None


_REFLECTED = {"r" + name[2:] for name in _BINARY}


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, dict):
        return list(before) == list(now) and _same(list(before.values()), list(now.values()))
    return len(before) == len(now) and all(a is b or (isinstance(a, Pending) and getattr(b, "source", None) == a.source)
                                           for a, b in zip(before, now))


def _bare(value: Value) -> Value:
    return value.contents if isinstance(value, ContentsObject) else value


# --------------------------------------------------------------------------- from outside, and made in the trace

def wrap_contents(tr: Tracer, raw: Any, kind: type, source: Source) -> ContentsObject:
    """The value of an outside object, whose type is guarded."""
    at, plain = Contents(source, kind), _PLAIN[kind](raw)
    if kind is list:
        tr.guard(at, g.has_length(len(plain)))
        contents: Value = ListValue([Pending(v, Item(at, k)) for k, v in enumerate(plain)])
    elif isinstance(plain, dict):
        outside = DictValue(plain, at)
        outside.materialize(tr)
        contents = DictValue()
        contents.entries, contents.before = outside.entries, outside.before
    else:
        tr.guard(at, g.equals(plain))
        contents = Const(plain)
    return ContentsObject(type(raw), kind, contents, raw, source)


def make_contents(tr: Tracer, cls: type, kind: type, args: list[Value]) -> ContentsObject:
    """An object made in the trace, empty, or of the number or string that its arguments give."""
    if kind is list:
        return ContentsObject(cls, kind, ListValue([]))
    if kind in (dict, collections.OrderedDict):
        return ContentsObject(cls, kind, DictValue(cls=kind))
    value = tr.call(tr.class_value(kind), args, {})
    if not isinstance(value, Const):
        raise Unsupported("construct", f"a {cls.__name__} is made of a {value.pytype().__name__}")
    return ContentsObject(cls, kind, value)


@on(*{kind.__new__ for kind in _PLAIN})
def _new(tr: Tracer, cls: Value, *args: Value, **kwargs: Value) -> Value:
    kind = builtin_base(cls.raw) if isinstance(cls, ClassValue) else None
    if kind is None:
        raise Unsupported("construct", "an object of an unknown class is made")
    assert isinstance(cls, ClassValue)
    return make_contents(tr, cls.raw, kind, list(args))
