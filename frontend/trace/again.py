"""A frame that runs natively although its graph has run, or failed: when it may, and how a call begins again."""
from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import CellType, CodeType, FunctionType
from typing import Any

from flambeau.ir.graph import Graph, Node, as_leaf, root_of
from flambeau.ir.tree import leaves


def outside_changes(graph: Graph) -> set[str]:
    """What a run of the graph changes that is seen outside: "written" for inputs, "drawn" for random numbers, "effect"."""
    found = set()
    for node in graph.walk():
        op = node.op
        if op is None or op is as_leaf:
            continue
        if "random" in op.tags:
            found.add("drawn")
        if "effect" in op.tags:
            found.add("effect")
        if any(root_of(n, maybe=True).op is None for k in op.mutates for n in leaves(node.args[k]) if isinstance(n, Node)):
            found.add("written")
    return found


def written_inputs(graph: Graph) -> list[int]:
    """Which inputs the graph itself writes to."""
    roots = {root_of(n, maybe=True) for node in graph.nodes if node.op is not None for k in node.op.mutates
             for n in leaves(node.args[k]) if isinstance(n, Node)}
    return [k for k, node in enumerate(graph.inputs) if node in roots]


def call_original(code: CodeType, globals: dict[str, Any], local: Sequence[Any], cells: Sequence[CellType]) -> Any:
    """Call the function of this code with the values that its frame began with."""
    count, only = code.co_argcount, code.co_kwonlyargcount
    args, named, rest = list(local[:count]), dict(zip(code.co_varnames[count:count + only], local[count:])), \
        list(local[count + only:])
    if code.co_flags & inspect.CO_VARARGS:
        args += rest.pop(0)
    if code.co_flags & inspect.CO_VARKEYWORDS:
        named |= rest.pop(0)
    return FunctionType(code, globals, code.co_name, None, tuple(cells))(*args, **named)
