"""Reading back the texts of loops, schedules and plans: ``parse(str(x)) == x``.

The texts are Python in form, so Python's own parser does the first half; trailing comments are the user's places.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from . import dtype as _dtype
from . import index as ix
from . import loops as lo
from .device import Device
from .dtype import DType
from .graph import parse_graph
from .index import Index, IndexLike
from .loops import Buffer, Expr, Loop
from .program import Extern, Group, Kernel, Plan, Ref, Schedule, Slot

_NUMBERS = {"inf": math.inf, "nan": math.nan}
_REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")
_VALUES: dict[str, Any] = _NUMBERS | {d.short: d for d in _dtype.ALL}


def parse_schedule(text: str) -> Schedule:
    """The schedule that prints as ``text``. Raises ``ValueError`` for what is not a schedule."""
    return _Reader(text).schedule()


def parse_plan(text: str) -> Plan:
    """The plan that prints as ``text``. Raises ``ValueError`` for what is not a plan."""
    return _Reader(text).plan()


def parse_kernel(text: str, buffers: dict[str, Buffer]) -> Kernel:
    """The kernel that prints as ``text``, over ``buffers``."""
    reader = _Reader(text)
    reader.buffers = dict(buffers)
    return reader.kernel(reader.tree[0])


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.tree = ast.parse(text).body
        self.buffers: dict[str, Buffer] = {}
        self.dtypes: dict[str, DType] = {}  # of buffers and values read by loops
        self.vars: dict[str, Index] = {}
        self.locals: dict[str, DType] = {}

    def fail(self, node: Any, what: str) -> ValueError:
        return ValueError(f"line {getattr(node, 'lineno', '?')}: {what}: {ast.unparse(node)!r}")

    def loc(self, node: Any) -> str:
        """The comment behind a node's last line."""
        found = re.match(r"[:\s)]*#\s?(.*)$", self.lines[node.end_lineno - 1][node.end_col_offset:])
        return found.group(1).rstrip() if found else ""

    def head_loc(self, node: ast.With) -> str:
        return self.loc(node.items[0].context_expr)

    # ---- whole programs

    def plan(self) -> Plan:
        name, slots, rest = "", {}, []
        arena: IndexLike = 0
        sizes: tuple[str, ...] = ()
        for node in self.tree:
            call: Any = getattr(node, "value", None)
            kind = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
            if kind == "plan":
                name, arena, sizes = self.value(call.args[0]), self.index(call.args[1]), tuple(self.value(call.args[2]))
            elif kind == "slot":
                slots[self.value(call.args[0])] = Slot(self.value(call.args[1]), *map(self.index, call.args[2:]))
            else:
                rest.append(node)
        self.tree = rest
        return Plan(name, self.schedule(), slots, arena, sizes)

    def schedule(self) -> Schedule:
        inputs: tuple[str, ...] = ()
        outputs: tuple[Any, ...] = ()
        steps: list[Any] = []
        for node in self.tree:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = tuple(self.value(node.value))
                if node.targets[0].id == "inputs":
                    inputs = value
                else:
                    outputs = value
            elif isinstance(node, ast.AnnAssign):
                b = self.buffer(node)
                self.buffers[b.name] = b
                self.dtypes[b.name] = b.dtype
            else:
                steps.append(self.step(node))
        return Schedule(tuple(steps), self.buffers, inputs, outputs)

    def buffer(self, node: ast.AnnAssign) -> Buffer:
        call = node.annotation
        assert isinstance(node.target, ast.Name) and isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        dtype, shape, strides = (self.value(a) for a in call.args)
        return Buffer(node.target.id, dtype, shape, strides, call.func.id)

    def step(self, node: ast.stmt) -> Any:
        call = node.items[0].context_expr if isinstance(node, ast.With) else getattr(node, "value", None)
        kind = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
        if kind == "extern":
            return self.extern(node, call)
        if kind == "group":
            return self.group(node, call)
        return self.kernel(node) if kind == "kernel" else self.loop(node)

    def extern(self, node: Any, call: Any) -> Extern:
        name, op, args, outs = (self.value(a) for a in call.args)
        keywords = {k.arg: self.value(k.value) for k in call.keywords}
        epilogue: tuple[Loop, ...] = ()
        if isinstance(node, ast.With):
            out = args[0]
            if outs[0] not in self.dtypes and isinstance(out, Ref):
                self.dtypes[outs[0]] = self.dtypes[out.buffer]
            epilogue = tuple(self.loop(x) for x in node.body)
        loc = self.head_loc(node) if isinstance(node, ast.With) else self.loc(node)
        return Extern(name, op, args, tuple(outs), keywords.get("template", ""), epilogue,
                      tuple(keywords.get("stores", ())), loc)

    def group(self, node: Any, call: Any) -> Group:
        name, stores, inline = (self.value(a) for a in call.args[:3])
        names = [[e.id for e in a.elts] for a in call.args[3:5]]
        extents = [[self.index(e) for e in a.elts] for a in call.args[5:7]]
        outer, inner = (tuple(map(ix.var, n, e)) for n, e in zip(names, extents))
        loops = tuple(self.loop(x) for x in node.body)
        return Group(name, loops, tuple(stores), tuple(inline), outer, inner, self.value(call.args[7]))

    # ---- loops

    def loop(self, node: Any) -> Loop:
        vars: tuple[Index, ...] = ()
        if isinstance(node, ast.For):
            extents = [self.index(e) for e in node.iter.elts]  # type: ignore[attr-defined]
            vars = tuple(ix.var(t.id, e) for t, e in zip(node.target.elts, extents))  # type: ignore[attr-defined]
            node = node.body[0]
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Subscript):
            raise self.fail(node, "not a loop")
        self.vars |= {v.args[0]: v for v in vars}
        target = node.targets[0]
        value = self.expr(node.value)
        name = target.value.id  # type: ignore[attr-defined]
        self.dtypes.setdefault(name, value.dtype)
        return Loop(name, vars, self.indices(target.slice), value, self.loc(node))

    # ---- kernels

    def kernel(self, node: Any) -> Kernel:
        call = node.items[0].context_expr
        name, params = self.value(call.args[0]), self.value(call.args[1])
        keywords = {k.arg: tuple(self.value(k.value)) for k in call.keywords}
        sizes, locs = keywords["sizes"], keywords["locs"]
        own = [self.buffer(x) for x in node.body if isinstance(x, ast.AnnAssign)]
        scratch = tuple(b for b in own if b.kind == "scratch")
        views = {b.name: b for b in own if b.kind != "scratch"}
        before = dict(self.dtypes)
        self.dtypes |= {b.name: b.dtype for b in (*self.buffers.values(), *own)}
        self.locals = {}
        body = self.body([x for x in node.body if not isinstance(x, ast.AnnAssign)])
        self.dtypes = before
        return Kernel(name, tuple(views.get(p) or self.buffers[p] for p in params), body, scratch, sizes, locs)

    def body(self, nodes: Sequence[ast.stmt]) -> tuple[Any, ...]:
        return tuple(self.statement(n) for n in nodes)

    def statement(self, node: Any) -> Any:
        if isinstance(node, ast.For):
            v = ix.var(node.target.id, self.index(node.iter.args[0]))  # type: ignore[attr-defined]
            self.vars[v.args[0]] = v
            return lo.For(v, self.body(node.body), node.iter.func.id)  # type: ignore[attr-defined]
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Subscript):
            return self.store(node, target)
        if not isinstance(target, ast.Name):
            raise self.fail(node, "not a statement of a kernel")
        value = node.value
        if isinstance(node, ast.AugAssign):
            position = self.index(value.args[1]) if len(value.args) > 1 else None
            return lo.Accumulate(target.id, value.func.id, self.expr(value.args[0]), position, self.loc(node))
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "init":
            kind, dtype = value.args[0].id, self.value(value.args[1])  # type: ignore[attr-defined]
            self.locals[target.id] = _dtype.int64 if kind.startswith("arg") else dtype
            return lo.Init(target.id, kind, dtype)
        found = self.expr(value)
        self.locals[target.id] = found.dtype
        return lo.Let(target.id, found, self.loc(node))

    def store(self, node: Any, target: ast.Subscript) -> lo.Store:
        value, mask = node.value, None
        if isinstance(value, ast.IfExp) and isinstance(value.orelse, ast.Name) and value.orelse.id == "keep":
            mask, value = self.expr(value.test), value.body
        mode = "add" if isinstance(node, ast.AugAssign) else ""
        return lo.Store(target.value.id, self.indices(target.slice), self.expr(value), mask, mode, self.loc(node))  # type: ignore[attr-defined]

    # ---- expressions

    def expr(self, node: Any, implied: DType | None = None) -> Expr:
        """An expression; a bare number takes the ``implied`` dtype."""
        if isinstance(node, ast.Name) and node.id in self.locals:
            return lo.Local(self.locals[node.id], node.id)
        if isinstance(node, ast.IfExp):
            found = self.expr(node.body)
            return lo.Load(found.dtype, found.args[0], found.args[1], self.expr(node.test), self.value(node.orelse))
        if isinstance(node, ast.Subscript):
            name = node.value.id  # type: ignore[attr-defined]
            return lo.Load(self.dtypes[name], name, self.indices(node.slice), None, 0)
        if isinstance(node, ast.Call):
            return self.call(node)
        if implied is None:
            raise self.fail(node, "not an expression")
        return lo.const(self.value(node), implied)

    def call(self, node: ast.Call) -> Expr:
        fn: Any = node.func
        dtype: Any = None
        if isinstance(fn, ast.Subscript):
            fn, dtype = fn.value, self.value(fn.slice)
        if isinstance(fn, ast.Attribute):
            return lo.Random(dtype, fn.attr, self.expr(node.args[0]), self.index(node.args[1]))
        assert isinstance(fn, ast.Name)
        if fn.id in _dtype.BY_NAME and dtype is None:
            return lo.Const(_dtype.BY_NAME[fn.id], lo.const(self.value(node.args[0]), _dtype.BY_NAME[fn.id]).args[0])
        if fn.id == "index":
            return lo.IndexValue(dtype or _dtype.int64, self.index(node.args[0]))
        if fn.id in _REDUCTIONS and isinstance(node.args[0], ast.GeneratorExp):
            return self.reduction(fn.id, node.args[0], dtype)
        found = [None if _is_number(a) else self.expr(a) for a in node.args]
        plain = next((f.dtype for f in found if f is not None and not isinstance(f, lo.Const)), None)
        operands = tuple(f if f is not None else self.expr(a, plain) for f, a in zip(found, node.args))
        return lo.Call(dtype or operands[0].dtype, fn.id, operands)

    def reduction(self, kind: str, node: ast.GeneratorExp, dtype: DType | None) -> Expr:
        vars = tuple(ix.var(g.target.id, self.index(g.iter)) for g in node.generators)  # type: ignore[attr-defined]
        self.vars |= {v.args[0]: v for v in vars}
        if kind.startswith("arg"):
            assert isinstance(node.elt, ast.Tuple)
            value, position = node.elt.elts
            return lo.Reduce(dtype or _dtype.int64, kind, vars, self.expr(value), self.index(position))
        inner = self.expr(node.elt)
        return lo.Reduce(dtype or inner.dtype, kind, vars, inner)

    # ---- indices and constants

    def indices(self, node: Any) -> tuple[IndexLike, ...]:
        return tuple(map(self.index, node.elts)) if isinstance(node, ast.Tuple) else (self.index(node),)

    def index(self, node: Any) -> IndexLike:
        return ix.parse_index(node, self.named, self.expr)

    def named(self, name: str) -> IndexLike:
        return self.vars.get(name) or ix.size(name)

    def value(self, node: Any) -> Any:
        """A constant: a number, text, dtype, device, Ref, or a nesting of them; other names are symbolic sizes."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Tuple):
            return tuple(map(self.value, node.elts))
        if isinstance(node, ast.List):
            return list(map(self.value, node.elts))
        if isinstance(node, ast.Dict):
            return {self.value(k): self.value(v) for k, v in zip(node.keys, node.values)}
        if isinstance(node, ast.Name):
            return _VALUES[node.id] if node.id in _VALUES else ix.size(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            found = self.value(node.operand)
            return ix.mul(found, -1) if isinstance(found, Index) else -found
        if isinstance(node, ast.BinOp):
            return self.arithmetic(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            make: dict[str, Callable[..., Any]] = {"ref": Ref, "device": Device, "slice": slice, "min": ix.minimum,
                                                   "max": ix.maximum, "graph": parse_graph}
            if node.func.id in make:
                return make[node.func.id](*map(self.value, node.args))
        raise self.fail(node, "not a constant")

    def arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(left, complex) or isinstance(right, complex):
            return left + right if isinstance(node.op, ast.Add) else left - right
        return self.index(node)


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) or isinstance(node, ast.Name) and node.id in _NUMBERS
