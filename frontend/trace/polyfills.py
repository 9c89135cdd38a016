"""C functions of the standard library in Python. The tracer inlines them as it inlines the user's code.

Their values say that they are of the real type, and a call that cannot be traced runs the real function.
"""
from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_ABSENT: Any = object()


# --------------------------------------------------------------------------- itertools

def takewhile(predicate: Callable[[Any], Any], iterable: Iterable[Any]) -> Iterator[Any]:
    for item in iterable:
        if not predicate(item):
            break
        yield item


def dropwhile(predicate: Callable[[Any], Any], iterable: Iterable[Any]) -> Iterator[Any]:
    rest = iter(iterable)
    for item in rest:
        if not predicate(item):
            yield item
            break
    yield from rest


def filterfalse(predicate: Any, iterable: Iterable[Any]) -> Iterator[Any]:
    for item in iterable:
        if not (item if predicate is None else predicate(item)):
            yield item


def starmap(function: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
    for arguments in iterable:
        yield function(*arguments)


def compress(data: Iterable[Any], selectors: Iterable[Any]) -> Iterator[Any]:
    for item, wanted in zip(data, selectors):
        if wanted:
            yield item


def accumulate(iterable: Iterable[Any], func: Any = None, *, initial: Any = None) -> Iterator[Any]:
    rest = iter(iterable)
    total = initial
    if initial is None:
        total = next(rest, _ABSENT)
        if total is _ABSENT:
            return
    yield total
    for item in rest:
        total = total + item if func is None else func(total, item)
        yield total


def groupby(iterable: Iterable[Any], key: Any = None) -> Iterator[Any]:
    rest = iter(iterable)
    item = next(rest, _ABSENT)
    present = _ABSENT if item is _ABSENT else item if key is None else key(item)

    def group(wanted: Any) -> Iterator[Any]:
        nonlocal item, present
        while item is not _ABSENT and present == wanted:
            yield item
            item = next(rest, _ABSENT)
            if item is not _ABSENT:
                present = item if key is None else key(item)

    while item is not _ABSENT:
        wanted = present
        found = group(wanted)
        yield wanted, found
        for _ in found:
            pass


def tee(iterable: Iterable[Any], n: int = 2) -> tuple[Iterator[Any], ...]:
    source = iter(iterable)
    seen: list[Any] = []

    def copy() -> Iterator[Any]:
        at = 0
        while True:
            if at == len(seen):
                item = next(source, _ABSENT)
                if item is _ABSENT:
                    return
                seen.append(item)
            yield seen[at]
            at += 1

    return tuple([copy() for _ in range(n)])


def batched(iterable: Iterable[Any], n: int, *, strict: bool = False) -> Iterator[Any]:
    if n < 1:
        raise ValueError("n must be at least one")
    batch: list[Any] = []
    for item in iterable:
        batch.append(item)
        if len(batch) == n:
            yield tuple(batch)
            batch = []
    if batch:
        if strict:
            raise ValueError("batched(): incomplete batch")
        yield tuple(batch)


def combinations_with_replacement(iterable: Iterable[Any], r: int) -> Iterator[Any]:
    pool = tuple(iterable)

    def extend(start: int, count: int) -> Iterator[Any]:
        if count == 0:
            yield ()
            return
        for k in range(start, len(pool)):
            for rest in extend(k, count - 1):
                yield pool[k], *rest

    yield from extend(0, r)


def iterate_until(function: Callable[[], Any], sentinel: Any) -> Iterator[Any]:
    """`iter(function, sentinel)`."""
    while True:
        item = function()
        if item == sentinel:
            return
        yield item


# --------------------------------------------------------------------------- operator

def attribute_at(owner: Any, path: str) -> Any:
    """What `attrgetter(path)` gives."""
    for name in path.split("."):
        owner = getattr(owner, name)
    return owner


def get_attributes(owner: Any, *paths: str) -> Any:
    return attribute_at(owner, paths[0]) if len(paths) == 1 else tuple([attribute_at(owner, p) for p in paths])


def get_items(owner: Any, *keys: Any) -> Any:
    return owner[keys[0]] if len(keys) == 1 else tuple([owner[k] for k in keys])


def call_method(owner: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(owner, name)(*args, **kwargs)


def count_of(items: Iterable[Any], wanted: Any) -> int:
    count = 0
    for item in items:
        if item is wanted or item == wanted:
            count += 1
    return count


def index_of(items: Iterable[Any], wanted: Any) -> int:
    for k, item in enumerate(items):
        if item is wanted or item == wanted:
            return k
    raise ValueError("sequence.index(x): x not in sequence")


def concatenate(a: Any, b: Any) -> Any:
    if isinstance(a, dict) or not hasattr(a, "__getitem__"):
        raise TypeError("the object can't be concatenated")
    return a + b


def concatenate_in_place(a: Any, b: Any) -> Any:
    if isinstance(a, dict) or not hasattr(a, "__getitem__"):
        raise TypeError("the object can't be concatenated")
    a += b
    return a


def delete_item(owner: Any, key: Any) -> None:
    del owner[key]


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


# --------------------------------------------------------------------------- collections, math

def count_elements(mapping: Any, iterable: Iterable[Any]) -> None:
    """What Counter calls to count."""
    get = mapping.get
    for item in iterable:
        mapping[item] = get(item, 0) + 1


def product(items: Iterable[Any], /, *, start: Any = 1) -> Any:
    """`math.prod`, for tensors and changing sizes too."""
    for item in items:
        start = operator.mul(start, item)
    return start
