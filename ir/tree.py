"""Nested tuples, lists and dicts of leaves: map, flatten, rebuild."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def tree_map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """``tree`` with ``fn`` applied to each leaf; tuples (named ones too), lists and dicts keep their type."""
    kind = type(tree)
    if kind is tuple:
        return tuple([tree_map(fn, x) for x in tree])
    if kind is list:
        return [tree_map(fn, x) for x in tree]
    if isinstance(tree, dict):
        return kind((k, tree_map(fn, v)) for k, v in tree.items()) if kind is not dict else {
            k: tree_map(fn, v) for k, v in tree.items()}
    if isinstance(tree, tuple):
        items = [tree_map(fn, x) for x in tree]
        return kind(*items) if hasattr(tree, "_fields") else kind(items)
    if isinstance(tree, slice):
        return slice(tree_map(fn, tree.start), tree_map(fn, tree.stop), tree_map(fn, tree.step))
    return fn(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of ``tree``, in order."""
    if isinstance(tree, (tuple, list)):
        for x in tree:
            yield from leaves(x)
    elif isinstance(tree, dict):
        for x in tree.values():
            yield from leaves(x)
    elif isinstance(tree, slice):
        yield from (tree.start, tree.stop, tree.step)
    else:
        yield tree
