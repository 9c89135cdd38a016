"""Lists, tuples, slices, ranges and iterators.

Containers from outside are read lazily: an item becomes a symbolic value, and gets its guard, when it is first looked
at (`Pending`). A change to one is only made in the symbolic value; `effects` replays it on the real container.
"""
from __future__ import annotations

import collections
import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.said import error_of, operator_error, stand_in
from flambeau.frontend.trace.source import ClassItem, Constant, Source
from flambeau.frontend.trace.trust import can_change, find
from flambeau.frontend.trace.values import FALSE, LAST, NONE, ZERO, Const, NotConstant, TensorValue, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


#: The longest container from outside that a trace goes through: each item takes a guard, checked at every call.
MOST_ITEMS = 10_000


@dataclass(slots=True)
class Pending:
    """An item of an outside container nobody has looked at yet."""

    raw: Any
    source: Source


def force(tr: Tracer, items: list[Any], index: int) -> Value:
    item = items[index]
    if type(item) is Pending:
        item = items[index] = tr.wrap(item.raw, item.source)
    return item


class Sequence(Value):
    """What lists and tuples share."""

    items: list[Any]

    def values(self, tr: Tracer) -> list[Value]:
        if len(self.items) > MOST_ITEMS and any(type(v) is Pending for v in self.items):
            raise Unsupported("iteration", f"all {len(self.items)} items of a {self.pytype().__name__} are looked at, and each "
                                           "would be guarded", "keep so many numbers in a tensor")
        return [force(tr, self.items, k) for k in range(len(self.items))]

    def children(self) -> Iterator[Value]:
        return (v for v in self.items if isinstance(v, Value))

    def truth(self, tr: Tracer) -> bool:
        return bool(self.items)

    def length(self, tr: Tracer) -> int:
        return len(self.items)

    def iterate(self, tr: Tracer) -> Value:
        return SequenceIterator(self.items, self)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        index = self.place(tr, key)
        if isinstance(index, slice) and index.step == 0:
            raise tr.observe(ValueError("slice step cannot be zero"))
        if isinstance(index, slice):
            return self.like([force(tr, self.items, k) for k in range(len(self.items))[index]])
        try:
            return force(tr, self.items, range(len(self.items))[index])
        except IndexError:
            kind = self.pytype()
            name = "tuple" if issubclass(kind, tuple) else "list" if issubclass(kind, list) else kind.__name__
            raise tr.observe(IndexError(f"{name} index out of range")) from None

    def place(self, tr: Tracer, key: Value) -> Any:
        """The index or slice that an item is asked for by."""
        if key.pytype() is not slice and not hasattr(key.pytype(), "__index__"):
            raise tr.observe(operator_error(operator.getitem, self, key) or TypeError("getitem"))
        return tr.index(key)

    def like(self, items: list[Value]) -> Value:
        raise NotImplementedError

    def find(self, tr: Tracer, item: Value, where: slice = slice(None)) -> int | None:
        """The place of the first item that equals this one."""
        items = self.values(tr)
        return next((k for k in range(len(items))[where] if tr.same(items[k], item)
                     or tr.truth(tr.compare("==", items[k], item))), None)

    def m_index(self, tr: Tracer, item: Value, start: Value = ZERO, stop: Value | None = None) -> Value:
        at = self.find(tr, item, slice(tr.index(start), None if stop is None else tr.index(stop)))
        if at is not None:
            return Const(at)
        raise tr.observe(error_of(stand_in(self).index, _shown(tr, item)) or ValueError("index"))

    def m_count(self, tr: Tracer, item: Value) -> Value:
        return Const(sum(tr.same(v, item) or tr.truth(tr.compare("==", v, item)) for v in self.values(tr)))


