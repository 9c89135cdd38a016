"""Vector loops of C++ kernels: how many lanes, the tail, and accumulators that meet across lanes at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flambeau.codegen import emit
from flambeau.codegen.cpp_text import Lanes, Value, beats, combined, fits, identity, index_of, scalar_type
from flambeau.ir import dtype as dtypes
from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.loops import Accumulate, Call, Const, Expr, For, IndexValue, Init, Let, Load, Local, Store

if TYPE_CHECKING:
    from flambeau.codegen.cpp import KernelWriter


class VectorLoop:
    """One vector loop of a kernel."""

    def __init__(self, writer: KernelWriter, loop: For, start: str, stop: str, static: int | None,
                 held: bool = False) -> None:
        self.writer, self.loop, self.start, self.stop, self.static = writer, loop, start, stop, static
        self.held = held  # whether a loop around it keeps the accumulators as vectors from turn to turn
        own = {s.name for s in emit.statements(loop.body) if isinstance(s, Init)}
        self.crossing = [
            s for s in _distinct(s for s in emit.statements(loop.body) if isinstance(s, Accumulate)) if s.name not in own
        ]
        self.suffix = "w" if self._wide() else "v"

    def _wide(self) -> bool:
        """Say whether some vector in the loop has 64-bit elements."""
        varies = emit.Dependence([self.loop.var], self.loop.body)
        found = _wide_accumulators(self.crossing, self.writer.env)
        for statement in emit.statements(self.loop.body):
            if isinstance(statement, Init) and statement.dtype.itemsize == 8 and statement.kind not in ("argmax", "argmin"):
                return True
            for root in _vector_roots(statement):
                found |= _any_wide(root, varies)
        return found

    def _lanes(self) -> Lanes:
        return Lanes(
            self.loop.var,
            self.suffix,
            emit.Dependence([self.loop.var], self.loop.body),
            _lane_dependence(self.loop),
            [],
            {},
            self.writer.depth + 1,
            frozenset(s.name for s in emit.statements(self.loop.body) if isinstance(s, Init)),
        )

    def declare(self) -> None:
        """Declare the accumulators' vectors, before a loop that holds this one."""
        self._declare(self._lanes(), self._unroll())

    def meet(self) -> None:
        """Combine the accumulators' vectors, after a loop that holds this one."""
        self._meet(self._lanes(), self._unroll())

    def write(self) -> None:
        """Write the loop, between the declaration of its accumulators and their meeting unless it is ``held``."""
        w = self.writer
        lanes = self._lanes()
        exact = self.static is not None and self.static % 16 == 0
        unroll = self._unroll()
        outer, w.lanes = w.lanes, lanes
        kept = dict(w.env)
        lines, w.lines, depth, w.depth = w.lines, [], w.depth, w.depth + 2
        lanes.part = "" if exact and unroll == 1 else ", part"
        for s in self.crossing:
            self._spread_accumulator(s)
        emit.walk_body(w, self.loop.body)
        body, w.lines, w.depth = w.lines, lines, depth
        w.env, w.lanes = kept, outer
        self._assemble(body, lanes, exact, unroll)

    def _spread_accumulator(self, s: Accumulate) -> None:
        w = self.writer
        scalar = w.env[s.name]
        w.env[s.name] = Value(f"{scalar.text}_v", scalar.dtype, True, s.kind in ("argmax", "argmin"))
        if s.kind in ("argmax", "argmin"):
            best = w.env[f"{s.name}_best"]
            w.env[f"{s.name}_best"] = Value(f"{best.text}_v", best.dtype, True)

    def _unroll(self) -> int:
        """Several accumulators hide the latency of an addition where the body is light."""
        plain = all(s.kind not in ("argmax", "argmin") for s in self.crossing)
        if not self.crossing or not plain or len(self.crossing) > 2:
            return 1
        return 4 if emit.cost(self.loop.body) <= 12 else 2 if emit.cost(self.loop.body) <= 30 else 1

    def _assemble(self, body: list[str], lanes: Lanes, exact: bool, unroll: int) -> None:
        w = self.writer
        name, count = w.index(self.loop.var), lanes.count
        w.open("{")
        w.lines += lanes.hoisted
        accumulators = self._names(lanes) if self.held else self._declare(lanes, unroll)
        if not lanes.part:
            w.open(f"for (i64 {name} = {self.start}; {name} < {self.stop}; {name} += {count}) {{")
            w.depth -= 1
            w.lines += body
            w.depth += 1
            w.close("}")
        else:
            params = "".join(f", {kind}& {text}" for kind, text in accumulators)
            w.open(f"auto step = [&](i64 {name}, auto part{params}) __attribute__((always_inline)) {{")
            w.lines += body
            w.close("};")
            self._drive(name, count, accumulators, exact, unroll)
        if not self.held:
            self._meet(lanes, unroll)
        w.close("}")

    def _names(self, lanes: Lanes) -> list[tuple[str, str]]:
        """The types and names of the vectors that the scalar accumulators become."""
        return [(kind, name) for kind, name, _ in self._vectors(lanes)]

    def _vectors(self, lanes: Lanes) -> list[tuple[str, str, str]]:
        """The vectors that the scalar accumulators become: type, name, start."""
        w = self.writer
        found: list[tuple[str, str, str]] = []
        outer, w.lanes = w.lanes, lanes
        for s in self.crossing:
            scalar = w.env[s.name]
            ranked = s.kind in ("argmax", "argmin")
            if ranked:
                best = w.env[f"{s.name}_best"]
                start = w.vector(Value(identity(s.kind[3:], best.dtype), best.dtype)).text
                found.append((w.type_of(Value("", best.dtype, True)), f"{best.text}_v", start))
            start = "{}" if ranked else w.vector(Value(identity(s.kind, scalar.dtype), scalar.dtype)).text
            found.append((w.type_of(Value("", scalar.dtype, True, ranked)), f"{scalar.text}_v", start))
        w.lanes = outer
        return found

    def _declare(self, lanes: Lanes, unroll: int) -> list[tuple[str, str]]:
        """Declare the vectors that the scalar accumulators become; return their types and names."""
        for kind, name, start in self._vectors(lanes):
            if unroll == 1:
                self.writer.line(f"{kind} {name} = {start};")
            else:
                self.writer.line(f"{kind} {name}[{unroll}] = {{{', '.join([start] * unroll)}}};")
        return self._names(lanes)

    def _drive(self, name: str, count: str, accumulators: list[tuple[str, str]], exact: bool, unroll: int) -> None:
        w = self.writer
        plain = "".join(f", {text}{'[0]' if unroll > 1 else ''}" for _, text in accumulators)
        w.line(f"i64 {name} = {self.start};")
        if unroll > 1:
            each = "".join(f", {text}[u]" for _, text in accumulators)
            w.line(f"for (; {name} + {unroll} * {count} <= {self.stop}; {name} += {unroll} * {count})")
            w.line(f"  UNROLL for (int u = 0; u < {unroll}; u++) step({name} + u * {count}, Whole(){each});")
        if not (exact and unroll > 1 and self.static is not None and self.static % (16 * unroll) == 0):
            w.line(f"for (; {name} + {count} <= {self.stop}; {name} += {count}) step({name}, Whole(){plain});")
        if not exact:
            w.line(f"if ({name} < {self.stop}) step({name}, Part{{{self.stop} - {name}}}{plain});")

    def _meet(self, lanes: Lanes, unroll: int) -> None:
        """Combine the vectors of accumulators into the scalars they came from."""
        w = self.writer
        for s in self.crossing:
            scalar = w.env[s.name]
            if s.kind in ("argmax", "argmin"):
                self._meet_ranked(s, scalar.text, w.env[f"{s.name}_best"].text, lanes)
                continue
            vector = f"{scalar.text}_v"
            for u in range(1, unroll):
                w.line(f"{vector}[0] = {combined(s.kind, f'{vector}[0]', f'{vector}[{u}]')};")
            vector += "[0]" if unroll > 1 else ""
            if scalar.dtype is dtypes.bool_:
                together = f"across({vector}, [](auto a, auto b) {{ return {combined(s.kind, 'a', 'b')}; }}) != 0"
            else:
                kind = scalar_type(scalar.dtype)
                together = f"across({vector}, []({kind} a, {kind} b) {{ return {kind}({combined(s.kind, 'a', 'b')}); }})"
            w.line(f"{scalar.text} = {combined(s.kind, scalar.text, f'({together})')};")

    def _meet_ranked(self, s: Accumulate, at: str, best: str, lanes: Lanes) -> None:
        w = self.writer
        sign = ">" if s.kind == "argmax" else "<"
        w.open(f"for (int l = 0; l < {lanes.count}; l++) {{")
        w.line(f"if ({beats(sign, f'{best}_v[l]', best, f'{at}_v[l]', at)}) {{")
        w.line(f"  {best} = {best}_v[l];")
        w.line(f"  {at} = {at}_v[l];")
        w.line("}")
        w.close("}")


