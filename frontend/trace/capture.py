"""One capture: trace a frame from a resume point to its end or its first break, and write the entry's functions."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from flambeau.frontend.trace import codes
from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.again import outside_changes
from flambeau.frontend.trace.asserted import failing
from flambeau.frontend.trace.breaks import Points, Step, can_perform
from flambeau.frontend.trace.callables import CellValue
from flambeau.frontend.trace.carriers import scalar_carrier, size_carrier
from flambeau.frontend.trace.decode import Program
from flambeau.frontend.trace.drawing import orders
from flambeau.frontend.trace.effects import CannotRebuild, Rebuilder
from flambeau.frontend.trace.finalizers import refuse_abandoned, without_frames
from flambeau.frontend.trace.frame import Frame
from flambeau.frontend.trace.frames import Broken, Layout, parameter_names, rerun, rerun_unwritten
from flambeau.frontend.trace.interp import Stop, Tracer
from flambeau.frontend.trace.numbers import number_text
from flambeau.frontend.trace.seen import Seen, seen_by
from flambeau.frontend.trace.shapes import Shapes
from flambeau.frontend.trace.source import Constant, Item, Root, Source
from flambeau.frontend.trace.values import NULL_VALUE, NotConstant, Observed, ScalarValue, SymValue, Unsupported, Value
from flambeau.frontend.trace.writer import Writer
from flambeau.ir import device as devices
from flambeau.ir import dtype as dtypes
from flambeau.ir.graph import Graph, Node
from flambeau.ir.meta import TensorMeta
from flambeau.ir.tree import leaves

_files = itertools.count()


@dataclass
class Break:
    """Why and where a trace stopped: what `explain` and `fullgraph` say."""

    code: str
    why: str
    fix: str
    line: str
    native: bool
    cause: BaseException | None = None
    step: Step | None = None
    ops: int = 0                           # how many the graph has that it ends
    inside: str = ""                       # the library's function that the line calls, in which it happens

    @property
    def cost(self) -> str:
        return codes.cost_of(self.code, self.ops, self.native)

    def __str__(self) -> str:
        fix = self.fix or (f"call {self.inside} outside the compiled function" if self.inside and self.code != "raises"
                           else codes.fix_for(self.code, self.fix))
        why = self.why + (f" (in {self.inside})" if self.inside else "")
        return f"[{self.code}] {self.line}: {why}. Cost: {self.cost}." + (f" Fix: {fix}" if fix else "")


@dataclass
class Captured:
    """A captured graph with everything around it."""

    graph: Graph
    inputs: list[Source]
    examples: list[Any]
    guards: g.GuardFunction
    writer: Writer
    parameters: list[str]
    broke: Break | None
    instructions: int
    file: str
    shapes: Shapes
    seen: Seen | None = None
    tracer: Tracer | None = None
    not_kept: str = "not asked to"         # why no later process finds this entry; "" if one does

    @property
    def empty(self) -> bool:
        """Nothing to compile."""
        return not self.graph.nodes

    def seal(self) -> bool:
        """Guard what the backend assumed of symbolic sizes too, and allow no more assumptions; say whether it did."""
        if self.shapes.env is None:
            return False
        self.shapes.env.frozen = True
        known = {guard.key for guard in self.guards.guards}
        added = [guard for guard in self.shapes.guards() if guard.key not in known]
        if added:
            old = self.guards
            self.guards = g.GuardFunction([*old.guards, *added], old.parameters, self.inputs, self.file)
        return bool(added)

    def let_go(self) -> None:
        """The trace is over: the values that it saw may go, now and not when the collector finds their cycles."""
        self.seen, self.examples = None, []
        if self.tracer is not None:
            self.tracer.let_go()
            self.tracer = None
        self.shapes.where = str
        if self.shapes.env is not None:
            self.shapes.env.where = str

    def attach(self, compiled: Callable[[Sequence[Any]], Sequence[Any]]) -> FunctionType:
        """The run function: inputs and frame values -> result, or `Broken`."""
        self.writer.globals["graph"] = compiled
        return self.writer.build("run", ", ".join(["i", *self.parameters]), self.file.replace("guard", "run"))


class CannotAssert(Exception):
    """The graph cannot be run and forgotten: assertions on data are breaks in this frame."""


class Capture:
    """Traces `program` from `index`, with real values in the order of `layout`."""

    def __init__(self, points: Points, program: Program, globals: dict[str, Any], index: int, layout: Layout,
                 values: Sequence[Any], dynamic: Callable[..., bool], callee: bool = True, lays_out: bool = False) -> None:
        self.points, self.program, self.globals, self.index, self.layout = points, program, globals, index, layout
        self.values, self.dynamic, self.callee = values, dynamic, callee
        self.code: CodeType = program.code
        self.lays_out = lays_out                                  # the backend is to be told how results lie in memory
        self.may_assert = True                                    # see `asserted`

    def run(self) -> Captured:
        """Trace; on a break trace again up to the breaking step, so that nothing has to be undone."""
        at, reason, native = 0, None, False
        seen: set[tuple[int, bool]] = set()
        while True:
            tr = Tracer(self.name, self.dynamic)
            tr.may_assert = self.may_assert
            try:
                return self._attempt(tr, at, reason, native)
            except CannotAssert:
                self.may_assert, at, reason, native = False, 0, None, False
                seen.clear()
                continue
            except Unsupported as error:
                error.line = error.line or tr.where()
                reason, at, native = error, *self._place(tr, error)
            except NotConstant as missing:                        # something asked for an object that no value stands for
                reason = Unsupported("argument", f"{missing} is needed that exists only while the program runs")
                reason.line = tr.where()
                at, native = self._place(tr, reason)
            except CannotRebuild as error:
                reason = error.error
                reason.line = reason.line or self._line_of(tr)
                at = getattr(error.value, "born", 0) or at or tr.tick
            without_frames(reason)
            tr.let_go()
            while (at, native) in seen:                           # the same step failed before: give the frame back earlier
                at, native = (at, True) if not native else (at - 1, True)
            seen.add((at, native))

    @property
    def name(self) -> str:
        """The graph's name: the function's, or the class's for the call of a Module."""
        name = self.code.co_name
        if name in ("__call__", "forward") and self.layout.locals[:1] == ("self",):
            return type(self.values[0]).__name__
        return name if name.isidentifier() else "fn"

    def _place(self, tr: Tracer, error: Unsupported) -> tuple[int, bool]:
        """The step to break at: the present one; inside an exception handler the one that raised."""
        frame = self.frame
        if error.whole:
            return 1, True
        if frame.handled or error.escaped:
            return frame.raised_at, frame.raised_at != tr.tick
        return tr.tick, False

    def _line_of(self, tr: Tracer) -> str:
        return tr.where()

    def _attempt(self, tr: Tracer, at: int, reason: Unsupported | None, native: bool) -> Captured:
        self.frame = frame = self._frame(tr)
        tr.root, tr.stop_at = frame, at
        result: Value | None = None
        try:
            result = tr.run(frame)[1]
        except Stop:
            pass
        except Observed as error:
            found = Unsupported("raises", f"the code raises {error.value.pytype().__name__}: "
                                          f"{_message(error.value)}")
            found.cause, found.line, found.escaped = error.__cause__, frame.raised_line, True
            raise found from error
        refuse_abandoned(tr)
        if tr.asserted and not self._can_run_again(tr.graph):
            raise CannotAssert
        w = Writer([*parameter_names(self.layout), "i", "o", "graph"])
        out = Rebuilder(tr, w)
        broke = None
        tr.frames.append(frame)
        if result is not None:
            state = out.expr(result)
            ending = f"return {state}"
        else:
            assert reason is not None
            broke, ending = self._break(tr, out, frame, reason, native)
        out.finish()
        statements = out.effects()
        out.finish()
        self.failing = failing(tr.asserted, out.tensor)
        tr.sharing.check(out.outputs, tr.graph.inputs)
        tr.frames.pop()
        return self._finish(tr, w, out, statements, ending, broke)

    def _frame(self, tr: Tracer) -> Frame:
        """The root frame with its values wrapped."""
        layout, names = self.layout, parameter_names(self.layout)
        n, m = len(layout.locals), len(layout.cells)
        frame = Frame(self.program, self.globals, {}, {})
        frame.ip = self.index
        frame.current = self.program.instrs[self.index]
        frame.blocks = list(layout.blocks)
        tr.frames.append(frame)
        for name, parameter, raw in zip(layout.locals, names, self.values):
            frame.locals[name] = tr.wrap(raw, Root(parameter, name))
        for name, parameter, raw in zip(layout.cells, names[n:], self.values[n:]):
            frame.cells[name] = tr.outside_cell(raw, Root(parameter))
        for name in self.code.co_cellvars:
            if name not in frame.cells:
                frame.cells[name] = CellValue(frame.locals.pop(name, None))
        stack = iter(zip(names[n + m:], self.values[n + m:]))
        for k in range(layout.depth):
            if k in layout.nulls:
                frame.push(NULL_VALUE)
            else:
                parameter, raw = next(stack)
                frame.push(tr.wrap(raw, Root(parameter, f"(value {k} of the expression)")))
        tr.frames.pop()
        return frame

    def _break(self, tr: Tracer, out: Rebuilder, frame: Frame, reason: Unsupported, native: bool) -> tuple[Break, str]:
        """Write the hand-over of the frame's state; returns why, and the return statement."""
        live = self.program.live(frame.ip)
        local = tuple(n for n in frame.locals if n in live)
        cells = tuple(frame.cells)
        nulls = tuple(k for k, v in enumerate(frame.stack) if v is NULL_VALUE)
        layout = Layout(local, cells, len(frame.stack), nulls, tuple(frame.blocks))
        native = native or reason.native or not can_perform(self.program, frame.ip)
        compile_callee = self.callee and reason.inlined is not None and not reason.library \
            and reason.code not in ("raises", "recursion")
        step = Step(self.points, self.program, self.globals, frame.ip, layout, native, compile_callee)
        step.changing = {n for n in local if isinstance(frame.locals[n], (SymValue, ScalarValue))} | {
            f"stack{k}" for k, v in enumerate(frame.stack) if isinstance(v, (SymValue, ScalarValue))}
        state = [out.expr(frame.locals[n]) for n in local] + [out.expr(frame.cells[n]) for n in cells] + \
            [out.expr(v) for v in frame.stack if v is not NULL_VALUE]
        text = f"({', '.join(state)}{',' if len(state) == 1 else ''})"
        broke = Break(reason.code, reason.why, reason.fix, reason.line, native, reason.cause, step, inside=reason.inside)
        return broke, f"return {out.constant(Broken)}({out.constant(step)}, {text})"

    def _finish(self, tr: Tracer, w: Writer, out: Rebuilder, statements: list[str], ending: str,
                broke: Break | None) -> Captured:
        graph = tr.graph
        graph.outputs = list(out.outputs)
        graph.orders = orders(tr, graph.outputs) if self.lays_out else {}
        if any(node.op is not None and not node.inputs for node in graph.nodes):     # made where no device was given
            space = Constant(devices.__dict__, "devices")
            tr.guards.add(Item(space, "_default"), *g.is_object(devices.as_device(None))[:2], "the default device is the same",
                          lambda: "")
        if not any("random" in n.op.tags for n in graph.walk()):  # type: ignore[union-attr]
            graph.remove_dead(raising=True)
        if broke is not None:
            broke.ops = sum(n.op is not None for n in graph.nodes)
        sources, examples = self._inputs(tr)
        w.lines[:0] = self._running(graph, w) if graph.nodes or graph.outputs else []
        for statement in statements:
            w.line(statement)
        w.line(ending)
        names = parameter_names(self.layout)
        file = f"<flambeau guard {next(_files)} of {self.code.co_name}>"
        guards = g.GuardFunction(tr.guards.finished() + tr.shapes.guards() + tr.alias_guards(), names, sources, file)
        return Captured(graph, sources, examples, guards, w, names, broke, tr.instructions, file, tr.shapes,
                        seen_by(tr), tr)

    def _running(self, graph: Graph, w: Writer) -> list[str]:
        """Lines that run the graph; where it raises with nothing changed, the frame raises in its own time."""
        changes = outside_changes(graph)
        if not changes <= {"written", "drawn"}:
            return ["    o = graph(i)"]
        step = Step(self.points, self.program, self.globals, self.index, self.layout, True, False)
        names = parameter_names(self.layout)
        state = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
        again = rerun_unwritten if changes else rerun
        lines = ["    __failed = None", "    try: o = graph(i)", "    except Exception as __error: __failed = __error",
                 f"    if __failed is not None: return {w.constant(again)}(__failed, {w.constant(step)}, {state})"]
        if self.failing:
            lines.append(f"    if {self.failing}: return {w.constant(Broken)}({w.constant(step)}, {state})")
        return lines

    def _can_run_again(self, graph: Graph) -> bool:
        """Whether the frame may run natively after its graph has run: nothing was written to, no random numbers were drawn."""
        return not outside_changes(graph)

    def _inputs(self, tr: Tracer) -> tuple[list[Source], list[Any]]:
        """Sources and example values of the graph's inputs; inputs nobody reads are dropped unless they carry a size."""
        graph = tr.graph
        graph.inputs = [n for n in graph.inputs if n not in tr.scalars or any(n in m.inputs for m in graph.nodes)]
        used = {n for node in graph.nodes for n in node.inputs} | set(graph.output_nodes())
        bound: set[str] = set()
        kept: list[Node] = []
        for node in graph.inputs:
            symbols = {s for d in node.meta.shape for s in tr.shapes.names(d)}
            if node in used or symbols - bound:
                kept.append(node)
                bound |= symbols
        lifted = {node: tensor for tensor, node in tr.builder.lifted.values()}
        sources: list[Source] = []
        examples = []
        for node in kept:
            if node in tr.inputs:
                source, raw = tr.inputs[node]
            elif node in tr.scalars:
                source = ScalarCarrier(tr.scalars[node], tr)
                raw = scalar_carrier(source.hint)
            else:
                raw = lifted[node]
                source = Constant(raw, node.name)
            sources.append(source)
            examples.append(raw)
        graph.inputs = kept
        for name, hint, source in tr.shapes.unbound(bound):
            if not _mentions(graph, name, tr):
                continue
            graph.input(name, TensorMeta((tr.shapes.env.named(name),), dtypes.bool_), False)
            sources.append(SizeCarrier(source))
            examples.append(size_carrier(hint))
            bound.add(name)
        return sources, examples