class TupleValue(Sequence):
    """A tuple, a namedtuple or another plain subclass (`cls`)."""

    def __init__(self, items: Iterable[Any], cls: type = tuple, source: Source | None = None) -> None:
        self.items, self.cls, self.source = list(items), cls, source

    def __repr__(self) -> str:
        return f"Tuple({self.items})"

    def pytype(self) -> type:
        return self.cls

    def like(self, items: list[Value]) -> Value:
        return TupleValue(items, self.cls if not hasattr(self.cls, "_fields") else tuple)

    def as_python(self, tr: Tracer) -> Any:
        items = [v.as_python(tr) for v in self.values(tr)]
        if self.cls is tuple:
            return tuple(items)
        return self.cls(*items) if hasattr(self.cls, "_fields") else self.cls(items)

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in getattr(self.cls, "_fields", ()):
            owner, found = find(tr, self.cls, name)
            if type(found) is _FIELD and owner is not None:
                if can_change(owner):
                    tr.guard(ClassItem(Constant(owner, owner.__name__), name), g.is_object(found))
                at: Any = found.__reduce__()[1][0]
                return force(tr, self.items, at)
        return super().getattr(tr, name)

    def rebuild(self, out: Rebuilder) -> str:
        parts = [out.expr(v) for v in self.values(out.tr)]
        text = f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        if self.cls is tuple:
            return text
        return f"{out.constant(self.cls)}({('*' if hasattr(self.cls, '_fields') else '')}{text})"

    def m__asdict(self, tr: Tracer) -> Value:
        return tr.new_dict([(Const(n), v) for n, v in zip(_fields(self.cls), self.values(tr))])

    def m__replace(self, tr: Tracer, **kwargs: Value) -> Value:
        return TupleValue([kwargs.get(n, v) for n, v in zip(_fields(self.cls), self.values(tr))], self.cls)

    def m_numel(self, tr: Tracer) -> Value:
        total: Value = Const(1)
        for v in self.values(tr):
            total = tr.binary("*", total, v)
        return total


_FIELD: type = type(collections.namedtuple("_Probe", "x").x)                   # type: ignore[attr-defined]


def _fields(cls: Any) -> tuple[str, ...]:
    return cls._fields


class ListValue(Sequence):
    """A list, or a deque without a maximum length."""

    mutable = True

    def __init__(self, items: Iterable[Any], source: Source | None = None, cls: type = list) -> None:
        self.items, self.source, self.cls = list(items), source, cls
        self.before = list(self.items)           # what `effects` compares with
        self._looked = source is None

    def __repr__(self) -> str:
        return f"List({self.items})"

    def pytype(self) -> type:
        return self.cls

    def like(self, items: list[Value]) -> Value:
        return ListValue(items, cls=self.cls)

    def look(self, tr: Tracer) -> None:
        """The trace depends on how many items there are (appending to an outside list does not)."""
        if not self._looked:
            self._looked = True
            tr.guard(self.source, g.has_length(len(self.before)))       # type: ignore[arg-type]

    def values(self, tr: Tracer) -> list[Value]:
        self.look(tr)
        return super().values(tr)

    def truth(self, tr: Tracer) -> bool:
        self.look(tr)
        return super().truth(tr)

    def length(self, tr: Tracer) -> int:
        self.look(tr)
        return super().length(tr)

    def iterate(self, tr: Tracer) -> Value:
        self.look(tr)
        return super().iterate(tr)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        self.look(tr)
        return super().getitem(tr, key)

    def change(self, tr: Tracer) -> None:
        self.look(tr)
        tr.effects.touch(self)

    def joined(self, tr: Tracer, items: list[Value]) -> ListValue:
        """What adding to and repeating this list makes of these items."""
        return ListValue(items)

    def as_python(self, tr: Tracer) -> Any:
        return self.cls(v.as_python(tr) for v in self.values(tr))

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        self.change(tr)
        index = self.place(tr, key)
        try:
            self.items[index] = tr.unpack(value) if isinstance(index, slice) else value
        except IndexError as error:
            raise tr.observe(error_of(operator.setitem, stand_in(self), index, None) or error) from None
        except ValueError as error:
            raise tr.observe(error) from None

    def delitem(self, tr: Tracer, key: Value) -> None:
        self.change(tr)
        try:
            index = self.place(tr, key)
            del self.items[index]
        except IndexError as error:
            raise tr.observe(error_of(operator.delitem, stand_in(self), index) or error) from None

    def rebuild(self, out: Rebuilder) -> str:
        text = f"[{', '.join(out.expr(v) for v in self.values(out.tr))}]"
        return text if self.cls is list else f"{out.constant(self.cls)}({text})"

    def m_append(self, tr: Tracer, item: Value) -> None:
        tr.effects.touch(self)
        self.items.append(item)

    def m_appendleft(self, tr: Tracer, item: Value) -> None:
        self.m_insert(tr, Const(0), item)

    def m_extend(self, tr: Tracer, items: Value) -> None:
        new = tr.unpack(items)
        tr.effects.touch(self)
        self.items.extend(new)

    def m_insert(self, tr: Tracer, at: Value, item: Value) -> None:
        self.change(tr)
        self.items.insert(tr.index(at), item)

    def m_pop(self, tr: Tracer, at: Value = LAST) -> Value:
        self.look(tr)
        if not self.items:
            raise tr.observe(IndexError("pop from empty list"))
        index = tr.index(at)
        if not -len(self.items) <= index < len(self.items):
            raise tr.observe(IndexError("pop index out of range"))
        value = self.getitem(tr, at)
        self.change(tr)
        self.items.pop(index)
        return value

    def m_popleft(self, tr: Tracer) -> Value:
        return self.m_pop(tr, Const(0))

    def m_remove(self, tr: Tracer, item: Value) -> None:
        at = self.find(tr, item)
        if at is None:
            raise tr.observe(error_of(stand_in(self).remove, _shown(tr, item)) or ValueError("remove"))
        self.change(tr)
        del self.items[at]

    def m_clear(self, tr: Tracer) -> None:
        self.change(tr)
        self.items.clear()

    def m_reverse(self, tr: Tracer) -> None:
        self.change(tr)
        self.items.reverse()

    def m_copy(self, tr: Tracer) -> Value:
        return self.like(self.values(tr))

    def m_sort(self, tr: Tracer, *, key: Value = NONE, reverse: Value = FALSE) -> None:
        ordered = sorted_values(tr, self.values(tr), key, tr.truth(reverse))
        self.change(tr)
        self.items[:] = ordered


