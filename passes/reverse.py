"""Gradients by the chain rule, backwards through a graph of pure ops: what the joint graph and gradients inside a graph share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flambeau.ir.grad import fit_gradients, zeros_of
from flambeau.ir.graph import Graph, Node, getitem, map_nodes, root_of, tape_point
from flambeau.ir.op import Op, ops, use_handler
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.ir.tree import leaves

from .decompose import Decomposer, replace_node


def needs_parts(op: Op) -> bool:
    """Whether the gradient goes through the op's parts, for want of a rule of its own."""
    return op.decompose is not None and not op.differentiable and "nograd" not in op.tags


class Reverse:
    """Appends to ``graph``, by ``builder`` (the handler in charge), the steps that carry gradients back.

    ``within``: the nodes that gradients are sent to (None: all that require a gradient). ``saving`` collects the nodes
    whose derivatives read data that the tape would have kept.
    """

    def __init__(self, graph: Graph, builder: GraphBuilder, within: set[Node] | None = None) -> None:
        self.graph, self.builder, self.within = graph, builder, within
        self.grads: dict[Node, Any] = {}
        self.saving: set[Node] = set()
        self._parts: dict[Node, dict[int, Node]] = {}
        self._shown: dict[Node, Node] = {}  # for what a derivative reads of its result, the place where the tape has that
        for n in graph.nodes:
            if n.op is getitem:
                self._parts.setdefault(n.args[0], {}).setdefault(n.args[1], n)
            elif n.op is tape_point:
                self._shown[n.args[0]] = n

    def run(self, nodes: Iterable[Node]) -> None:
        """Send what has arrived at ``nodes`` (in program order) on to their arguments."""
        for node in reversed(list(nodes)):
            self.backward(node)

    def wants(self, x: Any) -> bool:
        """Whether the gradient of an argument is asked for."""
        return bool(getattr(x, "requires_grad", False)) and (self.within is None or x.node in self.within)

    def accumulate(self, node: Node, g: Any) -> None:
        before = self.grads.get(node)
        self.grads[node] = g if before is None else ops.add(before, g)

    def backward(self, node: Node) -> None:
        """Send what has arrived at ``node`` on to its arguments."""
        g = self.grads.get(node)
        if g is None or node.op is None:
            return
        self.builder.loc = node.loc
        if node.op is getitem:
            source = node.args[0]
            parts = self.grads.setdefault(source, [None] * len(source.meta))
            i = node.args[1]
            parts[i] = g if parts[i] is None else ops.add(parts[i], g)
            return
        op, args = node.op, map_nodes(GraphTensor, node.args)
        slots = [args[i] for i in op.tensor_slots]
        needs = [any(self.wants(x) for x in leaves(a)) for a in slots]
        if "nograd" in op.tags or not any(needs):
            return
        rule = op.extra.get("derivative")
        if rule is not None:
            self.through_bodies(rule, g, node, args, slots)
            return
        if not op.differentiable:
            raise NotImplementedError(f"{op.name} has no derivative (called at {node.loc or 'an unknown place'})")
        if any_saved(op, needs, args):
            self.saving.add(node)
        out: Any = GraphTensor(self._shown.get(node, node)) if not isinstance(node.meta, tuple) else self.results_of(node)
        if isinstance(g, list):
            g = tuple(zeros_of(m) if x is None and m is not None else x for x, m in zip(g, node.meta))
        found = fit_gradients(op, op.gradients(needs, g, out, args), args)
        for like, grad in zip(leaves(slots), found):
            if grad is not None and isinstance(like, GraphTensor) and self.wants(like):
                self.accumulate(like.node, grad)

    def through_bodies(self, rule: Any, g: Any, node: Node, args: tuple, slots: list[Any]) -> None:
        """A branch or a loop: its rule is written in the derivatives of its bodies."""
        self.saving.add(node)
        needs = [[self.wants(x) for x in a] if isinstance(a, (tuple, list)) else self.wants(a) for a in slots]
        found = fit_gradients(node.op, rule(gradient_graph, g, self.results_of(node), args, needs), args)  # type: ignore[arg-type]
        for like, grad in zip(leaves(slots), found):
            if grad is not None and self.wants(like):
                self.accumulate(like.node, grad)

    def results_of(self, node: Node) -> tuple:
        """The results of an op with several, each as its ``getitem``; one that the program does not read has a history too,
        through which a second derivative goes."""
        found = {i: self._shown.get(n, n) for i, n in self._parts.get(node, {}).items()}
        return tuple(None if m is None else GraphTensor(found.get(i) or self.graph.add(
            getitem, (node, i), m, node.loc, m.dtype.differentiable)) for i, m in enumerate(node.meta))


def any_saved(op: Op, needs: list[bool], args: tuple) -> bool:
    """Whether the tape would keep data of an argument or the result for the derivatives asked for."""
    out, kept = op.saves(tuple(needs))
    return out or any(keep and any(isinstance(x, GraphTensor) for x in leaves(a)) for keep, a in zip(kept, args))


# ---- bodies of branches and loops ---------------------------------------------------------------------------------


def gradient_graph(body: Graph, wanted: Sequence[bool], given: Sequence[bool]) -> Graph:
    """What turns the inputs of a functional ``body``, and the gradients of its outputs ``given``, into those of its inputs
    ``wanted``: zeros where there is no influence."""
    graph = Graph(body.name)
    builder = Decomposer(graph, lambda op: not (needs_parts(op) and builder.grad_enabled))
    with use_handler(builder):
        env: dict[Node, Any] = {n: graph.input(n.name, n.meta, flag, n.loc)
                                for n, flag in zip(body.inputs, [*wanted, *[False] * len(body.inputs)])}
        builder.recorded = {n.args[0] for n in body.nodes if n.op is getitem and n.requires_grad}
        for node in body.nodes:
            builder.grad_enabled = node.requires_grad or node in builder.recorded
            env[node] = replace_node(builder, node, env)
        builder.grad_enabled, builder.keep = True, lambda op: True
        forward, reverse = graph.nodes[:], Reverse(graph, builder)
        for out in [out for out, flag in zip(body.outputs, given) if flag]:
            g = graph.input(f"grad_{out.name}", out.meta, True, out.loc)
            if env[out].requires_grad:
                reverse.accumulate(env[out], GraphTensor(g))
        reverse.run(forward)
        inputs = [env[n] for n, flag in zip(body.inputs, wanted) if flag]
        found = [reverse.grads.get(n) for n in inputs]
        graph.outputs = distinct(graph, [zeros_of(n.meta).node if g is None else g.node for n, g in zip(inputs, found)])
    graph.remove_dead()
    return graph


def distinct(graph: Graph, outputs: Iterable[Node]) -> list[Node]:
    """``outputs`` as a body returns them: values of their own, none an input or a view of another. Ops are appended."""
    taken, found = set(graph.inputs), []
    for out in outputs:
        found.append(ops.clone(GraphTensor(out)).node if root_of(out) in taken else out)
        taken.add(root_of(found[-1]))
    return found
