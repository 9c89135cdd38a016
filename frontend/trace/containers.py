"""Lists, tuples, dicts, sets, slices, ranges and their iterators.

Containers from outside are read lazily: an item becomes a symbolic value, and gets its guard, when it is first looked
at (`Pending`). A change to one is only made in the symbolic value; `effects` replays it on the real container.
"""
from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.source import Attr, DictKey, Item, Source
from flambeau.frontend.trace.values import FALSE, LAST, NONE, TRUE, Const, NotConstant, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


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
        index = tr.index(key)
        if isinstance(index, slice):
            return self.like([force(tr, self.items, k) for k in range(len(self.items))[index]])
        try:
            return force(tr, self.items, range(len(self.items))[index])
        except IndexError:
            raise tr.observe(IndexError(f"{self.pytype().__name__} index out of range")) from None

    def like(self, items: list[Value]) -> Value:
        raise NotImplementedError

    def m_index(self, tr: Tracer, item: Value) -> Value:
        for k, v in enumerate(self.values(tr)):
            if tr.same(v, item) or tr.truth(tr.compare("==", v, item)):
                return Const(k)
        raise tr.observe(ValueError(f"item is not in {self.pytype().__name__}"))

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
        fields = getattr(self.cls, "_fields", ())
        if name in fields:
            return force(tr, self.items, fields.index(name))
        return super().getattr(tr, name)

    def rebuild(self, out: Rebuilder) -> str:
        parts = [out.expr(v) for v in self.values(out.tr)]
        text = f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        if self.cls is tuple:
            return text
        return f"{out.constant(self.cls)}({('*' if hasattr(self.cls, '_fields') else '')}{text})"

    def m__asdict(self, tr: Tracer) -> Value:
        return DictValue.make(tr, [(Const(n), v) for n, v in zip(_fields(self.cls), self.values(tr))])

    def m__replace(self, tr: Tracer, **kwargs: Value) -> Value:
        return TupleValue([kwargs.get(n, v) for n, v in zip(_fields(self.cls), self.values(tr))], self.cls)

    def m_numel(self, tr: Tracer) -> Value:
        total: Value = Const(1)
        for v in self.values(tr):
            total = tr.binary("*", total, v)
        return total


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

    def as_python(self, tr: Tracer) -> Any:
        return self.cls(v.as_python(tr) for v in self.values(tr))

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        self.change(tr)
        index = tr.index(key)
        try:
            self.items[index] = tr.unpack(value) if isinstance(index, slice) else value
        except (IndexError, ValueError) as error:
            raise tr.observe(error) from None

    def delitem(self, tr: Tracer, key: Value) -> None:
        self.change(tr)
        try:
            del self.items[tr.index(key)]
        except IndexError as error:
            raise tr.observe(error) from None

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
        value = self.getitem(tr, at)
        self.change(tr)
        self.items.pop(tr.index(at))
        return value

    def m_popleft(self, tr: Tracer) -> Value:
        return self.m_pop(tr, Const(0))

    def m_remove(self, tr: Tracer, item: Value) -> None:
        at = self.m_index(tr, item)
        self.change(tr)
        del self.items[tr.index(at)]

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
    """Stable sort of values whose keys are constants."""
    keys = values if isinstance(key, Const) and key.value is None else [tr.call(key, [v], {}) for v in values]
    try:
        plain = [k.as_python(tr) for k in keys]
        order = sorted(range(len(values)), key=plain.__getitem__, reverse=reverse)
    except NotConstant as error:
        raise Unsupported("sort", f"sorting {error}, whose order is not known while tracing") from None
    except TypeError as error:
        raise tr.observe(error) from None
    return [values[k] for k in order]


