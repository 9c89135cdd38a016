"""Dicts, their views, sets, and the namespace of an object.

As with sequences, items from outside become symbolic values when they are first looked at, and changes are replayed.
"""
from __future__ import annotations

import collections
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.keys import HashedKey, after_attributes, is_known
from flambeau.frontend.trace.said import is_mapping, method_error, type_name
from flambeau.frontend.trace.source import Attr, DictKey, Item, KeyedItem, Source
from flambeau.frontend.trace.values import NONE, TRUE, Const, ScalarValue, SymValue, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer
from flambeau.frontend.trace.sequences import ListValue, Pending, SequenceIterator, TupleValue, force


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
        self.attrs: dict[str, Value] = {}                # of an OrderedDict, which is an object as well

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in self.attrs:
            return self.attrs[name]
        if name == "default_factory" and issubclass(self.cls, collections.defaultdict):
            return NONE if self.factory is None else self.factory
        own = getattr(self.raw, "__dict__", {})
        if name in own and self.source is not None:
            return tr.wrap(own[name], Attr(self.source, name))
        if self.cls is collections.OrderedDict and self.source is not None and not hasattr(self.cls, name):
            tr.guard_absent(self.source, name)
        return super().getattr(tr, name)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        if self.cls is not collections.OrderedDict or self.source is not None:
            super().setattr(tr, name, value)
        self.attrs[name] = value

    @classmethod
    def make(cls, tr: Tracer, pairs: Iterable[tuple[Value, Value]], kind: type = dict) -> DictValue:
        new = cls(cls=kind)
        for k, v in pairs:
            new.entries.setdefault(dict_key(tr, k), [k, v])[1] = v    # of equal keys the first stays, with the last value
        return new

    def __repr__(self) -> str:
        return f"Dict({list(self.entries)})"

    def pytype(self) -> type:
        return self.cls

    def children(self) -> Iterator[Value]:
        for k, v in self.entries.values():
            yield from (x for x in (k, v) if isinstance(x, Value))
        yield from self.attrs.values()

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
            self.entries[at] = known.get(at) or [key, Pending(self.raw[k], _item_source(self.source, k, key))]
        self.complete = True
        self.before = {k: v[1] for k, v in self.entries.items()}

    def lookup(self, tr: Tracer, key: Value) -> Value | None:
        at = dict_key(tr, key)
        if at not in self.entries:
            if self.complete:
                return None
            if not isinstance(at, Value) and not is_known(at):
                self.materialize(tr)
                return force(tr, self.entries[at], 1) if at in self.entries else None
            assert self.source is not None
            raw_key = key.raw if isinstance(at, Value) else at       # type: ignore[attr-defined]
            by_source = isinstance(at, Value) and key.source is not None and not isinstance(key, Const)
            if not by_source:
                _same_object(tr, at)
            if raw_key not in self.raw:
                tr.guard(self.source, _contains_key(key.source, False) if by_source else g.contains(raw_key, False))  # type: ignore[arg-type]
                return None
            if self.cls is collections.defaultdict:                # fetching a missing key would make it
                tr.guard(self.source, _contains_key(key.source, True) if by_source else g.contains(raw_key, True))  # type: ignore[arg-type]
            self.entries[at] = [key, Pending(self.raw[raw_key], _item_source(self.source, raw_key, key))]
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
        return DictIterator(tr, self, "keys")

    def as_python(self, tr: Tracer) -> Any:
        pairs = [(k.as_python(tr), v.as_python(tr)) for k, v in self.pairs(tr)]
        if self.cls is collections.defaultdict:
            return collections.defaultdict(None if self.factory is None else self.factory.as_python(tr), pairs)
        return self.cls(pairs)

    def rebuild(self, out: Rebuilder) -> str:
        if not all(map(is_known, self.entries)):
            return self._rebuild_late(out)
        body = ", ".join(f"{out.expr(k)}: {out.expr(v)}" for k, v in self.pairs(out.tr))
        if self.factory is not None:
            return f"{out.constant(self.cls)}({out.expr(self.factory)}, {{{body}}})"
        if self.attrs:
            name = out.variable(f"{out.constant(self.cls)}({{{body}}})")
            for attribute, value in self.attrs.items():
                out.line(f"{name}.{attribute} = {out.expr(value)}")
            return name
        none = "None, " if self.cls is collections.defaultdict else ""
        return f"{{{body}}}" if self.cls is dict else f"{out.constant(self.cls)}({none}{{{body}}})"

    def _rebuild_late(self, out: Rebuilder) -> str:
        """Keys with a hash of their own go in when they have their attributes."""
        factory = f"({out.expr(self.factory)})" if self.factory is not None else "()"
        name = out.variable(f"{out.constant(self.cls)}{factory}")
        out.remember(self, name)
        items = [f"{name}[{out.expr(k)}] = {out.expr(v)}" for k, v in self.pairs(out.tr)]
        after_attributes(out, items)
        return name

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

    def m_popitem(self, tr: Tracer, *args: Value, **kwargs: Value) -> Value:
        if len(args) + len(kwargs) > (self.cls is collections.OrderedDict) or kwargs.keys() - {"last"}:
            raise tr.observe(method_error(self, "popitem", list(args), kwargs) or TypeError("popitem"))
        return self._popitem(tr, *args, **kwargs)

    def _popitem(self, tr: Tracer, last: Value = TRUE) -> Value:
        pairs = self.pairs(tr)
        if not pairs:
            raise tr.observe(method_error(self, "popitem", [], {}) or KeyError("popitem"))
        found = pairs[-1 if tr.truth(last) else 0]
        self.delitem(tr, found[0])
        return TupleValue(found)

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
        if self.lookup(tr, key) is None:
            raise tr.observe_with(KeyError, [key])
        self.change(tr)
        entry = self.entries.pop(dict_key(tr, key))
        rest = {} if tr.truth(last) else self.entries
        if tr.truth(last):
            self.entries[dict_key(tr, key)] = entry
        else:
            self.entries = {dict_key(tr, key): entry, **rest}


