"""A reference evaluator of plans: every statement run element by element, with every index checked.

Unwritten memory holds NaN patterns, and parallel loops run backwards, so that a kernel which relies on order fails.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.op import get_op
from flambeau.ir.program import Extern, Group, Kernel, Plan, Ref
from flambeau.ir.schema import REQUIRED
from flambeau.ir.tree import tree_map


class Memory:
    """A buffer's memory as a row of elements, and its own strides."""

    def __init__(self, buffer: lo.Buffer, data: np.ndarray, sizes: dict[str, int]) -> None:
        self.buffer, self.data = buffer, data
        self.shape = tuple(number(n, {}, sizes) for n in buffer.shape)
        self.strides = tuple(number(n, {}, sizes) for n in buffer.strides)

    def place(self, index: tuple[int, ...]) -> int:
        assert len(index) == len(self.shape), f"{self.buffer.name}{index}: {len(self.shape)} dimensions"
        for i, n in zip(index, self.shape):
            assert 0 <= i < n, f"{self.buffer.name}{list(index)} is outside {self.shape}"
        return sum(i * s for i, s in zip(index, self.strides))

    def array(self) -> np.ndarray:
        return strided(self.data, self.shape, self.strides, 0)


def strided(data: np.ndarray, shape: Any, strides: Any, offset: int) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(data[offset:], shape, [s * data.itemsize for s in strides])


def number(i: Any, env: dict, sizes: dict[str, int], expr: Any = None) -> int:
    """The value of an index expression."""
    if not isinstance(i, ix.Index):
        return int(i)
    a = i.args
    if i.kind == "var":
        return env[i]
    if i.kind == "size":
        return sizes[a[0]]
    if i.kind == "value":
        return int(expr(a[0]))
    x, y = number(a[0], env, sizes, expr), number(a[1], env, sizes, expr)
    return {"add": lambda: x + y, "mul": lambda: x * y, "div": lambda: x // y, "mod": lambda: x % y,
            "min": lambda: min(x, y), "max": lambda: max(x, y)}[i.kind]()


class Body:
    """Runs statements over memories."""

    def __init__(self, memories: dict[str, Memory], sizes: dict[str, int]) -> None:
        self.memories, self.sizes = memories, sizes
        self.env: dict[Any, int] = {}
        self.locals: dict[str, Any] = {}
        self.positions: dict[str, int] = {}

    def index(self, i: Any) -> int:
        return number(i, self.env, self.sizes, self.value)

    def value(self, e: lo.Expr) -> Any:
        if isinstance(e, lo.Const):
            return e.dtype.np.type(e.args[0])
        if isinstance(e, lo.Local):
            found = self.positions[e.name] if e.dtype is _dtype.int64 and e.name in self.positions else self.locals[e.name]
            return e.dtype.np.type(found)
        if isinstance(e, lo.IndexValue):
            return e.dtype.np.type(self.index(e.args[0]))
        if isinstance(e, lo.Load):
            if e.mask is not None and not self.value(e.mask):
                return e.dtype.np.type(e.other)
            m = self.memories[e.buffer]
            assert m.buffer.dtype is e.dtype, (m.buffer, e)
            return m.data[m.place(tuple(map(self.index, e.index)))]
        if isinstance(e, lo.Reduce):
            return self.reduce(e)
        assert isinstance(e, lo.Call), e
        operands = [self.value(o) for o in e.operands]
        for o, v in zip(e.operands, operands):
            assert v.dtype == o.dtype.np, (e, o, v.dtype)
        return call(e, operands)

    def reduce(self, e: lo.Reduce) -> Any:
        state = Accumulator(e.kind, e.value.dtype)
        for point in itertools.product(*(range(self.index(v.args[1])) for v in e.vars)):
            self.env.update(zip(e.vars, point))
            state.add(self.value(e.value), None if e.position is None else self.index(e.position))
        return e.dtype.np.type(state.position if e.position is not None else state.value)

    def loop(self, loop: lo.Loop) -> None:
        for point in itertools.product(*(range(self.index(v.args[1])) for v in loop.ranges)):
            self.env.update(zip(loop.ranges, point))
            m = self.memories[loop.buffer]
            m.data[m.place(tuple(map(self.index, loop.index)))] = self.value(loop.value)

    def run(self, body: Any, vector: bool = False) -> None:
        for s in body:
            if isinstance(s, lo.For):
                assert not vector or s.kind in ("serial", "unroll"), "a vector or parallel loop inside a vector loop"
                points = range(self.index(s.var.args[1]))
                assert s.kind in ("parallel", "serial", "vector", "unroll")
                for i in reversed(points) if s.kind == "parallel" else points:
                    self.env[s.var] = i
                    self.run(s.body, vector or s.kind == "vector")
            elif isinstance(s, lo.Let):
                self.locals[s.name] = self.value(s.value)
            elif isinstance(s, lo.Init):
                self.locals[s.name] = Accumulator(s.kind, s.dtype)
            elif isinstance(s, lo.Accumulate):
                self.locals[s.name].add(self.value(s.value), None if s.position is None else self.index(s.position))
            else:
                self.store(s)

    def store(self, s: lo.Store) -> None:
        if s.mask is not None and not self.value(s.mask):
            return
        m = self.memories[s.buffer]
        value = self.value(s.value)
        assert value.dtype == m.buffer.dtype.np, (s, value.dtype)
        m.data[m.place(tuple(map(self.index, s.index)))] = value


