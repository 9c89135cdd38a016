"""Entries and resume points: which compiled pieces a frame has, and how a call runs through them.

A point is a place in a code object where execution can enter: the start of a function, or where it continues after a graph
break. It keeps entries (guard, run function), tried newest first; when none accepts the present values it captures another
one. A run ends in a result, or in `Broken`, whose step names the next point: `drive` loops, so breaks in a loop do not
nest Python calls.
"""
from __future__ import annotations

import functools
import inspect
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from flambeau.frontend import logs
from flambeau.frontend.config import config
from flambeau.frontend.runners import apart, recording
from flambeau.frontend.trace.frames import NULL, Broken, FallbackWarning, GraphBreakError, Layout, parameter_names, start_layout
from flambeau.ir.autocast import Autocast
from flambeau.ir.op import _State as _op_state_class
from flambeau.ir.op import state as op_state
from flambeau.ir.op import use_handler
from flambeau.ir.stage import begin, stage
from flambeau.runtime.autograd import mode
from flambeau.runtime.tensor import Tensor

if TYPE_CHECKING:           # the tracer is imported by the first capture: a process that finds all it needs on disk has none
    from flambeau.frontend.trace.capture import Break, Captured
    from flambeau.frontend.trace.decode import Program
    from flambeau.frontend.trace.resume import Resume
    from flambeau.frontend.trace.source import Source
    from flambeau.frontend.words import Change
    from flambeau.ir.graph import Graph

NATIVE: Any = object()      # `miss` says: run the original


class RecompileLimitError(GraphBreakError):
    """`fullgraph=True` and the function was compiled up to the limit."""


class RecompileWarning(UserWarning):
    """A function was recompiled up to the limit and now runs eagerly when no compiled version fits."""


class Event:
    """Something `explain` reports: a graph, a break, a recompile, a fallback."""

    def __init__(self, kind: str, function: str, line: str, text: str, captured: Captured | None = None,
                 seconds: float = 0.0) -> None:
        self.kind, self.function, self.line, self.text = kind, function, line, text
        self.captured, self.seconds = captured, seconds

    @property
    def repeated(self) -> bool:
        """Whether another event says the same: a break in a callee is the callee's too, what holds no op is its caller's."""
        broke = self.captured.broke if self.captured is not None else None
        if self.kind == "break":
            return broke is not None and broke.step is not None and broke.step.compile_callee
        return self.kind == "recompile" and self.captured is not None and self.captured.empty


class Settings:
    """What `compile(...)` was called with. `warm`: whether entries of other processes may serve."""

    def __init__(self, backend: Callable[..., Any], fullgraph: bool = False, dynamic: bool | None = None,
                 options: dict[str, Any] | None = None, warm: bool = True) -> None:
        self.backend, self.fullgraph, self.dynamic, self.options, self.warm = backend, fullgraph, dynamic, options or {}, warm


class Entry:
    """One compiled version of a point."""

    __slots__ = ("guard", "run", "captured")

    def __init__(self, captured: Captured, run: Callable[..., Any]) -> None:
        self.captured, self.run = captured, run
        self.guard: Callable[..., Any] = captured.guards.function


