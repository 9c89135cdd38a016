"""Iteration: what the built-in functions that make or consume iterators do, and those of itertools that only rearrange items."""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.builtins import Handler, on
from flambeau.frontend.trace.callables import GeneratorValue
from flambeau.frontend.trace.computed import extreme
from flambeau.frontend.trace.mappings import SetValue
from flambeau.frontend.trace.objects import ObjectValue
from flambeau.frontend.trace.polyfills import iterate_until
from flambeau.frontend.trace.said import error_of, has, type_name
from flambeau.frontend.trace.sequences import (
    CombinedIterator,
    HostIterator,
    ListValue,
    SequenceIterator,
    TupleValue,
    sorted_values,
)
from flambeau.frontend.trace.values import FALSE, NONE, ONE, ZERO, Const, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


@on(iter)
def _iter(tr: Tracer, value: Value, *sentinel: Value) -> Value:
    if sentinel:
        found = tr.call(tr.constant(iterate_until), [value, *sentinel], {})
        found.kind = type(iter(int, 1))                           # type: ignore[attr-defined]
        return found
    return value.iterate(tr)


@on(next)
def _next(tr: Tracer, iterator: Value, default: Value | None = None) -> Value:
    if isinstance(iterator, GeneratorValue):
        kind, value = iterator.resume(tr, NONE, None)
        if kind == "yield":
            return value
        result = [] if isinstance(value, Const) and value.value is None else [value]
    else:
        if isinstance(iterator, ObjectValue) and not has(iterator.cls, "__next__"):
            raise tr.observe(TypeError(f"'{type_name(iterator)}' object is not an iterator"))
        found = iterator.next(tr)
        if found is not None:
            return found
        result = []
    if default is not None:
        return default
    raise tr.observe_with(StopIteration, result)


@on(enumerate)
def _enumerate(tr: Tracer, items: Value, start: Value = ZERO) -> Value:
    count = [tr.index(start)]

    def step(parts: list[Value]) -> Value:
        count[0] += 1
        return TupleValue([Const(count[0] - 1), parts[0]])

    return CombinedIterator(enumerate, [items.iterate(tr)], step,
                            lambda out, inner: f"enumerate({inner[0]}, {count[0]})")


@on(zip)
def _zip(tr: Tracer, *parts: Value, strict: Value = FALSE) -> Value:
    checked = tr.truth(strict)
    return CombinedIterator(zip, [p.iterate(tr) for p in parts], TupleValue,
                            lambda out, inner: f"zip({', '.join(inner)}{', strict=True' if checked else ''})", checked)


@on(map)
def _map(tr: Tracer, fn: Value, *parts: Value) -> Value:
    return CombinedIterator(map, [p.iterate(tr) for p in parts], lambda items: tr.call(fn, items, {}),
                            lambda out, inner: f"map({out.expr(fn)}, {', '.join(inner)})")


def host(tr: Tracer, values: Iterator[Value], kind: type) -> Value:
    iterator = HostIterator(values, kind)
    iterator.born = tr.tick                                       # type: ignore[attr-defined]
    return iterator


def _each(tr: Tracer, items: Value) -> Iterator[Value]:
    iterator = items.iterate(tr)
    while (item := iterator.next(tr)) is not None:
        yield item


@on(filter)
def _filter(tr: Tracer, fn: Value, items: Value) -> Value:
    plain = isinstance(fn, Const) and fn.value is None
    return host(tr, (v for v in _each(tr, items) if tr.truth(v if plain else tr.call(fn, [v], {}))), filter)


@on(reversed)
def _reversed(tr: Tracer, items: Value) -> Value:
    if isinstance(items, ObjectValue):
        method = items.dunder(tr, "__reversed__")
        if method is not None and not (isinstance(method, Const) and method.value is None):
            return tr.call(method, [], {})
        if method is not None or not (has(items.cls, "__getitem__") and has(items.cls, "__len__")):
            raise tr.observe(TypeError(f"'{type_name(items)}' object is not reversible"))
        return SequenceIterator([items.getitem(tr, Const(k)) for k in range(items.length(tr) - 1, -1, -1)])
    cls = items.pytype()
    if not has(cls, "__reversed__") and not (has(cls, "__getitem__") and has(cls, "__len__")):
        raise tr.observe(TypeError(f"'{type_name(items)}' object is not reversible"))
    return SequenceIterator(tr.unpack(items)[::-1])


@on(sorted)
def _sorted(tr: Tracer, items: Value, *, key: Value = NONE, reverse: Value = FALSE) -> Value:
    found = _in_any_order(tr, items) if key is NONE else tr.unpack(items)
    return ListValue(sorted_values(tr, found, key, tr.truth(reverse)))


