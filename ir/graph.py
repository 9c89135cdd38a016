"""Graphs: straight-line programs of op calls, which print as runnable Python and parse back.

::

    def forward(x: f32[8, 64, "grad"], w: f32[64, 64]):
        mm: f32[8, 64] = ops.mm(x, w)  # model.py:12 block.proj
        return mm,

An argument may be a graph itself, the body of a branch or a loop; it is printed, indented, before the call that takes it.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import dtype as _dtype
from .device import Device, cpu
from .meta import TensorMeta
from .op import Op, get_op, ops, register
from .schema import bind, parse, shown
from .tree import leaves, tree_map

getitem = register(Op("getitem", parse("getitem(any source, int index) -> Tensor"), "getitem",
                      tags=frozenset({"graph_only"})))

# ``autograd.grad`` inside a graph: the gradients (None: no influence) of ``outputs``, each weighted with its gradient
# (None: one), to ``inputs``. ``passes/gradients.py`` replaces it by the steps that compute them.
gradients = register(Op("gradients", parse("gradients(Tensor[] outputs, any grad_outputs, Tensor[] inputs, "
                                           "bool retain_graph, bool create_graph) -> Tensor[]"), "tape",
                        tags=frozenset({"graph_only", "nograd"})))
# ``x.requires_grad_()`` on a value that the graph computed: the same data as a leaf.
as_leaf = register(Op("as_leaf", parse("as_leaf(Tensor self) -> Tensor"), "tape",
                      tags=frozenset({"graph_only", "nograd", "effect"})))
# The value of the tape that somebody asks the gradient of; ``number`` keeps equal values apart.
tape_point = register(Op("tape_point", parse("tape_point(Tensor self, int number) -> Tensor"), "tape",
                         vjp=lambda g, out, x, number: g, tags=frozenset({"graph_only"})))


@dataclass(eq=False)
class Node:
    """One value: an input (``op`` is None) or the call ``op(*args)``; ``meta`` is a tuple when the op returns several.

    ``args`` are all of the op's arguments in schema order; nodes stand for tensors, anything else is a constant.
    ``loc`` is the user's place ("model.py:12 block.act"), or "".
    """

    name: str
    op: Op | None
    args: tuple[Any, ...]
    meta: Any
    loc: str = ""
    requires_grad: bool = False

    def __repr__(self) -> str:
        return self.name

    @property
    def is_input(self) -> bool:
        return self.op is None

    @property
    def inputs(self) -> list[Node]:
        """The nodes among ``args``, in order, repeats included."""
        return [a for a in leaves(self.args) if isinstance(a, Node)]


@dataclass(eq=False)
class Graph:
    """``inputs`` and ``nodes`` in program order; ``outputs`` are nodes or constants. Equal graphs print the same."""

    name: str = "forward"
    inputs: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    #: Of a body: what runs it, inputs to outputs. Set by whoever builds the graph around it; None: its ops are called.
    run: Any = None
    #: Outputs and what they are views of that do not lie row-major: their dimensions from the widest stride to the narrowest.
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<graph {self.name}>"

    def fresh(self, stem: str) -> str:
        """A name not used yet: ``stem``, then ``stem_1``, ``stem_2``..."""
        stem = re.sub(r"\W+", "_", stem).strip("_") or "v"
        if stem[0].isdigit():
            stem = "v" + stem
        if keyword.iskeyword(stem) or stem in _CONSTANTS or re.fullmatch(r"[suz]\d+", stem):  # it would be read as a symbol
            stem += "_"
        if stem in self._names:
            stem = re.sub(r"_\d+$", "", stem)
        while True:
            n = self._names.get(stem, 0)
            self._names[stem] = n + 1
            name = f"{stem}_{n}" if n else stem
            if not n or name not in self._names:
                self._names.setdefault(name, 1)
                return name

    def input(self, stem: str, meta: TensorMeta, requires_grad: bool = False, loc: str = "") -> Node:
        """Append an input."""
        node = Node(self.fresh(stem), None, (), meta, loc, requires_grad)
        self.inputs.append(node)
        return node

    def add(self, op: Op, args: tuple, meta: Any, loc: str = "", requires_grad: bool = False, stem: str = "") -> Node:
        """Append a call."""
        node = Node(self.fresh(stem or op.name), op, args, meta, loc, requires_grad)
        if "bodies" in op.tags:
            node.args = tuple([self._named_body(a, f"{node.name}_{p.name}") if isinstance(a, Graph) else a
                               for p, a in zip(op.schema.params, args)])
        self.nodes.append(node)
        return node

    def _named_body(self, body: Graph, name: str) -> Graph:
        """``body`` under a name that no value here bears."""
        return Graph(self.fresh(name), body.inputs, body.nodes, body.outputs, body._names, body.run)

    def users(self) -> dict[Node, list[Node]]:
        """For each node, the nodes that take it as an argument (each once, in order)."""
        found: dict[Node, list[Node]] = {n: [] for n in self.inputs + self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                found[source].append(node)
        return found

    def output_nodes(self) -> list[Node]:
        return [x for x in leaves(self.outputs) if isinstance(x, Node)]

    def remove_dead(self, raising: bool = False) -> None:
        """Drop calls whose value nobody reads, that write nothing and draw no random numbers; with ``raising``, keep those
        that may refuse their data (see :func:`may_raise`)."""
        live = set(self.output_nodes())
        kept = []
        for node in reversed(self.nodes):
            if node in live or node.op.mutates or raising and may_raise(node) or (  # type: ignore[union-attr]
                    not node.op.tags.isdisjoint(("effect", "random")) or draws_inside(node)):  # type: ignore[union-attr]
                kept.append(node)
                live.update(node.inputs)
        self.nodes = kept[::-1]

    def check(self) -> None:
        """Raise ``ValueError`` when a node is used before it is defined, named twice, or lacks its meta."""
        seen: set[Node] = set()
        names: set[str] = set()
        for node in self.inputs + self.nodes:
            for source in node.inputs:
                if source not in seen:
                    raise ValueError(f"{self.name}: {node.name} reads {source.name} before it is defined")
            if node.name in names:
                raise ValueError(f"{self.name}: two nodes are named {node.name}")
            if node.meta is None:
                raise ValueError(f"{self.name}: {node.name} has no meta")
            for body in bodies(node):
                body.check()
            seen.add(node)
            names.add(node.name)
        for out in self.output_nodes():
            if out not in seen:
                raise ValueError(f"{self.name}: returns {out.name}, which is not in the graph")

    def __eq__(self, other: object) -> bool:
        """Whether both are the same program, name for name, place for place and type for type."""
        if not isinstance(other, Graph):
            return NotImplemented
        return (self.name, self.orders) == (other.name, other.orders) and _same(
            (self.inputs, self.nodes, self.outputs), (other.inputs, other.nodes, other.outputs), {})

    def __str__(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def walk(self) -> Iterator[Node]:
        """The calls of this graph and of the bodies in it."""
        for node in self.nodes:
            for body in bodies(node):
                yield from body.walk()
            yield node

    def _lines(self) -> Iterator[str]:
        params = ", ".join(f"{n.name}: {_show_meta(n)}" for n in self.inputs)
        if len(params) > 100 or any(n.loc for n in self.inputs):
            yield f"def {self.name}("
            for n in self.inputs:
                yield f"    {n.name}: {_show_meta(n)}," + (f"  # {n.loc}" if n.loc else "")
            yield "):"
        else:
            yield f"def {self.name}({params}):"
        for node in self.nodes:
            for body in bodies(node):
                yield from ("    " + line for line in body._lines())
            yield f"    {node.name}: {_show_meta(node)} = {_show_call(node)}" + (f"  # {node.loc}" if node.loc else "")
        yield f"    return {show(tuple(self.outputs))}" if self.outputs else "    return ()"
        if self.orders:
            yield _ORDERS + "; ".join(f"{name} {order}" for name, order in self.orders.items())


def _same(a: Any, b: Any, partner: dict[Node, Node]) -> bool:
    """Whether two trees of nodes and constants are the same; ``partner`` holds the pairs of nodes met already.

    Constants are compared as they print: a comparison of SymInts would put guards on them, and NaN differs from itself.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, Node):
        if a in partner:
            return partner[a] is b
        partner[a] = b
        return (a.name, a.op, a.loc, a.requires_grad) == (b.name, b.op, b.loc, b.requires_grad) and (
            _same((a.meta, a.args), (b.meta, b.args), partner))
    if isinstance(a, Graph):
        return a == b
    if isinstance(a, TensorMeta):
        return (a.dtype, a.device) == (b.dtype, b.device) and _same(a.shape, b.shape, partner)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_same(x, y, partner) for x, y in zip(a, b))
    if isinstance(a, dict):
        return _same(list(a.items()), list(b.items()), partner)
    return show(a) == show(b)