class Context:
    """All points of one compiled function."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events: list[Event] = []
        self.lock = threading.RLock()
        self._points: dict[Any, Point] = {}
        self._binders: dict[int, tuple[CodeType, CodeType]] = {}

    def point(self, code: CodeType, globals: dict[str, Any], index: int, layout: Layout) -> Point:
        key = (id(code), id(globals), index, layout)
        found = self._points.get(key)
        if found is None:
            found = self._points[key] = Point(self, code, globals, index, layout)
        return found

    def start(self, fn: FunctionType) -> Point:
        """The point at the beginning of a function."""
        point = self.point(fn.__code__, fn.__globals__, 0, start_layout(fn.__code__))
        point.through = getattr(fn, "__flambeau_through__", None)
        return point

    def call(self, fn: FunctionType, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a Python function through compiled pieces (after a break inside it, when it was inlined)."""
        if not compilable(fn) or len(self._points) > config.max_points:
            return fn(*args, **kwargs)
        code = fn.__code__
        known = self._binders.get(id(code))
        if known is None:
            known = self._binders[id(code)] = (code, _binder(code))
        binder = FunctionType(known[1], {}, fn.__name__, fn.__defaults__)
        binder.__kwdefaults__ = fn.__kwdefaults__
        point = self.start(fn)
        values = binder(*args, **kwargs) + (fn.__closure__ or ())
        result = point.enter(values)
        if result is NATIVE:
            return fn(*args, **kwargs)
        return drive(result) if type(result) is Broken else result

    def reset(self) -> None:
        """Forget everything compiled."""
        with self.lock:
            for point in self._points.values():
                point.reset()
            self.events.clear()

    def log(self, event: Event) -> None:
        self.events.append(event)
        if logs.wanted and not event.repeated:
            logs.event(event.kind, event.line, event.function, event.text, event.captured)


def compilable(fn: Any) -> bool:
    """Whether a function's frames can be captured at all."""
    return isinstance(fn, FunctionType) and not fn.__code__.co_flags & 0x2A0 \
        and not getattr(fn, "__flambeau_disable__", False)