# ---- questions about vector loops ---------------------------------------------------------------------------------


def _distinct(accumulates: Iterator[Accumulate]) -> list[Accumulate]:
    found: dict[str, Accumulate] = {}
    for s in accumulates:
        found.setdefault(s.name, s)
    return list(found.values())


def carried(loop: For) -> bool:
    """Say whether a loop changes values that live outside it."""
    own = {s.name for s in emit.statements(loop.body) if isinstance(s, (Init, Let))}
    return any(isinstance(s, Accumulate) and s.name not in own for s in emit.statements(loop.body)) or needs_scalar(loop)


def needs_scalar(loop: For) -> bool:
    """Say whether an accumulator is read inside the vector loop that fills it: each step then needs the one before."""
    own = {s.name for s in emit.statements(loop.body) if isinstance(s, Init)}
    crossing = {s.name for s in emit.statements(loop.body) if isinstance(s, Accumulate)} - own
    return any(
        isinstance(e, Local) and e.name in crossing
        for s in emit.statements(loop.body)
        for root in emit.roots(s)
        for e in loops.walk(root)
    )


def held_in(outer: For) -> For | None:
    """The vector loop inside a serial one whose accumulators can stay vectors until that ends: nothing else in it starts,
    fills or reads them."""
    inside = list(emit.statements(outer.body))
    found = [s for s in inside if isinstance(s, For) and s.kind == "vector" and carried(s)]
    if len(found) != 1 or needs_scalar(found[0]):
        return None
    names = {s.name for s in emit.statements(found[0].body) if isinstance(s, Accumulate)}
    own = list(emit.statements(found[0].body))
    others = [s for s in inside if not any(s is o for o in own)]
    read = {e.name for s in others for root in emit.roots(s) for e in loops.walk(root) if isinstance(e, Local)}
    if read & names or any(isinstance(s, (Init, Accumulate)) and s.name in names for s in others):
        return None
    return found[0]


