"""Forms of ops for eager mode: traced on symbolic sizes, compiled for this CPU, kept on disk.

This module is the builder that ``runtime.fused`` asks. What is kept of a form is all that running it takes: its C++ (by
which the cache of libraries knows it), the outline of its plan, and which gradients it has. A process that finds it
imports neither the passes nor sympy.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from flambeau.codegen import build, cache
from flambeau.ir.graph import Graph, getitem
from flambeau.ir.loops_text import parse_plan
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import call, use_handler
from flambeau.ir.program import Artifact, Plan, Ref
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.ir.tree import tree_map
from flambeau.runtime import native
from flambeau.runtime.executor import Executor
from flambeau.runtime.fused import Given, Request, Runner, forms_of

_SUFFIX = ".form"
#: Where the code lives that forms are made by: when it changes, forms are made again.
_MADE_BY = ("flambeau.ir", "flambeau.ir.ops", "flambeau.passes", "flambeau.codegen", "flambeau.frontend")


def find(request: Request) -> Runner | Literal[False] | None:
    """The form if it was built before; False where it cannot be; None: not known yet."""
    if build.find_compiler() is None:
        return False
    path = cache.find(_key(request), _SUFFIX)
    if path is None:
        return None
    kept = json.loads(path.read_text())
    return (_runner(kept) or False) if kept else False


def start(request: Request, at_once: bool = False) -> Callable[[], Runner | None]:
    """Begin to build the form, beside the program unless it is wanted at once; the function returned waits for it."""
    if at_once:
        make(request, _key(request))
        return lambda: find(request) or None
    return _workshop().order(request)


def make(request: Request, key: str) -> None:
    """Build a form and keep it under ``key``; what cannot be traced or generated is noted as such, and stays with NumPy."""
    try:
        kept = _written(request)
    except Exception:  # whatever an op's own code raises
        kept = {}
    if kept and _build(kept["units"]) is None:
        kept = {}
    cache.fetch(key, _SUFFIX, lambda path: _write(path, kept))


def _write(path: Path, kept: dict[str, Any]) -> None:
    path.write_text(json.dumps(kept))


def _build(units: list[str]) -> Path | None:
    """Compile the units; None where the compiler refuses them."""
    try:
        return build.build(units)
    except build.CompileError:
        return None


def _runner(kept: dict[str, Any]) -> Runner | None:
    path = _build(kept["units"]) if native.available() else None
    if path is None:
        return None
    plan = parse_plan(kept["plan"])
    artifact = Artifact("cpp", plan, {}, str(path), tuple(kept["entries"]), tuple(kept["needs"]), kept["checks"])
    return Runner(Executor(artifact).run, tuple(kept["present"]))


# ---- building beside the program ---------------------------------------------------------------------------------


class _Workshop:
    """A process of low priority that builds forms in the order in which they are asked for; it ends with this one.

    A process and not a thread: the passes are Python, and would hold up the program's own.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        self.owner = os.getpid()
        self.ordered = self.finished = 0
        self.lock = threading.Lock()

    def order(self, request: Request) -> Callable[[], Runner | None]:
        """Ask for a form; the function returned waits for it (None where it did not come about)."""
        with self.lock:
            try:
                pickle.dump((request, _key(request)), self.process.stdin)  # type: ignore[arg-type]
                self.process.stdin.flush()  # type: ignore[union-attr]
            except OSError:  # it was killed
                return lambda: None
            self.ordered += 1
            number = self.ordered

        def wait() -> Runner | None:
            if os.getpid() != self.owner:  # in a forked child: what the parent ordered is the parent's to wait for
                return find(request) or None
            with self.lock:
                while self.finished < number and self.process.stdout.readline():  # type: ignore[union-attr]
                    self.finished += 1
            return find(request) or None

        return wait


_current: _Workshop | None = None


def _workshop() -> _Workshop:
    global _current
    if _current is None or _current.owner != os.getpid():
        _current = _Workshop()
    return _current


def serve() -> None:
    """The workshop's side: build what is asked for on stdin, and say so, until the one who asks is gone."""
    os.nice(10)
    while True:
        try:
            request, key = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
        except (EOFError, pickle.UnpicklingError):
            return
        make(request, key)
        try:
            print("done", flush=True)
        except OSError:
            return


# ---- what a form is known by --------------------------------------------------------------------------------------


def _key(request: Request) -> str:
    parts = (request.op.name, request.needs, request.static, request.flat)
    return cache.key_of("form", _maker(), str(native.default_threads()), repr(parts),
                        repr(_described((request.g, request.out, request.args), {}, request.static)))


def _described(tree: Any, seen: dict[int, int], static: bool) -> Any:
    """Arguments as text: tensors as dtype and shape, with equal sizes numbered alike where they are symbolic."""
    def one(x: Any) -> Any:
        if isinstance(x, Given):
            return "data", one(x.meta)
        if isinstance(x, TensorMeta):
            sizes = x.shape if static else [n if n == 1 else f"s{seen.setdefault(n, len(seen))}" for n in x.shape]
            return x.dtype.short, tuple(sizes)
        return x

    return tree_map(one, tree)


