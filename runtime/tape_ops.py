"""The ops of a graph that run the tape, on real tensors: what a captured `backward` does when its graph runs op by op."""

from __future__ import annotations

from typing import Any

from flambeau.ir.graph import as_leaf, gradients, tape_point
from flambeau.ir.op import Op, ops

from .autograd import grad


def runner(op: Op) -> Any:
    """The eager runner of an op of the family "tape"."""
    return {gradients: _gradients, as_leaf: lambda args: args[0].requires_grad_(), tape_point: lambda args: args[0]}[op]


def _gradients(args: tuple) -> tuple:
    """``ops.gradients`` on the real tape. The results share memory with nothing.

    The hooks of leaves are in the graph already.
    """
    outputs, given, inputs, retain, create = args
    hooks = [(t, t._hooks) for t in inputs if t._grad_fn is None and t._hooks]
    for t, _ in hooks:
        t._hooks = None
    try:
        found = grad(outputs, inputs, list(given), retain_graph=retain, create_graph=create, allow_unused=True)
    finally:
        for t, watching in hooks:
            t._hooks = watching
    taken: set[int] = {id(g._storage) for g in given if g is not None}
    results = []
    for g in found:
        if g is not None and (id(g._storage) in taken or g._storage.array is not g._a):
            g = ops.clone(g)
        if g is not None:
            taken.add(id(g._storage))
        results.append(g)
    return tuple(results)
