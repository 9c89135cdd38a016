"""Calls of the hand-written templates from a plan's library: their argument structs, filled in C++."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flambeau.codegen import cpp_text as cpp
from flambeau.codegen.cpp_text import size_text
from flambeau.ir import dtype as dtypes
from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Expr, For, Let, Load, Local, Store
from flambeau.ir.program import Extern, Kernel, Ref

if TYPE_CHECKING:
    from flambeau.codegen.host import PlanSource

#: Element types of the matrix template, in the order of the runtime table.
_ELEMENTS = (dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.float16)


def write(step: Extern, plan: PlanSource) -> list[str] | None:
    """Return the lines that perform `step` by its template; None where the op's own kernel has to do it."""
    writer = _WRITERS.get(step.template)
    lines = writer(step, plan) if writer is not None else None
    if lines is None:
        if step.epilogue:
            raise cpp.Unsupported(f"{step.name}: an epilogue on a step without its template")
        return None
    comment = [f"// {step.name}: {step.loc}"] if step.loc else []
    return [*comment, "{", *(f"  {line}" for line in lines), "}"]


def _buffer(ref: Ref, plan: PlanSource) -> Buffer:
    return plan.plan.schedule.buffers[ref.buffer]


def _address(ref: Ref, plan: PlanSource) -> str:
    return plan.pointer(_buffer(ref, plan), ref.offset)


# ---- matrix products ----------------------------------------------------------------------------------------------


def _matmul(step: Extern, plan: PlanSource) -> list[str] | None:
    a, b = (arg for arg in step.args if isinstance(arg, Ref))
    out = plan.plan.schedule.buffers.get(step.outs[0]) or _inside(step.outs[0], a, b, plan)
    batch = a.shape[:-2]
    if out.dtype not in _ELEMENTS or len(batch) > 3 or out.strides[-1] != 1 and out.shape[-1] != 1:
        return None
    stored = step.outs[0] in step.written
    lines = ["GemmArgs g = {};", f"g.a = {_address(a, plan)};", f"g.b = {_address(b, plan)};"]
    if stored:
        lines.append(f"g.c = {plan.pointer(out)};")
    fields: dict[str, IndexLike] = {
        "m": a.shape[-2], "n": b.shape[-1], "k": a.shape[-1],
        "a_row": a.strides[-2], "a_col": a.strides[-1], "b_row": b.strides[-2], "b_col": b.strides[-1],
        "c_row": out.strides[-2] if len(out.strides) > 1 else 0,
    }
    lines += [f"g.{name} = {size_text(value)};" for name, value in fields.items()]
    for d in range(3):
        at = d - (3 - len(batch))
        lines.append(f"g.batch[{d}] = {size_text(batch[at]) if at >= 0 else 1};")
        if at >= 0:
            for name, steps in (("a", a.strides), ("b", b.strides), ("c", out.strides)):
                lines.append(f"g.{name}_batch[{d}] = {size_text(steps[at])};")
    if step.epilogue:
        lines += _epilogue(step, out, plan)
    plan.needs.add(f"gemm_{out.dtype.short}")
    return [*lines, f"host->gemm[{_ELEMENTS.index(out.dtype)}](&g);"]


def _inside(name: str, a: Ref, b: Ref, plan: PlanSource) -> Buffer:
    """A product that no step but its epilogue sees, as if it were stored."""
    shape = (*a.shape[:-1], b.shape[-1])
    strides: list[IndexLike] = []
    step: IndexLike = 1
    for size in reversed(shape):
        strides.insert(0, step)
        step = ix.mul(step, size)
    return Buffer(name, _buffer(a, plan).dtype, shape, tuple(strides))


#: What an epilogue's function knows of the tile it is given.
_TILE = ("tile_matrix", "tile_m0", "tile_n0", "tile_rows", "tile_cols", "tile_row")


def _epilogue(step: Extern, out: Buffer, plan: PlanSource) -> list[str]:
    """Write the function that finishes a tile; return the lines that hand it to the template."""
    matrix, m0, n0, rows, cols, tile_row = (ix.size(name) for name in _TILE)
    i, j = ix.var("tile_i", rows), ix.var("tile_j", cols)
    place: list[IndexLike] = [ix.add(m0, i), ix.add(n0, j)]
    rest: IndexLike = matrix
    for extent in reversed(out.shape[:-2]):
        place.insert(0, ix.mod(rest, extent))
        rest = ix.div(rest, extent)
    wide = dtypes.float64 if out.dtype is dtypes.float64 else dtypes.float32
    tile = Buffer("tile", wide, (rows, cols), (tile_row, 1))
    statements, touched = _tile_statements(step, out, place, tile, (i, j), plan)
    sizes = tuple(sorted({size for b in touched for size in _sizes_of(b)} | _sizes_in(statements)))
    body = (For(i, (For(j, tuple(statements), "vector"),), "serial"),)
    name = f"{step.name}_epilogue"
    own = tuple(size for size in sizes if size not in _TILE)
    kernel = Kernel(name, (tile, *touched), body, (), (*_TILE, *own), (step.loc,) if step.loc else ())
    plan.define(kernel)
    return _trampoline(name, wide.short, touched, own, plan)