def _same_object(tr: Tracer, key: Any) -> None:
    """What was found under an object that is hashed by identity holds for this very object."""
    if isinstance(key, Value) and key.source is not None:
        tr.guard(key.source, g.is_object(key.raw))                 # type: ignore[attr-defined]


def _item_source(source: Source, raw_key: Any, key: Value) -> Source:
    """Where an item is read; one found by an object is the item of whatever object is there at the call."""
    if isinstance(key, Const) or key.source is None:
        return Item(source, raw_key)
    return KeyedItem(source, key.source)


def _contains_key(key: Source, present: bool) -> tuple[tuple[Any, ...], g.Test, str]:
    word = "in" if present else "not in"
    return ("contains", key, present), lambda w, v: f"{w.fetch(key)} {word} {v}", f"{g.escape(str(key))} {word} {{}}"


def _in_order(keys: list[Any]) -> tuple[tuple[Any, ...], g.Test, str]:
    wanted = tuple(keys)
    return ("order", wanted), lambda w, v: f"tuple({v}) == {w.literal(wanted)}", "{} is iterated in the same order"


def _is_plain(key: Any) -> bool:
    """Keys that can be compared by value without running user code."""
    return type(key) in (int, str, bytes, bool, float, type(None)) or \
        (type(key) is tuple and all(map(_is_plain, key)))


def dict_key(tr: Tracer, key: Value) -> Any:
    """How a key is found again: constants by value, everything hashed by identity as its (unique) symbolic value."""
    if isinstance(key, SetValue) and key.cls is frozenset and all(map(is_known, key.entries)):
        return frozenset(key.entries)
    if isinstance(key, (ListValue, DictValue, SetValue)) and not (isinstance(key, SetValue) and key.cls is frozenset):
        raise tr.observe(TypeError(f"unhashable type: '{type_name(key)}'"))
    if isinstance(key, TupleValue):
        return tuple(dict_key(tr, v) for v in key.values(tr))
    key = key.plain(tr, "__eq__", "__hash__")
    if isinstance(key, Const):
        return key.value
    if isinstance(key, (SymValue, ScalarValue)):
        return tr.index(key) if isinstance(key, SymValue) else key.pin(tr)
    if key.pytype().__hash__ is not object.__hash__ and not tr.identity_hashed(key):
        if hasattr(key, "dunder"):
            return HashedKey(tr, key)
        raise Unsupported("dict-key", f"a {key.pytype().__name__} is used as a dict key")
    return key


