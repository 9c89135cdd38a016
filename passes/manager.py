"""The pipeline of graph passes as named stages; each can be run alone on a graph's text."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from flambeau.ir.graph import Graph, Node, bodies, gradients, parse_graph
from flambeau.ir.op import Op
from flambeau.ir.stage import stage

from .decompose import decompose
from .functionalize import Functional, functionalize
from .gradients import expand_gradients, without_points
from .joint import Joint, joint, parse_joint
from .partition import partition
from .patterns import use_kernels
from .simplify import simplify
from .tape import loose_values

Keep = Callable[[Op], bool]


def functional(graph: Graph, lasting: Collection[int] = ()) -> Functional:
    """The functional form of a captured graph, simplified, with the kernels we have for what it spells out.

    ``lasting``: positions of inputs that nobody is expected to write to before the backward runs.
    """
    found = functionalize(graph)
    loose = loose_values(found.graph) if any(n.requires_grad for n in found.graph.output_nodes()) else ([], [])
    orders = {i: found.graph.orders[n.name] for i, n in enumerate(found.graph.outputs) if n.name in found.graph.orders}
    found.graph = _renamed_outputs(found, use_kernels(simplify(found.graph)))
    expanded = None
    if any(n.op is gradients for n in found.graph.nodes):
        expanded = expand_gradients(stage("functional", found).graph)
        found.graph = _renamed_outputs(found, expanded.graph)
        found.spent = frozenset(found.graph.outputs[i].name for i in expanded.spent)
    else:
        without_points(found.graph)
    names = [n.name for n in found.graph.outputs]
    found.loose = frozenset(found.graph.inputs[i].name for i in loose[0] if i not in lasting) | {names[i] for i in loose[1]}
    found.graph.orders = {names[i]: order for i, order in orders.items()}
    return stage("gradients" if expanded is not None else "functional", found)


def _renamed_outputs(before: Functional, graph: Graph) -> Graph:
    """``graph`` with the output names that the epilogue knows."""
    renamed: dict[str, str] = {}  # applied at once: one output's new name may be another's old one
    for old, new in zip(before.graph.outputs, graph.outputs):
        if old.name != new.name:
            taken = {n.name for n in graph.inputs + graph.nodes}
            new.name = old.name if old.name not in taken else new.name
        renamed[old.name] = new.name
    for param in before.epilogue.inputs:
        param.name = renamed.get(param.name, param.name)
    taken = {n.name for n in before.epilogue.inputs}
    before.epilogue._names |= dict.fromkeys(taken, 1)
    for node in before.epilogue.nodes:  # the epilogue's own values make way
        if node.name in taken:
            node.name = before.epilogue.fresh(node.name)
    return graph


def joint_of(found: Functional) -> Joint:
    """The joint graph of a functional graph."""
    graph = found.graph
    inputs, outputs = (tuple(i for i, n in enumerate(nodes) if isinstance(n, Node) and n.name in found.loose)
                       for nodes in (graph.inputs, graph.outputs))
    return stage("joint", replace(joint(graph), loose=(inputs, outputs)))


def lowered(graph: Graph, keep: Keep) -> Graph:
    """``graph`` in the ops that a target takes. Past differentiation: nothing in it requires a gradient."""
    parts = decompose(graph, keep)
    _forget_tape(parts)
    return simplify(parts)


def _forget_tape(graph: Graph) -> None:
    for node in graph.inputs + graph.nodes:
        node.requires_grad = False
        for body in bodies(node):
            _forget_tape(body)


def lowered_joint(found: Joint, keep: Keep) -> Joint:
    """The joint graph in the ops that a target takes."""
    return replace(found, graph=lowered(found.graph, keep))


_PASSES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "functionalize": (parse_graph, functionalize),
    "decompose": (parse_graph, lambda graph: decompose(graph, lambda op: False)),
    "simplify": (parse_graph, simplify),
    "joint": (parse_graph, joint),
    "partition": (parse_joint, partition),
    "patterns": (parse_graph, use_kernels),
}


def run_pass(name: str, text: str, **options: Any) -> Any:
    """Parse ``text`` as what the pass takes, and run the pass. Raises ``KeyError`` for an unknown one."""
    read, run = _PASSES[name]
    return run(read(text), **options)
