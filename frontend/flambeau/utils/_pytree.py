"""Nested containers as flat lists of leaves and a structure (PyTorch: ``torch.utils._pytree``)."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any


class TreeSpec:
    """The structure of a tree: the kind of its root (None: a leaf), what rebuilds it, and the children's structures."""

    __slots__ = ("type", "context", "children", "num_leaves")

    def __init__(self, kind: Any, context: Any, children: list[TreeSpec]) -> None:
        self.type, self.context, self.children = kind, context, children
        self.num_leaves: int = 1 if kind is None else sum(c.num_leaves for c in children)

    def is_leaf(self) -> bool:
        return self.type is None

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, TreeSpec) and self.type is other.type and self.context == other.context
                and self.children == other.children)

    def __hash__(self) -> int:
        return hash((self.type, self.num_leaves))

    def __repr__(self) -> str:
        if self.type is None:
            return "*"
        inner = [repr(c) for c in self.children]
        if self.context is not None and self.type in (dict, OrderedDict, defaultdict):
            return "{" + ", ".join(f"{k!r}: {c}" for k, c in zip(_keys(self), inner)) + "}"
        if self.type is tuple:
            return "(" + ", ".join(inner) + ("," if len(inner) == 1 else "") + ")"
        return "[" + ", ".join(inner) + "]" if self.type is list else f"{self.type.__name__}({', '.join(inner)})"


def _keys(spec: TreeSpec) -> list[Any]:
    return spec.context[1] if spec.type is defaultdict else spec.context


_registered: dict[type, tuple[Callable, Callable]] = {}


def register_pytree_node(cls: type, flatten_fn: Callable, unflatten_fn: Callable, **_: Any) -> None:
    """Treat ``cls`` as a container: ``flatten_fn(x) -> (children, context)``, ``unflatten_fn(children, context) -> x``."""
    _registered[cls] = (flatten_fn, unflatten_fn)


def _opened(tree: Any) -> tuple[Any, Any, list[Any]] | None:
    """(kind, context, children); None for a leaf."""
    kind = type(tree)
    if kind in _registered:
        children, context = _registered[kind][0](tree)
        return kind, context, list(children)
    if kind is dict or kind is OrderedDict:
        return kind, list(tree), list(tree.values())
    if kind is defaultdict:
        return kind, (tree.default_factory, list(tree)), list(tree.values())
    if kind is list or kind is tuple:
        return kind, None, list(tree)
    if kind is deque:
        return kind, tree.maxlen, list(tree)
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return kind, None, list(tree)
    if isinstance(tree, tuple) and kind.__module__ == "flambeau.return_types":
        return kind, None, list(tree)
    return None


def _built(spec: TreeSpec, children: list[Any]) -> Any:
    kind, context = spec.type, spec.context
    if kind in _registered:
        return _registered[kind][1](children, context)
    if kind is dict or kind is OrderedDict:
        return kind(zip(context, children))
    if kind is defaultdict:
        return defaultdict(context[0], zip(context[1], children))
    if kind is deque:
        return deque(children, context)
    return kind(*children) if hasattr(kind, "_fields") else kind(children)


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves of ``tree`` in order, and its structure."""
    leaves: list[Any] = []

    def walk(node: Any) -> TreeSpec:
        found = None if is_leaf is not None and is_leaf(node) else _opened(node)
        if found is None:
            leaves.append(node)
            return TreeSpec(None, None, [])
        kind, context, children = found
        return TreeSpec(kind, context, [walk(c) for c in children])

    return leaves, walk(tree)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The tree of this structure with these leaves."""
    rest = iter(leaves)

    def build(spec: TreeSpec) -> Any:
        return next(rest) if spec.type is None else _built(spec, [build(c) for c in spec.children])

    return build(treespec)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of ``tree``."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    """The structure of ``tree``."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable, tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """``tree`` with ``func`` of each leaf, and of the corresponding ones of ``rests``."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [tree_leaves(r, is_leaf) for r in rests]
    return tree_unflatten([func(*xs) for xs in zip(leaves, *others)], spec)


def tree_map_only(kind: Any, func: Callable, tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """``tree_map`` of the leaves that are a ``kind`` (a type, a tuple of types or a predicate)."""
    fits = kind if callable(kind) and not isinstance(kind, type) else lambda x: isinstance(x, kind)
    return tree_map(lambda x: func(x) if fits(x) else x, tree, is_leaf=is_leaf)


def _broadcast_to_and_flatten(tree: Any, treespec: TreeSpec) -> list[Any] | None:
    """``tree``, a prefix of a tree of structure ``treespec``, repeated to one leaf for each of its leaves; None if it is none."""
    found = _opened(tree)
    if found is None:
        return [tree] * treespec.num_leaves
    kind, context, children = found
    if treespec.type is not kind or len(children) != len(treespec.children) or context != treespec.context:
        return None
    result: list[Any] = []
    for child, spec in zip(children, treespec.children):
        part = _broadcast_to_and_flatten(child, spec)
        if part is None:
            return None
        result += part
    return result


__all__ = ["TreeSpec", "register_pytree_node", "tree_flatten", "tree_leaves", "tree_map", "tree_map_only", "tree_structure",
           "tree_unflatten"]
