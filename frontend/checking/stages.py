"""Which stage of the compiler, and which op, first departs from the graph run op by op on the eager runtime.

The graph is compiled again with its stages switched on one after the other: functionalized, simplified and matched,
differentiated, decomposed, and finally built by the target. The first that gives another outcome on the same inputs has the
bug. The op is found by cutting the graph shorter.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flambeau.frontend import aot
from flambeau.frontend.backends import EagerTarget, _aot_eager, _cpp, _numpy, _triton
from flambeau.frontend.checking.compare import Difference, compare_tensors
from flambeau.frontend.checking.examples import (
    Example,
    Runner,
    differs,
    frontier,
    node_values,
    prefix,
    reference,
    run_example,
    stretch,
)
from flambeau.frontend.checking.sizes import is_symbolic, parse_for, unbacked, whole
from flambeau.frontend.targets import NumpyTarget, cpp_target
from flambeau.ir.graph import Graph, Node, gradients, map_nodes
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import get_op
from flambeau.passes import manager
from flambeau.runtime.tensor import Tensor, wrap

#: How many parts of a graph are built, at most, to find the op at fault; up to how many nodes every one is tried in order.
TRIES, FEW = 80, 24


@dataclass
class Finding:
    """What is known about a mismatch."""

    stage: str
    difference: Difference
    op: str = ""
    node: str = ""
    line: str = ""
    graph: Graph | None = None          # the smallest graph that shows it
    example: Example | None = None      # its inputs
    note: str = ""
    within: str = ""                    # the op of the program that ``op`` is a part of


def _ended(graph: Graph, functional: Any, run: Runner) -> Runner:
    """``run`` for the values of a functional graph, then what the program does with them."""
    return aot._ending(graph, functional).after(run)


class PassesOnly:
    """A target that builds nothing: graphs run op by op, and what was run is remembered."""

    def __init__(self, keep: Callable[[Any], bool], name: str) -> None:
        self.keep, self.name = keep, name
        self.runs: list[tuple[Graph, Example]] = []

    def build(self, graph: Graph, options: dict[str, Any]) -> Runner:
        run = reference(graph, recorded=False)

        def remembered(inputs: Sequence[Tensor]) -> Sequence[Any]:
            self.runs.append((graph, Example(inputs, [False] * len(inputs))))
            return run(inputs)
        return remembered


def target_of(backend: Any) -> Any:
    """The target behind a backend of ours; None for `eager` and for a user's."""
    if backend is _triton:
        from flambeau.frontend.triton import TritonTarget  # noqa: PLC0415 - needed with that backend only
        return TritonTarget()
    found: Any = {_cpp: cpp_target, _numpy: NumpyTarget, _aot_eager: EagerTarget}.get(backend)
    return None if found is None else found()


