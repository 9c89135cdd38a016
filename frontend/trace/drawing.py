"""How symbolic tensors lie in memory, in eager mode: random numbers fill memory, so what lies columns first gets columns first,
and a graph's results are to lie as the program's.

An input that lies row-major is guarded to do so, another to lie in the same order. Ops of row-major tensors give row-major ones;
how another result lies, eager mode is asked.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.runners import memory_order
from flambeau.frontend.trace import layouts
from flambeau.ir.graph import Node, is_view, root_of
from flambeau.ir.op import base, use_handler
from flambeau.ir.symint import SymInt
from flambeau.ir.tree import tree_map
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor, wrap

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

_LARGEST = 1 << 24                                                 # bytes that eager mode is asked with


def laid_out(tr: Tracer, node: Any) -> Tensor | None:
    """A tensor with anything in it that lies as the node's value; None where that is not known."""
    found = _array(tr, node)
    return None if found is None else wrap(found)


def itself(tr: Tracer, node: Node) -> Node:
    """The node whose very tensor eager mode has for this one: `contiguous()` of what lies row-major is the tensor itself."""
    while node.op is not None and "maybe_self" in node.op.tags and node.args[1] is None:
        like = laid_out(tr, node.args[0])
        if like is None or not like.is_contiguous():
            break
        node = node.args[0]
    return node


def orders(tr: Tracer, outputs: Iterable[Any]) -> dict[str, tuple[int, ...]]:
    """How a graph's outputs, and what they are views of, lie in memory; nothing where all lie row-major.

    What a matrix product makes does, whatever it is given. Parameters are taken to stay as they are.
    """
    wanted = {n: root_of(n) for n in outputs if isinstance(n, Node) and not isinstance(n.meta, tuple)}
    wanted = {n: root for n, root in wanted.items() if root not in tr.inputs and len(n.meta.shape) > 1}
    if not wanted:
        return {}
    for node, (_, raw) in tr.inputs.items():
        if getattr(raw, "_is_param", False) and node not in tr.arrays:
            tr.arrays[node] = (layouts.dummy(raw._a.dtype, raw._a.shape, raw._a.strides),)
    for node in _asked(tr, wanted):
        _array(tr, node)                                          # in program order: no recursion through the whole graph
    known = {n: found for n in dict.fromkeys((*wanted, *wanted.values())) if (found := laid_out(tr, n)) is not None}
    if all(found.is_contiguous() for found in known.values()) and not any(_is_copied(tr, n) for n in wanted):
        return {}
    return {n.name: memory_order(found._a) for n, found in known.items() if found.ndim > 1}


def _is_copied(tr: Tracer, node: Node) -> bool:
    """Whether what looks like a view is a copy, as `reshape` of what lies across is."""
    while node.op is not None and is_view(node.op):
        like = laid_out(tr, node.args[0]) if "maybe_copy" in node.op.tags else None
        if like is not None and not like.is_contiguous():
            return True
        node = node.args[0]
    return False


def _asked(tr: Tracer, ends: Iterable[Node]) -> list[Node]:
    """The calls that decide how these values lie, in program order."""
    found, stack = set(), list(ends)
    while stack:
        node = stack.pop()
        if node not in found and node.op is not None and node not in tr.inputs:
            found.add(node)
            stack += [] if _is_product(node) else node.inputs
    return [n for n in tr.graph.nodes if n in found]


def _array(tr: Tracer, node: Any) -> Any:
    """As the node's value lies: views of one value show parts of one array."""
    found = tr.arrays.get(node)
    if found is None:
        try:
            found = (_find(tr, node),)
        except Exception:                                         # nothing is in them: indices may point anywhere
            found = (None,)
        tr.arrays[node] = found
    return found[0]


def _find(tr: Tracer, node: Any) -> Any:
    if isinstance(node.meta, tuple) or node in tr.scalars:
        return None
    if node in tr.inputs:
        return _input(tr, node)
    op = node.op
    if op is None:
        return layouts.rows(node)
    if op.mutates:
        return _array(tr, node.args[op.mutates[0]])
    if _is_product(node) or "bodies" in op.tags:                  # (what is in a dummy might keep a loop going)
        return layouts.rows(node)
    known = {n: _array(tr, n) for n in node.inputs}
    if "random" in op.tags or any(a is None for a in known.values()):
        return layouts.rows(node)
    if op.family != "view" and all(a.flags.c_contiguous for a in known.values()):
        return layouts.rows(node)
    return _run(node, {n: wrap(a) for n, a in known.items()})


def _is_product(node: Node) -> bool:
    """Whether the result lies row-major whatever the arguments do."""
    op = node.op
    return op is not None and (op.family == "contraction" or "by_parts" in op.tags)


def _input(tr: Tracer, node: Any) -> Any:
    source, raw = tr.inputs[node]
    if raw._a.flags.c_contiguous:
        tr.guard(source, (("row-major", True), lambda w, v: f"{v}._a.flags.c_contiguous is True", "{} is contiguous"))
        return layouts.rows(node)
    order = memory_order(raw._a)
    tr.guard(source, (("memory order", order),
                      lambda w, v: f"not {v}._a.flags.c_contiguous and {w.constant(memory_order)}({v}._a) == {order}",
                      "{} is not contiguous, and the order of its dimensions in memory the same"))
    return layouts.dummy(raw._a.dtype, raw._a.shape, raw._a.strides)


def _run(node: Any, inputs: dict[Any, Tensor]) -> Any:
    """What eager mode makes of tensors that lie so, whatever is in them."""
    rows, copies = layouts.rows(node), node.op.family != "view" or "maybe_copy" in node.op.tags
    if rows is None or (copies and rows.nbytes + sum(t._a.nbytes for t in inputs.values()) > _LARGEST):
        return rows
    args = tree_map(lambda v: inputs[v] if isinstance(v, Node) else v.hint if isinstance(v, SymInt) else v, node.args)
    with use_handler(base.handler), GradMode(False), np.errstate(all="ignore"):
        found = base.handler(node.op, args)
    return found._a
