"""Make a pure graph smaller without changing what it computes: no-ops, neutral elements, repeats, dead code.

The facts come from the ops: ``extra["neutral"]`` (pairs of position and number that leave the other operand as it is),
``extra["involution"]`` and ``extra["idempotent"]``, the promotion kind "cast", the tag "view", the tag "copies".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.ir.dtype import DType
from flambeau.ir.graph import Graph, Node, draws_inside, getitem, is_view, map_bodies, map_nodes, root_of, tape_point
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import get_op

_LARGEST_STAND_IN = 1 << 20  # elements of the array on which a chain of views is tried out


def simplify(graph: Graph) -> Graph:
    """An equivalent graph. Outputs stay distinct values: none becomes an input or another output."""
    return _Simplifier(graph).run()


class _Simplifier:
    def __init__(self, source: Graph) -> None:
        self.source, self.graph = source, Graph(source.name)
        self.env: dict[Node, Node] = {}
        self.known: dict[Any, Node] = {}
        #: What the tape of the program has as places of their own: equal values have gradients that differ.
        self.apart = {n.args[0] for n in source.nodes if n.op is tape_point}
        self.apart |= {n.args[0] for n in self.apart if n.op is getitem}
        self.windows: dict[Node, tuple[Node, np.ndarray]] = {}  # view -> (what it shows, how, on a stand-in)

    def run(self) -> Graph:
        live = _live(self.source)
        for node in self.source.inputs:
            self.env[node] = self.graph.input(node.name, node.meta, node.requires_grad, node.loc)
        outputs = set(self.source.output_nodes())
        taken: set[Node] = set(self.graph.inputs)  # the values whose storage an output must not share
        for node in self.source.nodes:
            if node not in live:
                continue
            new = self.visit(node)
            if node in outputs:
                if root_of(new) in taken or is_view(new.op) and not is_view(node.op):  # (a copy has a layout of its own)
                    new = self.graph.add(get_op("clone"), (new, None), node.meta, node.loc, node.requires_grad, node.name)
                taken.add(root_of(new))
            self.env[node] = new
        self.graph.outputs = [map_nodes(self.env.__getitem__, o) for o in self.source.outputs]
        self.graph.remove_dead()
        return self.graph

    def arguments(self, node: Node) -> tuple:
        args = map_nodes(self.env.__getitem__, node.args)
        return map_bodies(simplify, args) if "bodies" in node.op.tags else args  # type: ignore[union-attr]

    def visit(self, node: Node) -> Node:
        assert node.op is not None
        op, args = node.op.extra.get("relaxed", node.op), self.arguments(node)
        if node in self.apart:
            return self.graph.add(op, args, node.meta, node.loc, node.requires_grad, node.name)
        for rule in _RULES:
            found = rule(self, node, args)
            if found is not None and found.requires_grad == node.requires_grad:  # else it ends or resumes the tape
                return found
        if "random" in op.tags or op.mutates or "effect" in op.tags or draws_inside(node):
            return self.graph.add(op, args, node.meta, node.loc, node.requires_grad, node.name)
        key = (op, _key(args), node.requires_grad)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self.graph.add(op, args, node.meta, node.loc, node.requires_grad, node.name)
        return found

    # ---- rules: each returns the node that stands for `node`, or None

    def no_cast(self, node: Node, args: tuple) -> Node | None:
        """A cast to the dtype it has, and a cast of a widening cast."""
        if node.op.promote != "cast":  # type: ignore[union-attr]
            return None
        source: Node = args[0]
        if source.meta == node.meta:
            return source
        if source.op is node.op and source.args[0].meta == node.meta and _widens(node.meta.dtype, source.meta.dtype):
            return source.args[0]
        return None

    def no_view(self, node: Node, args: tuple) -> Node | None:
        """A chain of views that shows its base as it is, and a view of what was just put there."""
        assert node.op is not None
        op = node.op.extra.get("relaxed", node.op)
        if "view" not in op.tags:
            return None
        source: Node = args[0]
        if source.op is not None and source.op.family == "scatter_view" and source.args[2:] == (op.name, args[1:]):
            return source.args[1]
        if not (_static(node.meta) and _static(source.meta)) or node.meta.dtype is not source.meta.dtype:
            return None
        base, window = self.windows.get(source) or (source, _stand_in(source.meta))
        if window is None or op.kernel is None:
            return None
        shown = op.kernel(np, window, *args[1:])
        if not isinstance(shown, np.ndarray) or not np.may_share_memory(shown, window):
            return None
        whole = (self.windows[source][1] if source in self.windows else window)
        if base.meta == node.meta and _same_window(shown, _root(whole), base.meta):
            return base
        key = (op, _key(args), node.requires_grad)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self.graph.add(op, args, node.meta, node.loc, node.requires_grad, node.name)
        self.windows[found] = (base, shown)
        return found

    def no_copy(self, node: Node, args: tuple) -> Node | None:
        """A copy: values are never written to, so the original will do."""
        if "copies" in node.op.tags and args[0].meta == node.meta:  # type: ignore[union-attr]
            return args[0]
        return None

    def no_neutral(self, node: Node, args: tuple) -> Node | None:
        """An operand that leaves the other one as it is."""
        for position, number in node.op.extra.get("neutral", ()):  # type: ignore[union-attr]
            value, other = args[position], args[1 - position]
            if isinstance(other, Node) and other.meta == node.meta and _is_number(value, number, other.meta.dtype) and not any(
                    a != p.default for a, p in zip(args[2:], node.op.schema.params[2:])):  # type: ignore[union-attr]
                return other
        return None

    def twice(self, node: Node, args: tuple) -> Node | None:
        """f(f(x)) where that is x, or f(x)."""
        source = args[0] if args else None
        if not isinstance(source, Node) or source.op is not node.op or source.args[1:] != args[1:]:
            return None
        if node.op.extra.get("involution") and source.args[0].meta == node.meta:  # type: ignore[union-attr]
            return source.args[0]
        return source if node.op.extra.get("idempotent") and source.meta == node.meta else None  # type: ignore[union-attr]


_Rule = Callable[[_Simplifier, Node, tuple], "Node | None"]
_RULES: tuple[_Rule, ...] = (_Simplifier.no_cast, _Simplifier.no_copy, _Simplifier.no_neutral, _Simplifier.twice,
                             _Simplifier.no_view)


def _live(graph: Graph) -> set[Node]:
    live = set(graph.output_nodes())
    for node in reversed(graph.nodes):
        if node in live or node.op.mutates or {"effect", "random"} & node.op.tags or draws_inside(node):  # type: ignore[union-attr]
            live.add(node)
            live.update(node.inputs)
    return live


def _key(value: Any) -> Any:
    """A hashable stand-in for an argument; 1, 1.0 and True stay apart, as do 0.0 and -0.0."""
    if isinstance(value, (tuple, list)):
        return type(value).__name__, *map(_key, value)
    if isinstance(value, slice):
        return "slice", *map(_key, (value.start, value.stop, value.step))
    return value if isinstance(value, (Node, Graph)) else (type(value).__name__, repr(value))


def _is_number(value: Any, number: float, dtype: DType) -> bool:
    """Whether an operand is this number everywhere, as ``dtype`` tells numbers apart: the number itself, or a tensor filled
    with it."""
    if isinstance(value, Node):
        return value.op is not None and "filled" in value.op.tags and _is_number(value.args[1], number, dtype)
    same = not isinstance(value, bool) and isinstance(value, (int, float)) and value == number
    return same and (value != 0 or dtype.is_integral or math.copysign(1, value) == math.copysign(1, number))


def _widens(narrow: Any, wide: Any) -> bool:
    return bool(narrow.kind == wide.kind or narrow.kind == "b") and np.can_cast(narrow.np, wide.np, "safe")


def _static(meta: Any) -> bool:
    return isinstance(meta, TensorMeta) and all(type(s) is int for s in meta.shape)


def _stand_in(meta: TensorMeta) -> np.ndarray | None:
    """An array of the shape (one byte an element, untouched memory) that views can be tried on; None when too large."""
    n = 1
    for s in meta.shape:
        n *= s
    return np.empty(meta.shape, np.uint8) if 0 < n <= _LARGEST_STAND_IN else None


def _root(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _same_window(shown: np.ndarray, root: np.ndarray, meta: TensorMeta) -> bool:
    """Whether ``shown`` is ``root`` element for element (sizes of 1 may have any stride)."""
    if shown.shape != meta.shape or shown.__array_interface__["data"][0] != root.__array_interface__["data"][0]:
        return False
    dense = np.empty(meta.shape, np.uint8).strides if shown.size else shown.strides
    return all(n == 1 or a == b for n, a, b in zip(shown.shape, shown.strides, dense))