class DictValue(Value):
    """A dict, OrderedDict or defaultdict. `entries`: key -> [key value, item]; see `dict_key`.

    One from outside is `complete` once its whole key set has been looked at (and guarded); before that only the keys
    asked for are known.
    """

    mutable = True

    def __init__(self, raw: Any = None, source: Source | None = None, cls: type = dict, factory: Value | None = None
                 ) -> None:
        self.raw, self.source, self.cls, self.factory = raw, source, cls, factory
        self.entries: dict[Any, list[Any]] = {}
        self.before: dict[Any, Any] = {}
        self.complete = raw is None

    @classmethod
    def make(cls, tr: Tracer, pairs: Iterable[tuple[Value, Value]], kind: type = dict) -> DictValue:
        new = cls(cls=kind)
        for k, v in pairs:
            new.entries[dict_key(tr, k)] = [k, v]
        return new

    def __repr__(self) -> str:
        return f"Dict({list(self.entries)})"

    def pytype(self) -> type:
        return self.cls

    def children(self) -> Iterator[Value]:
        for k, v in self.entries.values():
            yield from (x for x in (k, v) if isinstance(x, Value))

    def materialize(self, tr: Tracer) -> None:
        """Learn the whole key set of an outside dict."""
        if self.complete:
            return
        assert self.source is not None
        keys = list(self.raw)
        plain = all(_is_plain(k) for k in keys)
        if plain:
            tr.guard(self.source, g.has_keys(keys))
        else:
            tr.guard(self.source, g.has_length(len(keys)))
        known, self.entries = self.entries, {}
        for n, k in enumerate(keys):
            key = Const(k) if plain else tr.wrap(k, DictKey(self.source, n))
            at = dict_key(tr, key)
            self.entries[at] = known.get(at) or [key, Pending(self.raw[k], Item(self.source, k))]
        self.complete = True
        self.before = {k: v[1] for k, v in self.entries.items()}

    def lookup(self, tr: Tracer, key: Value) -> Value | None:
        at = dict_key(tr, key)
        if at not in self.entries:
            if self.complete:
                return None
            assert self.source is not None
            raw_key = key.raw if isinstance(at, Value) else at       # type: ignore[attr-defined]
            if raw_key not in self.raw:
                tr.guard(self.source, g.contains(raw_key, False))
                return None
            if self.cls is collections.defaultdict:                # fetching a missing key would make it
                tr.guard(self.source, g.contains(raw_key, True))
            self.entries[at] = [key, Pending(self.raw[raw_key], Item(self.source, raw_key))]
        return force(tr, self.entries[at], 1)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        found = self.lookup(tr, key)
        if found is not None:
            return found
        if self.factory is not None:
            found = tr.call(self.factory, [], {})
            self.setitem(tr, key, found)
            return found
        raise tr.observe_with(KeyError, [key])

    def change(self, tr: Tracer) -> None:
        self.materialize(tr)
        tr.effects.touch(self)

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        self.change(tr)
        at = dict_key(tr, key)
        if at in self.entries:
            self.entries[at][1] = value
        else:
            self.entries[at] = [key, value]

    def delitem(self, tr: Tracer, key: Value) -> None:
        if self.lookup(tr, key) is None:
            raise tr.observe_with(KeyError, [key])
        self.change(tr)
        del self.entries[dict_key(tr, key)]

    def contains(self, tr: Tracer, item: Value) -> bool:
        return self.lookup(tr, item) is not None

    def truth(self, tr: Tracer) -> bool:
        return bool(self.length(tr))

    def length(self, tr: Tracer) -> int:
        self.materialize(tr)
        return len(self.entries)

    def keys(self, tr: Tracer) -> list[Value]:
        self.materialize(tr)
        return [k for k, _ in self.entries.values()]

    def pairs(self, tr: Tracer) -> list[tuple[Value, Value]]:
        self.materialize(tr)
        return [(e[0], force(tr, e, 1)) for e in self.entries.values()]

    def iterate(self, tr: Tracer) -> Value:
        return SequenceIterator(self.keys(tr), None)

    def as_python(self, tr: Tracer) -> Any:
        return self.cls((k.as_python(tr), v.as_python(tr)) for k, v in self.pairs(tr))

    def rebuild(self, out: Rebuilder) -> str:
        body = ", ".join(f"{out.expr(k)}: {out.expr(v)}" for k, v in self.pairs(out.tr))
        if self.factory is not None:
            return f"{out.constant(self.cls)}({out.expr(self.factory)}, {{{body}}})"
        return f"{{{body}}}" if self.cls is dict else f"{out.constant(self.cls)}({{{body}}})"

    def m_keys(self, tr: Tracer) -> Value:
        return DictView(self, "keys")

    def m_values(self, tr: Tracer) -> Value:
        return DictView(self, "values")

    def m_items(self, tr: Tracer) -> Value:
        return DictView(self, "items")

    def m_get(self, tr: Tracer, key: Value, default: Value = NONE) -> Value:
        found = self.lookup(tr, key)
        return default if found is None else found

    def m_setdefault(self, tr: Tracer, key: Value, default: Value = NONE) -> Value:
        found = self.lookup(tr, key)
        if found is None:
            self.setitem(tr, key, default)
        return default if found is None else found

    def m_pop(self, tr: Tracer, key: Value, default: Value | None = None) -> Value:
        found = self.lookup(tr, key)
        if found is None:
            if default is None:
                raise tr.observe_with(KeyError, [key])
            return default
        self.delitem(tr, key)
        return found

    def m_popitem(self, tr: Tracer) -> Value:
        pairs = self.pairs(tr)
        if not pairs:
            raise tr.observe(KeyError("popitem(): dictionary is empty"))
        self.delitem(tr, pairs[-1][0])
        return TupleValue(pairs[-1])

    def m_update(self, tr: Tracer, other: Value | None = None, **kwargs: Value) -> None:
        for k, v in (dict_pairs(tr, other) if other is not None else []):
            self.setitem(tr, k, v)
        for name, v in kwargs.items():
            self.setitem(tr, Const(name), v)

    def m_clear(self, tr: Tracer) -> None:
        self.change(tr)
        self.entries.clear()

    def m_copy(self, tr: Tracer) -> Value:
        new = DictValue.make(tr, self.pairs(tr), self.cls)
        new.factory = self.factory
        return new

    def m_move_to_end(self, tr: Tracer, key: Value, last: Value = TRUE) -> None:
        self.change(tr)
        entry = self.entries.pop(dict_key(tr, key))
        rest = {} if tr.truth(last) else self.entries
        if tr.truth(last):
            self.entries[dict_key(tr, key)] = entry
        else:
            self.entries = {dict_key(tr, key): entry, **rest}


