"""Remove mutation and aliasing from a graph: every value is computed once, every write makes a new value.

Each value of the traced program is a chain of view steps over a storage. A write replaces the storage's current value;
a read of any alias replays its steps on the current value. What the program's caller can observe of mutation and
aliasing goes into an *epilogue*, a small graph that the runtime runs eagerly on the real tensors: it copies new values
into mutated inputs and makes the outputs that are views of inputs or of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau.ir.graph import (
    Graph,
    Node,
    as_leaf,
    bodies,
    copy_into,
    draws_inside,
    getitem,
    gradients,
    is_view,
    map_bodies,
    map_nodes,
    may_raise,
    parse_graph,
    root_of,
    tape_point,
)
from flambeau.ir.op import Op, get_op, ops, use_handler
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.ir.tree import leaves
from flambeau.ir.usage import parameter_uses

from .layout import Fork, Layout, UnknownLayout, last_uses, stand_in
from .sizes import carriers

_NEEDS = "# row-major: "
_SPENT = "# spent: "
_LOOSE = "# loose: "


@dataclass
class Functional:
    """A graph of pure ops on distinct values, and what makes the program's effects and outputs of its values.

    ``epilogue`` takes inputs and outputs of ``graph`` by name; its ``copy_`` nodes write the mutated inputs.
    """

    graph: Graph
    epilogue: Graph
    row_major: frozenset[str] = frozenset()  # inputs that must be laid out so: see ``passes/layout.py``
    spent: frozenset[str] = frozenset()  # outputs of ``graph`` whose tape the program has freed: see ``passes/gradients.py``
    loose: frozenset[str] = frozenset()  # inputs and outputs of ``graph`` that the tape does not keep: see ``passes/tape.py``
    # ``graph.orders`` are those of its outputs

    def __str__(self) -> str:
        facts = (_NEEDS, self.row_major), (_SPENT, self.spent), (_LOOSE, self.loose)
        return f"{self.graph}\n{self.epilogue}" + "".join(f"{head}{', '.join(sorted(names))}\n" for head, names in facts if names)

    def check(self) -> None:
        self.graph.check()
        self.epilogue.check()
        known = {n.name for n in self.graph.inputs + self.graph.output_nodes()}
        for node in self.epilogue.inputs:
            if node.name not in known:
                raise ValueError(f"the epilogue reads {node.name}, which {self.graph.name} neither takes nor returns")
        for node in self.graph.nodes:
            if node.op.mutates:  # type: ignore[union-attr]
                raise ValueError(f"{self.graph.name}: {node.name} still writes to its argument")

    @property
    def written(self) -> set[str]:
        """Names of the inputs that the epilogue writes to (or through a view of)."""
        return {root_of(node.args[node.op.mutates[0]]).name for node in self.epilogue.nodes  # type: ignore[union-attr]
                if node.op.mutates}  # type: ignore[union-attr]


def parse_functional(text: str, symbols: Any = None) -> Functional:
    """The :class:`Functional` that prints as ``text``."""
    first, _, second = text.rpartition("\ndef ")
    facts = []
    for head in (_LOOSE, _SPENT, _NEEDS):
        second, _, names = second.partition(head)
        facts.append(frozenset(names.strip().split(", ") if names else ()))
    return Functional(parse_graph(first, symbols), parse_graph("def " + second, symbols), *reversed(facts))


def functionalize(graph: Graph) -> Functional:
    """``graph`` without mutation and aliasing. Raises :class:`UnknownLayout`."""
    run = _Functionalizer(graph)
    for node in graph.nodes:
        run.visit(node)
    found = _Epilogue(run).build()
    _return_unread(found.graph)
    found.graph.remove_dead()
    return found


def _return_unread(graph: Graph) -> None:
    """Make calls that may raise, and that nobody reads, outputs: so no later pass drops them. The epilogue ignores them."""
    live = set(graph.output_nodes())
    for node in graph.nodes[::-1]:
        if node not in live and may_raise(node):
            graph.outputs.append(_without_tape(graph, node))
            live.add(node)
        if node in live or not node.op.tags.isdisjoint(("effect", "random")) or draws_inside(node):  # type: ignore[union-attr]
            live.update(_read(node))


def _read(node: Node) -> list[Node]:
    """The arguments whose data a call needs: of what it fills or replaces as a whole it needs the shape alone."""
    op = node.op
    assert op is not None
    if op.family == "scatter_view" and _elements(node.args[1]) == _elements(node.args[0]):
        return [node.args[1]]
    uses = parameter_uses(op.decompose) if op.decompose is not None and "bodies" not in op.tags else None
    if uses is None:
        return node.inputs
    return [n for k, a in enumerate(node.args) if k >= len(uses) or uses[k] for n in leaves(a) if isinstance(n, Node)]


def _elements(node: Node) -> Any:
    """How many elements there are, as a number or in words: of symbols nothing is to be asked."""
    shape = node.meta.shape
    return math.prod(shape) if all(type(n) is int for n in shape) else str([n for n in shape if type(n) is not int or n != 1])


def _without_tape(graph: Graph, node: Node) -> Node:
    """``node``, or its first result, as a value that has no gradient."""
    if isinstance(node.meta, tuple):
        first = next(i for i, m in enumerate(node.meta) if m is not None)
        return graph.add(getitem, (node, first), node.meta[first], node.loc)
    return graph.add(get_op("detach"), (node,), node.meta, node.loc) if node.requires_grad else node


def functional_body(body: Graph) -> Graph:
    """A branch or loop body without mutation, whose outputs are new values. Raises ``ValueError`` where it writes to an input."""
    found = functionalize(body)
    if any(node.op.mutates for node in found.epilogue.nodes):  # type: ignore[union-attr]
        raise ValueError(f"{body.name} writes to one of its inputs")
    graph, builder = found.graph, GraphBuilder(found.graph, grad_enabled=True)
    env: dict[Node, Any] = {param: _named(graph, param.name) for param in found.epilogue.inputs}
    copy_into(graph, found.epilogue.nodes, env)
    graph.outputs = map_nodes(env.__getitem__, found.epilogue.outputs)
    taken: set[Any] = set(graph.inputs)
    for i, out in enumerate(graph.outputs):  # each a value of its own
        if out is not None and root_of(out) in taken:
            with use_handler(builder):
                graph.outputs[i] = ops.clone(GraphTensor(out)).node
        taken.add(out if out is None else root_of(graph.outputs[i]))
    return graph


def _named(graph: Graph, name: str) -> Node:
    return next(n for n in (*graph.inputs, *graph.nodes) if n.name == name)


@dataclass(eq=False)
class _Storage:
    """What aliases share: its current value, how often it was written, and the input it belongs to.

    ``recorded`` is the value as the tape knows it: before writes that were not recorded.
    """

    current: GraphTensor
    origin: Node | None = None
    version: int = 0
    written_with_grad: bool = False
    layout: Layout = frozenset()
    recorded: GraphTensor = field(init=False)
    point: bool = False  # the gradient of the whole is asked for

    def __post_init__(self) -> None:
        self.recorded = self.current


@dataclass(frozen=True)
class _Step:
    """One view op of a chain: its arguments behind the tensor, and whether the program recorded it."""

    op: Op
    args: tuple
    loc: str
    grad: bool


@dataclass(eq=False)
class _Value:
    """A tensor of the program: a window on a storage, and its latest functional value."""

    storage: _Storage
    steps: tuple[_Step, ...] = ()
    tensor: GraphTensor | None = None
    version: int = -1
    point: bool = False  # its gradient is asked for: equal values must stay apart from it


class _Functionalizer:
    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.graph = Graph(graph.name)
        self.builder = GraphBuilder(self.graph, grad_enabled=True)
        self.writes = any(node.op.mutates for node in graph.nodes)  # type: ignore[union-attr]
        self.values: dict[Node, Any] = {}
        self.forks: list[Fork] = []
        self.row_major: set[str] = set()
        self.careful = self.writes and any("maybe_copy" in node.op.tags for node in graph.nodes)  # type: ignore[union-attr]
        self.last_uses = last_uses(graph) if self.careful else {}
        self.points = {n for node in graph.nodes if node.op is gradients for n in leaves(node.args[2])}
        for node in graph.inputs:
            new = GraphTensor(self.graph.input(node.name, node.meta, node.requires_grad, node.loc))
            self.values[node] = _Value(_Storage(new, new.node, layout=frozenset((node.name,))), (), new, 0)

    def visit(self, node: Node) -> None:
        op = node.op
        assert op is not None
        if op.mutates:
            self.write(node)
        elif self.careful and "maybe_copy" in op.tags:
            self.fork(node)
        elif is_view(op):
            self.values[node] = self.view(node)
        elif op is getitem:
            self.values[node] = self.values[node.args[0]][node.args[1]]
        elif op is gradients:
            self.differentiate(node)
        elif op is as_leaf:
            self.make_leaf(node)
        else:
            self.compute(node)
        if node in self.points and op is not as_leaf:
            self.mark(self.values[node])

    def compute(self, node: Node) -> None:
        """A pure op: the same call on the current values of its arguments."""
        self.add(node, map_nodes(lambda n: self.read(self.values[n]).node, node.args))

    def add(self, node: Node, args: tuple) -> None:
        meta = node.meta
        if "bodies" in node.op.tags:  # type: ignore[union-attr]
            args, meta = self.control(node, map_bodies(functional_body, args))
        recorded = node.requires_grad
        if recorded and "maybe_copy" in node.op.tags:  # type: ignore[union-attr]
            recorded = any(n.requires_grad for n in leaves(args) if isinstance(n, Node))  # (only a view follows what it shows)
        new = self.graph.add(node.op, args, meta, node.loc, recorded, stem=node.name)  # type: ignore[arg-type]
        if not isinstance(node.meta, tuple):
            self.values[node] = self.fresh(GraphTensor(new))
            if self.careful:
                self.values[node].storage.layout = self.layout_of(node)
            return
        parts = [None if m is None else self.fresh(GraphTensor(self.graph.add(getitem, (new, i), m, node.loc)))
                 for i, m in enumerate(meta)]
        self.values[node] = parts
        for user in self.source.nodes:
            if user.op is getitem and user.args[0] is node and parts[user.args[1]] is not None:
                tensor = parts[user.args[1]].tensor
                tensor.requires_grad = tensor.node.requires_grad = user.requires_grad

    def control(self, node: Node, args: tuple) -> tuple[tuple, Any]:
        """A branch or loop; one whose derivative will be asked for returns what that reads as well."""
        form = node.op.extra.get("with_states")  # type: ignore[union-attr]
        taped = any(n.op is getitem and n.args[0] is node and n.requires_grad for n in self.source.nodes)
        if taped and node.op.family == "control" and any(  # type: ignore[union-attr]
                "random" in n.op.tags for body in bodies(node) for n in body.walk()):  # type: ignore[union-attr]
            raise NotImplementedError(f"{node.name} ({node.loc}) draws random numbers in a branch or loop whose gradient "
                                      "computes it again; draw them outside and pass them in")
        if form is None or not taped:
            return args, node.meta
        args = form(*args)
        return args, node.op.infer(*map_nodes(GraphTensor, args))  # type: ignore[union-attr, misc]

    @staticmethod
    def fresh(tensor: GraphTensor) -> _Value:
        return _Value(_Storage(tensor), (), tensor, 0)

    def view(self, node: Node) -> _Value:
        source = self.values[node.args[0]]
        step = _Step(node.op, node.args[1:], node.loc, node.requires_grad)  # type: ignore[arg-type]
        return _Value(source.storage, (*source.steps, step))

    def fork(self, node: Node) -> None:
        """An op that is a view where the layout allows one, else a copy."""
        source, view = self.values[node.args[0]], self.view(node)
        layout = source.storage.layout
        shown = stand_in(view.storage.current, view.steps)
        if shown is None and (source.steps or node.meta.shape == source.storage.current.shape):
            layout = None
        if shown is not None and not np.may_share_memory(*shown):
            self.compute(node)
            self.values[node].storage.layout = frozenset()
        else:
            self.values[node] = view
        self.forks.append(Fork(source, self.values[node], layout))

    def layout_of(self, node: Node) -> Layout:
        """The layout of a pure op's result: row-major if its arguments are, unless the op lays it out as it likes."""
        found: frozenset[str] = frozenset()
        for value in map(self.values.__getitem__, node.inputs):
            shown = stand_in(value.storage.current, value.steps) if value.steps else None
            if value.storage.layout is None or value.steps and (shown is None or not shown[0].flags.c_contiguous):
                return None
            found |= value.storage.layout
        return None if "any_layout" in node.op.tags else found  # type: ignore[union-attr]

    def settle(self, node: Node, target: _Value) -> None:
        """Before a write: where a layout decides who sees it, that layout becomes a condition."""
        now = self.source.nodes.index(node)
        for fork in self.forks:
            here = fork.sides(target)
            if here[0] == here[1]:
                continue
            seen = here[1] and fork.source.storage.origin is not None or any(
                self.last_uses.get(n, -1) > now and isinstance(v, _Value) and fork.sides(v) == here[::-1]
                for n, v in self.values.items())
            if seen and fork.layout is None:
                raise UnknownLayout(f"{node.name} ({node.loc}) writes to a tensor that may share memory with its reshape, "
                                    "depending on strides. Fix: .view() for a view, .clone() for a copy")
            self.row_major |= fork.layout if seen and fork.layout else set()

    def mark(self, value: _Value) -> None:
        """Somebody will ask for the gradient of ``value``: make it a value of its own."""
        value.point, value.version = True, -1 if value.steps else value.version
        value.storage.point |= not value.steps
        if not value.steps and value.storage.origin is None:
            value.tensor = value.storage.current = value.storage.recorded = self.point(value.storage.current)

    def point(self, tensor: GraphTensor) -> GraphTensor:
        return GraphTensor(self.graph.add(tape_point, (tensor.node, len(self.graph.nodes)), tensor.node.meta,
                                          tensor.node.loc, tensor.requires_grad))

    def differentiate(self, node: Node) -> None:
        """A run of the tape: from the present values to where the tape knows the tensors asked about."""
        outputs, given, inputs, *flags = node.args
        read = [map_nodes(lambda n: self.read(self.values[n]).node, part) for part in (outputs, given)]
        self.add(node, (*read, [self.tape_place(self.values[n]) for n in inputs], *flags))

    def tape_place(self, value: _Value) -> Node:
        """Where the gradients of ``value`` arrive: before what was written behind the tape's back."""
        if not value.steps:
            return value.storage.recorded.node
        node = self.read(value).node
        while node.op is not None and node.op.name == "overwrite":
            node = node.args[0]
        return node

    def make_leaf(self, node: Node) -> None:
        """The value, from here on, as a leaf of the tape."""
        value = self.values[node.args[0]]
        new = GraphTensor(self.graph.add(as_leaf, (self.read(value).node,), node.meta, node.loc, True))
        value.tensor, value.version = new, value.storage.version
        if not value.steps:
            value.storage.current = value.storage.recorded = new
        self.values[node] = value

    # ---- reading and writing

    def read(self, value: _Value) -> GraphTensor:
        """The functional value of ``value`` now."""
        storage = value.storage
        if value.version != storage.version or value.tensor is None:
            value.tensor = self.replay(value)
            value.version = storage.version
            if value.point and value.steps:
                value.tensor = self.point(value.tensor)
        return value.tensor

    def replay(self, value: _Value, count: int | None = None) -> GraphTensor:
        """The first ``count`` (None: all) view steps of ``value`` on the storage's current value."""
        found, before = value.storage.current, self.builder.grad_enabled
        with use_handler(self.builder):
            for step in value.steps[:count]:
                self.builder.loc, self.builder.grad_enabled = step.loc, found.requires_grad and "nograd" not in step.op.tags
                found = self.builder(step.op, (found, *step.args))
        self.builder.grad_enabled = before
        return found

    def write(self, node: Node) -> None:
        """Compute what an in-place op writes, and put it into the storage through the target's views."""
        op = node.op
        assert op is not None and op.functional is not None
        target_node = node.args[op.mutates[0]]
        target = self.values[target_node]
        if self.forks:
            self.settle(node, target)
        args = map_nodes(lambda n: self.read(self.values[n]), node.args)
        old = args[op.mutates[0]]
        with use_handler(self.builder):
            self.builder.loc, self.builder.grad_enabled = node.loc, node.requires_grad
            new = self.builder(op.functional, args)
            if new.dtype is not old.dtype:
                new = ops.cast(new, old.dtype)
            self.builder.grad_enabled = True
            if old.requires_grad and not node.requires_grad:
                new = ops.overwrite(old, new)
            self.store(target, new)
        target.storage.written_with_grad |= node.requires_grad
        if node.requires_grad:
            storage = target.storage
            storage.recorded = storage.current = self.point(storage.current) if storage.point else storage.current
            target.tensor = target.tensor if target.steps else storage.current
            target.version = -1 if target.point and target.steps else target.version
        self.values[node] = target

    def store(self, target: _Value, new: GraphTensor) -> None:
        storage = target.storage
        whole = new
        for i in range(len(target.steps) - 1, -1, -1):
            step = target.steps[i]
            parent = self.replay(target, i)
            whole = ops.view_scatter(parent, whole, step.op.name, step.args)
            if "nograd" in step.op.tags and parent.requires_grad:  # written behind the tape's back
                whole = ops.overwrite(parent, whole)
        storage.current = whole
        storage.version += 1
        target.tensor, target.version = new, storage.version


