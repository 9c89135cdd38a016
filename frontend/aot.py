"""Ahead-of-time compilation of one captured graph: forward, and a backward that stays differentiable.

:func:`compile_graph` turns a graph into a function of flat eager tensors. Without gradients that is the functional
graph built by the target, then the epilogue. With gradients the joint graph is cut into a forward and a backward; the
forward's results hang on one tape node, whose backward is built by the target the first time it is needed. Under
``create_graph`` the node runs the joint graph op by op on the tape instead, so derivatives of any order are right.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any, Protocol

from flambeau.ir.device import Device
from flambeau.ir.dtype import DType
from flambeau.ir.graph import Graph, Node, is_view, parse_graph
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import Op
from flambeau.ir.stage import stage
from flambeau.ir.tree import leaves
from flambeau.passes import manager
from flambeau.passes.functionalize import Functional
from flambeau.passes.joint import Joint
from flambeau.passes.layout import UnknownLayout
from flambeau.passes.partition import partition
from flambeau.passes.sizes import given_sizes, used_sizes
from flambeau.runtime.code import GraphCode
from flambeau.runtime.graphs import graph_code, graph_function

from .runners import ByOps, Ending, GraphRunner, NotKept, Runner, Training, ended, ordered


class Target(Protocol):
    """What builds graphs of pure ops: which ops it takes whole, and the function it makes of a graph.

    The built function takes the graph's inputs (eager tensors, no tape) and returns its outputs as new tensors.
    """

    name: str

    def keep(self, op: Op) -> bool: ...

    def build(self, graph: Graph, options: dict[str, Any]) -> Runner: ...


class CompileWarning(UserWarning):
    """A graph could not be compiled for the target and runs op by op instead."""


def compile_graph(graph: Graph, target: Target, options: dict[str, Any] | None = None, fullgraph: bool = False,
                  lasting: Collection[int] = ()) -> Runner:
    """A function of the graph's inputs (a sequence of eager tensors) that returns its outputs as a tuple.

    ``options``: ``memory_budget`` (see ``passes.partition``), and the target's own. What cannot be compiled runs op by
    op with one :class:`CompileWarning`; with ``fullgraph`` the error is raised instead. ``lasting`` are the positions of
    inputs that nobody is expected to write to between forward and backward: parameters.
    """
    options = dict(options or {})
    if _has_no_data(graph):
        return GraphRunner(graph_code(graph))
    try:
        return _compile(stage("graph", graph), target, options, lasting)
    except Exception as error:
        if fullgraph and not isinstance(error, UnknownLayout):
            raise
        return _fallback(graph, target, error)


def _has_no_data(graph: Graph) -> bool:
    """Whether some values of the graph are on the meta device: code would compute them."""
    return any(meta.device.type == "meta" for node in (*graph.inputs, *graph.walk()) for meta in leaves(node.meta)
               if isinstance(meta, TensorMeta))


def _compile(graph: Graph, target: Target, options: dict[str, Any], lasting: Collection[int] = ()) -> Runner:
    functional = manager.functional(graph, lasting)
    if any(isinstance(o, Node) and o.requires_grad for o in functional.graph.outputs):
        return _Training(graph, functional, target, options)
    pure = stage("forward", manager.lowered(functional.graph, target.keep))
    ending = _ending(graph, functional)
    seen = {j for which, j in ending.places if which}  # what the epilogue makes results of is not to be an input's memory
    in_place = {j: i for i, j in ending.backs if j not in seen} if getattr(target, "writes_in_place", False) else {}
    run = target.build(pure, options, writebacks=in_place) if in_place else target.build(pure, options)  # type: ignore[call-arg]
    return ended(_ordered(run, functional.graph), ending)


def _ordered(run: Runner, graph: Graph) -> Runner:
    """``run``, whose results lie in memory as the outputs of the functional ``graph`` are said to."""
    orders = [(i, graph.orders[n.name]) for i, n in enumerate(graph.outputs) if isinstance(n, Node) and n.name in graph.orders]
    return ordered(run, orders) if orders else run


def _fallback(graph: Graph, target: Target, error: Exception, recorded: bool = True) -> Runner:
    where = next((n.loc for n in graph.nodes if n.loc), "")
    warnings.warn(f"graph {graph.name}{f' ({where})' if where else ''} runs op by op: target {target.name!r} could not "
                  f"compile it: {type(error).__name__}: {error}", CompileWarning, stacklevel=4)
    run = graph_function(graph, recorded)
    return lambda inputs: run(*inputs)


# ---- what the program does besides computing values ---------------------------------------------------------------


def _ending(graph: Graph, functional: Functional) -> Ending:
    """What the program does with the values of the functional graph: the epilogue on the real tensors; op by op where a
    written input has an alias."""
    outputs = functional.graph.outputs
    epilogue, backs = _write_backs(functional)
    spent = [i for i, n in enumerate(epilogue.outputs) if isinstance(n, Node) and _is_spent(n, functional.spent)]
    by_op = ByOps(lambda: graph_code(graph))
    laid_out = [i for i, n in enumerate(functional.graph.inputs) if n.name in functional.row_major]
    written = [i for i, n in enumerate(functional.graph.inputs) if n.name in functional.written]
    names = [n.name for n in epilogue.outputs if isinstance(n, Node)]
    plain = not written and not epilogue.nodes and names == [n.name for n in outputs] and len(epilogue.outputs) == len(outputs)
    return Ending(None if plain else ByOps(lambda: graph_code(epilogue)), [] if plain else _places(functional, epilogue), written,
                  backs, spent, by_op if written else None, laid_out, by_op if functional.row_major else None)


def _is_spent(node: Node, spent: frozenset[str]) -> bool:
    """Whether a result of the epilogue has a place on a tape that is freed; what was detached from it has none."""
    while node.op is not None and is_view(node.op):
        if node.op.name == "detach":
            return False
        node = node.args[0]
    return node.name in spent


def _write_backs(functional: Functional) -> tuple[Graph, list[tuple[int, int]]]:
    """The epilogue without its plain copies of outputs into inputs, and these as (input, output) pairs of positions."""
    graph, epilogue = functional.graph, functional.epilogue
    inputs = {n.name: i for i, n in enumerate(graph.inputs)}
    outputs = {n.name: i for i, n in enumerate(graph.outputs)}
    backs, copies = [], set()
    for node in epilogue.nodes:
        if node.op is not None and node.op.name == "copy_" and not node.requires_grad:
            target, value = node.args[:2]
            if target.name in inputs and value.name in outputs and target.is_input and value.is_input and (
                    target.meta == value.meta):
                backs.append((inputs[target.name], outputs[value.name]))
                copies.add(node)
    rest = Graph(epilogue.name, [], [n for n in epilogue.nodes if n not in copies], epilogue.outputs, epilogue._names)
    read = {n for node in rest.nodes for n in node.inputs} | set(rest.output_nodes())
    rest.inputs = [n for n in epilogue.inputs if n in read or given_sizes(n)]
    return rest, backs


def _places(functional: Functional, epilogue: Graph) -> list[tuple[int, int]]:
    """Where the epilogue's arguments come from: (0, number of an input) or (1, number of an output)."""
    at = {n.name: (0, i) for i, n in enumerate(functional.graph.inputs)}
    at |= {n.name: (1, i) for i, n in enumerate(functional.graph.outputs)}
    return [at[n.name] for n in epilogue.inputs]