class Point:
    """A place where a frame is entered, and its compiled versions."""

    def __init__(self, context: Context, code: CodeType, globals: dict[str, Any], index: int, layout: Layout) -> None:
        self.context, self.globals, self.index, self.layout = context, globals, index, layout
        self.code = code
        self._program: Program | None = None
        self.names = parameter_names(layout)
        self.entries: list[Entry] = []
        self.versions: list[tuple[Any, Any]] = []     # (guard, run) newest first, for generated wrappers
        self.sizes: dict[tuple[str, int | None], set[Any]] = {}
        self.given_up = ""
        self.made: set[str] = set()                   # parameters that the step before makes anew each time
        self.through: Any = None                      # see `pass_through`
        self.passes = False                           # breaks happen in what this function leads to: it has no parts itself
        self._resume: Resume | None = None

    @property
    def program(self) -> Program:
        if self._program is None:
            from flambeau.frontend.trace.decode import decode  # noqa: PLC0415 - see above
            self._program = decode(self.code)
        return self._program

    @property
    def line(self) -> str:
        ins = self.program.instrs[self.index]
        code = self.program.code
        return f"{code.co_filename.rsplit('/', 1)[-1]}:{ins.line or code.co_firstlineno}"

    def reset(self) -> None:
        self.entries.clear()
        self.versions.clear()
        self.sizes.clear()
        self.given_up = ""
        self.passes = False

    def enter(self, values: Sequence[Any]) -> Any:
        """Result, `Broken`, or NATIVE (only at the start of a function)."""
        for guard, run in self.versions:
            inputs = guard(*values)
            if inputs is not None:
                return run(inputs, *values)
        return self.miss(values)

    def miss(self, values: Sequence[Any]) -> Any:
        """No version fits: capture one, or run the original."""
        handler = op_state.handler
        if isinstance(handler, Autocast):                # its casts are traced
            handler = handler.inner
        if config.disable or handler is not _op_state_class.handler or config.is_watched:
            return self.native(values)
        if self.given_up:
            return self.native(values)
        if self.passes:
            return self._pass(values)
        known = len(self.entries)
        with self.context.lock:
            if len(self.entries) > known:                # another thread has made one meanwhile
                return self.enter(values)
            if len(self.entries) >= self._limit():
                self._give_up(values)
                return self.native(values)
            try:
                entry = self._from_disk(values)
                if entry is None and not self.passes:
                    entry = self._capture(values)
                if entry is None:
                    return self._pass(values)
            except GraphBreakError:
                raise
            except Exception as error:
                if not config.suppress_errors or self.context.settings.fullgraph:
                    raise
                self._fall_back(error)
                return self.native(values)
        inputs = entry.guard(*values)
        if inputs is None:
            failed = entry.captured.guards.first_failure(dict(zip(self.names, values)))[0]
            self.entries.remove(entry)
            self.versions.pop(0)
            self._fall_back(AssertionError(f"a new guard rejects the values it was made from: {failed}"))
            return self.native(values)
        return entry.run(inputs, *values)

    def _limit(self) -> int:
        return int(self.context.settings.options.get("recompile_limit", config.recompile_limit))

    # ---- entries of other processes

    def _from_disk(self, values: Sequence[Any]) -> Entry | None:
        """An entry that some process has captured for values like these, if nothing has changed since."""
        from flambeau.frontend.warm import store  # noqa: PLC0415 - not needed by a call that finds its version
        if not store.usable(self.context.settings):
            return None
        began = time.perf_counter()
        found = store.load(self, values)
        if found is None:
            return None
        if found is store.PASSES:
            self.passes = True
            return None
        entry = Entry(*found)
        entry.guard = store.patient_guard(entry.captured, self._replace)
        self._add(entry)
        seconds = time.perf_counter() - began
        self.context.log(Event("loaded", self.code.co_name, "", f"loaded from cache, {seconds:.2g} s", entry.captured, seconds))
        return entry

    def _keep(self, captured: Captured, run: Any, compiled: Any, values: Sequence[Any]) -> None:
        """Keep a new entry for later processes."""
        from flambeau.frontend.warm import keeping, store  # noqa: PLC0415 - see above
        if store.usable(self.context.settings):
            captured.not_kept = keeping.keep(self, captured, run, compiled, values)
            if logs.wanted and captured.not_kept:
                logs.say("warm_start", f"{self.code.co_name} ({self.line}) is not kept for later processes: {captured.not_kept}")
        captured.let_go()

    def _keep_passing(self, values: Sequence[Any]) -> None:
        """Keep for later processes that this function only leads to others."""
        from flambeau.frontend.warm import keeping, store  # noqa: PLC0415 - see above
        if store.usable(self.context.settings):
            keeping.keep_passing(self, values)

    def _replace(self, old: Any, new: Any) -> None:
        """Another guard function for an entry, with the same answers."""
        with self.context.lock:
            for k, entry in enumerate(self.entries):
                if entry.guard is old:
                    entry.guard = new
                    self.versions[k] = (new, entry.run)

    def _add(self, entry: Entry) -> None:
        self.entries.insert(0, entry)
        self.versions.insert(0, (entry.guard, entry.run))

    # ---- capturing

    def _pass(self, values: Sequence[Any]) -> Any:
        """Call what this function leads to, by its parts, without parts of its own (`Module.__call__`)."""
        from flambeau.frontend.trace.breaks import pass_through  # noqa: PLC0415 - see above
        owner, args, kwargs = values
        return pass_through(self.context, self.through, [owner, *args], dict(kwargs))

    def _capture(self, values: Sequence[Any]) -> Entry | None:
        from flambeau.frontend.backends import writes_at_last  # noqa: PLC0415 - see above
        from flambeau.frontend.trace.capture import Capture  # noqa: PLC0415
        from flambeau.frontend.trace.memo import remembering  # noqa: PLC0415 - see above
        settings, name = self.context.settings, self.program.code.co_name
        again = self._recompile(values) if self.entries else None
        began = time.perf_counter()
        begin()
        if logs.wanted:
            logs.say("bytecode", f"{name} ({self.line})\n{self.program}")
        captured = Capture(self.context, self.program, self.globals, self.index, self.layout, values,
                           self.is_dynamic, lays_out=writes_at_last(settings.backend)).run()
        if captured.broke is not None and settings.fullgraph:
            self._one_graph(captured.broke)
        step = captured.broke.step if captured.broke is not None else None
        if step is not None and step.compile_callee and self.through is not None:
            self.passes = True
            self._keep_passing(values)
            return None
        stage("guards", captured.guards)
        compiled: Any = _nothing
        if captured.graph.nodes or captured.graph.outputs:
            compiled = _as_traced(_in_pieces(settings.backend, captured), captured.graph, captured.examples,
                                  dict(settings.options), settings.fullgraph)
            compiled = _recording(compiled, captured.graph)
        if captured.seal():
            stage("guards", captured.guards)
        compiled = _undoing(compiled, captured.graph, settings.backend)
        run = captured.attach(compiled)
        entry = Entry(captured, run)
        entry.guard = remembering(captured.guards, dict(zip(self.names, values)), self._replace)
        self._keep(captured, run, compiled, values)
        self._add(entry)
        seconds = time.perf_counter() - began
        if again is not None:
            again.seconds, again.captured = seconds, captured
            again.text += f" (version {len(self.entries)} of at most {self._limit()}, {seconds:.2g} s)"
            self.context.log(again)
        if not captured.empty:
            self.context.log(Event("graph", name, self.line, str(captured.graph), captured, seconds))
        if captured.broke is not None:
            self.context.log(Event("break", name, captured.broke.line, str(captured.broke), captured))
        return entry

    def is_dynamic(self, source: Source, dim: int | None, size: Any, raw: Any = None) -> bool:
        """Whether a size (`dim` None: an int) is a symbol: asked for, or seen to change between captures."""
        if type(size) is float:
            seen = self.sizes.setdefault((str(source), dim), set())
            seen.add(size)
            asked = self.context.settings.dynamic
            changes = len(seen) > 1 or (asked is True and source.is_argument) or self._is_made(source)
            return asked is not False and size == size and changes
        if size < (0 if dim is None else 2) or size >> 53:    # too big for a size: what it is, it stays
            self.sizes.setdefault((str(source), dim), set()).add(size)
            return False
        marks = getattr(raw, "__dict__", {}) if dim is not None else {}
        if dim in marks.get("_flambeau_dynamic_dims", ()):
            return True
        if dim in marks.get("_flambeau_static_dims", ()):
            return False
        if self.context.settings.dynamic is False or not config.automatic_dynamic_shapes:
            return False
        if self.context.settings.dynamic and (type(raw) is Tensor if dim is not None else source.is_argument):
            return True
        seen = self.sizes.setdefault((str(source), dim), set())
        seen.add(size)
        return len(seen) > 1 or (dim is None and self._is_made(source))

    def _is_made(self, source: Source) -> bool:
        """Whether a number is what the broken step made, or a count of a loop that goes on here: it will be another next time."""
        return source.base is None and getattr(source, "name", "") in self.made and config.automatic_dynamic_shapes

    # ---- words

    def _one_graph(self, broke: Break) -> None:
        """`fullgraph=True`: a break is an error, but for an exception that the program itself raises when it runs."""
        from flambeau.frontend.trace.codes import anchor  # noqa: PLC0415 - see above
        words = f"{self.program.code.co_name} is to be one graph (fullgraph=True) but breaks: {broke}"
        if broke.code != "raises" or broke.step is None:
            raise GraphBreakError(f"{words} See {anchor(broke.code)}") from broke.cause
        broke.step.must_raise = f"{words} The program goes on after it"

    def _change(self, values: Sequence[Any]) -> Change:
        """What the newest version assumed and no longer holds."""
        from flambeau.frontend.words import Asked, change  # noqa: PLC0415 - see above
        asked = Asked(self.context.settings.dynamic, lambda source: len(self.sizes.get((str(source), None), ())) > 1)
        return change(*self.entries[0].captured.guards.first_failure(dict(zip(self.names, values))), asked)

    def _recompile(self, values: Sequence[Any]) -> Event:
        found = self._change(values)
        return Event("recompile", self.program.code.co_name, found.line or self.line, str(found))

    def _give_up(self, values: Sequence[Any]) -> None:
        last = self._change(values)
        self.given_up = f"{self.program.code.co_name} ({self.line}) was compiled {len(self.entries)} times, its limit " \
            f"(recompile_limit), and now runs eagerly when no version fits. Last reason: {last}"
        self.context.log(Event("fallback", self.program.code.co_name, self.line, self.given_up))
        if self.context.settings.fullgraph:
            given_up, self.given_up = self.given_up, ""
            raise RecompileLimitError(given_up.replace("now runs eagerly when", "is to be one graph (fullgraph=True), but"))
        warnings.warn(self.given_up, RecompileWarning, stacklevel=4)

    def _fall_back(self, error: Exception) -> None:
        self.given_up = f"{self.program.code.co_name} ({self.line}) runs eagerly: {type(error).__name__}: {error}"
        self.context.log(Event("fallback", self.program.code.co_name, self.line, self.given_up))
        warnings.warn(self.given_up, FallbackWarning, stacklevel=4)

    # ---- the original

    def native(self, values: Sequence[Any]) -> Any:
        """Run the original code from here."""
        if self.index == 0:
            return NATIVE
        if self._resume is None:
            from flambeau.frontend.trace.breaks import native_layout  # noqa: PLC0415 - see above
            from flambeau.frontend.trace.resume import Resume  # noqa: PLC0415
            self._resume = Resume(self.program.code, self.program.instrs[self.index].offset,
                                  native_layout(self.layout, self.program))
        layout = self.layout
        n, m = len(layout.locals), len(layout.cells)
        rest = iter(values[n + m:])
        stack = [NULL if k in layout.nulls else next(rest) for k in range(layout.depth)]
        cells: dict[str, CellType] = dict(zip(layout.cells, values[n:n + m]))
        return self._resume(self.globals, dict(zip(layout.locals, values)), cells, stack)