class Accumulator:
    """What ``Init`` declares."""

    def __init__(self, kind: str, dtype: _dtype.DType) -> None:
        self.kind, self.np, self.position = kind, dtype.np, 0
        self.value: Any = None
        empty = {"sum": 0, "prod": 1, "any": False, "all": True}.get(kind)
        if empty is not None:
            self.value = self.np.type(empty)

    @property
    def dtype(self) -> Any:
        return self.np

    def add(self, v: Any, position: int | None) -> None:
        if self.kind in ("argmax", "argmin"):
            better = self.value is None or (v != v and self.value == self.value) or (
                v > self.value if self.kind == "argmax" else v < self.value)
            if better:
                self.value, self.position = v, position
            return
        fn = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "any": np.logical_or,
              "all": np.logical_and}[self.kind]
        self.value = v if self.value is None else self.np.type(fn(self.value, v))

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.asarray(self.position if self.kind.startswith("arg") else self.value)


def call(e: lo.Call, operands: list[Any]) -> Any:
    """A pointwise op on elements, by its own NumPy kernel."""
    if e.fn == "cast":
        return np.asarray(operands[0]).astype(e.dtype.np)[()]
    op = get_op(e.fn)
    rest = iter(operands)
    args = [next(rest, None) if p.is_tensor else None if p.default is REQUIRED else p.default for p in op.schema.params]
    with np.errstate(all="ignore"):
        return e.dtype.np.type(op.kernel(np, *[np.asarray(a) if isinstance(a, np.generic) else a for a in args]))


# ---- plans --------------------------------------------------------------------------------------------------------