class Search:
    """The search for the stage and the op at fault in one graph, on one example of its inputs."""

    def __init__(self, graph: Graph, example: Example, target: Any, options: dict[str, Any]) -> None:
        text = str(graph)
        if is_symbolic(text):                        # the guards of the trace are written: its sizes can be asked nothing more
            graph = parse_for(text, [t.shape for t in example.inputs])
        self.graph, self.example, self.target = graph, example, target
        self.options = {k: v for k, v in options.items() if k != "check"}
        self.tries = 0
        self.inner = next((k for k, n in enumerate(graph.nodes) if n.op is gradients), None)   # where its tape first runs

    def run(self) -> Finding | None:
        """The finding; None when every stage, built anew, agrees with the graph."""
        expected = run_example(reference(self.graph), self.example)
        for stage, build in self._stages():
            difference = self._differs(self.graph, self.example, build, expected)
            if difference is not None:
                finding = self._explain(stage, build, difference)
                finding.within = self._within(finding)
                return finding
        return None

    # ---- stages

    def _stages(self) -> Iterator[tuple[str, Callable[[Graph], Runner]]]:
        if unbacked(self.graph):
            if self.target is not None:
                yield "pieces", self._in_pieces
            return
        yield "functionalize", self._functionalized
        yield "simplify", self._simplified
        yield "patterns", self._matched
        if self.inner is not None:
            yield "gradients", self._expanded
        if self.target is None:
            return
        yield "joint", self._joint
        yield "partition", lambda graph: aot._compile(graph, PassesOnly(lambda op: True, self.target.name), self.options)
        yield "decompose", lambda graph: aot._compile(graph, PassesOnly(self.target.keep, self.target.name), self.options)
        yield "kernel", lambda graph: aot._compile(graph, self.target, self.options)

    def _in_pieces(self, graph: Graph) -> Runner:
        """A graph whose sizes data decides."""
        return whole(graph, lambda piece, examples, options, fullgraph: aot._compile(piece, self.target, options))(
            graph, self.example.inputs, self.options, True)

    @staticmethod
    def _functionalized(graph: Graph) -> Runner:
        found = manager.functionalize(graph)
        return _ended(graph, found, reference(found.graph))

    @staticmethod
    def _simplified(graph: Graph) -> Runner:
        found = manager.functionalize(graph)
        found.graph = manager._renamed_outputs(found, manager.simplify(found.graph))
        return _ended(graph, found, reference(found.graph))

    @staticmethod
    def _matched(graph: Graph) -> Runner:
        found = manager.functionalize(graph)
        found.graph = manager._renamed_outputs(found, manager.use_kernels(manager.simplify(found.graph)))
        return _ended(graph, found, reference(found.graph))

    @staticmethod
    def _expanded(graph: Graph) -> Runner:
        found = manager.functional(graph)
        return _ended(graph, found, reference(found.graph))

    def _joint(self, graph: Graph) -> Runner:
        """The whole joint graph as forward and as backward: nothing is cut."""
        functional = manager.functional(graph)
        if not any(isinstance(o, Node) and o.requires_grad for o in functional.graph.outputs):
            return _ended(graph, functional, reference(functional.graph))
        return _JointRunner(graph, functional, self.options).epilogue

    def _differs(self, graph: Graph, example: Example, build: Callable[[Graph], Runner],
                 expected: Any = None, recorded: bool = True) -> Difference | None:
        expected = expected or run_example(reference(graph, recorded), example, differentiate=recorded)
        if expected.error:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = build(graph)
        except Exception as error:
            return Difference("the compiler", f"raises {type(error).__name__}: {error}")
        return differs(run, graph, example, expected, recorded)

    # ---- the op

    def _explain(self, stage: str, build: Callable[[Graph], Runner], difference: Difference) -> Finding:
        if stage == "kernel":
            found = self._kernel(difference)
            if found is not None:
                return found
        if stage == "functionalize" and difference.path.startswith("written"):
            stage = "write-back"
        if stage == "partition" and not difference.path.startswith("gradient"):
            stage = "simplify"
        finding = Finding("kernel" if stage == "pieces" else stage, difference, graph=self.graph, example=self.example)
        first = None
        if stage == "gradients":                     # a derivative is as wrong where the forward alone is differentiated
            build = self._joint
            first = self._first_shown(build, self.inner)
            if first is None:
                build = self._expanded
        first = first or self._first_shown(build, len(self.graph.nodes))
        if first is None:
            self._name_by_output(finding)
            return finding
        k, part, shown = first
        node = self.graph.nodes[k]
        smaller = prefix(self.graph, k)
        alone = None if smaller is None else self._differs(smaller, self.example, build)
        if smaller is not None and alone is not None:
            part, shown = smaller, alone
        node = self._view_before(k, build) or node
        return replace(finding, difference=shown, op=_op(node), node=node.name, line=node.loc, graph=part)

    def _first_shown(self, build: Callable[[Graph], Runner], count: int | None) -> tuple[int, Graph, Difference] | None:
        """The first of ``count`` nodes up to which the graph shows a difference."""
        def shown(k: int) -> tuple[int, Graph, Difference] | None:
            part = frontier(self.graph, k)
            if part is None or not self._may_try():
                return None
            found = self._differs(part, self.example, build)
            return None if found is None else (k, part, found)
        return first_of(_ends(self.graph.nodes[:count]), shown)

    def _within(self, finding: Finding) -> str:
        """The op of the program that an op of a later stage is a part of."""
        here = [n for n in self.graph.nodes if n.loc == finding.line and n.op is not None and n.op.name != "getitem"]
        names = list(dict.fromkeys(_op(n) for n in here))
        if self.target is None or finding.op in names or not finding.op:
            return ""
        made = [n for n in names if finding.op in {part for node in here if _op(node) == n for part in self._parts(node)}]
        return " or ".join(made or names)

    def _parts(self, node: Node) -> list[str]:
        """The ops that the target is handed for one op."""
        alone = Graph(self.graph.name)
        env = {n: alone.input(n.name, n.meta, False, n.loc) for n in node.inputs if is_single(n.meta)}
        try:
            alone.outputs = [alone.add(node.op, map_nodes(env.__getitem__, node.args), node.meta, node.loc)]  # type: ignore[arg-type]
            return [_op(n) for n in manager.lowered(manager.functional(alone).graph, self.target.keep).nodes]
        except Exception:                            # an op that gives several values, or stands for others
            return []

    def _view_before(self, k: int, build: Callable[[Graph], Runner]) -> Node | None:
        """A view that node ``k`` reads, if it is wrong to any reader: as a result, a view is made outside the graph."""
        for view in self.graph.nodes[k].inputs:
            if view.op is None or "view" not in view.op.tags or not is_single(view.meta) or not view.meta.dtype.differentiable:
                continue
            part = prefix(self.graph, self.graph.nodes.index(view))
            if part is None or not self._may_try():
                continue
            read = part.add(get_op("neg"), (view,), view.meta, view.loc, view.requires_grad)
            part.outputs = [read]
            if self._differs(part, self.example, build) is not None:
                return view
        return None

    def _may_try(self) -> bool:
        self.tries += 1
        return self.tries <= TRIES

    def _name_by_output(self, finding: Finding) -> None:
        """No shorter graph shows it: the op whose result is wrong."""
        nodes = [o for o in self.graph.outputs if isinstance(o, Node)] if finding.difference.path.startswith("output") else \
            self.graph.inputs
        at = [int(w) for w in finding.difference.path.split() if w.isdigit()]
        node = nodes[at[0]] if at and at[0] < len(nodes) else None
        if node is not None and node.op is None:          # an input: the op that writes it, or reads it last
            readers = [n for n in self.graph.nodes if node in n.inputs]
            writers = [n for n in readers if n.op is not None and n.op.mutates]
            node = (writers or readers or [node])[-1]
        if node is not None:
            finding.op, finding.node, finding.line = _op(node), node.name, node.loc

    # ---- kernels

    def _kernel(self, difference: Difference) -> Finding | None:
        """Passes are right: which of the graphs handed to the target is built wrong, and which op in it."""
        passes = PassesOnly(self.target.keep, self.target.name)
        run_example(aot._compile(self.graph, passes, self.options), self.example)
        for graph, example in passes.runs:
            found = self._built_wrong(graph, example)
            if found is None:
                continue
            return self._single(graph, example) or self._shortest(graph, example) or self._whole(graph, example, found)
        return Finding("runtime", difference, graph=self.graph, example=self.example,
                       note="every kernel is right; what is saved for the backward or handed over is not")

    def _build(self, graph: Graph) -> Runner:
        return self.target.build(graph, self.options)

    def _built_wrong(self, graph: Graph, example: Example) -> Difference | None:
        return self._differs(graph, example, self._build, recorded=False)

    def _suspects(self, graph: Graph, example: Example, values: dict[Node, Any]) -> list[int]:
        """The nodes that come out wrong where every value is a result."""
        shown = [k for k, n in enumerate(graph.nodes) if is_single(n.meta)]
        part = Graph(graph.name, list(graph.inputs), list(graph.nodes), [graph.nodes[k] for k in shown])
        part._names = dict(graph._names)
        try:
            found = self._build(part)(example.copies()[0])
        except Exception:
            return []
        return [k for k, value in zip(shown, found) if compare_tensors(values[graph.nodes[k]], value)]

    def _single(self, graph: Graph, example: Example) -> Finding | None:
        """An op that is wrong by itself."""
        values = node_values(graph, example.copies()[0])
        order = list(range(len(graph.nodes)))
        if len(order) > FEW:
            suspects = self._suspects(graph, example, values)
            order = suspects[:FEW] or order
        seen: set[Any] = set()
        for k in order:
            node = graph.nodes[k]
            key = (node.op, str(node.args), str([n.meta for n in node.inputs]))
            part = stretch(graph, k, k, values)
            if part is None or key in seen or not self._may_try():
                continue
            seen.add(key)
            alone = Example(part[1], [False] * len(part[1]))
            alone.random = example.random
            found = self._built_wrong(part[0], alone)
            if found is not None:
                return Finding("kernel", found, _op(node), node.name, node.loc, part[0], alone)
        return None

    def _shortest(self, graph: Graph, example: Example) -> Finding | None:
        """Ops that are wrong together: the first node that comes out wrong, and the shortest stretch up to it that shows it."""
        values = node_values(graph, example.copies()[0])

        def shown(k: int) -> tuple[int, Graph, Difference] | None:
            part = prefix(graph, k) if len(graph.nodes) <= FEW else frontier(graph, k)
            if part is None or not self._may_try():
                return None
            found = self._built_wrong(part, example)
            return None if found is None else (k, part, found)
        first = first_of(_ends(graph.nodes), shown)
        if first is None:
            return None
        k, part, found = first
        node = graph.nodes[k]
        best = Finding("fusion-schedule", found, _op(node), node.name, node.loc, part, example)
        for start in range(k - 1, -1, -1):
            shorter = stretch(graph, start, k, values)
            if shorter is None or not self._may_try():
                continue
            inside = Example(shorter[1], [False] * len(shorter[1]))
            inside.random = example.random
            wrong = self._built_wrong(shorter[0], inside)
            if wrong is not None:
                return replace(best, difference=wrong, graph=shorter[0], example=inside)
        return best

    def _whole(self, graph: Graph, example: Example, difference: Difference) -> Finding:
        """Wrong only as a whole (a buffer used twice, say): the op of the wrong result."""
        finding = Finding("fusion-schedule", difference, graph=graph, example=example)
        outputs = [o for o in graph.outputs if isinstance(o, Node)]
        at = [int(w) for w in difference.path.split() if w.isdigit()]
        if at and at[0] < len(outputs):
            node = outputs[at[0]]
            finding.op, finding.node, finding.line = _op(node), node.name, node.loc
        return finding