def _in_pieces(backend: Callable[..., Any], captured: Captured) -> Callable[..., Any]:
    """The backend; for a graph with sizes that data decides, one that compiles what lies between them."""
    if not captured.shapes.unbacked:
        return backend
    from flambeau.frontend.pieces import compile_pieces  # noqa: PLC0415 - few graphs need it
    return functools.partial(compile_pieces, backend)


def _as_traced(backend: Callable[..., Any], *args: Any) -> Any:
    """The backend's function; in a region of autocast built and run outside it, as the graph's casts are its own."""
    handler = op_state.handler
    if not isinstance(handler, Autocast):
        return backend(*args)
    with use_handler(handler.inner):
        return apart(backend(*args))


def _recording(compiled: Callable[..., Any], graph: Graph) -> Callable[..., Any]:
    """The graph's function; one that is called under `no_grad()` and asks for gradients within records all the same."""
    if mode.grad or not any(n.requires_grad for n in graph.output_nodes()):
        return compiled
    return recording(compiled)


def _undoing(compiled: Callable[..., Any], graph: Graph, backend: Any) -> Callable[..., Any]:
    """The graph's function, undone where it raises after it has changed something."""
    from flambeau.frontend.backends import writes_at_last  # noqa: PLC0415 - see above
    from flambeau.frontend.trace.again import outside_changes  # noqa: PLC0415 - see above
    changes = outside_changes(graph)
    if not changes:
        return compiled
    from flambeau.frontend.undo import undoing  # noqa: PLC0415 - few graphs need it
    return undoing(compiled, graph, changes, not writes_at_last(backend))


