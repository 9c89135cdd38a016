"""Find subgraphs by example and replace them: a pattern is the graph of a Python function, so it reads as the program does.

Numbers of a pattern that may be anything are written as :func:`any_number`; dimensions count from the end; operands of
commutative ops match in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flambeau.ir.graph import Graph, Node, map_nodes
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import use_handler
from flambeau.ir.tracing import GraphBuilder, GraphTensor

Binding = dict[Any, Any]


class _AnyNumber(float):
    """Stands in a pattern for a number to be found; told by identity."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def any_number() -> float:
    """A number for a pattern to be traced with, which matches every number."""
    return _AnyNumber(0.75)


@dataclass(eq=False)
class Pattern:
    """``form(*tensors, *numbers)`` is what is looked for; ``make`` of the same what takes its place.

    ``examples`` are metas of the tensors to trace ``form`` with; ``fits(*tensors, *numbers)`` says whether a match may
    be replaced (it sees symbolic tensors and the numbers found).
    """

    name: str
    form: Callable[..., Any]
    make: Callable[..., Any]
    examples: Sequence[TensorMeta]
    numbers: int = 0
    fits: Callable[..., bool] = lambda *values: True
    _graph: Graph | None = field(default=None, repr=False)
    _wild: tuple[Any, ...] = ()

    @property
    def graph(self) -> Graph:
        """The traced form, without the numbers among its inputs."""
        if self._graph is None:
            graph = Graph(self.name)
            tensors = [GraphTensor(graph.input(f"x{i}", meta)) for i, meta in enumerate(self.examples)]
            self._wild = tuple(any_number() for _ in range(self.numbers))
            with use_handler(GraphBuilder(graph)):
                graph.outputs = [self.form(*tensors, *self._wild).node]
            self._graph = graph
        return self._graph

    def match(self, root: Node) -> tuple[list[Node], list[Any], set[Node]] | None:
        """The tensors and numbers at which ``root`` has this form, and the nodes in between."""
        graph = self.graph
        found = next(_matches(graph.outputs[0], root, {}), None)
        if found is None:
            return None
        tensors = [found[n] for n in graph.inputs]
        inner = {v for k, v in found.items() if isinstance(k, Node) and k.op is not None}
        return tensors, [found[id(w)] for w in self._wild], inner


def rewrite(graph: Graph, patterns: Sequence[Pattern]) -> Graph:
    """``graph`` with every match replaced whose inner values nobody else reads; the first pattern that fits wins."""
    present = {n.op for n in graph.nodes}
    patterns = [p for p in patterns if all(n.op in present for n in p.graph.nodes)]
    hits = _hits(graph, patterns) if patterns else {}
    return _replaced(graph, hits) if hits else graph


def _hits(graph: Graph, patterns: Sequence[Pattern]) -> dict[Node, tuple[Pattern, list[Node], list[Any]]]:
    users, outputs = graph.users(), set(graph.output_nodes())
    found: dict[Node, tuple[Pattern, list[Node], list[Any]]] = {}
    taken: set[Node] = set()
    for root in reversed(graph.nodes):
        for pattern in patterns:
            match = pattern.match(root)
            if match is None:
                continue
            tensors, numbers, inner = match
            private = all(n not in outputs and all(u in inner for u in users[n]) for n in inner - {root})
            if private and not inner & taken and pattern.fits(*map(GraphTensor, tensors), *numbers):
                found[root] = pattern, tensors, numbers
                taken |= inner
                break
    return found


def _replaced(graph: Graph, hits: dict[Node, tuple[Pattern, list[Node], list[Any]]]) -> Graph:
    new = Graph(graph.name)
    env: dict[Node, Node] = {n: new.input(n.name, n.meta, n.requires_grad, n.loc) for n in graph.inputs}
    for node in graph.nodes:
        if node not in hits:
            args = map_nodes(env.__getitem__, node.args)
            env[node] = new.add(node.op, args, node.meta, node.loc, node.requires_grad, node.name)  # type: ignore[arg-type]
            continue
        pattern, tensors, numbers = hits[node]
        with use_handler(GraphBuilder(new, node.loc, node.requires_grad)):
            env[node] = pattern.make(*(GraphTensor(env[t]) for t in tensors), *numbers).node
    new.outputs = [map_nodes(env.__getitem__, out) for out in graph.outputs]
    new.remove_dead()
    return new


# ---- matching -----------------------------------------------------------------------------------------------------


def _matches(pattern: Any, value: Any, bound: Binding) -> Iterator[Binding]:
    """The ways in which ``value`` has the form ``pattern``, as extensions of ``bound``."""
    if isinstance(pattern, Node):
        yield from _node_matches(pattern, value, bound)
    elif isinstance(pattern, _AnyNumber):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and bound.get(id(pattern), value) == value:
            yield {**bound, id(pattern): value}
    elif isinstance(pattern, (tuple, list)):
        if isinstance(value, (tuple, list)) and len(value) == len(pattern):
            yield from _all_match(list(zip(pattern, value)), bound)
    elif type(pattern) is type(value) and pattern == value:
        yield bound


def _node_matches(pattern: Node, value: Any, bound: Binding) -> Iterator[Binding]:
    if not isinstance(value, Node):
        return
    if pattern in bound:
        if bound[pattern] is value:
            yield bound
        return
    if pattern.op is None:
        yield {**bound, pattern: value}
        return
    if pattern.op is not value.op:
        return
    bound = {**bound, pattern: value}
    for args in _orders(pattern, value):
        yield from _all_match(list(zip(*args)), bound)


def _all_match(pairs: list[tuple[Any, Any]], bound: Binding) -> Iterator[Binding]:
    if not pairs:
        yield bound
        return
    for found in _matches(*pairs[0], bound):
        yield from _all_match(pairs[1:], found)


def _orders(pattern: Node, value: Node) -> Iterator[tuple[list[Any], list[Any]]]:
    """The arguments of both, dimensions counted from the end; operands of a commutative op also swapped."""
    mine, theirs = _canonical(pattern), _canonical(value)
    yield mine, theirs
    if pattern.op.extra.get("commutative"):  # type: ignore[union-attr]
        yield mine, [theirs[1], theirs[0], *theirs[2:]]


def _canonical(node: Node) -> list[Any]:
    op = node.op
    assert op is not None
    args = list(node.args)
    source = next((a for a in args if isinstance(a, Node)), None)
    dims = [i for i, p in enumerate(op.schema.params) if p.type == "int" and p.name.startswith("dim") and args[i] is not None]
    if source is None or not dims or isinstance(source.meta, tuple):
        return args
    counted = sorted(d if d < 0 else d - source.meta.ndim for d in (args[i] for i in dims))
    for i, d in zip(dims, counted):
        args[i] = d
    return args
