"""Loops as NumPy source: the meaning of every fused kernel in whole-array steps, and the target of last resort.

A loop's variables become array axes: a value is an array with one axis for each variable (or no axes at all), of length
1 where it does not vary. Loads that walk a buffer regularly are views, any other is an indexed copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.codegen import emit, expr
from flambeau.ir import dtype as dtypes
from flambeau.ir import index as ix
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Call, Const, Expr, IndexValue, Load, Loop, Reduce
from flambeau.ir.op import get_op
from flambeau.ir.program import Artifact, Extern, Group, Kernel, Plan, Ref

Axes = tuple[Index, ...]


def build_plan(plan: Plan) -> Artifact:
    """Return the plan's artifact for the NumPy target: `run(inputs)` takes arrays and returns the outputs."""
    source = PlanSource(plan)
    text = source.text()
    env: dict[str, Any] = {"np": np, "xp": Functions(), **source.constants}
    exec(compile(text, f"<{plan.name}.numpy>", "exec"), env)  # noqa: S102 - written below
    return Artifact("numpy", plan, {"numpy": text}, run=env[source.name])


class Functions:
    """What generated text calls `xp`: the ops by name, on computed arrays, and a few helpers."""

    bfloat16 = dtypes.bfloat16.np

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op = get_op(name)
        if op.family == "control":
            setattr(self, name, op.extra["on_arrays"])
            return op.extra["on_arrays"]

        def run(*operands: Any) -> Any:
            with np.errstate(all="ignore"):
                return expr.numpy_call(op, np, operands)

        setattr(self, name, run)
        return run

    @staticmethod
    def numpy_axis(n: int, position: int, ndim: int) -> np.ndarray:
        """0..n-1 along one of `ndim` axes."""
        return np.arange(n).reshape([n if d == position else 1 for d in range(ndim)])

    @staticmethod
    def numpy_cast(x: Any, dtype: Any) -> Any:
        """Convert as C does; what does not fit is the hardware's business, not worth a warning."""
        with np.errstate(all="ignore"):
            return np.asarray(x).astype(dtype, copy=False)

    @staticmethod
    def numpy_combine(kind: str, x: Any, shape: tuple[int, ...], over: int, dtype: Any) -> np.ndarray:
        """`x`, broadcast to `shape`, combined over its last `over` axes."""
        full = np.broadcast_to(x, shape)
        axes = tuple(range(len(shape) - over, len(shape)))
        with np.errstate(all="ignore"):
            if kind in ("sum", "prod"):
                return getattr(np, kind)(full, axis=axes, dtype=dtype)
            if not full.size and kind in ("max", "min"):  # nobody reads the largest of no elements
                return np.zeros(shape[: len(shape) - over], dtype)
            return getattr(np, kind)(full, axis=axes).astype(dtype)

    @staticmethod
    def numpy_rank(kind: str, x: Any, position: Any, shape: tuple[int, ...], over: int) -> np.ndarray:
        """The smallest `position` at which `x` is largest (argmax) or smallest over the last `over` axes; NaN wins."""
        kept = shape[: len(shape) - over]
        if 0 in shape:
            return np.zeros(kept, np.int64)
        flat = np.broadcast_to(x, shape).reshape(*kept, -1)
        places = np.broadcast_to(position, shape[len(kept) :]).reshape(-1)
        order = np.argsort(places)
        chosen = flat[..., order].argmax(-1) if kind == "argmax" else flat[..., order].argmin(-1)
        return places[order][chosen].astype(np.int64)

    @staticmethod
    def numpy_view(x: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
        """A view of a row-major buffer by strides in elements."""
        flat = np.ascontiguousarray(x).reshape(-1)[offset:]  # an op's result may be a strided view: the real part of another
        return np.lib.stride_tricks.as_strided(flat, shape, [s * x.itemsize for s in strides])


def computing(dtype: DType) -> DType:
    """The dtype that values of `dtype` are computed in."""
    return dtypes.float32 if dtype.is_floating_point and dtype.itemsize < 4 else dtype


class Writer:
    """Writes loops, one after another, as NumPy statements."""

    def __init__(self, buffers: dict[str, Buffer], made: set[str]) -> None:
        self.buffers = buffers
        self.made = set(made)  # arrays that exist already
        self.lines: list[str] = []
        self.read: set[str] = set()
        self.written: set[str] = set()
        self.sizes: set[str] = set()
        self._memo: dict[tuple[Expr, Axes], str] = {}
        self._axes: dict[tuple[Index, int, int], str] = {}
        self._temporaries = itertools.count()

    def loop(self, loop: Loop) -> None:
        """Write one loop: its value as an array, assigned to its buffer."""
        self._memo, self._axes = {}, {}
        if loop.loc:
            self.lines.append(f"# {loop.loc}")
        axes = tuple(loop.ranges)
        value = self.value(loop.value, axes)
        self._make(loop)
        self.written.add(loop.buffer)
        target = self._view(loop.buffer, loop.index, axes)
        if target is not None:
            self.lines.append(f"{target}[...] = {value}")
        else:
            self.lines.append(f"{loop.buffer}[{self._indices(loop.index, axes, None)}] = {value}")

    def _make(self, loop: Loop) -> None:
        """Allocate the loop's buffer when nothing has yet."""
        if loop.buffer in self.made:
            return
        self.made.add(loop.buffer)
        known = self.buffers.get(loop.buffer)
        if known is None:
            last = {v: ix.add(v.args[1], -1) for i in loop.index for v in ix.variables(i)}
            shape = tuple(ix.add(ix.substitute(i, last), 1) for i in loop.index)
            known = self.buffers[loop.buffer] = Buffer(loop.buffer, computing(loop.value.dtype), shape, ())
        self.lines.append(f"{loop.buffer} = np.empty({self.shape(known.shape)}, {dtype_text(known.dtype)})")

    # ---- indices ---------------------------------------------------------------------------------------------------

    def size(self, i: IndexLike) -> str:
        """Return an expression over symbolic sizes as text."""
        for part in ix.walk(i):
            if part.kind == "size":
                self.sizes.add(part.args[0])
        return str(i)

    def shape(self, sizes: Sequence[IndexLike]) -> str:
        return "(" + "".join(f"{self.size(n)}, " for n in sizes) + ")"

    def index(self, i: IndexLike, axes: Axes) -> str:
        """Return an index expression as an integer array over `axes`."""
        if not isinstance(i, Index):
            return str(i)
        kind, args = i.kind, i.args
        if kind == "var":
            return self._axis(i, axes)
        if kind == "size":
            return self.size(i)
        if kind == "value":
            return self.value(args[0], axes)
        left, right = self.index(args[0], axes), self.index(args[1], axes)
        if kind in ("min", "max"):
            return f"np.{kind}imum({left}, {right})"
        return f"({left} {dict(add='+', mul='*', div='//', mod='%')[kind]} {right})"

    def _axis(self, v: Index, axes: Axes) -> str:
        key = (v, axes.index(v), len(axes))
        name = self._axes.get(key)
        if name is None:
            name = self._axes[key] = f"_i{next(self._temporaries)}"
            self.lines.append(f"{name} = xp.numpy_axis({self.size(v.args[1])}, {key[1]}, {key[2]})")
        return name

    def _indices(self, index: Sequence[IndexLike], axes: Axes, mask: str | None) -> str:
        parts = [self.index(i, axes) for i in index]
        if mask is not None:
            parts = [f"np.where({mask}, {part}, 0)" for part in parts]
        return ", ".join(parts) or "()"

    def _view(self, name: str, index: Sequence[IndexLike], axes: Axes) -> str | None:
        """Return the elements at `index` as a view with the given axes; None when they are not regular."""
        slices, order = [], []
        sizes = self.buffers[name].shape
        for i, whole in zip(index, sizes, strict=True):
            found = sorted(ix.variables(i), key=str)
            if emit.values_in((i,)) or len(found) > 1:
                return None
            if not found:
                slices.append(self.size(i))
                continue
            step = ix.coefficient(i, found[0])
            if step is None or step < 1 or found[0] in order or found[0] not in axes:
                return None
            first = ix.substitute(i, {found[0]: 0})
            if any(part.kind in ("min", "max") for part in ix.walk(first)):
                return None
            full = step == 1 and first == 0 and found[0].args[1] == whole
            slices.append(":" if full else self._slice(first, found[0], step))
            order.append(found[0])
        if not order:
            slices.append("...")  # a view without axes, not a number
        text = f"{name}[{', '.join(slices)}]"
        places = [axes.index(v) for v in order]
        if places != sorted(places):
            text += f".transpose({', '.join(str(places.index(p)) for p in sorted(places))})"
        if len(places) == len(axes) or not places:
            return text if places or not axes else f"np.asarray({text}).reshape({(1,) * len(axes)})"
        return text + "[" + ", ".join(":" if d in places else "None" for d in range(len(axes))) + "]"

    def _slice(self, first: IndexLike, v: Index, step: int) -> str:
        stop = ix.add(first, ix.mul(v.args[1], step))
        if step == 1:
            return f"{self.size(first)}:{self.size(stop)}" if first != 0 else f":{self.size(stop)}"
        # The last element taken is at stop - step; nothing lies behind it that must exist.
        return f"{self.size(first)}:{self.size(ix.add(stop, 1 - step))}:{step}"

    # ---- values ----------------------------------------------------------------------------------------------------

    def value(self, e: Expr, axes: Axes) -> str:
        """Return `e` over `axes`, computing it first if that has not been done."""
        if isinstance(e, Const):
            kept = computing(e.dtype)
            number = e.args[0] if kept is e.dtype else float(e.dtype.np.type(e.args[0]))
            return f"{dtype_text(kept)}({_number(number)})"
        found = self._memo.get((e, axes))
        if found is None:
            text = self._spell(e, axes)
            found = self._memo[e, axes] = f"_t{next(self._temporaries)}"
            self.lines.append(f"{found} = {text}")
        return found

    def _spell(self, e: Expr, axes: Axes) -> str:
        if isinstance(e, Load):
            return self._load(e, axes)
        if isinstance(e, IndexValue):
            return f"xp.numpy_cast({self.index(e.args[0], axes)}, {dtype_text(e.dtype)})"
        if isinstance(e, Call):
            return self._call(e, axes)
        if isinstance(e, Reduce):
            inner = (*axes, *e.vars)
            value = self.value(e.value, inner)
            shape = self.shape([v.args[1] for v in inner])
            if e.position is not None:  # it depends on the reduced variables only
                position = self.index(e.position, e.vars)
                return f"xp.numpy_rank({e.kind!r}, {value}, {position}, {shape}, {len(e.vars)})"
            return f"xp.numpy_combine({e.kind!r}, {value}, {shape}, {len(e.vars)}, {dtype_text(computing(e.dtype))})"
        raise TypeError(f"NumPy code cannot hold {type(e).__name__}: {e}")

    def _load(self, e: Load, axes: Axes) -> str:
        self.read.add(e.buffer)
        stored = self.buffers[e.buffer].dtype
        if 0 in self.buffers[e.buffer].shape:  # masked everywhere, or read by nobody; its indices are checked all the same
            self._indices([i for i in e.index if emit.values_in((i,))], axes, None)
            return f"{dtype_text(computing(stored))}({_number(e.other)})"
        if e.mask is None:
            text = self._view(e.buffer, e.index, axes) or f"{e.buffer}[{self._indices(e.index, axes, None)}]"
        else:
            mask = self.value(e.mask, axes)
            other = f"np.asarray({_number(e.other)}, {dtype_text(stored)})"
            text = f"np.where({mask}, {e.buffer}[{self._indices(e.index, axes, mask)}], {other})"
        return text if computing(stored) is stored else f"xp.numpy_cast({text}, np.float32)"

    def _call(self, e: Call, axes: Axes) -> str:
        op = get_op(e.fn)
        operands = [self.value(o, axes) for o in e.operands]
        kind = dtype_text(computing(e.dtype))
        following = op.schema.params[len(operands) :]
        if following and following[0].type == "dtype":
            rounded = f"xp.numpy_cast({operands[0]}, {dtype_text(e.dtype)})"
            return rounded if computing(e.dtype) is e.dtype else f"xp.numpy_cast({rounded}, {kind})"
        return f"xp.numpy_cast(xp.{e.fn}({', '.join(operands)}), {kind})"


class PlanSource:
    """A whole plan as one Python function."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = "run"
        self.schedule = plan.schedule
        self.constants: dict[str, Any] = {}  # arguments of externs that have no spelling: dtypes, devices, generators
        self.writer = Writer(dict(plan.schedule.buffers), set(plan.schedule.inputs))

    def text(self) -> str:
        """Return the function's source; it takes the list of inputs and returns the list of outputs."""
        for step in self.schedule.steps:
            if isinstance(step, Group):
                self.writer.lines.append(f"# {step.name}" + (f": {step.why}" if step.why else ""))
                for loop in step.loops:
                    self.writer.loop(loop)
            elif isinstance(step, Kernel) and step.group is not None:
                for loop in step.group.loops:
                    self.writer.loop(loop)
            elif isinstance(step, Loop):
                self.writer.loop(step)
            elif isinstance(step, Extern):
                self._extern(step)
            else:
                raise TypeError(f"a plan for NumPy cannot hold {type(step).__name__}")
        outputs = ", ".join(self._argument(out if not isinstance(out, str) else _Name(out)) for out in self.schedule.outputs)
        body = [f"{', '.join(self.schedule.inputs)}{',' if self.schedule.inputs else '()'} = inputs"]
        body += [*self._size_lines(), *self.writer.lines, f"return [{outputs}]"]
        return f"def {self.name}(inputs):\n" + "".join(f"    {line}\n" for line in body)

    def _size_lines(self) -> list[str]:
        """Read each symbolic size from the first input dimension that is it."""
        found: dict[str, str] = {}
        for name in self.schedule.inputs:
            for d, n in enumerate(self.schedule.buffers[name].shape):
                if isinstance(n, Index) and n.kind == "size":
                    found.setdefault(n.args[0], f"{n.args[0]} = {name}.shape[{d}]")
        return list(found.values())

    def _extern(self, step: Extern) -> None:
        w = self.writer
        if step.loc:
            w.lines.append(f"# {step.loc}")
        outs = [name or f"_{n}" for n, name in enumerate(step.outs)]
        inner = get_op(step.op).family == "control"  # its bodies do as they like with half precisions; it returns a list
        arguments = ", ".join(self._argument(a) if inner else self._operand(a) for a in step.args)
        w.lines.append(f"{', '.join(outs)}{',' if inner else ''} = xp.{step.op}({arguments})")
        for name in step.outs:
            if name in w.buffers:  # an op's kernel may compute in a wider dtype
                w.lines.append(f"{name} = xp.numpy_cast({name}, {dtype_text(w.buffers[name].dtype)})")
        w.made.update(step.outs)
        for loop in step.epilogue:
            w.loop(loop)

    def _operand(self, value: Any) -> str:
        """An argument of an op: half precisions are widened, as eager mode does before it calls a kernel."""
        if isinstance(value, (tuple, list)):
            inside = "".join(f"{self._operand(v)}, " for v in value)
            return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
        known = self.writer.buffers.get(value.buffer) if isinstance(value, Ref) else None
        text = self._argument(value)
        return text if known is None or computing(known.dtype) is known.dtype else f"xp.numpy_cast({text}, np.float32)"

    def _argument(self, value: Any) -> str:
        w = self.writer
        if isinstance(value, Ref):
            known = w.buffers.get(value.buffer)
            if known is not None and known.shape == value.shape and known.strides == value.strides and value.offset == 0:
                return value.buffer
            return f"xp.numpy_view({value.buffer}, {w.shape(value.shape)}, {w.shape(value.strides)}, {w.size(value.offset)})"
        if isinstance(value, (tuple, list)):
            inside = "".join(f"{self._argument(v)}, " for v in value)
            return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
        if isinstance(value, (Index, _Name)):
            return w.size(value) if isinstance(value, Index) else str(value)
        return self._constant(value)

    def _constant(self, value: Any) -> str:
        if isinstance(value, float):
            return _number(value)
        if value is None or isinstance(value, (bool, int, str, complex, slice)):
            return repr(value)
        name = f"_c{len(self.constants)}"
        self.constants[name] = value
        return name


class _Name(str):
    """A buffer's name as an output."""


def dtype_text(dtype: DType) -> str:
    """Return a dtype as NumPy source."""
    if dtype is dtypes.bool_:
        return "np.bool_"
    return "xp.bfloat16" if dtype is dtypes.bfloat16 else f"np.{dtype.name}"


def _number(value: Any) -> str:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f"float({str(value)!r})"
    return repr(value)