def _tile_statements(step: Extern, out: Buffer, place: Sequence[IndexLike], tile: Buffer, at: tuple[Index, Index],
                     plan: PlanSource) -> tuple[list[Any], tuple[Buffer, ...]]:
    """The loops of an epilogue as statements on one element of the tile; the buffers they read and write."""
    buffers = plan.plan.schedule.buffers
    product = loops.cast(Load(tile.dtype, tile.name, at, None, 0), out.dtype)
    values: dict[str, Expr] = {out.name: product}
    statements: list[Any] = []
    reads: dict[str, Buffer] = {}
    writes: dict[str, Buffer] = {}
    for loop in step.epilogue:
        env = _places(loop.ranges, out, place)

        def known(e: Expr) -> Expr | None:
            if isinstance(e, Load):
                if e.buffer in values:
                    return values[e.buffer]
                reads[e.buffer] = buffers[e.buffer]
            return None

        value = loops.rewrite(loop.value, known, env)
        name = f"{loop.buffer}_v"
        statements.append(Let(name, value, loop.loc))
        values[loop.buffer] = Local(value.dtype, name)
        if loop.buffer in step.written:
            writes[loop.buffer] = buffers[loop.buffer]
            where = tuple(ix.substitute(i, env) for i in loop.index)
            stored = loops.cast(values[loop.buffer], buffers[loop.buffer].dtype)
            statements.append(Store(loop.buffer, where, stored, None, "", loop.loc))
    only_read = [b for name, b in reads.items() if name not in writes]
    return statements, (*only_read, *writes.values())


def _places(ranges: Sequence[Index], out: Buffer, place: Sequence[IndexLike]) -> dict[Index, IndexLike]:
    """The variables of the product's index (`i0`, `i1`..., where its size is not 1) as places of the tile's element."""
    named = {f"i{d}": p for d, p in enumerate(place)}
    return {v: named[v.args[0]] for v in ranges}


def _trampoline(name: str, tile: str, touched: Sequence[Buffer], own: Sequence[str], plan: PlanSource) -> list[str]:
    """Write the callback that unpacks an epilogue's context; return the lines that set it."""
    function = cpp.identifier(name)
    slots = [f"({cpp.memory_type(b.dtype)}*)context[{n}]" for n, b in enumerate(touched)]
    slots = [f"(const {tile}*)tile", *slots, "matrix", "m0", "n0", "m1 - m0", "n1 - n0", "row"]
    slots += [f"context[{len(touched) + n}]" for n in range(len(own))]
    plan.define_text(
        f"static void {function}_tile(void* words, i64 matrix, i64 m0, i64 m1, i64 n0, i64 n1, const void* tile, i64 row) {{\n"
        f"  const i64* context = (const i64*)words;\n"
        f"  {function}({', '.join(slots)});\n}}\n"
    )
    words = [f"(i64)({plan.pointer(b)})" for b in touched] + [cpp.identifier(size) for size in own]
    return [f"i64 context[] = {{{', '.join(words) or '0'}}};", f"g.epilogue = {function}_tile;", "g.context = context;"]


def _sizes_of(buffer: Buffer) -> set[str]:
    return {i.args[0] for part in (*buffer.shape, *buffer.strides) for i in ix.walk(part) if i.kind == "size"}