def sorted_values(tr: Tracer, values: list[Value], key: Value, reverse: bool) -> list[Value]:
    """Stable sort of values whose keys are constants, or objects that compare themselves."""
    keys = values if isinstance(key, Const) and key.value is None else [tr.call(key, [v], {}) for v in values]
    if any(hasattr(k, "dunder") for k in keys):
        def less(a: int, b: int) -> int:
            return -1 if tr.truth(tr.compare("<", keys[a], keys[b])) else 0
        return [values[k] for k in sorted(range(len(values)), key=functools.cmp_to_key(less), reverse=reverse)]
    try:
        plain = [k.as_python(tr) for k in keys]
        order = sorted(range(len(values)), key=plain.__getitem__, reverse=reverse)
    except NotConstant as error:
        raise Unsupported("sort", f"sorting {error}, whose order is not known while tracing") from None
    except TypeError as error:
        if any(_holds_tensor(k) for k in keys):
            raise Unsupported("sort", "tensors are sorted, whose order depends on their data") from None
        raise tr.observe(error) from None
    return [values[k] for k in order]


def _holds_tensor(value: Any) -> bool:
    inner = value.items if isinstance(value, Sequence) else ()
    return isinstance(value, TensorValue) or any(map(_holds_tensor, inner))


def _shown(tr: Tracer, item: Value) -> Any:
    """The item as an error shows it."""
    try:
        return item.as_python(tr)
    except NotConstant:
        raise Unsupported("builtin-method", f"an error shows a {item.pytype().__name__}") from None


