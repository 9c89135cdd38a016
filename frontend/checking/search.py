"""From a mismatch to its cause: which of the graphs that ran, which stage, which op, which guard, which line."""
from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from flambeau.frontend.checking.compare import Difference
from flambeau.frontend.checking.examples import Example, Outcome, differs, reference, run_example
from flambeau.frontend.checking.program import changing_op, first_departure, original_ops
from flambeau.frontend.checking.report import Report
from flambeau.frontend.checking.repro import write_call_repro, write_graph_repro
from flambeau.frontend.checking.runs import Run, compare_runs
from flambeau.frontend.checking.stages import Finding, Search, target_of
from flambeau.frontend.checking.state import Picture
from flambeau.frontend.checking.stores import changing_line
from flambeau.frontend.points import Context, Entry, make_wrapper
from flambeau.ir.graph import Graph, Node
from flambeau.ir.tree import leaves
from flambeau.runtime.tensor import Tensor


def diagnose(checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture, expected: Run,
             difference: Difference) -> Report:
    """The report of a mismatch; the objects of ``before`` are as they were before the call, and left as they happen to be."""
    report = Report(checker.fn.__qualname__, checker.calls, difference)
    try:
        _fill(report, checker, args, kwargs, before, expected)
    except Exception as error:                       # the mismatch is known, and worth more than where it comes from
        report.note += f"\nthe search for its origin failed: {type(error).__name__}: {error}"
        before.restore()
    return report


def _fill(report: Report, checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture, expected: Run) -> None:
    difference = report.difference
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran = _graphs_that_ran(checker, args, kwargs, before)
        finding = _in_the_graphs(checker, ran)
        if finding is None:
            finding = _around_the_graphs(checker, args, kwargs, before, expected, difference, ran)
        report.stage, report.op, report.node = finding.stage, finding.op, finding.node
        report.line, report.note, report.within = finding.line, finding.note, finding.within
        if finding.difference is not difference and finding.graph is not None:
            report.note = f"there: {finding.difference}" + (f"; {finding.note}" if finding.note else "")
        before.restore()
        settings = checker.context.settings
        if finding.graph is not None and finding.example is not None:
            report.graph = str(finding.graph)
            report.repro = write_graph_repro(report, finding, settings)
            if not report.repro and (one := next((r for r in ran if r.wrong), None)) is not None:
                report.repro = write_graph_repro(report, replace(finding, graph=one.graph, example=one.example), settings)
        before.restore()
        if not report.repro:
            report.repro = write_call_repro(report, checker, args, kwargs)
        before.restore()


def wrongly_raised(checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture, after: Picture) -> bool:
    """Whether a compiled graph of the call raises where the graph, op by op, does not."""
    before.restore()
    ran = _graphs_that_ran(checker, args, kwargs, before)
    found = any(not run_example(reference(r.graph), r.example).error and run_example(r.run, r.example).error for r in ran)
    after.restore()
    return found


# --------------------------------------------------------------------------- the graphs that ran

@dataclass
class Ran:
    """One run of a compiled graph in the call: the version it belongs to, and its inputs."""

    entry: Entry
    graph: Graph
    run: Any
    example: Example
    wrong: bool = False


def _graphs_that_ran(checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture) -> list[Ran]:
    """Run the compiled call once more and note which graphs it runs on what."""
    ran: list[Ran] = []
    undo = []
    for entry in _entries(checker.context):
        space = entry.run.__globals__
        real, graph = space.get("graph"), getattr(entry.captured, "graph", None)
        if real is None or not isinstance(graph, Graph):     # (of a version that an earlier process made)
            continue

        def noted(inputs: Sequence[Tensor], entry: Entry = entry, graph: Graph = graph, real: Any = real) -> Any:
            ran.append(Ran(entry, graph, real, Example(inputs)))
            return real(inputs)
        space["graph"] = noted
        undo.append((space, real))
    try:
        checker.observe(checker.wrapper, "compiled", args, kwargs, before)
    finally:
        for space, real in undo:
            space["graph"] = real
        before.restore()
    return ran


def _entries(context: Context) -> Iterator[Entry]:
    for point in list(context._points.values()):
        yield from point.entries


