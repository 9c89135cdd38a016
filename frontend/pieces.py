"""Graphs with sizes that data decides: compiled in pieces, with each op that makes such a size run by itself between them.

`x[mask]` ends a piece, since how much memory comes next is known only then. The op itself runs eagerly, on the tape like any
other; the next piece takes its result as an input, so the new size is to it what every other size is. A piece after such an op
is compiled when it is first reached, for whatever sizes it then sees, and checks at each run what its code assumed of them.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.ir.graph import Graph, Node, getitem, map_nodes, parse_graph
from flambeau.ir.op import call
from flambeau.ir.symint import ShapeEnv, SymInt, bind_sizes, evaluate
from flambeau.ir.tree import leaves, tree_map
from flambeau.runtime.autograd import GradMode

MOST_VERSIONS = 4           # of a piece; what fits none of them runs op by op


def compile_pieces(backend: Callable[..., Any], graph: Graph, examples: Sequence[Any], options: dict[str, Any],
                   fullgraph: bool) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """The graph as a function of its inputs; `backend` compiles its pieces."""
    if any(node.op is not None and node.op.mutates for node in graph.nodes):
        from .backends import lookup  # noqa: PLC0415 - they look each other up
        backend, options = lookup("eager"), {}                    # views and writes across pieces are eager's own
    steps = _steps(graph, lambda piece, first: Piece(piece, backend, options, fullgraph, list(examples) if first else None))
    last = _last_uses(graph, steps)

    def run(inputs: Sequence[Any]) -> tuple[Any, ...]:
        values: dict[Node, Any] = dict(zip(graph.inputs, inputs))
        for k, step in enumerate(steps):
            step.take(values)
            for dead in last.get(k, ()):
                del values[dead]
        return tuple(map_nodes(values.__getitem__, out) for out in graph.outputs)

    return run


class Selection:
    """The op that makes a size, with what takes its result apart."""

    def __init__(self, node: Node) -> None:
        self.nodes = [node]

    @property
    def outputs(self) -> list[Node]:
        return self.nodes

    @property
    def inputs(self) -> list[Node]:
        return list(dict.fromkeys(n for node in self.nodes for n in node.inputs if n not in self.nodes))

    def take(self, values: dict[Node, Any]) -> None:
        with GradMode(any(node.requires_grad for node in self.nodes)):
            for node in self.nodes:
                args = map_nodes(values.__getitem__, with_sizes(node.args, values))
                values[node] = args[0][args[1]] if node.op is getitem else call(node.op, args)      # type: ignore[arg-type]


def with_sizes(args: Any, values: dict[Node, Any]) -> Any:
    """The arguments of a call with numbers in place of sizes."""
    if not any(isinstance(a, SymInt) for a in leaves(args)):
        return args
    known = [(n, v) for n, v in values.items() if not isinstance(n.meta, tuple)]
    sizes = bind_sizes([n.meta.shape for n, _ in known], [v.shape for _, v in known])
    return tree_map(lambda a: evaluate(a, sizes), args)


class Piece:
    """The ops between two selections."""

    def __init__(self, graph: tuple[Graph, list[Node], list[Node]], backend: Callable[..., Any], options: dict[str, Any],
                 fullgraph: bool, examples: list[Any] | None) -> None:
        self.graph, self.inputs, self.outputs = graph
        self.backend, self.options, self.fullgraph = backend, options, fullgraph
        self.versions: list[tuple[Callable[[dict[str, int]], bool], Callable[..., Any]]] = []
        self.ops: Callable[..., Any] | None = None
        self.data_sizes = {name for n in self.inputs for name in _data_symbols(n)}
        self.names = {name: f"s{9000 + int(name[1:])}" for name in self.data_sizes}   # to the piece a size like any other
        if examples is not None:                                  # what it assumes of sizes, the guards of the whole say
            self.versions.append((lambda sizes: True, backend(self.graph, examples, dict(options), fullgraph)))

    def take(self, values: dict[Node, Any]) -> None:
        inputs = [values[n] for n in self.inputs]
        values.update(zip(self.outputs, self._version(inputs)(inputs)))

    def _version(self, inputs: list[Any]) -> Callable[..., Any]:
        bound = bind_sizes([n.meta.shape for n in self.inputs], [x.shape for x in inputs])
        if any(n < 2 for name, n in bound.items() if name in self.data_sizes):       # sizes of 0 and 1 mean something else
            return self._by_ops(inputs)
        sizes = {self.names.get(name, name): n for name, n in bound.items()}
        for fits, run in self.versions:
            if fits(sizes):
                return run
        if len(self.versions) >= MOST_VERSIONS:
            return self._by_ops(inputs)
        env = ShapeEnv(hints=dict(sizes))
        graph = parse_graph(str(self.graph), lambda name: env.named(str(self.names.get(name, name))))
        run = self.backend(graph, inputs, dict(self.options), self.fullgraph)
        env.frozen = True
        tests = compile(" and ".join(f"({guard.text})" for guard in env.guards) or "True", "<sizes of a piece>", "eval")
        self.versions.insert(0, (lambda sizes: bool(eval(tests, {}, sizes)), run))              # noqa: S307 - our own text
        return run


    def _by_ops(self, inputs: list[Any]) -> Callable[..., Any]:
        """The piece, op by op."""
        if self.ops is None:
            from .backends import lookup  # noqa: PLC0415 - they look each other up
            self.ops = lookup("eager")(self.graph, inputs, {}, self.fullgraph)
        return self.ops


def _steps(graph: Graph, piece: Callable[..., Any]) -> list[Any]:
    """Pieces and selections, in program order."""
    found: list[Any] = []
    waiting: list[Node] = []
    runs: list[tuple[bool, list[Node]]] = []
    for node in graph.nodes:
        made = _data_symbols(node) - {s for source in node.inputs for s in _data_symbols(source)}
        if node.op is getitem and runs and runs[-1][0] and node.args[0] in runs[-1][1]:
            runs[-1][1].append(node)
        elif made and "data_shape" in node.op.extra:              # type: ignore[union-attr]
            if waiting:
                runs.append((False, waiting))
                waiting = []
            runs.append((True, [node]))
        else:
            waiting.append(node)
    if waiting:
        runs.append((False, waiting))
    for k, (selects, nodes) in enumerate(runs):
        if selects:
            step = Selection(nodes[0])
            step.nodes = nodes
            found.append(step)
        else:
            later = {n for _, rest in runs[k + 1:] for node in rest for n in node.inputs} | set(graph.output_nodes())
            found.append(piece(_piece(graph, nodes, later, k), k == 0))
    return found


def _piece(graph: Graph, nodes: list[Node], later: set[Node], number: int) -> tuple[Graph, list[Node], list[Node]]:
    """A graph of some of the nodes, and which nodes of the whole its inputs and outputs are."""
    inside = set(nodes)
    if number == 0:
        inputs = list(graph.inputs)                               # in the order of the examples
    else:
        inputs = list(dict.fromkeys(n for node in nodes for n in node.inputs if n not in inside))
        inputs += _carriers(graph, nodes, inputs)
    outputs = [n for n in nodes if n in later]
    copied = {n: Node(n.name, None, (), n.meta, n.loc, n.requires_grad) for n in inputs}
    made = Graph(f"{graph.name}_{number + 1}", list(copied.values()))
    for n in nodes:
        args = tree_map(lambda a: copied[a] if isinstance(a, Node) else a, n.args)
        copied[n] = Node(n.name, n.op, args, n.meta, n.loc, n.requires_grad)
        made.nodes.append(copied[n])
    made.outputs = [copied[n] for n in outputs]
    made._names.update({n.name: 1 for n in (*made.inputs, *made.nodes)})
    return made, inputs, outputs


def _carriers(graph: Graph, nodes: list[Node], inputs: list[Node]) -> list[Node]:
    """Earlier values that show the sizes of which the nodes speak and which none of their inputs shows."""
    shown = {str(s) for n in inputs for s in _sizes(n)}
    needed = {name for node in nodes for s in (*_sizes(node), *leaves(node.args)) if isinstance(s, SymInt)
              for name in s.env.symbols_of(s)} | {name for n in inputs for s in _sizes(n) for name in s.env.symbols_of(s)}
    found: list[Node] = []
    for node in (*graph.inputs, *graph.nodes):
        if node is nodes[0]:
            break
        if not isinstance(node.meta, tuple) and (new := {str(s) for s in _sizes(node)} & (needed - shown)):
            shown |= new
            found.append(node)
    return found


def _sizes(node: Node) -> list[SymInt]:
    metas = node.meta if isinstance(node.meta, tuple) else (node.meta,)
    return [s for meta in metas if meta is not None for s in meta.shape if isinstance(s, SymInt)]


def _data_symbols(node: Node) -> set[str]:
    return {name for size in _sizes(node) for name in size.env.symbols_of(size) if name in size.env.unbacked}


def _last_uses(graph: Graph, steps: list[Any]) -> dict[int, list[Node]]:
    """Number of a step -> the values that nobody reads after it."""
    at: dict[Node, int] = {}
    for k, step in enumerate(steps):
        for node in (*step.inputs, *getattr(step, "outputs", ())):
            at[node] = k
    kept = set(graph.output_nodes())
    found: dict[int, list[Node]] = {}
    for node, k in at.items():
        if node not in kept:
            found.setdefault(k, []).append(node)
    return found
