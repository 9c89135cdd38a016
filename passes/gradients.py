"""Gradients asked for inside the program (``backward``, ``autograd.grad``) become the steps that compute them.

In a captured graph ``ops.gradients(outputs, grad_outputs, inputs, ...)`` stands for a run of the tape. Once the graph is
functional, each is replaced by the derivatives of the steps before it, in program order, so that a later one may
differentiate an earlier one's steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.ir.grad import zeros_of
from flambeau.ir.graph import Graph, Node, as_leaf, getitem, gradients, is_view, map_nodes, tape_point
from flambeau.ir.op import get_op, ops, use_handler
from flambeau.ir.tracing import GraphTensor
from flambeau.ir.tree import leaves

from .decompose import Decomposer, replace_node
from .reverse import Reverse, needs_parts
from .simplify import simplify


@dataclass
class Expanded:
    """``graph`` without ``gradients``. ``spent``: positions of its outputs whose tape was freed on the way."""

    graph: Graph
    spent: list[int]


def expand_gradients(graph: Graph) -> Expanded:
    """Replace what asks for gradients in a functional graph.

    Raises ``NotImplementedError`` for an op on the way that has neither rule nor parts.
    """
    if not any(n.op is gradients for n in graph.nodes):
        return Expanded(graph, [])
    run = _Expander(graph)
    run.copy()
    outputs = [map_nodes(lambda n: run.env[n], out) for out in graph.outputs]
    spent = run.spent_among(outputs)
    for node in spent:
        node.requires_grad = False
    run.graph.outputs = run.distinct(outputs)
    without_points(run.graph)
    run.graph.remove_dead()
    return Expanded(simplify(run.graph), [i for i, n in enumerate(outputs) if n in spent])


def reached(graph: Graph, node: Node) -> list[bool | None]:
    """For each result of ``node``, the last step of ``graph``: None if there is no gradient, else whether it requires one."""
    run = _Expander(graph)
    run.copy(only=node)
    return [None if g is None else g.requires_grad for g in run.found[node]]


class _Expander:
    """Copies a graph, putting the steps of the derivatives where they are asked for."""

    def __init__(self, source: Graph) -> None:
        self.source, self.graph = source, Graph(source.name)
        self.builder = Decomposer(self.graph, lambda op: not (needs_parts(op) and self.builder.grad_enabled))
        self.builder.recorded = {n.args[0] for n in source.nodes if n.op is getitem and n.requires_grad}
        self.env: dict[Node, Any] = {n: self.graph.input(n.name, n.meta, n.requires_grad, n.loc) for n in source.inputs}
        self.found: dict[Node, list[Node | None]] = {}
        self.freed: set[Node] = set()

    def copy(self, only: Node | None = None) -> None:
        """The graph's steps and those of its derivatives; with ``only``, of those derivatives that have no history just what
        they are like: nothing goes through them."""
        with use_handler(self.builder):
            for node in self.source.nodes:
                if node.op is gradients:
                    bare = only is not None and node is not only and not node.args[4]
                    self.env[node] = [zeros_of(m).node for m in node.meta] if bare else self.differentiate(node)
                    continue
                self.builder.grad_enabled = node.requires_grad or node in self.builder.recorded
                self.env[node] = replace_node(self.builder, node, self.env)

    def differentiate(self, node: Node) -> list[Node]:
        """The gradients that ``node`` stands for; zeros where there is none (see ``reached``)."""
        outputs, given, inputs, retain, create = map_nodes(lambda n: self.env[n], node.args)
        self.builder.grad_enabled, self.builder.loc = create, node.loc
        reverse = Reverse(self.graph, self.builder, self._between(inputs))
        for out, g in zip(outputs, given):
            if g is None:
                g = ops.full(tuple(out.meta.shape), 1.0, dtype=out.meta.dtype, device=out.meta.device)
            reverse.accumulate(out, g if isinstance(g, GraphTensor) else GraphTensor(g))
        reverse.run(self.graph.nodes[:])
        if not retain:
            self.freed |= reverse.saving
        found = [reverse.grads.get(n) for n in inputs]
        self.found[node] = [None if g is None else g.node for g in found]
        self.builder.loc = node.loc
        return [(zeros_of(m) if g is None else g).node for g, m in zip(found, node.meta)]

    def _between(self, inputs: Sequence[Node]) -> set[Node]:
        """The nodes that depend on ``inputs``, and these."""
        found = set(inputs)
        for node in self.graph.nodes:
            if any(n in found for n in node.inputs):
                found.add(node)
        return found

    def distinct(self, outputs: list[Any]) -> list[Any]:
        """The outputs, each a value of its own that is no view: a gradient may be another's, an input, or expanded."""
        taken: set[Node] = set(self.graph.inputs)
        found = []
        with use_handler(self.builder):
            self.builder.grad_enabled = True
            for old, node in zip(self.source.outputs, outputs):
                if node in taken or is_view(node.op) and not is_view(old.op):
                    node = ops.clone(GraphTensor(node)).node
                taken.add(node)
                found.append(node)
        return found

    def spent_among(self, outputs: list[Any]) -> set[Node]:
        """The outputs whose gradient would run into a freed step."""
        memo: set[Node] = set(self.freed)
        for node in self.graph.nodes if memo else ():
            recorded = node.requires_grad or isinstance(node.meta, tuple)
            if recorded and any(n in memo and (n.requires_grad or isinstance(n.meta, tuple)) for n in node.inputs):
                memo.add(node)
        return {n for n in leaves(outputs) if isinstance(n, Node) and n.requires_grad and n in memo}


def without_points(graph: Graph) -> None:
    """Let readers of a point of the tape, or of a leaf made on the way, read the value itself."""
    instead: dict[Node, Node] = {}
    kept = []
    outputs = set(graph.output_nodes())
    for node in graph.nodes:
        node.args = map_nodes(lambda n: instead.get(n, n), node.args)
        if node.op is not tape_point and node.op is not as_leaf:
            kept.append(node)
        elif node in outputs:
            node.op, node.args = get_op("clone"), (node.args[0], None)
            kept.append(node)
        else:
            instead[node] = node.args[0]
    graph.nodes = kept