def _is_plain(key: Any) -> bool:
    """Keys that can be compared by value without running user code."""
    return type(key) in (int, str, bytes, bool, float, type(None)) or \
        (type(key) is tuple and all(map(_is_plain, key)))


def dict_key(tr: Tracer, key: Value) -> Any:
    """How a key is found again: constants by value, everything hashed by identity as its (unique) symbolic value."""
    if isinstance(key, (ListValue, DictValue, SetValue)):
        raise tr.observe(TypeError(f"unhashable type: '{key.pytype().__name__}'"))
    if isinstance(key, TupleValue):
        parts = tuple(dict_key(tr, v) for v in key.values(tr))
        if any(isinstance(p, Value) for p in parts):
            raise Unsupported("dict-key", "a tuple that holds objects is used as a dict key")
        return parts
    if isinstance(key, Const):
        return key.value
    if key.pytype().__hash__ is not object.__hash__ and not tr.identity_hashed(key):
        raise Unsupported("dict-key", f"a {key.pytype().__name__} is used as a dict key")
    return key


def dict_pairs(tr: Tracer, value: Value) -> list[tuple[Value, Value]]:
    """What `dict(value)` would hold."""
    if isinstance(value, DictValue):
        return value.pairs(tr)
    if isinstance(value, InstanceDict):
        return value.pairs(tr)
    pairs = []
    for item in tr.unpack(value):
        pair = tr.unpack(item)
        if len(pair) != 2:
            raise tr.observe(ValueError("dictionary update sequence element has the wrong length"))
        pairs.append((pair[0], pair[1]))
    return pairs


