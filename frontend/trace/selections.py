"""Ops whose result has as many elements as the data says, kept in the graph: `nonzero`, masks, `unique`...

Such an op says which of its sizes are new (`data_shape` among its facts). In the trace each is a symbol that nothing is known
of but that it is no less than 0; a question whose answer depends on it breaks the graph there. A graph with such symbols
runs in pieces around these ops (`frontend.pieces`).
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.values import Unsupported
from flambeau.ir.graph import Graph, Node

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


def meta_of_selection(tr: Tracer, graph: Graph, op: Any, args: tuple[Any, ...]) -> Any:
    """The meta of a call whose shape depends on data, with new symbols; None for any other op."""
    rule = op.extra.get("data_shape")
    if rule is None or graph is not tr.graph:                     # the body of a branch or a loop has one shape
        return None
    if any(n.op is not None and ("bodies" in n.op.tags or n.op.family == "tape") for n in graph.nodes):
        return None
    made: list[Any] = []

    def size(mask: Any = None) -> Any:
        """A new size; what one mask selects is as many wherever it is used."""
        key = None if mask is None or any(n.op is not None and n.op.mutates for n in graph.nodes) else _key(mask.node)
        known = tr.shapes.selected.get(key) if key is not None else None
        if known is not None:
            return known
        made.append(tr.shapes.new_env().create_unbacked())
        if key is not None:
            tr.shapes.selected[key] = made[-1]
        return made[-1]

    meta = rule(size, *args)
    if meta is None:
        return None
    for name in map(str, made):
        tr.shapes.unbacked[name] = (None, 0)                      # until a tensor shows it
    return meta


def _key(node: Any) -> Any:
    """Equal for nodes that compute the same."""
    if not isinstance(node, Node):
        return (type(node), repr(node)) if not isinstance(node, (list, tuple)) else tuple(map(_key, node))
    if node.op is None:
        return id(node)
    return id(node) if "random" in node.op.tags else (node.op.name, *map(_key, node.args))


def note_sizes(tr: Tracer, found: Any) -> None:
    """Remember the tensors that show the sizes which data decides."""
    for tensor in found if isinstance(found, tuple) else (found,):
        for dim, size in enumerate(getattr(tensor, "shape", ())):
            known = tr.shapes.unbacked.get(str(size)) if type(size) is not int else None
            if known is not None and known[0] is None:
                tr.shapes.unbacked[str(size)] = (tensor, dim)


def refuse_beside_selections(tr: Tracer, what: str) -> None:
    """Gradients taken inside the graph, branches and loops do not run in pieces."""
    if tr.shapes.unbacked:
        raise Unsupported("data-dependent", f"{what} follows an op whose result has as many elements as the data says",
                          "select with where(), which keeps the shape")
