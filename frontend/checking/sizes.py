"""Graphs with symbolic sizes, for the search and its scripts: made anew for the sizes of one call."""
from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.pieces import compile_pieces
from flambeau.ir.graph import Graph, parse_graph
from flambeau.ir.symint import ShapeEnv, SymInt, bind_sizes

_SYMBOL = re.compile(r"\b[su]\d+\b")


def is_symbolic(text: str) -> bool:
    """Whether sizes of a graph, printed as ``text``, are symbols."""
    return any(_SYMBOL.search(metas) for metas in re.findall(r": \w+\[(.*?)\]", text))


def parse_for(text: str, shapes: Sequence[Sequence[int]]) -> Graph:
    """The graph that prints as ``text``, with symbols for inputs of these shapes: what its sizes are assumed to be is open."""
    if not is_symbolic(text):
        return parse_graph(text)
    rough = parse_graph(text, _symbols(ShapeEnv()))
    return parse_graph(text, _symbols(ShapeEnv(hints=bind_sizes([n.meta.shape for n in rough.inputs], shapes))))


def _symbols(env: ShapeEnv) -> Callable[[str], SymInt]:
    known: dict[str, SymInt] = {}

    def symbol(name: str) -> SymInt:
        if not name.startswith("u"):
            return env.named(name)
        while name not in known:                      # (they are numbered in the order in which they are made)
            new = env.create_unbacked()
            known[str(new)] = new
        return known[name]
    return symbol


def unbacked(graph: Graph) -> bool:
    """Whether data decides some of a graph's sizes."""
    metas = [m for n in graph.nodes for m in (n.meta if isinstance(n.meta, tuple) else (n.meta,)) if m is not None]
    return any(isinstance(s, SymInt) and s.env.unbacked for m in metas for s in m.shape)


def whole(graph: Graph, backend: Callable[..., Any]) -> Callable[..., Any]:
    """The backend, which compiles a graph whose sizes data decides in pieces."""
    return functools.partial(compile_pieces, backend) if unbacked(graph) else backend