def _in_the_graphs(checker: Any, ran: list[Ran]) -> Finding | None:
    """A graph whose compiled form departs from the graph itself, op by op."""
    settings = checker.context.settings
    for one in ran:
        expected = run_example(reference(one.graph), one.example)
        difference = differs(one.run, one.graph, one.example, expected)
        if difference is None:
            continue
        one.wrong = True
        target = target_of(settings.backend)
        found = Search(one.graph, one.example, target, settings.options).run()
        if found is not None:
            return found
        finding = Finding("kernel" if target is not None else "backend", difference, graph=one.graph, example=one.example,
                          note="a build made anew is right: this one is wrong")
        _name_output(finding, one.graph, difference)
        return finding
    return None


def _name_output(finding: Finding, graph: Graph, difference: Difference) -> None:
    at = [int(w) for w in difference.path.split() if w.isdigit()]
    nodes = graph.outputs if difference.path.startswith("output") else graph.inputs
    node = nodes[at[0]] if at and at[0] < len(nodes) else None
    if isinstance(node, Node):
        finding.op, finding.node, finding.line = node.op.name if node.op else "", node.name, node.loc


# --------------------------------------------------------------------------- around the graphs

def _around_the_graphs(checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture, expected: Run,
                       difference: Difference, ran: list[Ran]) -> Finding:
    """Every graph is compiled rightly: the graph is not the program (capture), no longer is (guard), or the effects are not."""
    before.restore()
    settings = copy(checker.context.settings)
    settings.warm = False
    fresh_context = Context(settings)
    fresh = make_wrapper(fresh_context, checker.fn)
    again = checker.observe(fresh, "compiled", args, kwargs, before)
    still = compare_runs(before, expected, again)
    before.restore()
    if still is None:
        return _guard(ran, list(_entries(fresh_context)), difference)
    recorder, run = original_ops(checker, args, kwargs, before)
    found = first_departure(recorder.calls, ran)
    if found is not None:
        call, text = found
        return Finding("capture", Difference(difference.path, difference.text), call.op.name, "", call.line, note=text)
    line, op = changing_op(recorder, run.after, difference) or changing_line(checker.fn, before, difference)
    of_result = difference.path.startswith("gradient of ") or (difference.trail or (difference.path,))[0] == "result"
    stage = "capture" if of_result and "[" not in difference.path else "write-back"
    return Finding(stage, difference, op or difference.path, "", line, note="the graphs are those of the program; what is done "
                   "around them (results built, effects replayed) is not")


def _guard(ran: list[Ran], fresh: list[Entry], difference: Difference) -> Finding:
    """A version was used that a new trace of the same call would not have given."""
    used = list({id(r.entry): r.entry for r in ran}.values())
    known = {(str(g.source), *_comparable(g.key)) for e in used for g in e.captured.guards.guards}
    missing = [g for e in fresh for g in e.captured.guards.guards if (str(g.source), *_comparable(g.key)) not in known]
    ambient = [t for e in fresh for t in e.captured.guards.ambient if all(t not in u.captured.guards.ambient for u in used)]
    finding = Finding("guard", difference)
    old = [n for e in used for n in e.captured.graph.nodes]
    new = [n for e in fresh for n in e.captured.graph.nodes]
    for k in range(max(len(old), len(new))):
        a, b = old[k] if k < len(old) else None, new[k] if k < len(new) else None
        if a is None or b is None or a.op is not b.op or a.requires_grad != b.requires_grad or (
                _constants(a) != _constants(b) or str(a.meta) != str(b.meta)):
            node = b if b is not None else a
            assert node is not None
            finding.op, finding.node, finding.line = node.op.name if node.op else "", node.name, node.loc
            finding.note = f" ({_call_text(a)}, a new trace has {_call_text(b)})"
            break
    if missing:
        finding.line = finding.line or missing[0].line
        finding.op = finding.op or str(missing[0].source)
    words = [*(str(g.text) for g in missing[:3]), *ambient[:1]]
    finding.note = "an older version was used for a call that it does not fit" + finding.note + (
        f"; a new trace also asks that {', that '.join(words)}" if words else "")
    return finding


def _call_text(node: Node | None) -> str:
    return "nothing there" if node is None or node.op is None else \
        f"{node.op.name}({', '.join(map(str, node.args))})"


def _comparable(key: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(part) for part in key)


def _constants(node: Node) -> list[str]:
    return [str(a) for a in leaves(node.args) if not isinstance(a, Node)]


__all__ = ["Outcome", "diagnose", "wrongly_raised"]