def dict_pairs(tr: Tracer, value: Value) -> list[tuple[Value, Value]]:
    """What `dict(value)` would hold."""
    if isinstance(value, DictValue):
        return value.pairs(tr)
    if isinstance(value, InstanceDict):
        return value.pairs(tr)
    if value.pytype() is types.MappingProxyType and hasattr(value, "owner"):
        return value.owner.pairs(tr)                              # type: ignore[no-any-return]
    contents = getattr(value, "contents", None)
    if isinstance(contents, DictValue) and contents.cls is dict and getattr(value.pytype(), "__iter__", None) is dict.__iter__:
        return contents.pairs(tr)                                 # whatever else a subclass overrides
    if issubclass(value.pytype(), dict) or hasattr(value, "dunder") and is_mapping(value):    # through what it overrides
        keys = tr.unpack(tr.call(value.getattr(tr, "keys"), [], {}))
        return [(k, value.getitem(tr, k)) for k in keys]
    pairs = []
    for k, item in enumerate(tr.unpack(value)):
        if isinstance(item, Const) and not hasattr(item.value, "__iter__"):
            raise tr.observe(TypeError(f"cannot convert dictionary update sequence element #{k} to a sequence"))
        pair = tr.unpack(item)
        if len(pair) != 2:
            raise tr.observe(ValueError(f"dictionary update sequence element #{k} has length {len(pair)}; 2 is required"))
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
        return DictIterator(tr, self.owner, self.kind)

    def children(self) -> Iterator[Value]:
        yield self.owner

    def rebuild(self, out: Rebuilder) -> str:
        return f"{out.expr(self.owner)}.{self.kind}()"


class DictIterator(SequenceIterator):
    """Iterator over a dict's keys, values or items, which sees changes of values and refuses changes of size."""

    def __init__(self, tr: Tracer, owner: DictValue, kind: str) -> None:
        super().__init__(owner.keys(tr))
        self.dict, self.kind, self.size = owner, kind, len(owner.entries)

    def pytype(self) -> type:
        return type(iter(getattr({}, self.kind)()))

    def next(self, tr: Tracer) -> Value | None:
        if len(self.dict.entries) != self.size:
            raise tr.observe(RuntimeError("dictionary changed size during iteration"))
        key = super().next(tr)
        return None if key is None else self._item(tr, key)

    def _item(self, tr: Tracer, key: Value) -> Value:
        if self.kind == "keys":
            return key
        found = self.dict.lookup(tr, key)
        if found is None:
            raise tr.observe(RuntimeError("dictionary keys changed during iteration"))
        return found if self.kind == "values" else TupleValue((key, found))

    def rebuild(self, out: Rebuilder) -> str:
        rest = [self._item(out.tr, key) for key in self.items[self.at:]]
        return f"iter([{', '.join(out.expr(v) for v in rest)}])"


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


def members(tr: Tracer, value: Value) -> list[Value]:
    """The items of an iterable for somebody who does not care about their order, as that of a set may not be known."""
    return list(value.entries.values()) if isinstance(value, SetValue) else tr.unpack(value)


