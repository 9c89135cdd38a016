"""In which order random numbers fill a symbolic tensor: eager mode fills memory, so what lies columns first gets columns first.

An input that lies row-major is guarded to do so, another to lie in the same order. Ops of row-major tensors give row-major ones;
how another result lies, eager mode is asked.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.trace import layouts
from flambeau.ir.graph import Node
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
    try:
        found = _array(tr, node)
    except Exception:                                             # nothing is in them: indices may point anywhere
        return None
    return None if found is None else wrap(found)


def memory_order(array: np.ndarray) -> tuple[int, ...]:
    """The dimensions of an array from the widest stride to the narrowest; those that do not step are left out."""
    return tuple(sorted((d for d in range(array.ndim) if array.shape[d] != 1 and array.strides[d]),
                        key=lambda d: -array.strides[d]))


def _array(tr: Tracer, node: Any) -> Any:
    """As the node's value lies: views of one value show parts of one array."""
    found = tr.arrays.get(node)
    if found is None:
        found = tr.arrays[node] = (_find(tr, node),)
    return found[0]


def _find(tr: Tracer, node: Any) -> Any:
    if isinstance(node.meta, tuple) or node in tr.scalars:
        return None
    if node in tr.inputs:
        return _input(tr, node)
    op = node.op
    if op is None:
        return _rows(node)
    if op.mutates:
        return _array(tr, node.args[op.mutates[0]])
    known = {n: _array(tr, n) for n in node.inputs}
    if "random" in op.tags or any(a is None for a in known.values()):
        return _rows(node)
    if op.family != "view" and all(a.flags.c_contiguous for a in known.values()):
        return _rows(node)
    return _run(node, {n: wrap(a) for n, a in known.items()})


def _input(tr: Tracer, node: Any) -> Any:
    source, raw = tr.inputs[node]
    if raw._a.flags.c_contiguous:
        tr.guard(source, (("row-major", True), lambda w, v: f"{v}._a.flags.c_contiguous is True", "{} is contiguous"))
        return _rows(node)
    order = memory_order(raw._a)
    tr.guard(source, (("memory order", order),
                      lambda w, v: f"not {v}._a.flags.c_contiguous and {w.constant(memory_order)}({v}._a) == {order}",
                      "{} is not contiguous, and the order of its dimensions in memory the same"))
    return layouts.dummy(raw._a.dtype, raw._a.shape, raw._a.strides)


def _sizes(node: Any) -> tuple[int, ...]:
    return tuple(n.hint if isinstance(n, SymInt) else n for n in node.meta.shape)


def _rows(node: Any) -> Any:
    """Row-major."""
    dtype, sizes, strides = node.meta.dtype.np, _sizes(node), []
    step = dtype.itemsize
    for n in reversed(sizes):
        strides.append(step)
        step *= max(n, 1)
    return layouts.dummy(dtype, sizes, tuple(reversed(strides)))


def _run(node: Any, inputs: dict[Any, Tensor]) -> Any:
    """What eager mode makes of tensors that lie so, whatever is in them."""
    if sum(t._a.nbytes for t in inputs.values()) > _LARGEST:
        return _rows(node)
    args = tree_map(lambda v: inputs[v] if isinstance(v, Node) else v.hint if isinstance(v, SymInt) else v, node.args)
    with use_handler(base.handler), GradMode(False), np.errstate(all="ignore"):
        found = base.handler(node.op, args)
    return found._a