def _lane_dependence(loop: For) -> emit.Dependence:
    """What differs from lane to lane: inner serial loops and their variables are the same for all lanes."""
    return _LaneDependence(loop)


class _LaneDependence(emit.Dependence):
    def __init__(self, loop: For) -> None:
        super().__init__([], [])
        self._variables = {loop.var}
        self._memo = {}
        self._names = {s.name for s in emit.statements(loop.body) if isinstance(s, Init)}
        changed = True
        while changed:  # a value varies if something it is made of does
            changed = False
            for s in emit.statements(loop.body):
                if isinstance(s, Let) and s.name not in self._names:
                    self._memo.clear()
                    if self(s.value):
                        self._names.add(s.name)
                        changed = True
        self._memo.clear()

    def _own(self, e: Expr) -> bool:
        if isinstance(e, Load):
            return any(ix.variables(i) & self._variables for i in e.index)
        return super()._own(e)


def _vector_roots(statement: Any) -> list[Expr]:
    """The expressions that a statement needs as vectors; indices and masks of lane-wise access are scalars."""
    if isinstance(statement, (Let, Accumulate, Store)):
        return [statement.value]
    return []


def _any_wide(e: Expr, varies: emit.Dependence) -> bool:
    """Say whether `e` needs 64-bit lanes somewhere."""
    if not varies(e):
        return False
    if isinstance(e, (IndexValue, Const)):
        return False if _narrow(e) else e.dtype.itemsize == 8
    if isinstance(e, Load):
        return e.dtype.itemsize == 8
    if isinstance(e, Call):
        if e.dtype is dtypes.bool_ and all(_narrow(operand) for operand in e.operands):
            return False
        if e.dtype.itemsize == 8:
            return True
        return any(_any_wide(o, varies) or (isinstance(o, IndexValue) and o.dtype.itemsize == 8) for o in e.operands)
    return e.dtype.itemsize == 8


def _narrow(e: Expr) -> bool:
    return isinstance(e, (IndexValue, Const)) and e.dtype.is_integral and fits(e.args[0])


def _wide_accumulators(crossing: Sequence[Accumulate], env: dict[str, Value]) -> bool:
    found = False
    for s in crossing:
        dtype = env[f"{s.name}_best"].dtype if s.kind in ("argmax", "argmin") else env[s.name].dtype
        found |= dtype.itemsize == 8
        if s.kind in ("argmax", "argmin") and not fits(index_of(s)):
            found = True
    return found