class DictView(Value):
    """`d.keys()`, `d.values()` or `d.items()`."""

    def __init__(self, owner: DictValue, kind: str) -> None:
        self.owner, self.kind = owner, kind

    def pytype(self) -> type:
        return type(getattr({}, self.kind)())

    def items(self, tr: Tracer) -> list[Value]:
        if self.kind == "keys":
            return self.owner.keys(tr)
        return [v if self.kind == "values" else TupleValue((k, v)) for k, v in self.owner.pairs(tr)]

    def length(self, tr: Tracer) -> int:
        return self.owner.length(tr)

    def truth(self, tr: Tracer) -> bool:
        return bool(self.length(tr))

    def contains(self, tr: Tracer, item: Value) -> bool:
        return self.owner.contains(tr, item) if self.kind == "keys" else super().contains(tr, item)

    def iterate(self, tr: Tracer) -> Value:
        return SequenceIterator(self.items(tr), None)

    def children(self) -> Iterator[Value]:
        yield self.owner

    def rebuild(self, out: Rebuilder) -> str:
        return f"{out.expr(self.owner)}.{self.kind}()"


class InstanceDict(Value):
    """`obj.__dict__` of a user object: a dict whose entries are the object's attributes."""

    mutable = True

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def pytype(self) -> type:
        return dict

    def getitem(self, tr: Tracer, key: Value) -> Value:
        found = self.owner.own_attribute(tr, str(tr.index_key(key)))
        if found is None:
            raise tr.observe_with(KeyError, [key])
        return found

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        self.owner.store(tr, tr.index_key(key), value)

    def delitem(self, tr: Tracer, key: Value) -> None:
        if not self.contains(tr, key):
            raise tr.observe_with(KeyError, [key])
        self.owner.store(tr, tr.index_key(key), None)

    def contains(self, tr: Tracer, item: Value) -> bool:
        name = tr.index_key(item)
        found = self.owner.own_attribute(tr, name) is not None
        if found and name not in self.owner.attrs and self.owner.source is not None:
            tr.guard(Attr(self.owner.source, "__dict__"), g.contains(name, True))
        return found

    def pairs(self, tr: Tracer) -> list[tuple[Value, Value]]:
        return [(Const(n), self.owner.own_attribute(tr, n)) for n in self.owner.own_names(tr)]

    def iterate(self, tr: Tracer) -> Value:
        return SequenceIterator([Const(n) for n in self.owner.own_names(tr)], None)

    def length(self, tr: Tracer) -> int:
        return len(self.owner.own_names(tr))

    def truth(self, tr: Tracer) -> bool:
        return bool(self.length(tr))

    def rebuild(self, out: Rebuilder) -> str:
        return f"{out.expr(self.owner)}.__dict__"

    def m_get(self, tr: Tracer, key: Value, default: Value = NONE) -> Value:
        return self.owner.own_attribute(tr, tr.index_key(key)) or default

    def m_keys(self, tr: Tracer) -> Value:
        return TupleValue(k for k, _ in self.pairs(tr))

    def m_values(self, tr: Tracer) -> Value:
        return TupleValue(v for _, v in self.pairs(tr))

    def m_items(self, tr: Tracer) -> Value:
        return TupleValue(TupleValue(p) for p in self.pairs(tr))

    def m_copy(self, tr: Tracer) -> Value:
        return DictValue.make(tr, self.pairs(tr))

    def m_update(self, tr: Tracer, other: Value | None = None, **kwargs: Value) -> None:
        for k, v in (dict_pairs(tr, other) if other is not None else []):
            self.setitem(tr, k, v)
        for name, v in kwargs.items():
            self.setitem(tr, Const(name), v)

    def m_pop(self, tr: Tracer, key: Value, default: Value | None = None) -> Value:
        found = self.owner.own_attribute(tr, tr.index_key(key))
        if found is None:
            if default is None:
                raise tr.observe_with(KeyError, [key])
            return default
        self.delitem(tr, key)
        return found


