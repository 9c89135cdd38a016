"""Long reductions with few results, made of many short ones: partial results in parallel, then their combination."""

from __future__ import annotations

from collections.abc import Iterator

from flambeau.ir import dtype as _dtype
from flambeau.ir import index as ix
from flambeau.ir import loops as lo
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index
from flambeau.ir.loops import Buffer, Expr, Load, Loop
from flambeau.ir.meta import contiguous_strides
from flambeau.ir.program import Schedule, Target
from flambeau.passes.cost import top_reduction
from flambeau.passes.space import extent, numel_hint, static_numel

#: Results and columns handled together by one thread when a reduction runs down the columns of a matrix.
COLUMNS = 64

#: Columns longer than this are summed in pieces whatever their number, for accuracy and to run along rows of memory.
LONG = 4096


def split_reductions(lowered: Schedule, target: Target) -> Schedule:
    """``lowered`` with each long reduction that leaves threads idle in two steps."""
    if target.threads < 2:
        return lowered
    steps: list = []
    buffers = dict(lowered.buffers)
    for step in lowered.steps:
        if isinstance(step, Loop):
            steps += _split(step, buffers, target)
        else:
            steps.append(step)
    return Schedule(tuple(steps), buffers, lowered.inputs, lowered.outputs)


def _split(loop: Loop, buffers: dict[str, Buffer], target: Target) -> Iterator[Loop]:
    reduction = top_reduction(loop.value)
    count = _chunks(loop, reduction, target)
    if reduction is None or count is None:
        yield loop
        return
    v = reduction.vars[0]
    length = -(-numel_hint([extent(v)]) // count)
    name = f"{loop.buffer}_parts"
    while name in buffers:
        name += "_"
    shape = (count, *(extent(i) for i in loop.ranges))
    buffers[name] = Buffer(name, reduction.dtype, shape, contiguous_strides(shape))
    part, inner = ix.var(f"{v}p", count), ix.var(f"{v}q", length)
    partial = _chunk(reduction, v, part, inner, length)
    yield Loop(name, (part, *loop.ranges), (part, *loop.ranges), partial, loop.loc)
    again = lo.Reduce(reduction.dtype, reduction.kind, (part,), Load(reduction.dtype, name, (part, *loop.ranges), None, 0))
    yield Loop(loop.buffer, loop.ranges, loop.index, lo.cast(again, loop.value.dtype), loop.loc)


def _chunks(loop: Loop, reduction: lo.Reduce | None, target: Target) -> int | None:
    """How many partial results a reduction is worth, None for one."""
    if reduction is None or reduction.kind in ("argmax", "argmin"):
        return None
    results, length = static_numel(loop.ranges), static_numel(reduction.vars)
    first = numel_hint([extent(reduction.vars[0])])
    if results is None or length is None or results * length < target.parallel_work or first < 2 * target.threads:
        return None
    columns = _down_columns(loop, reduction)
    if -(-results // (COLUMNS if columns else 1)) >= 4 * target.threads and not (columns and length > LONG):
        return None
    wanted = min(16 * target.threads, first)
    exact = [d for d in range(2 * target.threads, wanted + 1) if first % d == 0]
    return exact[-1] if exact else 4 * target.threads


def _down_columns(loop: Loop, reduction: lo.Reduce) -> bool:
    """Whether neighbouring results, not neighbouring terms, are neighbours in memory."""
    last = reduction.vars[-1]
    loads = [e for e in lo.walk(reduction.value) if isinstance(e, Load) and e.index]
    return bool(loop.ranges) and not any(ix.variables(e.index[-1]) & {last} for e in loads)


def _chunk(reduction: lo.Reduce, v: Index, part: Index, inner: Index, length: int) -> Expr:
    """One chunk of the reduction; past the end, where the chunks do not fit, nothing is read."""
    place = ix.add(ix.mul(part, length), inner)
    inside = lo.compare("lt", place, extent(v))
    value = lo.rewrite(reduction.value, lambda e: None, {v: place})
    if not isinstance(inside, lo.Const):
        value = lo.select(inside, masked(value, inside), lo.const(identity(reduction.kind, value.dtype), value.dtype))
    return lo.Reduce(reduction.dtype, reduction.kind, (inner, *reduction.vars[1:]), value)


def masked(value: Expr, mask: Expr) -> Expr:
    """``value`` with nothing loaded where ``mask`` is false."""
    return lo.rewrite(value, lambda e: Load(e.dtype, e.buffer, e.index, lo.both(mask, e.mask), e.other)
                      if isinstance(e, Load) else None)


def identity(kind: str, dtype: DType) -> float | int | bool:
    """What changes nothing when it is combined."""
    if kind in ("sum", "any"):
        return 0
    if kind in ("prod", "all"):
        return 1
    low, high = dtype_range(dtype)
    return low if kind in ("max", "argmax") else high


def dtype_range(dtype: DType) -> tuple[float | int, float | int]:
    """The smallest and largest value, infinities included."""
    if dtype.is_floating_point:
        return -float("inf"), float("inf")
    if dtype is _dtype.bool_:
        return 0, 1
    bits = 8 * dtype.itemsize
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.is_signed else (0, (1 << bits) - 1)