def run_plan(plan: Plan, inputs: list[np.ndarray], sizes: dict[str, int] | None = None) -> list[Any]:
    """The outputs of a plan for input arrays (which are written to where the plan says so)."""
    sizes = sizes or {}
    arena = np.full(number(plan.arena, {}, sizes) + 64, 0xFF, np.uint8)
    memories: dict[str, Memory] = {}
    outputs: dict[int, np.ndarray] = {}
    for name, b in plan.schedule.buffers.items():
        slot = plan.slots[name]
        position, nbytes = number(slot.position, {}, sizes), number(slot.nbytes, {}, sizes)
        if slot.kind == "input":
            a = inputs[position]
            data = np.lib.stride_tricks.as_strided(a, (nbytes // b.dtype.itemsize,), (b.dtype.itemsize,))
        elif slot.kind == "output":
            data = outputs.setdefault(position, np.full(nbytes, 0xFF, np.uint8)).view(b.dtype.np)
        else:
            assert position + nbytes <= len(arena) - 64 and position % 64 == 0
            data = arena[position:position + nbytes].view(b.dtype.np)
        memories[name] = Memory(b, data, sizes)
    for step in plan.schedule.steps:
        run_step(step, memories, sizes)
    return [output(x, memories, sizes) for x in plan.schedule.outputs]


def output(x: Any, memories: dict[str, Memory], sizes: dict[str, int]) -> Any:
    if isinstance(x, Ref):
        return view_of(x, memories, sizes)
    return memories[x].array() if isinstance(x, str) else x


def view_of(x: Ref, memories: dict[str, Memory], sizes: dict[str, int]) -> np.ndarray:
    shape, strides = ([number(n, {}, sizes) for n in s] for s in (x.shape, x.strides))
    return strided(memories[x.buffer].data, shape, strides, number(x.offset, {}, sizes))


def run_step(step: Any, memories: dict[str, Memory], sizes: dict[str, int]) -> None:
    if isinstance(step, Kernel):
        known = {b.name: Memory(b, memories[b.name].data, sizes) for b in step.params}
        for b in step.scratch:
            known[b.name] = temporary(b, sizes)
        Body(known, sizes).run(step.body)
    elif isinstance(step, Group):
        run_loops(step.loops, memories, sizes)
    elif isinstance(step, Extern):
        run_extern(step, memories, sizes)
    else:
        run_loops((step,), memories, sizes)


def temporary(b: lo.Buffer, sizes: dict[str, int]) -> Memory:
    n = int(np.prod([number(s, {}, sizes) for s in b.shape], dtype=int))
    return Memory(b, np.full(n * b.dtype.itemsize, 0xFF, np.uint8).view(b.dtype.np), sizes)


def run_loops(loops: Any, memories: dict[str, Memory], sizes: dict[str, int]) -> None:
    """Loops one after the other; values that no buffer is planned for live as long as the group."""
    known = dict(memories)
    for loop in loops:
        if loop.buffer not in known:
            shape = tuple(most(i, loop, sizes) + 1 for i in loop.index)
            known[loop.buffer] = temporary(lo.Buffer(loop.buffer, loop.value.dtype, shape, contiguous(shape)), sizes)
        Body(known, sizes).loop(loop)


def most(i: Any, loop: lo.Loop, sizes: dict[str, int]) -> int:
    """The largest value of an index of a loop."""
    env: dict[ix.Index, Any] = {v: ix.var(v.args[0], number(v.args[1], {}, sizes)) for v in loop.ranges}
    env |= {ix.size(name): n for name, n in sizes.items()}
    high = ix.bounds(ix.substitute(i, env))[1]
    assert high is not None
    return high


def contiguous(shape: Any) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[d + 1:], dtype=int)) for d in range(len(shape)))


def run_extern(step: Extern, memories: dict[str, Memory], sizes: dict[str, int]) -> None:
    args = tree_map(lambda a: view_of(a, memories, sizes) if isinstance(a, Ref) else
                    number(a, {}, sizes) if isinstance(a, ix.Index) else a, step.args)
    found = get_op(step.op).kernel(np, *args)
    found = found if isinstance(found, (tuple, list)) else (found,)
    known = dict(memories)
    for name, array in zip(step.outs, found):
        if name and name in memories:
            memories[name].array()[...] = array
        elif name:
            dtype = _dtype.from_numpy(np.asarray(array).dtype)
            b = lo.Buffer(name, dtype, array.shape, contiguous(array.shape))
            known[name] = Memory(b, np.ascontiguousarray(array).reshape(-1), sizes)
    if step.epilogue:
        run_loops(step.epilogue, known, sizes)