class _Epilogue:
    """Decides how each output and each mutated input is made of the functional graph's values."""

    def __init__(self, run: _Functionalizer) -> None:
        self.run, self.source, self.graph = run, run.source, run.graph
        # Inputs bear the names of the graph's values, so what the epilogue computes itself must avoid those.
        self.epilogue = Graph("epilogue", _names=dict.fromkeys((n.name for n in (*run.graph.inputs, *run.graph.nodes)), 1))
        self.builder = GraphBuilder(self.epilogue, grad_enabled=True)
        self.params: dict[Node, GraphTensor] = {}
        self.made: dict[_Value, GraphTensor] = {}
        self.replayed: dict[tuple, GraphTensor] = {}  # what outputs have in common is made once: it may be a copy

    def build(self) -> Functional:
        shared = self._shared_storages()
        for node in self.source.output_nodes():  # what the graph has yet to compute gets its name before the epilogue's own
            storage = self.run.values[node].storage
            if storage.origin is None and storage not in shared:
                self.run.read(self.run.values[node])
        self.epilogue._names |= dict.fromkeys((n.name for n in self.graph.nodes), 1)
        self.write_backs()
        outputs = [map_nodes(lambda n: self.output(n, shared).node, out) for out in self.source.outputs]
        self.epilogue.outputs = outputs
        for node in carriers(self.epilogue, self.graph.inputs):
            self.param(node)
        return Functional(self.graph, self.epilogue, frozenset(self.run.row_major))

    def write_backs(self) -> None:
        for node in self.source.inputs:
            storage = self.run.values[node].storage
            if storage.version:
                self.builder.loc = node.loc
                self.builder.grad_enabled = storage.written_with_grad
                value = storage.current.node
                while not storage.written_with_grad and value.op is not None and value.op.name == "overwrite":
                    value = value.args[1]  # the data alone: the input keeps its history by itself
                self.builder(get_op("copy_"), (self.param(storage.origin), self.returned(value), False))
        self.builder.grad_enabled = True

    def _shared_storages(self) -> set[_Storage]:
        """Storages of which several different outputs show parts."""
        first: dict[_Storage, _Value] = {}
        shared = set()
        for node in self.source.output_nodes():
            value = self.run.values[node]
            if first.setdefault(value.storage, value) is not value:
                shared.add(value.storage)
        return shared

    def output(self, node: Node, shared: set[_Storage]) -> GraphTensor:
        value = self.run.values[node]
        found = self.made.get(value)
        if found is None:
            storage = value.storage
            if storage.origin is not None:
                found = self.replay(self.param(storage.origin), value)
            elif storage in shared or value.steps and self.has_place(node, value):
                found = self.replay(self.returned(storage.current.node, root_of(node)), value)
            else:
                found = self.returned(self.run.read(value).node, node)
            self.made[value] = found
        return found

    def has_place(self, node: Node, value: _Value) -> bool:
        """Whether strides tell that a view shows a part of something: its elements share memory, or what it shows lies across."""
        root = root_of(node).name
        return any(step.op.name == "as_strided" for step in value.steps) or (
            root in self.source.orders and self.source.orders[root] != tuple(sorted(self.source.orders[root])))

    def replay(self, base: GraphTensor, value: _Value) -> GraphTensor:
        key: tuple = (base.node,)
        for step in value.steps:
            key = (*key, id(step))
            found = self.replayed.get(key)
            if found is None:
                self.builder.loc, self.builder.grad_enabled = step.loc, step.grad
                found = self.replayed[key] = self.builder(step.op, (base, *step.args))
                found.node.requires_grad |= step.grad  # (recorded, if only to follow what it shows)
            base = found
        return base

    def returned(self, node: Node, source: Node | None = None) -> GraphTensor:
        """``node``, which lies as ``source`` does, as an output of the functional graph and an input of the epilogue."""
        if node in self.graph.inputs:  # an output that is an input's new value, unchanged: computed as a copy
            with use_handler(self.run.builder):
                node = ops.clone(GraphTensor(node)).node
        if node not in self.graph.outputs:
            self.graph.outputs.append(node)
        if source is not None and source.name in self.source.orders:
            self.graph.orders[node.name] = self.source.orders[source.name]
        return self.param(node)

    def param(self, node: Node) -> GraphTensor:
        if node not in self.params:
            param = Node(node.name, None, (), node.meta, requires_grad=node.requires_grad)
            self.epilogue.inputs.append(param)
            self.params[node] = GraphTensor(param)
        return self.params[node]
