"""Symbolic sizes in graphs: whoever runs a graph reads them off the shapes of its inputs, so each must be there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.ir.graph import Graph, Node
from flambeau.ir.symint import SymInt
from flambeau.ir.tree import leaves


def used_sizes(graph: Graph) -> set[str]:
    """Names of the size symbols in shapes, arguments and outputs of a graph."""
    found: set[str] = set()
    for node in graph.inputs + graph.nodes:
        for meta in node.meta if isinstance(node.meta, tuple) else (node.meta,):
            found |= _symbols(meta.shape if meta is not None else ())
        found |= _symbols(node.args)
    return found | _symbols(graph.outputs)


def given_sizes(node: Node) -> set[str]:
    """Names of the sizes that are a dimension of ``node`` by themselves."""
    if isinstance(node.meta, tuple):
        return set()
    return {str(s) for s in node.meta.shape if isinstance(s, SymInt) and str(s).isidentifier()}


def carriers(graph: Graph, candidates: Iterable[Node]) -> list[Node]:
    """Those of ``candidates`` that ``graph`` needs as further inputs, for sizes that its own do not give."""
    missing = used_sizes(graph).difference(*map(given_sizes, graph.inputs)) if graph.inputs else used_sizes(graph)
    found = []
    for node in candidates if missing else ():
        if given_sizes(node) & missing:
            missing -= given_sizes(node)
            found.append(node)
    return found


def _symbols(tree: Any) -> set[str]:
    return {str(s) for x in leaves(tree) if isinstance(x, SymInt) for s in x.env.simplify(x.expr).free_symbols}
