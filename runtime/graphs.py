"""Run a captured graph op by op on eager tensors, with the tape on and off where the traced program had it so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ir.graph import Graph, Node, getitem
from flambeau.ir.symint import SymInt

from .code import GraphCode


def graph_function(graph: Graph, recorded: bool = True) -> Callable[..., tuple]:
    """A Python function of ``graph``'s inputs that returns its outputs as a tuple.

    ``recorded``: steps that required a gradient when traced are recorded, others are not; else none is.
    """
    return graph_code(graph, recorded).function()


def graph_code(graph: Graph, recorded: bool = True) -> GraphCode:
    """The source of that function, which can be kept and made a function of later."""
    return _Writer(graph, recorded).code()


class _Writer:
    """Writes the function's source: one line per node, each value deleted after its last use."""

    def __init__(self, graph: Graph, recorded: bool) -> None:
        self.graph, self.recorded = graph, recorded
        self.env: dict[str, Any] = {}
        self.names: dict[Node, str] = {n: f"v{i}" for i, n in enumerate(graph.inputs + graph.nodes)}
        self.consts = 0

    def code(self) -> GraphCode:
        body = [*self.sizes(), "_before = _mode.grad", "try:"]
        now: bool | None = None
        recorded = self._recorded_nodes() if self.recorded else set()
        last = self._last_uses()
        for node in self.graph.nodes:
            wanted = node in recorded
            if wanted is not now and node.op is not getitem:
                body.append(f"    _mode.grad = {wanted}")
                now = wanted
            body.append("    " + self.line(node))
            dead = [self.names[n] for n in last.get(node, ())]
            if dead:
                body.append(f"    del {', '.join(dead)}")
        body += [f"    return {self.expr(tuple(self.graph.outputs))}", "finally:", "    _mode.grad = _before"]
        params = ", ".join(self.names[n] for n in self.graph.inputs)
        return GraphCode("\n    ".join([f"def run({params}):", *body]), self.env)

    def sizes(self) -> list[str]:
        """Lines that read the symbolic sizes off the inputs."""
        found: dict[str, str] = {}
        for node in self.graph.inputs:
            for k, size in enumerate(node.meta.shape):
                if isinstance(size, SymInt) and str(size).isidentifier():
                    found.setdefault(str(size), f"{size} = {self.names[node]}.shape[{k}]")
        return list(found.values())

    def line(self, node: Node) -> str:
        if node.op is getitem:
            return f"{self.names[node]} = {self.expr(node.args[0])}[{node.args[1]}]"
        return f"{self.names[node]} = _state.handler({self.const(node.op)}, {self.expr(node.args)})"

    def expr(self, value: Any) -> str:
        if isinstance(value, Node):
            return self.names[value]
        if isinstance(value, SymInt):
            return f"({value})"
        if type(value) is tuple:
            return f"({''.join(self.expr(x) + ', ' for x in value)})"
        if type(value) is list:
            return f"[{', '.join(map(self.expr, value))}]"
        if value is None or isinstance(value, (bool, int, str)) and type(value) in (bool, int, str):
            return repr(value)
        return self.const(value)

    def const(self, value: Any) -> str:
        if isinstance(value, Graph) and value.run is None:
            run = graph_function(value, self.recorded)
            value.run = lambda inputs: run(*inputs)
            value.run.recorded = self.recorded  # a later process makes it again from the graph's text
        self.consts += 1
        self.env[f"c{self.consts}"] = value
        return f"c{self.consts}"

    def _recorded_nodes(self) -> set[Node]:
        found = {n for n in self.graph.nodes if n.requires_grad}
        return found | {n.args[0] for n in found if n.op is getitem}

    def _last_uses(self) -> dict[Node, list[Node]]:
        kept = set(self.graph.output_nodes())
        at: dict[Node, Node] = {}
        for node in self.graph.nodes:
            at[node] = node
            at.update(dict.fromkeys(node.inputs, node))
        found: dict[Node, list[Node]] = {}
        for value, user in at.items():
            if value not in kept:
                found.setdefault(user, []).append(value)
        return found
