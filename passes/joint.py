"""Forward and backward in one graph: the derivative rules of the ops, run on symbols in reverse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import Graph, Node, getitem, map_nodes, parse_graph
from flambeau.ir.op import use_handler
from flambeau.ir.tracing import GraphTensor

from .decompose import Decomposer, replace_node
from .reverse import Reverse, needs_parts


@dataclass
class Joint:
    """``graph`` takes the forward's inputs, then a gradient for each output in ``tangents``; it returns the forward's
    ``n_outputs`` outputs, then the gradient of each input in ``wanted`` (None: it has no influence).
    The steps of the backward are marked as requiring a gradient too, so the whole can be differentiated again.
    ``loose`` are the positions of inputs, and of outputs, that the program may write to before the backward runs."""

    graph: Graph
    n_inputs: int
    n_outputs: int
    tangents: tuple[int, ...]
    wanted: tuple[int, ...]
    loose: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    def __str__(self) -> str:
        loose = f", loose inputs {list(self.loose[0])}, outputs {list(self.loose[1])}" if any(self.loose) else ""
        return (f"# inputs {self.n_inputs}, outputs {self.n_outputs}, gradients of outputs {list(self.tangents)} "
                f"to inputs {list(self.wanted)}{loose}\n{self.graph}")

    def check(self) -> None:
        self.graph.check()


def parse_joint(text: str, symbols: Any = None) -> Joint:
    """The :class:`Joint` that prints as ``text``."""
    head, _, rest = text.partition("\n")
    found = re.fullmatch(r"# inputs (\d+), outputs (\d+), gradients of outputs \[(.*?)\] to inputs \[(.*?)\]"
                         r"(?:, loose inputs \[(.*)\], outputs \[(.*)\])?", head)
    if found is None:
        raise ValueError("a joint graph's text starts with a line that counts its inputs and outputs")
    n_inputs, n_outputs, *lists = found.groups()
    tangents, wanted, *loose = (tuple(int(x) for x in (part or "").split(",") if x.strip()) for part in lists)
    return Joint(parse_graph(rest, symbols), int(n_inputs), int(n_outputs), tangents, wanted, (loose[0], loose[1]))


def joint(graph: Graph) -> Joint:
    """The joint graph of a functional ``graph``, from its differentiable outputs to its inputs that require grad.

    Raises ``NotImplementedError`` for an op on the way that has neither rule nor parts.
    """
    return _Joint(graph).build()


class _Joint:
    def __init__(self, source: Graph) -> None:
        self.source = source
        self.graph = Graph("joint")
        self.builder = Decomposer(self.graph, lambda op: not (needs_parts(op) and self.builder.grad_enabled))

    def build(self) -> Joint:
        with use_handler(self.builder):
            outputs = self.forward()
            inputs = self.graph.inputs[:]
            forward_nodes = self.graph.nodes[:]
            tangents = tuple(i for i, o in enumerate(outputs) if isinstance(o, Node) and o.requires_grad)
            reverse = Reverse(self.graph, self.builder)
            for i in tangents:
                given = self.graph.input(f"grad_{outputs[i].name}", outputs[i].meta, True, outputs[i].loc)
                reverse.accumulate(outputs[i], GraphTensor(given))
            reverse.run(forward_nodes)
        wanted = tuple(i for i, n in enumerate(inputs) if n.requires_grad)
        found = [reverse.grads.get(inputs[i]) for i in wanted]
        self.graph.outputs = [*outputs, *(None if g is None else g.node for g in found)]
        self.graph.remove_dead()
        return Joint(self.graph, len(inputs), len(outputs), tangents, wanted)

    def forward(self) -> list[Any]:
        """Copy the forward, with those ops replaced by their parts whose derivative lies there."""
        env: dict[Node, Any] = {}
        for n in self.source.inputs:
            env[n] = self.graph.input(n.name, n.meta, n.requires_grad, n.loc)
        self.builder.recorded = {node for node in self.source.nodes if self._feeds_gradient(node)}
        for node in self.source.nodes:
            self.builder.grad_enabled = node.requires_grad or node in self.builder.recorded
            env[node] = replace_node(self.builder, node, env)
        self.builder.grad_enabled, self.builder.keep = True, lambda op: True
        return [map_nodes(env.__getitem__, out) for out in self.source.outputs]

    def _feeds_gradient(self, node: Node) -> bool:
        return isinstance(node.meta, tuple) and any(
            n.op is getitem and n.args[0] is node and n.requires_grad for n in self.source.nodes)
