"""Capture a Python function of tensors as a graph, without the bytecode tracer: for tests of what follows capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.ir.graph import Graph
from flambeau.ir.meta import meta_of
from flambeau.ir.op import use_handler
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.runtime.autograd import mode


class _Recorder(GraphBuilder):
    """Records with the grad mode that the running code has set."""

    def __call__(self, op: Any, args: tuple) -> Any:
        self.grad_enabled = mode.grad
        return super().__call__(op, args)


def capture(fn: Callable[..., Any], inputs: Sequence[Any], loc: str = "test.py:1") -> Graph:
    """The graph of ``fn(*inputs)``; only shapes, dtypes and ``requires_grad`` of the inputs count."""
    graph = Graph("forward")
    stand_ins = [GraphTensor(graph.input("x", meta_of(t), t.requires_grad)) for t in inputs]
    with use_handler(_Recorder(graph, loc)):
        found = fn(*stand_ins)
    outputs = found if isinstance(found, (tuple, list)) else (found,)
    graph.outputs = [o.node if isinstance(o, GraphTensor) else o for o in outputs]
    graph.check()
    return graph
