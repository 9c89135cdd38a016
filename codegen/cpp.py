"""Kernels as C++: vector loops on GCC vector extensions, threads by `parallel`, one function a kernel.

Inside a vector loop a value either varies from lane to lane (a vector), or does not; what does not is computed once,
before the loop, as a scalar. Access at a unit step is one vector load; any other is gathered lane by lane.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flambeau.codegen import emit, expr
from flambeau.codegen.cpp_text import (
    FAILED,
    Lanes,
    Unsupported,
    Value,
    atom,
    beats,
    bytes_of,
    combined,
    computing,
    fits,
    identifier,
    identity,
    index_of,
    literal,
    memory_type,
    scalar_type,
    variable,
)
from flambeau.codegen.cpp_vector import VectorLoop, carried, held_in, needs_scalar
from flambeau.ir import dtype as dtypes
from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, Buffer, Call, Const, Expr, For, IndexValue, Init, Let, Load, Local, Random, Store
from flambeau.ir.op import Op, get_op
from flambeau.ir.program import Kernel


@functools.cache
def _truth_table(op: Op, arity: int) -> tuple[bool, ...]:
    """Return the values of an op over all combinations of bool operands, first operand slowest."""
    rows = [np.array(row) for row in itertools.product((False, True), repeat=arity)]
    return tuple(bool(expr.numpy_call(op, np, list(row))) for row in rows)


#: A function of one or two bools by its truth table, as text that holds for masks as well as for plain bools.
_ONE_BOOL: dict[tuple[bool, ...], str] = {(False, True): "{0}", (True, False): "!{0}"}
_TWO_BOOLS: dict[tuple[bool, ...], str] = {
    (False, False, False, True): "({0} & {1})",
    (False, True, True, True): "({0} | {1})",
    (False, True, True, False): "({0} ^ {1})",
    (True, False, False, True): "!({0} ^ {1})",
    (False, False, True, False): "({0} & !{1})",
    (False, True, False, False): "(!{0} & {1})",
    (True, True, False, True): "(!{0} | {1})",
    (True, False, True, True): "({0} | !{1})",
}


class KernelWriter:
    """Writes one kernel; a `Target` for the walk over its body."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.buffers = emit.buffers_of(kernel)
        self.lines: list[str] = []
        self.depth = 1
        self.env: dict[str, Value] = {}
        self.lanes: Lanes | None = None
        self.per_lane = False  # inside the function that makes one lane of a gathered vector
        self.parallel = False
        self.values: emit.Values[Value] | None = None
        self.temporaries = itertools.count()
        self.loc = ""
        self.held: For | None = None  # the vector loop whose accumulators the serial loops around it keep as vectors
        self.positions: dict[str, tuple[str, DType]] = {}  # argmax and argmin: best value's name and dtype

    # ---- the function around the body ------------------------------------------------------------------------------

    def write(self) -> str:
        """Return the text of the kernel's function."""
        written = emit.stored_in(self.kernel.body)
        params = [
            f"{'' if b.name in written else 'const '}{memory_type(b.dtype)}* {identifier(b.name)}"
            for b in self.kernel.params
        ]
        params += [f"i64 {identifier(size)}" for size in self.kernel.sizes]
        threaded = [s for s in self.kernel.body if isinstance(s, For) and s.kind == "parallel"]
        self._scratch([s for s in self.kernel.body if s not in threaded])
        for statement in self.kernel.body:
            self._top(statement)
        if any(re.search(rf"\b{FAILED}\b", line) for line in self.lines):
            params.append(f"i64* {FAILED}")
        where = [f"// {loc}" for loc in self.kernel.locs]
        head = f"static void {identifier(self.kernel.name)}({', '.join(params)}) {{"
        return "\n".join([*where, head, *self.lines, "}"]) + "\n"

    def _top(self, statement: Any) -> None:
        if isinstance(statement, For) and statement.kind == "parallel":
            self._parallel(statement)
        elif isinstance(statement, For) and statement.kind == "vector" and self._stands_alone(statement):
            self._parallel_vector(statement)
        else:
            emit.walk_body(self, [statement])

    def _stands_alone(self, loop: For) -> bool:
        """Say whether a loop's iterations share nothing: no accumulators, no rows of scratch."""
        return not carried(loop) and not self._scratch_of([loop])

    def _parallel(self, loop: For) -> None:
        """Spread a loop over the threads; parallel loops that are all there is in one another count as one."""
        nest = [loop]
        while len(nest[-1].body) == 1 and isinstance(nest[-1].body[0], For) and nest[-1].body[0].kind == "parallel":
            nest.append(nest[-1].body[0])
        inner = nest[-1].body
        extents = [each.var.args[1] for each in nest]
        total = functools.reduce(ix.mul, extents)
        grain = max(1, 40000 // emit.cost(inner))
        with self._threaded(f"{self.index(total)}", str(grain)):
            if len(nest) == 1:
                self.open(f"for (i64 {self.index(loop.var)} = begin; {self.index(loop.var)} < end; {self.index(loop.var)}++) {{")
            else:
                self.open("for (i64 at = begin; at < end; at++) {")
                step: IndexLike = 1
                for number, each in reversed(list(enumerate(nest))):
                    divided = "at" if step == 1 else f"at / {atom(self.index(step))}"
                    wrapped = divided if number == 0 else f"{divided} % {atom(self.index(extents[number]))}"
                    self.line(f"i64 {self.index(each.var)} = {wrapped};")
                    step = ix.mul(step, extents[number])
            self._scratch(inner)
            emit.walk_body(self, inner)
            self.close("}")

    def _parallel_vector(self, loop: For) -> None:
        """Spread a vector loop that stands alone over the threads, in whole vectors."""
        grain = max(64, 60000 // emit.cost(loop.body) // 64 * 64)
        with self._threaded(self.index(loop.var.args[1]), str(grain)):
            self._vector(loop, "begin", "end", static=None)

    @contextlib.contextmanager
    def _threaded(self, extent: str, grain: str) -> Iterator[None]:
        self.open(f"parallel(host, {extent}, {grain}, [=](i64 begin, i64 end) {{")
        self.parallel = True
        yield
        self.parallel = False
        self.close("});")

    def _scratch_of(self, body: Sequence[Any]) -> list[Buffer]:
        """The per-thread rows that `body` uses."""
        used = emit.stored_in(body) | {
            e.buffer
            for statement in emit.statements(body)
            for root in emit.roots(statement)
            for e in loops.walk(root)
            if isinstance(e, Load)
        }
        return [b for b in self.kernel.scratch if b.name in used]

    def _scratch(self, body: Sequence[Any]) -> None:
        """Declare the per-thread rows that `body` uses."""
        rows = self._scratch_of(body)
        if sum(bytes_of(b) for b in rows) > 1 << 18:
            raise Unsupported("rows of more than 256 KiB on a thread's stack")
        for b in rows:
            count = max(1, bytes_of(b) // b.dtype.itemsize)
            self.line(f"alignas(64) {memory_type(b.dtype)} {identifier(b.name)}[{count}];")

    # ---- lines -----------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def open(self, text: str) -> None:
        self.line(text)
        self.depth += 1

    def close(self, text: str) -> None:
        self.depth -= 1
        self.line(text)

    def comment(self, loc: str) -> None:
        """Name the user's line of what follows, unless it is still the same."""
        if loc and loc != self.loc:
            self.line(f"// {loc}")
            self.loc = loc

    def temporary(self, stem: str) -> str:
        return f"{stem}{next(self.temporaries)}"

    # ---- types -----------------------------------------------------------------------------------------------------

    @property
    def spread(self) -> bool:
        """Whether values that vary are vectors here."""
        return self.lanes is not None and not self.per_lane

    def type_of(self, value: Value) -> str:
        if not value.vector:
            return scalar_type(value.dtype)
        assert self.lanes is not None
        if value.dtype is dtypes.bool_ or value.narrow:
            return f"mask{self.lanes.suffix}"
        return memory_type(computing(value.dtype)) + self.lanes.suffix

    def vector(self, value: Value, narrow: bool = False) -> Value:
        """Return the value as a vector."""
        if value.vector:
            return value
        wide = dataclasses.replace(value, vector=True, narrow=narrow)
        function = "splat_mask" if value.dtype is dtypes.bool_ else "splat"
        return dataclasses.replace(wide, text=f"{function}<{self.type_of(wide)}>({value.text})")

    # ---- indices ---------------------------------------------------------------------------------------------------

    def index(self, i: IndexLike) -> str:
        """Return an index expression as C++ text (in a vector loop, that of lane 0)."""
        if not isinstance(i, Index):
            return str(i)
        kind, args = i.kind, i.args
        if kind in ("var", "size"):
            name = variable(args[0]) if kind == "var" else identifier(args[0])
            return f"({name} + l)" if self.per_lane and self.lanes is not None and i is self.lanes.var else name
        if kind == "value":
            assert self.values is not None
            return f"(i64){atom(self.evaluate(args[0]).text)}"
        left, right = self.index(args[0]), self.index(args[1])
        if kind == "add":
            return f"{left} - {right[1:]}" if right.startswith("-") else f"{left} + {right}"
        if kind in ("min", "max"):
            return f"{'least' if kind == 'min' else 'most'}({left}, {right})"
        if kind == "mul":
            return f"-{atom(left)}" if right == "-1" else f"{atom(left)} * {atom(right)}"
        known = ix.bounds(args[0])[0]
        if known is not None and known >= 0:
            return f"{atom(left)} {'/' if kind == 'div' else '%'} {atom(right)}"
        return f"floor_{kind}({left}, {right})"

    def step(self, i: IndexLike) -> int | None:
        """Return by how much an index grows from lane to lane; None when it is irregular."""
        assert self.lanes is not None
        if any(self.lanes.varies(e) for e in emit.values_in((i,))):
            return None
        return ix.coefficient(i, self.lanes.var)

    # ---- values: the Target's half for expressions -----------------------------------------------------------------

    def evaluate(self, e: Expr) -> Value:
        """Return the value of `e` in the present context, hoisting it out of the vector loop if it can be."""
        lanes = self.lanes
        if lanes is None or isinstance(e, (Const, Local)) or lanes.changes(e):
            assert self.values is not None
            return self.values(e)
        found = lanes.invariant.get(e)
        if found is None:
            found = lanes.invariant[e] = self._hoist(e)
        return found

    def _hoist(self, e: Expr) -> Value:
        """Compute `e` once, before the vector loop."""
        lanes, lines, values, depth = self.lanes, self.lines, self.values, self.depth
        per_lane, self.per_lane = self.per_lane, False
        assert lanes is not None
        self.lanes, self.lines, self.values, self.depth = None, lanes.hoisted, emit.Values(self, [e]), lanes.depth
        try:
            value = self.values(e)
            name = self.temporary("u")
            self.line(f"const {self.type_of(value)} {name} = {value.text};")
        finally:
            self.lanes, self.lines, self.values, self.depth, self.per_lane = lanes, lines, values, depth, per_lane
        return dataclasses.replace(value, text=name)

    def named(self, e: Expr, value: Value) -> Value:
        name = self.temporary("t")
        self.line(f"const {self.type_of(value)} {name} = {value.text};")
        return dataclasses.replace(value, text=name)

    def const(self, e: Const) -> Value:
        return Value(literal(e.args[0], e.dtype), e.dtype)

    def local(self, e: Local) -> Value:
        found = self.env[e.name]
        if self.per_lane and found.vector:
            lane = f"{found.text}[l]"
            return Value(f"({lane} != 0)" if found.dtype is dtypes.bool_ else lane, found.dtype)
        return found

    def index_value(self, e: IndexValue) -> Value:
        i = e.args[0]
        kind = scalar_type(e.dtype)
        if not self.spread or not self._lane_index(i):
            return Value(f"({kind})({self.index(i)})", e.dtype)
        assert self.lanes is not None
        step = self.step(i)
        narrow = Value("", dtypes.int64, True, True)
        small = fits(i)
        counted = self.type_of(narrow) if small else f"i64{self.lanes.suffix}"
        if step is None:
            text = self._gather(counted, lambda: self.index(i))
        else:
            text = f"counting<{counted}>({self.index(i)}, {step})"
        if small and e.dtype in (dtypes.int64, dtypes.int32) and (self.lanes.suffix == "v" or e.dtype is dtypes.int64):
            return Value(text, e.dtype, True, True)
        value = Value(text, e.dtype, True)
        return dataclasses.replace(value, text=f"fl_cast<{self.type_of(value)}>({text})")

    def _lane_index(self, i: IndexLike) -> bool:
        assert self.lanes is not None
        return self.lanes.varies.index(i)

    def load(self, e: Load) -> Value:
        buffer = self.buffers[e.buffer]
        at, name = emit.offset(buffer, e.index), identifier(e.buffer)
        if not self.spread or not self.lanes.varies(e):  # type: ignore[union-attr]
            return Value(self._load_one(e, name, at), e.dtype)
        value = Value("", e.dtype, True)
        step = self.step(at)
        mask = e.mask
        assert self.lanes is not None
        if step == 1 and (mask is None or not self.lanes.varies(mask)):
            text = f"read<{self.type_of(value)}>({self._pointer(name, at)}{self.lanes.part})"
            if mask is not None:
                other = self.vector(Value(literal(e.other, e.dtype), e.dtype)).text
                text = f"({self.evaluate(mask).text} ? {text} : {other})"
        elif step == 1:
            assert mask is not None
            text = f"read_where<{self.type_of(value)}>({self._pointer(name, at)}, {self.evaluate(mask).text}{self.lanes.part})"
            if e.other != 0:
                other = self.vector(Value(literal(e.other, e.dtype), e.dtype)).text
                text = f"where({self.evaluate(mask).text}, {text}, {other})"
        elif step is not None and mask is None:
            text = f"read_apart<{self.type_of(value)}>({self._pointer(name, at)}, {step}{self.lanes.part or ', Whole()'})"
        else:
            text = self._gather(self.type_of(value), lambda: self._load_one(e, name, at))
        return dataclasses.replace(value, text=text)

    def _load_one(self, e: Load, name: str, at: IndexLike) -> str:
        text = f"get({name}[{self.index(at)}])"
        if e.mask is None:
            return text
        return f"({self.evaluate(e.mask).text} ? {text} : {literal(e.other, e.dtype)})"

    def _pointer(self, name: str, at: IndexLike) -> str:
        text = self.index(at)
        return name if text == "0" else f"{name} + {text}"

    def _gather(self, kind: str, element: Any) -> str:
        """Return a vector made lane by lane: `element()` writes the lines of one lane and returns its text."""
        assert self.lanes is not None
        part = self.lanes.part or ", Whole()"
        lines, self.lines, values = self.lines, [], self.values
        self.per_lane, self.depth = True, self.depth + 1
        self.values = emit.Values(self, [])
        text = element()
        body, self.lines, self.values = self.lines, lines, values
        self.per_lane, self.depth = False, self.depth - 1
        if not body:
            return f"gather<{kind}>({part[2:]}, [&](i64 l) {{ return {text}; }})"
        name = self.temporary("g")
        self.open(f"const {kind} {name} = gather<{kind}>({part[2:]}, [&](i64 l) {{")
        self.lines += body
        self.line(f"return {text};")
        self.close("});")
        return name

    def call(self, e: Call, operands: Sequence[Value]) -> Value:
        op = get_op(e.fn)
        operands = [self._hoisted(value, part) for value, part in zip(operands, e.operands, strict=True)]
        vector = any(value.vector for value in operands)
        operands = self._agree(op, e, operands, vector)
        result = Value("", e.dtype, vector)
        if all(value.dtype is dtypes.bool_ for value in operands):
            if e.dtype is dtypes.bool_ and len(operands) <= 2:
                table = _truth_table(op, len(operands))
                pattern = (_ONE_BOOL if len(operands) == 1 else _TWO_BOOLS).get(table)
                if pattern is not None:
                    return dataclasses.replace(result, text=pattern.format(*(value.text for value in operands)))
            if e.dtype is not dtypes.bool_ or len(operands) <= 2:
                operands = [dataclasses.replace(value, text=f"number({value.text})") for value in operands]
        if op.scalar is None:
            raise Unsupported(f"{op.name} has no C++ spelling")
        if op.promote == "cast" and e.dtype is dtypes.bool_ and vector:
            return dataclasses.replace(result, text=f"test<{self.type_of(result)}>({operands[0].text})")
        kind = self._result_kind(e, result)
        part = (self.lanes.part if vector and self.lanes is not None else "")[2:] or "Whole()"
        text = op.scalar.cpp.format(*(value.text for value in operands), dtype=kind, part=part)
        if e.dtype is dtypes.bool_:
            function = "test" if any(value.dtype is dtypes.bool_ for value in operands) else "as_mask"
            text = f"{function}<{self.type_of(result)}>({text})" if vector else f"bool({text})"
        elif not vector:
            text = f"{kind}({text})" if "<" not in kind else text
        return dataclasses.replace(result, text=text)

    def _result_kind(self, e: Call, result: Value) -> str:
        kind = self.type_of(result)
        if e.dtype is not computing(e.dtype) and len(e.operands) == 1:
            return f"Stored<{memory_type(e.dtype)}, {kind}>"
        return kind

    def _hoisted(self, value: Value, e: Expr) -> Value:
        """Replace an operand that does not change in the loop by its value from before the loop."""
        if self.lanes is None or value.vector or isinstance(e, (Const, Local)) or self.lanes.changes(e):
            return value
        return self.evaluate(e)

    def _agree(self, op: Op, e: Call, operands: list[Value], vector: bool) -> list[Value]:
        """Make operands all vectors or all numbers, and widen narrow indices unless all of them are narrow."""
        if not vector:
            return operands
        small = [value.narrow or (isinstance(part, Const) and fits(part.args[0]) and value.dtype.is_integral)
                 for value, part in zip(operands, e.operands, strict=True)]
        stay = all(small) and e.dtype is dtypes.bool_ and dtypes.bool_ not in [value.dtype for value in operands]
        found = []
        for value in operands:
            if value.narrow and not stay:
                wide = dataclasses.replace(value, narrow=False)
                value = dataclasses.replace(wide, text=f"fl_cast<{self.type_of(wide)}>({value.text})")
            found.append(self.vector(value, narrow=stay and value.dtype.is_integral))
        return found

    def random(self, e: Random, seed: Value) -> Value:
        kind, index = e.args[0], e.args[2]
        if not self.spread or not self.lanes.varies(e):  # type: ignore[union-attr]
            return Value(f"random_{kind}({seed.text}, {self.index(index)})", e.dtype)
        value = Value("", e.dtype, True)
        text = self._gather(self.type_of(value), lambda: f"random_{kind}({seed.text}, {self.index(index)})")
        return dataclasses.replace(value, text=text)

    # ---- statements: the Target's other half -----------------------------------------------------------------------

    def _begin(self, statement: Any) -> None:
        self.comment(getattr(statement, "loc", ""))
        self.values = emit.Values(self, emit.roots(statement))

    def let(self, s: Let) -> None:
        self._begin(s)
        value = self.evaluate(s.value)
        if value.narrow:
            wide = dataclasses.replace(value, narrow=False)
            value = dataclasses.replace(wide, text=f"fl_cast<{self.type_of(wide)}>({value.text})")
        name = identifier(s.name)
        self.line(f"const {self.type_of(value)} {name} = {value.text};")
        self.env[s.name] = dataclasses.replace(value, text=name)

    def init(self, s: Init) -> None:
        name = identifier(s.name)
        if s.kind in ("argmax", "argmin"):
            dtype = self._ranked_dtype(s.name)
            best = Value(f"{name}_best", dtype, self.spread)
            at = Value(name, dtypes.int64, self.spread, self.spread)
            lowest = Value(identity(s.kind[3:], dtype), dtype)
            self.line(f"{self.type_of(best)} {best.text} = {(self.vector(lowest) if self.spread else lowest).text};")
            self.line(f"{self.type_of(at)} {name} = {'{}' if self.spread else '0'};")
            self.env[s.name] = at
            self.env[f"{s.name}_best"] = best
            return
        value = Value(name, s.dtype, self.spread)
        start = Value(identity(s.kind, s.dtype), s.dtype)
        text = self.vector(start).text if self.spread else start.text
        self.line(f"{self.type_of(value)} {name} = {text};")
        self.env[s.name] = value

    def _ranked_dtype(self, name: str) -> DType:
        for statement in emit.statements(self.kernel.body):
            if isinstance(statement, Accumulate) and statement.name == name:
                return statement.value.dtype
        raise ValueError(f"nothing is accumulated into {name}")

    def accumulate(self, s: Accumulate) -> None:
        self._begin(s)
        target = self.env[s.name]
        value = self._converted(self.evaluate(s.value), s.value, target.dtype, s.kind)
        if s.kind in ("argmax", "argmin"):
            self._rank(s, value)
            return
        if target.vector:
            value = self.vector(value)
        now = combined(s.kind, target.text, value.text)
        if target.vector and self.lanes is not None and self.lanes.part and s.name not in self.lanes.own:
            now = f"keep(part, {target.text}, {now})"
        self.line(f"{target.text} = {now};")

    def _converted(self, value: Value, e: Expr, dtype: DType, kind: str) -> Value:
        """Bring an accumulated value to the accumulator's dtype."""
        if value.narrow:
            wide = dataclasses.replace(value, narrow=False)
            value = dataclasses.replace(wide, text=f"fl_cast<{self.type_of(wide)}>({value.text})")
        if kind in ("argmax", "argmin") or computing(value.dtype) is computing(dtype):
            return value
        result = Value("", dtype, value.vector)
        text = f"number({value.text})" if value.dtype is dtypes.bool_ else value.text
        if dtype is dtypes.bool_:
            text = f"test<{self.type_of(result)}>({text})" if value.vector else f"({text} != 0)"
        else:
            text = f"fl_cast<{self.type_of(result)}>({text})"
        return dataclasses.replace(result, text=text)

    def _rank(self, s: Accumulate, value: Value) -> None:
        """Keep the best value so far and the position of its first occurrence; NaN is best of all."""
        at, best = self.env[s.name], self.env[f"{s.name}_best"]
        position = index_of(s)
        sign = ">" if s.kind == "argmax" else "<"
        if not best.vector:
            x, here = self.temporary("x"), self.temporary("i")
            self.line(f"const {self.type_of(value)} {x} = {value.text};")
            self.line(f"const i64 {here} = {self.index(position)};")
            self.line(f"if ({beats(sign, x, best.text, here, at.text)}) {{")
            self.line(f"  {best.text} = {x};")
            self.line(f"  {at.text} = {here};")
            self.line("}")
            return
        assert self.lanes is not None
        value = self.vector(value)
        mask = f"mask{self.lanes.suffix}"
        x, take = self.temporary("x"), self.temporary("take")
        self.line(f"const {self.type_of(value)} {x} = {value.text};")
        step = self.step(position)
        if step is None:
            where = self._gather(mask, lambda: self.index(position))
        else:
            where = f"counting<{mask}>({self.index(position)}, {step})"
        here = self.temporary("i")
        self.line(f"const {mask} {here} = {where};")
        better = f"({x} {sign} {best.text}) | (({x} != {x}) & ({best.text} == {best.text}))"
        equal = f"({x} == {best.text}) | (({x} != {x}) & ({best.text} != {best.text}))"
        self.line(f"{mask} {take} = as_mask<{mask}>({better}) | (as_mask<{mask}>({equal}) & ({here} < {at.text}));")
        if self.lanes.part:
            self.line(f"{take} = keep(part, {mask}{{}}, {take});")
        self.line(f"{best.text} = where({take}, {x}, {best.text});")
        self.line(f"{at.text} = {take} ? {here} : {at.text};")

    def store(self, s: Store) -> None:
        self._begin(s)
        buffer = self.buffers[s.buffer]
        at, name = emit.offset(buffer, s.index), identifier(s.buffer)
        value = self._converted(self.evaluate(s.value), s.value, buffer.dtype, "")
        if not self.spread:
            self._guarded(s, lambda: self._put(s, name, at, value.text))
            return
        assert self.lanes is not None
        if self.step(at) == 1 and s.mask is None and not s.mode:
            self.line(f"write({self._pointer(name, at)}, {self.vector(value).text}{self.lanes.part});")
            return
        step = self.step(at)
        if step and s.mask is None and not s.mode:
            part = self.lanes.part or ", Whole()"
            self.line(f"write_apart({self._pointer(name, at)}, {step}, {self.vector(value).text}{part});")
            return
        held = self.temporary("x")
        self.line(f"const {self.type_of(value)} {held} = {value.text};")
        limit = f"count<f32{self.lanes.suffix}>(part)" if self.lanes.part else self.lanes.count
        self.open(f"for (i64 l = 0; l < {limit}; l++) {{")
        self.per_lane, self.values = True, emit.Values(self, [])
        lane = f"{held}[l]" if value.vector else held
        self._guarded(s, lambda: self._put(s, name, at, lane))
        self.per_lane = False
        self.close("}")

    def _guarded(self, s: Store, put: Any) -> None:
        if s.mask is None:
            put()
            return
        self.open(f"if ({self.evaluate(s.mask).text}) {{")
        put()
        self.close("}")

    def _put(self, s: Store, name: str, at: IndexLike, text: str) -> None:
        place = f"{name}[{self.index(at)}]"
        if not s.mode:
            self.line(f"put({place}, {text});")
        elif self.parallel:
            self.line(f"add_atomically({place}, {text});")
        else:
            self.line(f"put({place}, get({place}) + {text});")

    # ---- loops -----------------------------------------------------------------------------------------------------

    def loop(self, s: For) -> None:
        if s.kind == "vector" and self.lanes is None:
            extent = s.var.args[1]
            if needs_scalar(s):
                self._serial(s)
            elif isinstance(extent, int):
                self._vector(s, "0", str(extent), static=extent)
            else:
                self.open(f"if ({self.index(extent)} > 0) {{")
                self._vector(s, "0", self.index(extent), static=None)
                self.close("}")
        else:
            self._serial(s)

    def _serial(self, s: For) -> None:
        name = self.index(s.var)
        inner = held_in(s) if self.lanes is None and self.held is None else None
        if inner is not None:
            self.held = inner
            self.open("{")
            VectorLoop(self, inner, "", "", None).declare()
        self.open(f"for (i64 {name} = 0; {name} < {self.index(s.var.args[1])}; {name}++) {{")
        emit.walk_body(self, s.body)
        self.close("}")
        if inner is not None:
            VectorLoop(self, inner, "", "", None).meet()
            self.close("}")
            self.held = None

    def _vector(self, loop: For, start: str, stop: str, static: int | None) -> None:
        """Write a vector loop: whole vectors, then what is left, with accumulators that meet at the end."""
        VectorLoop(self, loop, start, stop, static, self.held is loop).write()


def kernel_source(kernel: Kernel) -> str:
    """Return the C++ function of a kernel. Raises `Unsupported`."""
    return KernelWriter(kernel).write()