def _sizes_in(statements: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for s in statements:
        indices = list(s.index) if isinstance(s, Store) else []
        for e in loops.walk(s.value):
            indices += loops.own_indices(e)
        found |= {i.args[0] for part in indices for i in ix.walk(part) if i.kind == "size"}
    return found


# ---- attention ----------------------------------------------------------------------------------------------------


def _words(values: Sequence[str], struct: str, function: str, plan: PlanSource) -> list[str]:
    plan.needs.add(function)
    return [f"i64 words[] = {{{', '.join(values)}}};", f"host->{function}((const {struct}*)words);"]


def _word(pointer: str) -> str:
    return f"(i64)({pointer})"


def _attention(step: Extern, plan: PlanSource) -> list[str] | None:
    buffers = plan.plan.schedule.buffers
    if step.template == "attention":
        q, k, v, mask, causal, scale = step.args
        out, lse = (_whole(buffers[name]) for name in step.outs)
        tail = ["0"] * 17
        refs: list[Ref] = [q, k, v, out]
    else:
        grad, grad_lse, q, k, v, out, lse, mask, causal, scale = step.args
        grads = [_whole(buffers[name]) for name in step.outs]
        refs = [q, k, v, out, grad, *grads]
        tail = [_word(_address(ref, plan)) for ref in (grad, *grads)]
        tail += [size_text(s) for ref in (grad, *grads) for s in ref.strides[:3]]
        tail.append("0" if grad_lse is None else _word(_address(grad_lse, plan)))
        if grad_lse is not None and grad_lse.strides != lse.strides:
            return None
    if not all(_rows_adjacent(ref) for ref in refs) or lse.strides[-1] != 1 and lse.shape[-1] != 1:
        return None
    if any(_buffer(ref, plan).dtype is not dtypes.float32 for ref in refs):
        return None
    values = [_word(_address(ref, plan)) for ref in (q, k, v, out, lse)]
    groups = f"{size_text(q.shape[1])} / {size_text(k.shape[1])}"
    values += [size_text(q.shape[0]), size_text(q.shape[1]), groups]
    values += [size_text(n) for n in (q.shape[2], k.shape[2], q.shape[3], v.shape[3])]
    values += [size_text(s) for ref in (q, k, v, out) for s in ref.strides[:3]] + [size_text(s) for s in lse.strides[:2]]
    described = _mask_words(mask, (q.shape[0], q.shape[1], q.shape[2], k.shape[2]), plan)
    if described is None:
        return None
    values += [*described, str(int(causal)), f"__builtin_bit_cast(i64, {cpp.literal(scale, dtypes.float64)})"]
    return _words([*values, *tail], "AttentionArgs", "attention", plan)


def _mask_words(mask: Ref | None, full: Sequence[IndexLike], plan: PlanSource) -> list[str] | None:
    """Pointer, kind and strides of a mask broadcast to the scores' shape; None for a dtype the template does not take."""
    if mask is None:
        return ["0"] * 6
    dtype = _buffer(mask, plan).dtype
    if dtype not in (dtypes.float32, dtypes.bool_):
        return None
    steps: list[IndexLike] = [0] * (4 - len(mask.shape))
    for size, step, whole in zip(mask.shape, mask.strides, full[4 - len(mask.shape) :], strict=True):
        steps.append(0 if size == 1 and whole != 1 else step)
    return [_word(_address(mask, plan)), str(int(dtype is dtypes.bool_)), *map(size_text, steps)]


def _whole(buffer: Buffer) -> Ref:
    return Ref(buffer.name, buffer.shape, buffer.strides)


def _rows_adjacent(ref: Ref) -> bool:
    return ref.strides[-1] == 1 or ref.shape[-1] == 1


# ---- convolution --------------------------------------------------------------------------------------------------


def _conv(step: Extern, plan: PlanSource) -> list[str] | None:
    """One of the three products of a convolution, told apart by what the step computes from."""
    out = _whole(plan.plan.schedule.buffers[step.outs[0]])
    kind = _CONV_KINDS[step.template]
    bias: Ref | None = None
    if kind == 0:
        x, weight, bias, *geometry = step.args
        y = out
    elif kind == 1:
        y, weight, _, *geometry = step.args
        x = out
    else:
        y, x, _, *geometry = step.args
        weight = out
    stride, padding, dilation, groups = geometry
    refs = [ref for ref in (x, weight, y, bias) if ref is not None]
    spatial = len(x.shape) - 2
    if not 1 <= spatial <= 3 or any(_buffer(ref, plan).dtype is not dtypes.float32 for ref in refs):
        return None
    if not all(_contiguous(ref) for ref in refs) or any(size == 0 for ref in refs for size in ref.shape):
        return None

    def three(values: Sequence[IndexLike], fill: int) -> list[str]:
        return [str(fill)] * (3 - spatial) + [size_text(value) for value in values]

    values = [str(kind), *(_word(_address(ref, plan)) for ref in (x, weight, y))]
    values.append("0" if bias is None else _word(_address(bias, plan)))
    values += [size_text(x.shape[0]), size_text(x.shape[1]), size_text(y.shape[1]), size_text(groups)]
    for ref in (x, y, weight):
        values += three(ref.shape[2:], 1)
    values += three(stride, 1) + three(padding, 0) + three(dilation, 1)
    return _words(values, "ConvArgs", "conv", plan)


_CONV_KINDS = {"conv": 0, "conv_input": 1, "conv_weight": 2}


def _contiguous(ref: Ref) -> bool:
    step: IndexLike = 1
    for size, stride in zip(reversed(ref.shape), reversed(ref.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step = ix.mul(step, size)
    return True


_WRITERS: dict[str, Callable[[Extern, Any], list[str] | None]] = {
    "matmul": _matmul,
    "attention": _attention,
    "attention_backward": _attention,
    **dict.fromkeys(_CONV_KINDS, _conv),
}

#: The templates that compiled code can call, by the names that ops give them (`Op.extra["template"]`).
TEMPLATES = frozenset(_WRITERS)