class SetValue(Value):
    """A set or frozenset."""

    mutable = True

    def __init__(self, items: dict[Any, Value], cls: type = set, source: Source | None = None) -> None:
        self.entries, self.cls, self.source = items, cls, source
        self.before = dict(items)
        self.grown = False                               # made by adding one item after the other

    @classmethod
    def make(cls, tr: Tracer, values: Iterable[Value], kind: type = set) -> SetValue:
        items: dict[Any, Value] = {}
        for v in values:
            items.setdefault(dict_key(tr, v), v)                  # of equal elements the first stays
        new = cls(items, kind)
        new.grown = True
        return new

    def pytype(self) -> type:
        return self.cls

    def children(self) -> Iterator[Value]:
        return iter(self.entries.values())

    def length(self, tr: Tracer) -> int:
        return len(self.entries)

    def truth(self, tr: Tracer) -> bool:
        return bool(self.entries)

    def contains(self, tr: Tracer, item: Value) -> bool:
        at = self._sought(tr, item)
        found = at in self.entries
        if isinstance(at, Value) and self.source is not None:
            _same_object(tr, at)
            if at.source is not None:
                tr.guard(self.source, g.contains(at.raw, at in self.before))        # type: ignore[attr-defined]
        return found

    def iterate(self, tr: Tracer) -> Value:
        return SequenceIterator([self.entries[k] for k in self._order(tr)], None)

    def _order(self, tr: Tracer) -> list[Any]:
        """The order of the real set: guarded if it is from outside, else known for small ints, and for others that were added
        one by one. That of strings differs from process to process."""
        keys = list(self.entries)
        if len(keys) < 2:
            return keys
        if self.source is not None and keys == list(self.before) and all(map(_is_plain, keys)):
            tr.guard(self.source, _in_order(keys))
            return keys
        if all(type(k) is int and 0 <= k < 8 for k in keys):     # no two share a place in the smallest table
            return sorted(keys)
        if not self.grown or not all(type(k) is int for k in keys):
            raise Unsupported("set-order", "the order of a set is not known while tracing", "iterate sorted(the_set)")
        real: set[Any] = set()
        for k in keys:
            real.add(k)
        return list(real)

    def as_python(self, tr: Tracer) -> Any:
        return self.cls(v.as_python(tr) for v in self.entries.values())

    def rebuild(self, out: Rebuilder) -> str:
        if not all(map(is_known, self.entries)) and self.cls is set:
            name = out.variable("set()")
            out.remember(self, name)
            after_attributes(out, [f"{name}.add({out.expr(v)})" for v in self.entries.values()])
            return name
        body = ", ".join(out.expr(v) for v in self.entries.values())
        return f"{out.constant(self.cls)}(({body}{',' if len(self.entries) == 1 else ''}))"

    def m_add(self, tr: Tracer, item: Value) -> None:
        tr.effects.touch(self)
        self.entries.setdefault(dict_key(tr, item), item)

    def m_discard(self, tr: Tracer, item: Value) -> None:
        tr.effects.touch(self)
        self.grown = False
        self.entries.pop(self._sought(tr, item), None)

    def _sought(self, tr: Tracer, item: Value) -> Any:
        """The key of a member to look for; a set is looked for as the frozenset of its members."""
        return dict_key(tr, SetValue(item.entries, frozenset) if isinstance(item, SetValue) else item)

    def m_remove(self, tr: Tracer, item: Value) -> None:
        if not self.contains(tr, item):
            raise tr.observe_with(KeyError, [item])
        self.m_discard(tr, item)

    def m_update(self, tr: Tracer, *others: Value) -> None:
        for other in others:
            for v in members(tr, other):
                self.m_add(tr, v)
            self.grown = self.grown and not isinstance(other, SetValue)

    def m_clear(self, tr: Tracer) -> None:
        tr.effects.touch(self)
        self.entries.clear()

    def m_copy(self, tr: Tracer) -> Value:
        return self if self.cls is frozenset else SetValue(dict(self.entries), self.cls)

    def combine(self, tr: Tracer, other: Value, keep: Callable[[set[Any], set[Any]], set[Any]]) -> SetValue:
        theirs = {dict_key(tr, v): v for v in members(tr, other)}
        wanted = keep(set(self.entries), set(theirs))
        return SetValue({k: v for k, v in {**theirs, **self.entries}.items() if k in wanted}, self.cls)

    def _combine_all(self, tr: Tracer, others: tuple[Value, ...], keep: Callable[..., set[Any]]) -> SetValue:
        result = SetValue(dict(self.entries), self.cls)
        for other in others:
            result = result.combine(tr, other, keep)
        return result

    def _become(self, tr: Tracer, result: SetValue) -> None:
        tr.effects.touch(self)
        self.grown = False
        self.entries = result.entries

    def m_union(self, tr: Tracer, *others: Value) -> Value:
        return self._combine_all(tr, others, set.union)

    def m_intersection(self, tr: Tracer, *others: Value) -> Value:
        return self._combine_all(tr, others, set.intersection)

    def m_difference(self, tr: Tracer, *others: Value) -> Value:
        return self._combine_all(tr, others, set.difference)

    def m_symmetric_difference(self, tr: Tracer, other: Value) -> Value:
        return self.combine(tr, other, set.symmetric_difference)

    def m_intersection_update(self, tr: Tracer, *others: Value) -> None:
        self._become(tr, self._combine_all(tr, others, set.intersection))

    def m_difference_update(self, tr: Tracer, *others: Value) -> None:
        self._become(tr, self._combine_all(tr, others, set.difference))

    def m_issuperset(self, tr: Tracer, other: Value) -> Value:
        return Const(all(self.contains(tr, v) for v in members(tr, other)))

    def m_pop(self, tr: Tracer) -> Value:
        if not self.entries:
            raise tr.observe(KeyError("pop from an empty set"))
        item = self.iterate(tr).next(tr)
        assert item is not None
        self.m_discard(tr, item)
        return item

    def m_issubset(self, tr: Tracer, other: Value) -> Value:
        theirs = {dict_key(tr, v) for v in members(tr, other)}
        return Const(all(k in theirs for k in self.entries))

    def m_isdisjoint(self, tr: Tracer, other: Value) -> Value:
        return Const(not any(self.contains(tr, v) for v in members(tr, other)))