def _nothing(inputs: Any) -> tuple[Any, ...]:
    return ()


def drive(result: Any) -> Any:
    """Follow breaks to the end of the frame."""
    while type(result) is Broken:
        done, value, values = result.step.take(result.state)
        if done:
            return value
        result = value.enter(values)
    return result


# --------------------------------------------------------------------------- binding arguments

def signature_text(code: CodeType, rename: dict[str, str]) -> tuple[str, str, str]:
    """(parameters, bound names, call arguments) as Python text; defaults are set on the function object."""
    names = [rename.get(n, n) for n in code.co_varnames]
    count, only, kwonly = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    parts, call, bound = [], [], names[:count]
    for k in range(count):
        parts.append(names[k])
        call.append(names[k])
        if k + 1 == only:
            parts.append("/")
    at = count + kwonly
    if code.co_flags & inspect.CO_VARARGS:
        parts.append("*" + names[at])
        call.append("*" + names[at])
    elif kwonly:
        parts.append("*")
    for n in names[count:count + kwonly]:
        parts.append(n)
        call.append(f"{n}={n}")
    bound = bound + names[count:count + kwonly]
    if code.co_flags & inspect.CO_VARARGS:
        bound.append(names[at])
        at += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        parts.append("**" + names[at])
        call.append("**" + names[at])
        bound.append(names[at])
    return ", ".join(parts), "".join(b + ", " for b in bound), ", ".join(call)