def _in_any_order(tr: Tracer, items: Value) -> list[Value]:
    """The items for a function to which their order is the same; for it, that of ints or strings in a set need not be known."""
    if isinstance(items, SetValue):
        found = list(items.entries.values())
        if all(isinstance(v, Const) for v in found) and {v.pytype() for v in found} in ({int}, {str}, {bytes}):
            return found
    return tr.unpack(items)


@on(sum)
def _sum(tr: Tracer, items: Value, start: Value = ZERO) -> Value:
    total = start
    for item in _in_any_order(tr, items):
        total = tr.binary("+", total, item)
    return total


@on(any)
def _any(tr: Tracer, items: Value) -> Value:
    return Const(any(tr.truth(v) for v in _each(tr, items)))


@on(all)
def _all(tr: Tracer, items: Value) -> Value:
    return Const(all(tr.truth(v) for v in _each(tr, items)))


def _extreme(op: str) -> Handler:
    def handler(tr: Tracer, *args: Value, key: Value = NONE, default: Value | None = None) -> Value:
        if not args:
            raise tr.observe(error_of(max if op == ">" else min) or TypeError(op))
        items = _in_any_order(tr, args[0]) if len(args) == 1 and key is NONE else \
            tr.unpack(args[0]) if len(args) == 1 else list(args)
        if not items:
            if default is None:
                raise tr.observe(error_of(max if op == ">" else min, ()) or ValueError(op))
            return default
        if isinstance(key, Const) and len(items) > 1:
            found: Value | None = items[0]
            for item in items[1:]:
                found = extreme(tr, max if op == ">" else min, found, item) if found is not None else None
            if found is not None:
                return found
        keyed = [(v if isinstance(key, Const) else tr.call(key, [v], {}), v) for v in items]
        best = keyed[0]
        for pair in keyed[1:]:
            if tr.truth(tr.compare(op, pair[0], best[0])):
                best = pair
        return best[1]
    return handler


on(max)(_extreme(">"))
on(min)(_extreme("<"))


# --------------------------------------------------------------------------- itertools

@on(itertools.chain)
def _chain(tr: Tracer, *parts: Value) -> Value:
    return host(tr, (v for p in parts for v in _each(tr, p)), itertools.chain)


@on(itertools.chain.from_iterable)
def _chain_from(tr: Tracer, parts: Value) -> Value:
    return host(tr, (v for p in _each(tr, parts) for v in _each(tr, p)), itertools.chain)


@on(itertools.islice)
def _islice(tr: Tracer, items: Value, *parts: Value) -> Value:
    bounds = [None if isinstance(p, Const) and p.value is None else tr.index(p) for p in parts]
    try:
        return host(tr, itertools.islice(_each(tr, items), *bounds), itertools.islice)
    except (TypeError, ValueError) as error:
        raise tr.observe(error) from None


@on(itertools.count)
def _count(tr: Tracer, start: Value = ZERO, step: Value = ONE) -> Value:
    return host(tr, map(tr.constant, itertools.count(start.as_python(tr), step.as_python(tr))), itertools.count)


@on(itertools.product)
def _product(tr: Tracer, *parts: Value, repeat: Value = ONE) -> Value:
    pools = [tr.unpack(p) for p in parts]
    return host(tr, map(TupleValue, itertools.product(*pools, repeat=tr.index(repeat))), itertools.product)


def _plain_itertool(fn: Any) -> Handler:
    """itertools functions that only rearrange items: run them on the symbolic values."""
    def handler(tr: Tracer, items: Value, *rest: Value) -> Value:
        found = fn(tr.unpack(items), *(tr.index(r) for r in rest))
        return host(tr, (TupleValue(v) if isinstance(v, tuple) else v for v in found), fn)
    return handler


for _fn in (itertools.combinations, itertools.permutations, itertools.cycle,
            getattr(itertools, "pairwise", itertools.cycle)):
    on(_fn)(_plain_itertool(_fn))


@on(itertools.repeat)
def _repeat(tr: Tracer, item: Value, *times: Value) -> Value:
    return host(tr, itertools.repeat(item, *(tr.index(t) for t in times)), itertools.repeat)


@on(itertools.zip_longest)
def _zip_longest(tr: Tracer, *parts: Value, fillvalue: Value = NONE) -> Value:
    rows = itertools.zip_longest(*(tr.unpack(p) for p in parts), fillvalue=fillvalue)
    return host(tr, map(TupleValue, rows), itertools.zip_longest)