class SetValue(Value):
    """A set or frozenset."""

    mutable = True

    def __init__(self, items: dict[Any, Value], cls: type = set, source: Source | None = None) -> None:
        self.entries, self.cls, self.source = items, cls, source
        self.before = dict(items)

    @classmethod
    def make(cls, tr: Tracer, values: Iterable[Value], kind: type = set) -> SetValue:
        return cls({dict_key(tr, v): v for v in values}, kind)

    def pytype(self) -> type:
        return self.cls

    def children(self) -> Iterator[Value]:
        return iter(self.entries.values())

    def length(self, tr: Tracer) -> int:
        return len(self.entries)

    def truth(self, tr: Tracer) -> bool:
        return bool(self.entries)

    def contains(self, tr: Tracer, item: Value) -> bool:
        return dict_key(tr, item) in self.entries

    def iterate(self, tr: Tracer) -> Value:
        """In the order of a real set where that is defined by the values (ints), else insertion order is not ours to give."""
        keys = list(self.entries)
        if len(keys) > 1 and not all(type(k) is int for k in keys):
            raise Unsupported("set-order", "the order of a set is not known while tracing", "iterate sorted(the_set)")
        return SequenceIterator([self.entries[k] for k in set(keys)], None)

    def as_python(self, tr: Tracer) -> Any:
        return self.cls(v.as_python(tr) for v in self.entries.values())

    def rebuild(self, out: Rebuilder) -> str:
        body = ", ".join(out.expr(v) for v in self.entries.values())
        return f"{out.constant(self.cls)}(({body}{',' if len(self.entries) == 1 else ''}))"

    def m_add(self, tr: Tracer, item: Value) -> None:
        tr.effects.touch(self)
        self.entries.setdefault(dict_key(tr, item), item)

    def m_discard(self, tr: Tracer, item: Value) -> None:
        tr.effects.touch(self)
        self.entries.pop(dict_key(tr, item), None)

    def m_remove(self, tr: Tracer, item: Value) -> None:
        if not self.contains(tr, item):
            raise tr.observe_with(KeyError, [item])
        self.m_discard(tr, item)

    def m_update(self, tr: Tracer, *others: Value) -> None:
        for other in others:
            for v in tr.unpack(other):
                self.m_add(tr, v)

    def m_clear(self, tr: Tracer) -> None:
        tr.effects.touch(self)
        self.entries.clear()

    def m_copy(self, tr: Tracer) -> Value:
        return SetValue(dict(self.entries), self.cls)

    def combine(self, tr: Tracer, other: Value, keep: Callable[[set[Any], set[Any]], set[Any]]) -> SetValue:
        theirs = {dict_key(tr, v): v for v in tr.unpack(other)}
        wanted = keep(set(self.entries), set(theirs))
        return SetValue({k: v for k, v in {**theirs, **self.entries}.items() if k in wanted}, self.cls)

    def m_union(self, tr: Tracer, other: Value) -> Value:
        return self.combine(tr, other, set.union)

    def m_intersection(self, tr: Tracer, other: Value) -> Value:
        return self.combine(tr, other, set.intersection)

    def m_difference(self, tr: Tracer, other: Value) -> Value:
        return self.combine(tr, other, set.difference)

    def m_issubset(self, tr: Tracer, other: Value) -> Value:
        return Const(all(tr.truth(Const(other.contains(tr, v))) for v in self.entries.values()))

    def m_isdisjoint(self, tr: Tracer, other: Value) -> Value:
        return Const(not any(self.contains(tr, v) for v in tr.unpack(other)))


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
        return tr.constant(self.as_python(tr).indices(tr.index(size)))

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


DICT_TYPES = (dict, collections.OrderedDict, collections.defaultdict)
