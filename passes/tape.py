"""Which of a graph's values the tape would keep for the backward.

Eager mode keeps what the derivatives read. The program may write to everything else before the backward runs, so of
an input or output that the tape does not keep, a compiled backward may keep only a copy.
"""

from __future__ import annotations

from flambeau.ir.graph import Graph, Node, getitem, gradients, root_of
from flambeau.ir.tree import leaves

from .decompose import decompose
from .reverse import needs_parts


def loose_values(graph: Graph) -> tuple[list[int], list[int]]:
    """Positions of the inputs and outputs of a functional ``graph`` whose memory the tape would not keep."""
    if any(node.op is gradients for node in graph.nodes):   # what it keeps is known only when they are spelled out
        return [], []
    if any(needs_parts(node.op) for node in graph.nodes):   # type: ignore[arg-type]
        graph = decompose(graph, lambda op: not needs_parts(op))
    kept = _kept(graph)
    inputs, outputs = ([i for i, n in enumerate(nodes) if isinstance(n, Node) and root_of(n, maybe=True) not in kept]
                       for nodes in (graph.inputs, graph.outputs))
    return inputs, outputs


def _kept(graph: Graph) -> set[Node]:
    """The values whose memory the tape keeps."""
    taped = {node.args[0] for node in graph.nodes if node.op is getitem and node.requires_grad}
    found: set[Node] = set()
    for node in graph.nodes:
        op = node.op
        assert op is not None
        if op is getitem and node.args[0] in found:
            found.add(node)
        elif "nograd" not in op.tags and (node.requires_grad or node in taped):
            kept = [node, *node.inputs] if "derivative" in op.extra else _read_by_derivative(node)
            found.update(root_of(n, maybe=True) for n in kept)
    return found


def _read_by_derivative(node: Node) -> list[Node]:
    """The arguments, and the result, whose data the derivatives of a call read."""
    op = node.op
    assert op is not None
    needs = tuple(any(isinstance(n, Node) and n.requires_grad for n in leaves(node.args[i])) for i in op.tensor_slots)
    if not op.differentiable or not any(needs):
        return []
    out, args = op.saves(needs)
    read = [n for arg, keep in zip(node.args, args) if keep for n in leaves(arg) if isinstance(n, Node)]
    return [*read, node] if out else read