# ---- training -----------------------------------------------------------------------------------------------------


class _Training(Training):
    """A graph with gradients: the built forward, and the backward to be built."""

    def __init__(self, graph: Graph, functional: Functional, target: Target, options: dict[str, Any]) -> None:
        super().__init__()
        self.source, self.target, self.options = graph, target, options
        self.joint: Joint = manager.joint_of(functional)
        lowered = manager.lowered_joint(self.joint, target.keep)
        parts = partition(lowered, float(options.get("memory_budget", 1.0)))
        self.forward_graph, self.backward_graph = stage("forward", parts.forward), stage("backward", parts.backward)
        self.run_forward = _ordered(target.build(self.forward_graph, options), functional.graph)
        self.n_inputs, self.n_outputs = self.joint.n_inputs, self.joint.n_outputs
        self.tangents, self.wanted = self.joint.tangents, self.joint.wanted
        self.metas = [self.joint.graph.outputs[i].meta for i in self.tangents]
        self.input_metas = [n.meta for n in self.joint.graph.inputs[:self.n_inputs]]
        self.places = self._saved_places(parts.saved)
        read = {n for node in self.backward_graph.nodes for n in node.inputs} | set(self.backward_graph.output_nodes())
        self.only_sizes = tuple(k for k, n in enumerate(self.backward_graph.inputs[:len(self.places)]) if n not in read)
        self.protected = self._inputs_to_protect(functional)
        self.symbolic = bool(used_sizes(self.joint.graph))
        # What a second derivative starts from; with symbolic sizes all inputs, as any shape may be asked for.
        self.again = tuple(range(self.joint.n_inputs)) if self.symbolic else self._inputs_of_gradients()
        self.random = any("random" in n.op.tags for n in graph.walk())  # type: ignore[union-attr]
        self.ending = _ending(graph, functional)
        self.epilogue = self.ending.after(self.run_values)
        if self.symbolic:  # what is assumed of the sizes on the way must be known when the guards are written
            self._run_backward = self._build_backward()

    def _joint_code(self) -> GraphCode:
        return graph_code(self.joint.graph)

    def _backward_text(self) -> tuple[str, str, dict[str, Any]]:
        graph = self.backward_graph
        if self.symbolic or not all(isinstance(a, _READABLE) for node in graph.nodes for a in leaves(node.args)):
            raise NotKept(f"the backward of {self.source.name} does not read back from its text")
        return self.target.name, str(graph), self.options

    def _build_backward(self) -> Runner:
        try:
            return self.target.build(self.backward_graph, self.options)
        except Exception as error:  # the forward has run: its gradient must come, one way or the other
            if self.options.get("fullgraph"):
                raise
            return _fallback(self.backward_graph, self.target, error, recorded=False)

    # ---- what is known once

    def _saved_places(self, count: int) -> list[tuple[bool, int]]:
        """Where the backward's saved values come from: (is an output, position)."""
        inputs = {n.name: i for i, n in enumerate(self.forward_graph.inputs)}
        outputs = {n.name: i for i, n in reversed(list(enumerate(self.forward_graph.outputs)))}
        return [(False, inputs[n.name]) if n.name in inputs else (True, outputs[n.name])
                for n in self.backward_graph.inputs[:count]]

    def _inputs_of_gradients(self) -> tuple[int, ...]:
        """The inputs whose data some gradient depends on."""
        graph, found = self.joint.graph, set()
        stack = [g for g in graph.outputs[self.n_outputs:] if g is not None]
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += node.inputs
        return tuple(i for i, n in enumerate(graph.inputs[:self.joint.n_inputs]) if n in found)

    def _inputs_to_protect(self, functional: Functional) -> list[int]:
        """Inputs that the epilogue overwrites although a gradient depends on what they were."""
        needed = set(self._inputs_of_gradients())
        return [i for i, n in enumerate(functional.graph.inputs) if n.name in functional.written and i in needed]


#: Arguments of ops that are read back from a graph's text as they were.
_READABLE = (Node, int, float, complex, str, bool, type(None), DType, Device)


def build_backward(target: Target, text: str, options: dict[str, Any]) -> Runner:
    """The backward that another process cut off and did not build."""
    graph = parse_graph(text)
    if str(graph) != text:
        raise RuntimeError("the backward graph kept in the kernel cache does not read back: set FLAMBEAU_WARM=0")
    try:
        return target.build(stage("backward", graph), options)
    except Exception as error:
        if options.get("fullgraph"):
            raise
        return _fallback(graph, target, error, recorded=False)