def first_of(numbers: Sequence[int], shown: Callable[[int], Any]) -> Any:
    """What ``shown`` says of the first of ``numbers`` of which it says something. Of many, they are halved: where one shows it,
    those behind it do as well."""
    if len(numbers) > FEW:
        low, high = 0, len(numbers) - 1
        best = shown(numbers[high])
        while best is not None and low < high:
            middle = (low + high) // 2
            here = shown(numbers[middle])
            if here is None:
                low = middle + 1
            else:
                best, high = here, middle
        if best is not None:
            return best
    return next((f for f in map(shown, numbers) if f is not None), None)


def _ends(nodes: Sequence[Node]) -> list[int]:
    """Where a graph can be cut: the nodes with one value."""
    return [k for k, n in enumerate(nodes) if is_single(n.meta) or (n.op is not None and n.op.mutates)]


class _JointRunner(aot._Training):
    """The joint graph itself as the compiled backward: the differentiation alone, nothing partitioned or lowered."""

    def __init__(self, graph: Graph, functional: Any, options: dict[str, Any]) -> None:
        keep = PassesOnly(lambda op: True, "passes")
        super().__init__(graph, functional, keep, options)
        run, n_in, n_out = reference(self.joint.graph, recorded=False), self.joint.n_inputs, self.n_outputs
        forward = reference(functional.graph, recorded=False)
        self.run_forward = lambda inputs: tuple(forward(inputs)) + tuple(_bare_copy(t) for t in inputs)
        self.places = [(True, n_out + i) for i in range(n_in)]
        self._run_backward = lambda given: list(run(given))[n_out:]


def _bare_copy(t: Tensor) -> Tensor:
    """The data of an input as it is now, whatever the program writes to it later."""
    found = wrap(t._a.copy())
    found._dtype = t._dtype
    return found


def _op(node: Node) -> str:
    """The op of a node, by its public name; of a part of a tuple, the op that makes the tuple."""
    if node.op is not None and node.op.name == "getitem":
        node = node.args[0]
    return node.op.name if node.op is not None else ""


def is_single(meta: Any) -> bool:
    """Whether a node has one tensor for its value."""
    return isinstance(meta, TensorMeta)