def _mentions(graph: Graph, symbol: str, tr: Tracer) -> bool:
    """Whether a symbol occurs in the graph."""
    for node in graph.nodes:
        metas = node.meta if isinstance(node.meta, tuple) else (node.meta,)
        sizes = [d for m in metas if m is not None for d in m.shape]
        if any(symbol in tr.shapes.names(v) for v in [*sizes, *leaves(node.args)]):
            return True
    return False


class SizeCarrier(Source):
    """An int of the frame as a tensor input of that size that takes no memory: how a graph gets to know the int."""

    def __init__(self, base: Source) -> None:
        self.base = base

    def code(self, w: Writer) -> str:
        return f"{w.constant(size_carrier)}({w.fetch(self.base)})"      # type: ignore[arg-type]

    def step(self, base: Any) -> Any:
        return size_carrier(base)

    def __str__(self) -> str:
        return f"size {self.base}"


class ScalarCarrier(Source):
    """A changing number of the frame as a 0-d tensor input."""

    base = None

    def __init__(self, value: ScalarValue | SymValue, tr: Tracer) -> None:
        self.value, self.shapes = value, tr.shapes

    @property
    def hint(self) -> float | int:
        return self.value.hint if isinstance(self.value, ScalarValue) else self.value.value.hint

    def code(self, w: Writer) -> str:
        return f"{w.constant(scalar_carrier)}({number_text(self.value, self.shapes, w)})"

    def __str__(self) -> str:
        return "a number of the frame"


def _message(error: Any) -> str:
    args = getattr(error, "args", None) or []
    return ", ".join(str(getattr(a, "value", a)) for a in args)

