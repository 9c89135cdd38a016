"""Lowering: each value of a graph becomes a loop over its elements, or a call of a template or an eager kernel.

Views become index arithmetic on the buffer they look at. An op says itself how its elements come about: by its family
(pointwise, reduction, view), or by its ``lower`` function; what has neither runs as an eager kernel between the loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.dtype import DType
from flambeau.ir.family import promotion, wrap_dims
from flambeau.ir.faults import BOUNDS, Fault
from flambeau.ir.graph import Graph, Node, getitem
from flambeau.ir.index import Index, IndexLike, as_index
from flambeau.ir.loops import Buffer, Expr, Load, Loop, Source
from flambeau.ir.meta import TensorMeta, contiguous_strides
from flambeau.ir.program import Extern, Group, Ref, Schedule, Target
from flambeau.ir.tree import tree_map

#: A reduction over at most this many elements inside a larger expression is computed where it stands.
SMALL_REDUCTION = 64


def lower_graph(graph: Graph, target: Target, strides: Sequence[Sequence[Any] | None] | None = None) -> Schedule:
    """The loops and extern calls of ``graph``, one step per value that is not a view, in program order.

    ``graph`` is functional and decomposed. ``strides`` gives the element strides of each input (None: contiguous).
    """
    return _Lowering(target).graph(graph, strides or [None] * len(graph.inputs))


def _fold(fn: Callable[[Any, Any], IndexLike], parts: Sequence[IndexLike]) -> IndexLike:
    total = parts[0]
    for p in parts[1:]:
        total = fn(total, p)
    return total


def numel(shape: Sequence[IndexLike]) -> IndexLike:
    """The product of sizes."""
    return _fold(ix.mul, [1, *shape])


def _nonzero(divisor: Any) -> bool:
    """Whether a divisor is a number known not to be zero."""
    return isinstance(divisor, (int, float)) and divisor != 0


@dataclass
class _Value:
    """A tensor while lowering: an element of it is the element of ``buffer`` at ``at(index)``."""

    buffer: Buffer
    shape: tuple[IndexLike, ...]
    device: Any
    at: Callable[[tuple[IndexLike, ...]], tuple[IndexLike, ...]] | None = None  # None: the buffer itself

    def read(self, index: tuple[IndexLike, ...], mask: Expr | None = None, other: Any = 0, fault: Fault = BOUNDS) -> Expr:
        index, mask = checked(index, self.shape, fault, mask)
        where = index if self.at is None else self.at(index)
        if isinstance(mask, lo.Const):
            if not mask.args[0]:
                return lo.const(other, self.buffer.dtype)
            mask = None
        return Load(self.buffer.dtype, self.buffer.name, where, mask,
                    lo.const(other, self.buffer.dtype).args[0] if mask is not None else 0)

    @property
    def source(self) -> Source:
        return Source(self.shape, self.buffer.dtype, self.device, self.read)


def checked(index: Sequence[IndexLike], shape: Sequence[IndexLike], fault: Fault,
            mask: Expr | None = None) -> tuple[tuple[IndexLike, ...], Expr | None]:
    """An index with a check where it is made of data: in range where ``mask`` holds; and where there is an element at all."""
    found: list[IndexLike] = []
    for dim, (i, size) in enumerate(zip(index, shape)):
        if not ix.values(i):
            found.append(i)
            continue
        here = lo.index_value(i)
        if mask is not None:
            here = lo.select(mask, here, lo.const(0, _dtype.int64))
        inside = lo.checked_index(here, lo.index_value(size), fault.number, dim)
        found.append(ix.value(inside))
        if isinstance(size, int) and size == 0:  # any index is wrong, and nothing is there to read in its place
            mask = lo.both(mask, lo.call("lt", inside, 0, dtype=_dtype.bool_))
    return tuple(found), mask


class _Lowering:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.steps: list[Loop | Group | Extern] = []
        self.buffers: dict[str, Buffer] = {}
        self.env: dict[Node, _Value] = {}
        self.parts: dict[tuple[Node, int], _Value] = {}  # the outputs of ops with several
        self.fault = BOUNDS  # what an index out of range means to the op being lowered
        self.count = 0
        self.names: set[str] = set()

    # ---- the graph

    def graph(self, graph: Graph, strides: Sequence[Sequence[Any] | None]) -> Schedule:
        self.names = {n.name for n in graph.inputs + graph.nodes}
        for node, step in zip(graph.inputs, strides):
            self.env[node] = self.value(node.name, node.meta, "input", step)
        named = {(n.args[0], n.args[1]): n.name for n in graph.nodes if n.op is getitem}
        for node in graph.nodes:
            self.node(node, named)
        outputs = tuple(self.output(x) for x in graph.outputs)
        return Schedule(tuple(self.steps), self.buffers, tuple(n.name for n in graph.inputs), outputs)

    def value(self, name: str, meta: TensorMeta, kind: str = "temp", strides: Sequence[Any] | None = None) -> _Value:
        shape = tuple(as_index(s) for s in meta.shape)
        steps = contiguous_strides(shape) if strides is None else tuple(as_index(s) for s in strides)
        self.buffers[name] = Buffer(name, meta.dtype, shape, steps, kind)
        return _Value(self.buffers[name], shape, meta.device)

    def output(self, x: Any) -> Any:
        """The buffer of an output, a strided Ref for a view of one, or the constant it is."""
        if not isinstance(x, Node):
            return x
        value = self.env[x]
        if value.at is None:
            return value.buffer.name
        ref = self.ref(value)
        return self.copied(value, x.name, x.loc).buffer.name if ref is None else ref

    def node(self, node: Node, named: dict[tuple[Any, Any], str]) -> None:
        op = node.op
        assert op is not None
        self.fault = op.extra.get("fault", BOUNDS)
        if op is getitem:
            self.env[node] = self.parts[node.args[0], node.args[1]]
        elif op.family == "view" and op.lower is not None and node.meta.dtype is node.args[0].meta.dtype:
            self.env[node] = self.view(node)
        elif isinstance(node.meta, tuple) or not (self.as_scatter(node) or self.as_loop(node)):
            self.extern(node, named)

    def as_loop(self, node: Node) -> bool:
        op = node.op
        assert op is not None
        if node.meta.dtype.is_complex or any(n.meta.dtype.is_complex for n in node.inputs if hasattr(n.meta, "dtype")):
            return False  # complex numbers have no loops
        if "extern" in op.tags or ("divides" in op.tags and node.meta.dtype.is_integral and not _nonzero(node.args[1])):
            return False  # an integer divided by zero is an error, which a loop has no way to raise
        if op.family == "pointwise" and op.lower is None and (op.scalar is not None or op.promote is None):
            self.loop(node, lambda index: self.pointwise(node, index))
        elif op.family == "reduction" and op.lower is None:
            self.loop(node, lambda index: self.reduction(node, index))
        elif op.lower is not None:
            args = tree_map(self.argument, node.args)
            self.loop(node, lambda index: op.lower(index, *args))  # type: ignore[misc]
        else:
            return False
        return True

    def as_scatter(self, node: Node) -> bool:
        """Make a group of two loops: the first tensor copied, then values added at places that data decides."""
        rule = node.op.extra.get("scatter")  # type: ignore[union-attr]
        dtype = node.meta.dtype
        if rule is None or dtype.is_complex or not self.target.scatters:
            return False
        args = tree_map(self.argument, node.args)
        shape = rule.over(*args)
        if shape is None or 0 in node.meta.shape:
            return False
        result = self.value(node.name, node.meta)
        index, points = indices(result.shape), indices(tuple(map(as_index, shape)))
        start = self.constant_of(node.args[0]) or self.env[node.args[0]].read(index)
        target, value = rule.element(points, *args)
        at, _ = checked([ix.value(i) if isinstance(i, Expr) else as_index(i) for i in target], result.shape, self.fault)
        kind = computing(dtype)
        total = lo.Call(kind, rule.combine, (lo.cast(Load(dtype, node.name, at, None, 0), kind), lo.cast(value, kind)))
        loops = (Loop(node.name, _ranges(index), index, start, node.loc),
                 Loop(node.name, _ranges(points), at, lo.cast(total, dtype), node.loc))
        self.steps.append(Group(node.name, loops, (node.name,)))
        self.env[node] = result
        return True

    def constant_of(self, node: Node) -> Expr | None:
        """The constant that a value's elements are, if they are one."""
        value = self.env[node]
        loop = next((s for s in self.steps if isinstance(s, Loop) and s.buffer == value.buffer.name), None)
        return loop.value if loop is not None and isinstance(loop.value, lo.Const) else None

    def argument(self, x: Any) -> Any:
        if not isinstance(x, Node):
            return x  # symbolic sizes stay as the tracer made them: what it assumed of them still decides comparisons
        value = self.env[x]
        return Source(tuple(x.meta.shape), value.buffer.dtype, value.device, partial(value.read, fault=self.fault))

    def loop(self, node: Node, value: Callable[[tuple[IndexLike, ...]], Expr]) -> None:
        """Append the loop that computes ``value(index)`` for each index of the node's result."""
        result = self.value(node.name, node.meta)
        index = indices(result.shape)
        if 0 in node.meta.shape:  # no element to compute, no index to check
            found: Expr = lo.const(0, node.meta.dtype)
        else:
            found = self.hoisted(node, self.numbered(lo.cast(value(index), node.meta.dtype)))
        self.steps.append(Loop(node.name, _ranges(index), index, found, node.loc))
        self.env[node] = result

    # ---- families

    def pointwise(self, node: Node, index: tuple[IndexLike, ...]) -> Expr:
        op = node.op
        assert op is not None
        if op.promote is None:  # an identity, as clone is
            return self.env[node.args[0]].read(broadcast_index(index, self.env[node.args[0]].shape))
        metas = tuple(a.meta if isinstance(a, Node) else a for a in node.args)
        compute, result = promotion(op, metas)
        if op.promote == "cast":
            return lo.cast(self.operand(node.args[0], index, None), result)
        compute = computing(compute)
        found = [self.operand(node.args[i], index, None if op.promote == "select" and not k else compute)
                 for k, i in enumerate(op.tensor_slots) if node.args[i] is not None]
        native = _dtype.bool_ if op.promote == "bool" else compute.to_real() if op.promote == "real" else compute
        return lo.cast(lo.Call(native, op.name, tuple(found)), result)

    def operand(self, x: Any, index: tuple[IndexLike, ...], dtype: DType | None) -> Expr:
        """An operand's element, broadcast and converted."""
        if isinstance(x, Node):
            value = self.env[x]
            found = value.read(broadcast_index(index, value.shape))
            return found if dtype is None else lo.cast(found, dtype)
        i = as_index(x)
        if isinstance(i, Index):
            return lo.index_value(i, _dtype.int64) if dtype is None else lo.cast(lo.index_value(i), dtype)
        return lo.const(x, dtype or _dtype.of_number(x))

    def reduction(self, node: Node, index: tuple[IndexLike, ...]) -> Expr:
        """``reduce(self, dim, keepdim, ...)``: the element combined over the reduced dimensions."""
        op, source = node.op, self.env[node.args[0]]
        assert op is not None and op.reduce is not None
        dims = wrap_dims(node.args[1], len(source.shape))
        rest = iter(index)
        keep = bool(node.args[2])
        place: list[IndexLike] = []
        over: list[Index] = []
        for d, n in enumerate(source.shape):
            if d not in dims:
                place.append(next(rest))
                continue
            if keep:
                next(rest)
            place.append(self.variable(n) if n != 1 else 0)
            if isinstance(place[-1], Index):
                over.append(place[-1])
        compute, _ = promotion(op, tuple(a.meta if isinstance(a, Node) else a for a in node.args))
        element = source.read(tuple(place))
        if op.reduce in ("any", "all"):
            element = truth(element)
        elif op.reduce in ("argmax", "argmin"):
            if not over:
                return lo.const(0, _dtype.int64)
            return lo.Reduce(_dtype.int64, op.reduce, tuple(over), lo.cast(element, computing(element.dtype)),
                             lo.row_major(over))
        else:
            element = lo.cast(element, computing(compute))
        if any(v.args[1] == 0 for v in over):  # nothing is added up; the largest of nothing was refused by the shape rule
            return lo.const(op.reduce in ("prod", "all"), element.dtype)
        return lo.Reduce(element.dtype, op.reduce, tuple(over), element) if over else element

    def variable(self, extent: IndexLike, stem: str = "r") -> Index:
        """A reduction variable, of a name that no other has."""
        self.count += 1
        return ix.var(f"{stem}{self.count - 1}", extent)

    def numbered(self, value: Expr) -> Expr:
        """``value`` with the variables of the reductions that ``loops.reduce`` made renamed in order."""
        fresh: dict[Index, IndexLike] = {}
        for e in lo.walk(value):
            if isinstance(e, lo.Reduce) and e.vars[0].args[0].startswith(lo.FRESH):
                n = numel([v.args[1] for v in e.vars])
                stem = "w" if isinstance(n, int) and n <= SMALL_REDUCTION else "r"
                fresh |= {v: self.variable(v.args[1], stem) for v in e.vars}
        return lo.rewrite(value, lambda e: None, fresh) if fresh else value

    def hoisted(self, node: Node, value: Expr) -> Expr:
        """``value`` with large reductions inside a larger expression made loops of their own."""
        top = value
        while isinstance(top, lo.Call) and top.fn == "cast":
            top = top.operands[0]
        large = [e for e in lo.walk(value) if isinstance(e, lo.Reduce) and e is not top and not is_small(e)]
        for e in large:
            value = lo.rewrite(value, self.hoist(node, e))
        return value

    def hoist(self, node: Node, e: lo.Reduce) -> Callable[[Expr], Expr | None]:
        free = tuple(sorted(free_variables(e), key=lambda v: str(v)))
        meta = TensorMeta(tuple(v.args[1] for v in free), e.dtype, node.meta.device)
        part = self.value(self.fresh(f"{node.name}_{e.kind}"), meta)
        self.steps.append(Loop(part.buffer.name, free, free, e, node.loc))
        return lambda x: part.read(free) if x is e else None

    def fresh(self, stem: str) -> str:
        """A buffer name not in use."""
        name, n = stem, 0
        while name in self.names or name in self.buffers:
            n += 1
            name = f"{stem}_{n}"
        self.names.add(name)
        return name

    # ---- views

    def view(self, node: Node) -> _Value:
        op, source = node.op, self.env[node.args[0]]
        assert op is not None
        args = tree_map(self.argument, node.args)
        inner, lower = source.at, op.lower

        def at(index: tuple[IndexLike, ...]) -> tuple[IndexLike, ...]:
            found = tuple(map(as_index, lower(index, *args)))  # type: ignore[misc]
            return found if inner is None else inner(found)

        return _Value(source.buffer, tuple(as_index(s) for s in node.meta.shape), source.device, at)

    def ref(self, value: _Value) -> Ref | None:
        """A view as strides and offset into its buffer; None when it is not of that form."""
        if value.at is None:
            return Ref(value.buffer.name, value.shape, value.buffer.strides)
        index = indices(value.shape)
        parts, offset = ix.terms(lo.address(value.buffer, value.at(index)))
        symbolic = {t: n for t, n in parts.items() if t not in index}
        steps: list[IndexLike] = [parts.get(i, 0) if isinstance(i, Index) else 0 for i in index]
        for t, n in symbolic.items():
            v, step = _scaled(t, index)
            if v is None and ix.variables(t):
                return None
            if v is None:
                offset = ix.add(offset, ix.mul(t, n))  # type: ignore[assignment]
            else:
                steps[v] = ix.add(steps[v], ix.mul(step, n))
        plain = contiguous_strides(value.shape)
        return Ref(value.buffer.name, value.shape,
                   tuple(p if n == 1 else s for n, s, p in zip(value.shape, steps, plain)), offset)

    def copied(self, value: _Value, name: str, loc: str) -> _Value:
        """A contiguous copy of a view."""
        meta = TensorMeta(value.shape, value.buffer.dtype, value.device)
        result = self.value(name if name not in self.buffers else self.fresh(f"{name}_copy"), meta)
        index = indices(value.shape)
        self.steps.append(Loop(result.buffer.name, _ranges(index), index,
                               value.read(index), loc))
        return result

    # ---- externs

    def extern(self, node: Node, named: dict[tuple[Any, Any], str]) -> None:
        op = node.op
        assert op is not None
        args = tuple(self.extern_argument(a, node) for a in node.args)
        metas = node.meta if isinstance(node.meta, tuple) else (node.meta,)
        outs = []
        for i, meta in enumerate(metas):
            if meta is None:
                outs.append("")
                continue
            name = node.name if not isinstance(node.meta, tuple) else named.get((node, i)) or self.fresh(f"{node.name}_{i}")
            value = self.value(name, meta)
            outs.append(name)
            if isinstance(node.meta, tuple):
                self.parts[node, i] = value
            else:
                self.env[node] = value
        self.steps.append(Extern(node.name, op.name, args, tuple(outs), self.template(node), loc=node.loc))

    def extern_argument(self, x: Any, node: Node) -> Any:
        def one(a: Any) -> Any:
            if not isinstance(a, Node):
                return as_index(a)
            value = self.env[a]
            return self.ref(value) or self.ref(self.copied(value, a.name, node.loc))
        return tree_map(one, x)

    def template(self, node: Node) -> str:
        """The hand-written kernel that computes ``node``, or "" when the target has none for its dtypes."""
        op = node.op
        assert op is not None
        name = op.extra.get("template") or ("matmul" if op.family == "contraction" else "")
        dtypes = {n.meta.dtype for n in node.inputs if n.meta.dtype.is_floating_point} | {
            m.dtype for m in (node.meta if isinstance(node.meta, tuple) else (node.meta,)) if m is not None}
        allowed = self.target.template_dtypes or op.extra.get("template_dtypes", ("float32", "float64", "bfloat16", "float16"))
        return name if name in self.target.templates and all(d.name in allowed for d in dtypes) else ""