def _binder(code: CodeType) -> CodeType:
    """Code of a function with `code`'s signature that returns its bound arguments as a tuple."""
    rename = {n: "_" + re.sub(r"\W", "_", n) for n in code.co_varnames if not n.isidentifier()}
    parameters, bound, _ = signature_text(code, rename)
    space: dict[str, Any] = {}
    exec(f"def bind({parameters}): return ({bound})", space)              # noqa: S102 - from the signature
    return space["bind"].__code__


def make_wrapper(context: Context, fn: FunctionType) -> FunctionType:
    """A function with `fn`'s signature whose calls run compiled versions; the fast path has no call overhead but theirs."""
    code, point = fn.__code__, context.start(fn)
    parameters, bound, call = signature_text(code, {})
    space: dict[str, Any] = {"__versions": point.versions, "__miss": point.miss, "__native": NATIVE, "__fn": fn, "__code": code,
                             "__Broken": Broken, "__drive": drive, "__type": type}
    cells = ""
    for k, cell in enumerate(fn.__closure__ or ()):
        space[f"__cell{k}"] = cell
        cells += f"__cell{k}, "
    given = _defaults_as_they_are(fn, space)
    text = f"""def wrapper({parameters}):
{given}    if __fn.__code__ is not __code:
        return __fn({call})
    for __guard, __run in __versions:
        __inputs = __guard({bound}{cells})
        if __inputs is not None:
            __result = __run(__inputs, {bound}{cells})
            break
    else:
        __result = __miss(({bound}{cells}))
        if __result is __native:
            return __fn({call})
    if __type(__result) is __Broken:
        return __drive(__result)
    return __result
"""
    exec(text, space)                                                     # noqa: S102 - from the signature
    wrapper: FunctionType = space["wrapper"]
    wrapper.__defaults__ = (_UNSET,) * len(fn.__defaults__) if fn.__defaults__ else None
    wrapper.__kwdefaults__ = dict.fromkeys(fn.__kwdefaults__, _UNSET) if fn.__kwdefaults__ else None
    return wrapper


def _defaults_as_they_are(fn: FunctionType, space: dict[str, Any]) -> str:
    """Lines of the wrapper that give arguments which were left out the defaults that the function has at that moment."""
    code, lines = fn.__code__, []
    names, known = code.co_varnames[:code.co_argcount], fn.__defaults__ or ()

    def default(key: Any, name: str) -> Any:
        try:
            return (fn.__kwdefaults__ if isinstance(key, str) else fn.__defaults__)[key]                  # type: ignore[index]
        except (TypeError, IndexError, KeyError):
            kind = "keyword-only" if isinstance(key, str) else "positional"
            raise TypeError(f"{fn.__qualname__}() missing 1 required {kind} argument: {name!r}") from None

    # a function may have more defaults than parameters: its code may have been replaced since
    keywords = code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]
    keys = [(k, names[k]) for k in range(-min(len(known), len(names)), 0)]
    for key, name in [*keys, *((n, n) for n in fn.__kwdefaults__ or () if n in keywords)]:
        lines.append(f"    if {name} is __unset: {name} = __default({key!r}, {name!r})\n")
    space["__unset"], space["__default"] = _UNSET, default
    return "".join(lines)


_UNSET: Any = type("default", (), {"__repr__": lambda self: "<default>"})()


__all__ = ["Context", "Event", "GraphBreakError", "Settings", "compilable", "drive", "make_wrapper"]