# ---- printing -----------------------------------------------------------------------------------------------------


def _show_meta(node: Node) -> str:
    if isinstance(node.meta, tuple):
        return f"tuple[{', '.join(_show_one(m, False) for m in node.meta)}]"
    return _show_one(node.meta, node.requires_grad)


def _show_one(m: Any, grad: bool) -> str:
    if m is None:
        return "None"
    parts = [str(s) for s in m.shape]
    if m.device != cpu:
        parts.append(f'"{m.device}"')
    if grad:
        parts.append('"grad"')
    return f"{m.dtype.short}[{', '.join(parts) or '()'}]"


def _show_call(node: Node) -> str:
    assert node.op is not None
    if node.op is getitem:
        return f"{node.args[0].name}[{node.args[1]}]"
    positional, keywords = shown(node.op.schema, node.args)
    return f"ops.{node.op.name}({', '.join([show(a) for a in positional] + [f'{k}={show(v)}' for k, v in keywords])})"


def show(value: Any) -> str:
    """A constant or node as it stands in a graph's text."""
    if isinstance(value, (Node, Graph)):
        return value.name
    if isinstance(value, _dtype.DType):
        return value.short
    if isinstance(value, Device):
        return f'device("{value}")'
    if isinstance(value, tuple):
        return "(" + ", ".join(map(show, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(show, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {show(v)}" for k, v in value.items()) + "}"
    if isinstance(value, slice):
        return f"slice({show(value.start)}, {show(value.stop)}, {show(value.step)})"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if value != value else ("inf" if value > 0 else "-inf")
    if value is None or value is Ellipsis or isinstance(value, (bool, int, float, complex, str)):
        return "..." if value is Ellipsis else repr(value)
    return str(value)  # a SymInt prints as its expression


# ---- parsing ------------------------------------------------------------------------------------------------------

_CONSTANTS = {"inf": math.inf, "nan": math.nan} | {d.short: d for d in _dtype.ALL}


def parse_graph(text: str, symbols: Any = None) -> Graph:
    """The graph that prints as ``text``. ``symbols(name)`` gives the SymInt of a symbol (needed for symbolic shapes)."""
    fn = ast.parse(text).body[0]
    if not isinstance(fn, ast.FunctionDef):
        raise ValueError("a graph's text is one function definition")
    return _Parser(text.splitlines(), symbols).graph(fn)


_ORDERS = "    # in memory: "


class _Parser:
    def __init__(self, lines: list[str], symbols: Any) -> None:
        self.lines, self.symbols = lines, symbols
        self.env: dict[str, Any] = {}

    def graph(self, fn: ast.FunctionDef) -> Graph:
        g = Graph(fn.name)
        for arg in fn.args.args:
            meta, grad = self.meta(arg.annotation)
            node = Node(arg.arg, None, (), meta, self.loc(arg), grad)
            g.inputs.append(node)
            self.env[arg.arg] = node
        for statement in fn.body:
            if isinstance(statement, ast.Return):
                g.outputs = list(self.value(statement.value))
            elif isinstance(statement, ast.AnnAssign):
                node = self.call(statement)
                g.nodes.append(node)
                self.env[node.name] = node
            elif isinstance(statement, ast.FunctionDef):
                self.env[statement.name] = _Parser(self.lines, self.symbols).graph(statement)
            else:
                raise ValueError(f"line {statement.lineno}: not a graph statement")
        for name in self.env:
            g._names[name] = 1
        behind = "".join(self.lines[fn.end_lineno or 0:][:1])
        if behind.startswith(_ORDERS):
            g.orders = {name: ast.literal_eval(order) for name, order in
                        (item.split(" ", 1) for item in behind.removeprefix(_ORDERS).split("; "))}
        g.check()
        return g

    def loc(self, at: Any) -> str:
        line = self.lines[at.end_lineno - 1][at.end_col_offset:]
        found = re.match(r"[,\s)]*#\s?(.*)$", line)
        return found.group(1).rstrip() if found else ""

    def call(self, statement: ast.AnnAssign) -> Node:
        assert isinstance(statement.target, ast.Name)
        meta, grad = self.meta(statement.annotation)
        right = statement.value
        name, loc = statement.target.id, self.loc(statement)
        if isinstance(right, ast.Subscript):
            return Node(name, getitem, (self.value(right.value), self.value(right.slice)), meta, loc, grad)
        if not (isinstance(right, ast.Call) and isinstance(right.func, ast.Attribute)):
            raise ValueError(f"line {statement.lineno}: expected a call of an op")
        op = get_op(right.func.attr)
        args = tuple(self.value(a) for a in right.args)
        kwargs = {k.arg: self.value(k.value) for k in right.keywords if k.arg}
        return Node(name, op, bind(op.schema, args, kwargs), meta, loc, grad)

    def meta(self, at: Any) -> tuple[Any, bool]:
        if isinstance(at, ast.Constant) and at.value is None:
            return None, False
        assert isinstance(at, ast.Subscript) and isinstance(at.value, ast.Name)
        items = at.slice.elts if isinstance(at.slice, ast.Tuple) else [at.slice]
        if at.value.id == "tuple":
            return tuple(self.meta(i)[0] for i in items), False
        shape, device, grad = [], cpu, False
        for item in items:
            value = self.value(item)
            if value == "grad":
                grad = True
            elif isinstance(value, str):
                device = Device(value)
            else:
                shape.append(value)
        return TensorMeta(tuple(shape), _dtype.BY_NAME[at.value.id], device), grad

    def value(self, at: Any) -> Any:
        if isinstance(at, ast.Constant):
            return at.value
        if isinstance(at, ast.Tuple):
            return tuple(self.value(x) for x in at.elts)
        if isinstance(at, ast.List):
            return [self.value(x) for x in at.elts]
        if isinstance(at, ast.Dict):
            return {self.value(k): self.value(v) for k, v in zip(at.keys, at.values)}
        if isinstance(at, ast.Name):
            return self.name(at.id)
        if isinstance(at, ast.UnaryOp) and isinstance(at.op, ast.USub):
            return -self.value(at.operand)
        if isinstance(at, ast.BinOp):
            return _ARITHMETIC[type(at.op)](self.value(at.left), self.value(at.right))
        if isinstance(at, ast.Call) and isinstance(at.func, ast.Name):
            args = [self.value(a) for a in at.args]
            return self.named_call(at.func.id, args)
        raise ValueError(f"line {at.lineno}: cannot read {ast.unparse(at)!r}")

    def name(self, name: str) -> Any:
        if name in self.env:
            return self.env[name]
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if self.symbols is not None:
            return self.symbols(name)
        raise ValueError(f"{name!r} is neither a value nor a symbol of this graph")

    @staticmethod
    def named_call(name: str, args: list[Any]) -> Any:
        if name == "slice":
            return slice(*args)
        if name == "device":
            return Device(args[0])
        if name in ("Max", "Min"):
            return args[0].__class__._minmax(name, args)
        raise ValueError(f"cannot read a call of {name!r}")


_ARITHMETIC = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
               ast.FloorDiv: lambda a, b: a // b, ast.Mod: lambda a, b: a % b, ast.Pow: lambda a, b: a**b}


def map_nodes(fn: Any, tree: Any) -> Any:
    """``tree`` with ``fn`` applied to the nodes in it."""
    return tree_map(lambda x: fn(x) if isinstance(x, Node) else x, tree)


def is_view(op: Op | None) -> bool:
    """Whether the result shows the memory of the first argument, whatever the data's layout."""
    return op is not None and "view" in op.tags


def source_of(node: Node, maybe: bool = False) -> Node | None:
    """What ``node`` shows the memory of, one step back: the value that it is a view of (or one of several views), or writes to.

    ``maybe``: also what it is a view of if the data's layout allows one, or has the data of for other reasons.
    """
    op = node.op
    if op is None:
        return None
    if op is getitem:
        return source_of(node.args[0], maybe)
    may_be = maybe and ("maybe_copy" in op.tags or op in (as_leaf, tape_point))
    if not op.mutates and not is_view(op) and not may_be:
        return None
    found = node.args[op.mutates[0] if op.mutates else 0]
    return found if isinstance(found, Node) else None


def root_of(node: Node, maybe: bool = False) -> Node:
    """The value whose memory ``node`` shows, through any number of steps (see :func:`source_of`)."""
    while (found := source_of(node, maybe)) is not None:
        node = found
    return node


def bodies(node: Node) -> list[Graph]:
    """The graphs among a call's arguments: those of branches, loops and functions with derivatives of their own."""
    if node.op is None or "bodies" not in node.op.tags:
        return []
    return [a for a in node.args if isinstance(a, Graph)]


def draws_inside(node: Node) -> bool:
    """Whether a body of a call draws random numbers, so that leaving it out would change those drawn later."""
    return any("random" in n.op.tags for body in bodies(node) for n in body.walk())  # type: ignore[union-attr]


def may_raise(node: Node) -> bool:
    """Whether a call may refuse the data that it meets, so that the program can tell whether it is run.

    Ops that do so say it by the tag "raises"; integers are not divided by zero; a body may hold such a call.
    """
    op = node.op
    if op is None:
        return False
    if "raises" in op.tags:  # (LAPACK's may report what is wrong instead)
        return all(a is not False for p, a in zip(op.schema.params, node.args) if p.name == "check_errors")
    if "divides" in op.tags:
        divisor = node.args[1]
        return bool(node.meta.dtype.is_integral) and not (isinstance(divisor, (int, float)) and divisor != 0)
    return any(map(may_raise, (n for body in bodies(node) for n in body.walk())))


def map_bodies(fn: Any, args: Any) -> Any:
    """``args`` with ``fn`` applied to the graphs in it."""
    return tuple([fn(a) if isinstance(a, Graph) else a for a in args])


def copy_into(target: Graph, nodes: Iterable[Node], env: dict[Node, Any]) -> None:
    """Append copies of ``nodes`` to ``target``, reading and extending ``env`` (old node -> new node)."""
    for node in nodes:
        assert node.op is not None
        new = target.add(node.op, map_nodes(env.__getitem__, node.args), node.meta, node.loc, node.requires_grad,
                         stem=node.name)
        env[node] = new


__all__ = ["Graph", "Node", "bodies", "copy_into", "draws_inside", "getitem", "map_bodies", "map_nodes", "ops", "parse_graph",
           "show"]