# ---- small helpers ------------------------------------------------------------------------------------------------


def indices(shape: Sequence[IndexLike]) -> tuple[IndexLike, ...]:
    """One variable per dimension (``i0``, ``i1``...), 0 where the size is 1."""
    return tuple(0 if isinstance(n, int) and n == 1 else ix.var(f"i{d}", n) for d, n in enumerate(shape))


def _ranges(index: Sequence[IndexLike]) -> tuple[Index, ...]:
    return tuple(i for i in index if isinstance(i, Index))


def broadcast_index(index: Sequence[IndexLike], shape: Sequence[IndexLike]) -> tuple[IndexLike, ...]:
    """The index into an operand of ``shape`` for an element of the broadcast result."""
    lead = len(index) - len(shape)
    return tuple(0 if isinstance(n, int) and n == 1 else index[lead + d] for d, n in enumerate(shape))


def computing(dtype: DType) -> DType:
    """The dtype arithmetic is done in: half precisions compute in float32."""
    return _dtype.float32 if dtype.is_floating_point and dtype.itemsize == 2 else dtype


def truth(x: Expr) -> Expr:
    """Whether a number is not zero."""
    return x if x.dtype is _dtype.bool_ else lo.Call(_dtype.bool_, "ne", (lo.cast(x, computing(x.dtype)),
                                                                          lo.const(0, computing(x.dtype))))


def is_small(e: lo.Reduce) -> bool:
    """Whether a reduction is a short window, written out where it stands: its variables are called ``w``, not ``r``."""
    return e.vars[0].args[0].startswith("w")


def free_variables(e: Expr) -> set[Index]:
    """The loop variables that the value of ``e`` depends on, those it reduces over left out."""
    found: set[Index] = set()
    bound: set[Index] = set()
    for x in lo.walk(e):
        for i in lo.own_indices(x):
            found |= ix.variables(i)
        if isinstance(x, lo.Reduce):
            bound |= set(x.vars)
    return found - bound


def _scaled(t: Index, index: Sequence[IndexLike]) -> tuple[int | None, IndexLike]:
    """``t`` as one of the variables of ``index`` times a factor free of variables: (its position, the factor)."""
    if t.kind == "mul" and isinstance(t.args[1], Index):
        for v, factor in (t.args, t.args[::-1]):
            if v in index and not ix.variables(factor):
                return index.index(v), factor
    return None, 1