@functools.cache
def _maker() -> str:
    """A text that changes with the code that makes forms."""
    found = []
    for name in _MADE_BY:
        for folder in importlib.import_module(name).__path__:
            with os.scandir(folder) as files:
                found += [f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.name.endswith(".py")]
    return "\n".join(sorted(found))


# ---- making one ---------------------------------------------------------------------------------------------------


def _written(request: Request) -> dict[str, Any]:
    """What is kept of a new form. Raises for an op that has none."""
    from flambeau.codegen.host import PlanSource  # noqa: PLC0415 - the compiler's parts, which a form found does not need
    from flambeau.frontend.targets import cpp_target  # noqa: PLC0415
    from flambeau.passes import manager  # noqa: PLC0415
    from flambeau.passes.pipeline import compile_to_plan  # noqa: PLC0415

    if request.flat:
        _check_elementwise(request)
    graph, present = _traced(request)
    calls = [node.op for node in graph.nodes if node.op is not None and node.op is not getitem]
    if request.needs is not None and len(calls) == 1 and calls[0].kernel is not None and forms_of(calls[0]) is None:
        raise ValueError(f"the derivative of {request.op.name} is one call of an op that NumPy does well")
    pure = manager.lowered(graph, cpp_target().keep)
    plan = compile_to_plan(pure, cpp_target().machine)
    source = PlanSource(plan)
    if not all(isinstance(entry, str) for entry in source.entries):
        raise ValueError(f"{request.op.name} has steps that NumPy does")
    return {"units": source.units(), "plan": str(_outline(plan)), "entries": source.entries, "needs": sorted(source.needs),
            "checks": source.checks, "present": present}


def _traced(request: Request) -> tuple[Graph, list[bool]]:
    """The form's graph, and which gradients it returns."""
    from flambeau.ir.grad import fit_gradients  # noqa: PLC0415
    from flambeau.ir.symint import ShapeEnv  # noqa: PLC0415 - sympy behind it is slow to import

    env, graph = ShapeEnv(), Graph("form")

    def symbolic(meta: TensorMeta) -> TensorMeta:
        sizes = meta.shape if request.static else [n if n == 1 else env.create(n) for n in meta.shape]
        return TensorMeta(tuple(sizes), meta.dtype)

    def value(x: Any) -> Any:
        if isinstance(x, Given):
            return GraphTensor(graph.input("x", symbolic(x.meta)))
        return symbolic(x) if isinstance(x, TensorMeta) else x

    g, out, args = tree_map(value, request.g), tree_map(value, request.out), list(tree_map(value, request.args))
    for i, p in enumerate(request.op.schema.params):
        if p.name == "normalized_shape":
            args[i] = tuple((args[0] if g is None else g).shape[1:])
    with use_handler(GraphBuilder(graph)):
        if request.needs is None:
            found = call(request.op, tuple(args))
            results = list(found) if isinstance(found, tuple) else [found]
        else:
            results = fit_gradients(request.op, request.op.gradients(request.needs, g, out, tuple(args)), tuple(args))
    if env.guards:
        raise ValueError(f"{request.op.name} depends on its sizes: {env.guards[0].text}")
    present = [t is not None for t in results]
    graph.outputs = [t.node for t in results if t is not None]
    return graph, present


def _check_elementwise(request: Request) -> None:
    """Raise unless each step maps element to element, which is looked at where that shows: in three dimensions."""
    from flambeau.passes.decompose import decompose  # noqa: PLC0415

    def deep(x: Any) -> Any:
        if isinstance(x, Given):
            return Given(deep(x.meta))
        return TensorMeta((2, 3, 5), x.dtype) if isinstance(x, TensorMeta) else x

    changed = {name: tree_map(deep, getattr(request, name)) for name in ("g", "out", "args")}
    graph, _ = _traced(request._replace(static=True, **changed))
    for node in decompose(graph, lambda op: op.family == "pointwise").nodes:
        if node.op.family != "pointwise" and (node.inputs or node.meta.shape):  # type: ignore[union-attr]
            raise ValueError(f"{request.op.name} is more than elementwise work")


def _outline(plan: Plan) -> Plan:
    """The plan without its steps, for a runner that only places buffers. Raises where a result is no buffer of its own."""
    schedule = plan.schedule
    if not all(isinstance(out, (str, Ref)) for out in schedule.outputs):
        raise ValueError("a result is a constant")
    results = [out if isinstance(out, str) else out.buffer for out in schedule.outputs]
    if any(plan.slots[name].kind != "output" for name in results) or len(set(results)) < len(results):
        raise ValueError("a result shares its memory")
    seen = {*schedule.inputs, *results}
    buffers = {name: b for name, b in schedule.buffers.items() if name in seen}
    slots = {name: s for name, s in plan.slots.items() if name in seen}
    return replace(plan, schedule=replace(schedule, steps=(), buffers=buffers), slots=slots)
