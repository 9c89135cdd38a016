"""`explain(fn)(*args)`: what one call compiles to. Graphs, breaks, guards and recompiles, each with its line and the fix."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flambeau.frontend.compile import compile as _compile
from flambeau.frontend.compile import context_of, original_of
from flambeau.frontend.points import Event
from flambeau.frontend.trace.capture import Break
from flambeau.ir.graph import Graph
from flambeau.ir.stage import time_stages


@dataclass
class Explanation:
    """The account of one call. Printing it gives the whole; the fields carry PyTorch's names."""

    name: str
    events: list[Event]
    graphs: list[Graph] = field(default_factory=list)
    break_reasons: list[Break] = field(default_factory=list)
    out_guards: list[Any] = field(default_factory=list)
    ops_per_graph: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    loaded: list[Event] = field(default_factory=list)             # of the calls before, what the disk had (docs/warm-start.md)

    @property
    def graph_count(self) -> int:
        return len(self.graphs)

    @property
    def graph_break_count(self) -> int:
        return len(self.break_reasons)

    @property
    def op_count(self) -> int:
        return sum(map(len, self.ops_per_graph))

    def __str__(self) -> str:
        recompiles = [e for e in self.events if e.kind == "recompile" and not e.repeated]
        fallbacks = [e for e in self.events if e.kind == "fallback"]
        captures = [(e, e.captured) for e in self.events if e.captured is not None and e.kind == "graph"]
        guards = sum(len(str(captured.guards).splitlines()) for _, captured in captures)
        lines = [f"{self.name}: {_count(self.graph_count, 'graph')}, {_count(self.graph_break_count, 'break')}, "
                 f"{_count(len(recompiles), 'recompile')}, {_count(self.op_count, 'op')}, "
                 f"{_count(guards, 'guard')}, compiled in {self.seconds * 1e3:.0f} ms"]
        if self.loaded:
            lines += ["", "Loaded from cache by the calls before this one:"] + [f"  {e.function}: {e.text}" for e in self.loaded]
        for title, found in (("Breaks", [e.text for e in self.events if e.kind == "break" and not e.repeated]),
                             ("Recompiles", [f"{e.line}: {e.text}" for e in recompiles]),
                             ("Runs eagerly", [e.text for e in fallbacks])):
            if found:
                lines += ["", f"{title}:"] + [f"  {k}. {text}" for k, text in enumerate(found, 1)]
        if self.stages:
            lines += ["", "Seconds of each stage:"] + [f"  {name:<12} {seconds:.4f}" for name, seconds in self.stages.items()]
        for k, (event, captured) in enumerate(captures, 1):
            lines += ["", f"Graph {k}, from {event.line}:", _indent(str(captured.graph)),
                      f"Guards of graph {k}:", _indent(str(captured.guards))]
        return "\n".join(lines)


def explain(fn: Any, *args: Any, backend: Any = "eager", **kwargs: Any) -> Any:
    """What a call of `fn` compiles to: `explain(fn)(*inputs)` (PyTorch: `torch._dynamo.explain`).

    The call really runs; nothing that was compiled before is used or changed. By default its graphs are executed op by op;
    `backend` names one that compiles them, whose stages are timed then too. With `args` given here, explains that call at
    once.
    """
    def run(*inputs: Any, **named: Any) -> Explanation:
        found = _explain(original_of(fn), backend, inputs, named)
        earlier = context_of(fn)
        found.loaded = [e for e in earlier.events if e.kind == "loaded"] if earlier is not None else []
        return found

    return run(*args, **kwargs) if args or kwargs else run


def _explain(fn: Callable[..., Any], backend: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Explanation:
    compiled = _compile(fn, backend=backend)
    context = context_of(compiled)
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    if context is None:
        return Explanation(name, [])
    with time_stages() as stages:
        compiled(*inputs, **named)
    found = Explanation(name, list(context.events), stages=stages)
    _collect(found)
    return found


def _collect(found: Explanation) -> None:
    for event in found.events:
        if event.kind == "graph" and event.captured is not None:
            graph = event.captured.graph
            found.graphs.append(graph)
            found.ops_per_graph.append([n.op.name for n in graph.nodes if n.op is not None])
            found.out_guards += event.captured.guards.guards
            found.seconds += event.seconds
        elif event.kind == "break" and event.captured is not None and event.captured.broke is not None:
            found.break_reasons.append(event.captured.broke)


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