class SliceValue(Value):
    """A slice whose parts may be symbolic."""

    def __init__(self, parts: list[Value]) -> None:
        self.parts = parts

    def pytype(self) -> type:
        return slice

    def as_python(self, tr: Tracer) -> Any:
        return slice(*(p.as_python(tr) for p in self.parts))

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in ("start", "stop", "step"):
            return self.parts[("start", "stop", "step").index(name)]
        return super().getattr(tr, name)

    def m_indices(self, tr: Tracer, size: Value) -> Value:
        try:
            return tr.constant(self.as_python(tr).indices(tr.index(size)))
        except ValueError as error:
            raise tr.observe(error) from None

    def children(self) -> Iterator[Value]:
        return iter(self.parts)

    def rebuild(self, out: Rebuilder) -> str:
        return f"slice({', '.join(out.expr(p) for p in self.parts)})"


# --------------------------------------------------------------------------- iterators

class SequenceIterator(Value):
    """Iterator over a list of values; `owner` is the value whose real counterpart it iterates, if there is one."""

    mutable = True

    def __init__(self, items: list[Any], owner: Any = None) -> None:
        self.items, self.owner, self.at = items, owner, 0

    def pytype(self) -> type:
        return type(iter([]))

    def next(self, tr: Tracer) -> Value | None:
        if self.at >= len(self.items):
            return None
        self.at += 1
        return force(tr, self.items, self.at - 1)

    def iterate(self, tr: Tracer) -> Value:
        return self

    def truth(self, tr: Tracer) -> bool:
        return True

    def children(self) -> Iterator[Value]:
        if isinstance(self.owner, Value):
            yield self.owner
        else:
            yield from (v for v in self.items[self.at:] if isinstance(v, Value))

    def rebuild(self, out: Rebuilder) -> str:
        if isinstance(self.owner, (ListValue, TupleValue)) and self.owner.cls in (list, tuple):
            name = out.variable(f"iter({out.expr(self.owner)})")
            if self.at:
                out.line(f"{name}.__setstate__({self.at})")
            return name
        rest = [force(out.tr, self.items, k) for k in range(self.at, len(self.items))]
        return f"iter([{', '.join(out.expr(v) for v in rest)}])"


class CombinedIterator(Value):
    """enumerate, zip, map: iterators over iterators that can be rebuilt."""

    mutable = True

    def __init__(self, kind: type, inner: list[Value], step: Callable[[list[Value]], Value], rebuild: Any,
                 strict: bool = False) -> None:
        self.kind, self.inner, self.step, self._rebuild, self.strict = kind, inner, step, rebuild, strict

    def pytype(self) -> type:
        return self.kind

    def next(self, tr: Tracer) -> Value | None:
        items: list[Value] = []
        for k, it in enumerate(self.inner):
            item = it.next(tr)
            if item is None:
                if self.strict and (k or any(other.next(tr) is not None for other in self.inner[1:])):
                    raise tr.observe(ValueError(f"zip() argument {k + 1 if k else 2} is "
                                                f"{'shorter' if k else 'longer'} than argument 1"))
                return None
            items.append(item)
        return self.step(items) if self.inner else None

    def iterate(self, tr: Tracer) -> Value:
        return self

    def truth(self, tr: Tracer) -> bool:
        return True

    def children(self) -> Iterator[Value]:
        return iter(self.inner)

    def rebuild(self, out: Rebuilder) -> str:
        return self._rebuild(out, [out.expr(v) for v in self.inner])


class HostIterator(Value):
    """An iterator of the standard library (filter, itertools...) run by a Python generator over symbolic values."""

    mutable = True

    def __init__(self, values: Iterator[Value], kind: type) -> None:
        self.values, self.kind = values, kind

    def pytype(self) -> type:
        return self.kind

    def next(self, tr: Tracer) -> Value | None:
        return next(self.values, None)

    def iterate(self, tr: Tracer) -> Value:
        return self

    def truth(self, tr: Tracer) -> bool:
        return True


def solid(tr: Tracer, value: Value) -> Value:
    """An iterator or view as the list of its items: what a function that consumes it sees."""
    if value.pytype() in _CONSUMED or isinstance(value, (SequenceIterator, CombinedIterator, HostIterator)):
        return ListValue(tr.unpack(value))
    return value


_CONSUMED = {type({}.keys()), type({}.values()), type({}.items()), GeneratorType}
DICT_TYPES = (dict, collections.OrderedDict, collections.defaultdict)
