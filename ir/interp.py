"""Run a graph by calling its ops through the current handler: eagerly, or into another graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .graph import Graph, Node, getitem, map_nodes
from .op import call
from .tree import tree_map


def run_graph(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """The values of ``graph.outputs`` for ``inputs``; each value is dropped after its last use."""
    if len(inputs) != len(graph.inputs):
        raise TypeError(f"graph {graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    env: dict[Node, Any] = dict(zip(graph.inputs, inputs))
    if any(_is_symbolic(n) for n in graph.inputs):
        graph = _with_sizes(graph, inputs)
        env = dict(zip(graph.inputs, inputs))
    last = _last_uses(graph)
    for i, node in enumerate(graph.nodes):
        args = map_nodes(env.__getitem__, node.args)
        env[node] = args[0][args[1]] if node.op is getitem else call(node.op, args)  # type: ignore[arg-type]
        for dead in last.get(i, ()):
            del env[dead]
    return [map_nodes(env.__getitem__, out) for out in graph.outputs]


def _is_symbolic(node: Node) -> bool:
    return any(not isinstance(s, int) for s in node.meta.shape)


def _with_sizes(graph: Graph, inputs: Sequence[Any]) -> Graph:
    """``graph`` with the sizes of ``inputs`` in place of its symbols."""
    from .symint import bind_sizes, evaluate  # noqa: PLC0415 - only symbolic graphs need it
    sizes = bind_sizes([n.meta.shape for n in graph.inputs], [x.shape for x in inputs])
    fixed = Graph(graph.name, graph.inputs)
    copied: dict[Node, Any] = {n: n for n in graph.inputs}
    for node in graph.nodes:
        args = tree_map(lambda a: copied[a] if isinstance(a, Node) else evaluate(a, sizes), node.args)
        copied[node] = Node(node.name, node.op, args, node.meta, node.loc, node.requires_grad)
        fixed.nodes.append(copied[node])
    fixed.outputs = tree_map(lambda a: copied[a] if isinstance(a, Node) else evaluate(a, sizes), graph.outputs)
    return fixed


def _last_uses(graph: Graph) -> dict[int, list[Node]]:
    """Index of a node in ``graph.nodes`` -> the nodes read there for the last time (outputs never)."""
    at: dict[Node, int] = {}
    for i, node in enumerate(graph.nodes):
        at[node] = i
        for source in node.inputs:
            at[source] = i
    for out in graph.output_nodes():
        at.pop(out, None)
    found: dict[int, list[Node]] = {}
    for node, i in at.items():
        found.setdefault(i, []).append(node)
    return found
