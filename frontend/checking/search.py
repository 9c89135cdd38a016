"""From a mismatch to its cause: which of the graphs that ran, which stage, which op, which guard, which line."""
from __future__ import annotations

import contextlib
import difflib
import dis
import io
import os
import re
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flambeau.ir as _ir
from flambeau.frontend.checking.compare import Difference, compare_tensors
from flambeau.frontend.checking.examples import Example, Outcome, compare_outcomes, reference, run_example
from flambeau.frontend.checking.report import Report
from flambeau.frontend.checking.repro import write_call_repro, write_graph_repro
from flambeau.frontend.checking.runs import Run, compare_runs
from flambeau.frontend.checking.stages import Finding, Search, target_of
from flambeau.frontend.checking.state import Picture
from flambeau.frontend.points import Context, Entry, make_wrapper
from flambeau.ir.graph import Graph, Node, getitem, map_nodes
from flambeau.ir.op import Op, state, use_handler
from flambeau.ir.tree import leaves, tree_map
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor

_PACKAGE = str(Path(_ir.__file__).resolve().parent.parent)


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
        report.line, report.note = finding.line, finding.note
        if finding.difference is not difference and finding.graph is not None:
            report.note = f"there: {finding.difference}" + (f"; {finding.note}" if finding.note else "")
        before.restore()
        if finding.graph is not None and finding.example is not None:
            report.graph = str(finding.graph)
            report.repro = write_graph_repro(report, finding, checker.context.settings)
        else:
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
        difference = compare_outcomes(expected, run_example(one.run, one.example, expected=expected))
        if difference is None:
            continue
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
    calls = _original_ops(checker, args, kwargs, before)
    found = _first_departure(calls, ran)
    if found is not None:
        call, text = found
        return Finding("capture", Difference(difference.path, difference.text), call.op.name, "", call.line, note=text)
    line, op = _changing_line(checker.fn, difference)
    stage = "capture" if difference.path.startswith(("result", "gradient")) and "[" not in difference.path else "write-back"
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


# --------------------------------------------------------------------------- the program's own ops

@dataclass
class OpCall:
    """One call of an op in the original's run."""

    op: Op
    args: tuple
    result: Any
    line: str
    kept: tuple                        # the tensors given and got, which are kept alive
    recorded: bool                     # whether the result hangs on the tape


class _Recorder:
    """A handler that runs ops as ever and remembers them; the ops that an op is made of are not remembered."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[OpCall] = []

    def __call__(self, op: Op, args: tuple) -> Any:
        copies = tree_map(_copy, args)
        with use_handler(self.inner):
            result = self.inner(op, args)
        kept = ([a for a in leaves(args) if isinstance(a, Tensor)], [r for r in leaves((result,)) if isinstance(r, Tensor)])
        recorded = any(r.requires_grad for r in kept[1])
        self.calls.append(OpCall(op, copies, tree_map(_copy, result), _user_line(), kept, recorded))
        return result


def _copy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    found = Tensor(value._a.copy())
    found._dtype = value._dtype
    return found


def _user_line() -> str:
    """The nearest line outside the package."""
    frame: Any = sys._getframe(2)
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}" if frame is not None else ""


def _original_ops(checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture) -> list[OpCall]:
    recorder = _Recorder(state.handler)

    def run(*args: Any, **kwargs: Any) -> Any:
        with use_handler(recorder):
            return checker.fn(*args, **kwargs)
    checker.observe(run, "original", args, kwargs, before)
    before.restore()
    return recorder.calls


def _graph_ops(ran: list[Ran]) -> list[OpCall]:
    """The ops of the captured graphs on the inputs of the call."""
    calls: list[OpCall] = []
    for one in ran:
        env: dict[Node, Any] = dict(zip(one.graph.inputs, one.example.copies()[0]))
        recorded = {n for n in one.graph.nodes if n.requires_grad}
        recorded |= {n.args[0] for n in recorded if n.op is getitem}
        with GradMode(False):
            for node in one.graph.nodes:
                args = map_nodes(env.__getitem__, node.args)
                if node.op is getitem:
                    env[node] = args[0][args[1]]
                    continue
                copies = tree_map(_copy, args)
                try:
                    env[node] = state.handler(node.op, args)       # type: ignore[arg-type]
                except Exception:
                    return calls
                calls.append(OpCall(node.op, copies, tree_map(_copy, env[node]), node.loc, (),  # type: ignore[arg-type]
                                    node in recorded))
    return calls


def _first_departure(calls: list[OpCall], ran: list[Ran]) -> tuple[OpCall, str] | None:
    """The first op of the original that the graphs have not, or have otherwise."""
    nodes = _graph_ops(ran)
    matcher = difflib.SequenceMatcher(None, [c.op.name for c in calls], [n.op.name for n in nodes], autojunk=False)
    unmatched: dict[int, int] = {}                   # identity of a result -> the call that has no counterpart
    dropped: int | None = None
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            for i, j in zip(range(i1, i2), range(j1, j2)):
                text = _departs(calls[i], nodes[j])
                if not text:
                    continue
                guilty = next((unmatched[id(t)] for t in calls[i].kept[0] if id(t) in unmatched), None)
                if guilty is not None:
                    return calls[guilty], "the graph does not have this op where the program has it"
                return calls[i], f"{calls[i].op.name} in the graph: {text}"
        elif tag == "replace":
            return calls[i1], f"the graph has {', '.join(n.op.name for n in nodes[j1:j2])} where the program has " \
                f"{', '.join(c.op.name for c in calls[i1:i2])}"
        elif tag == "insert":
            return nodes[j1], f"the graph has {', '.join(n.op.name for n in nodes[j1:j2])}, which the program does not run"
        else:
            dropped = i1 if dropped is None else dropped
            unmatched.update({id(t): i for i in range(i1, i2) for t in calls[i].kept[1]})
    if dropped is not None and any(c.op.mutates or "random" in c.op.tags for c in calls[dropped:dropped + 1]):
        return calls[dropped], "the graph does not have this op"
    return None


def _departs(call: OpCall, node: OpCall) -> str:
    """What is different between an op of the program and the same op of the graph."""
    mine, other = list(leaves(call.args)), list(leaves(node.args))
    if len(mine) != len(other):
        return "other arguments"
    for a, b in zip(mine, other):
        if isinstance(a, Tensor) != isinstance(b, Tensor):
            return "other arguments"
        if not isinstance(a, Tensor) and str(a) != str(b):
            return f"argument {b} instead of {a}"
    for a, b in zip(mine, other):
        if isinstance(a, Tensor) and compare_tensors(a, b):
            return f"another argument: {compare_tensors(a, b)}"
    if call.recorded != node.recorded and not call.op.mutates:
        return "it is recorded on the tape" if node.recorded else "it is not recorded on the tape"
    text = compare_tensors(call.result, node.result)
    return f"another result: {text}" if text else ""


# --------------------------------------------------------------------------- what was to be changed

_STORES = {"STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL",
           "STORE_NAME"}
_METHODS = {"append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "add", "discard", "reverse", "sort",
            "popitem", "appendleft", "extendleft", "popleft", "register_buffer", "__setitem__"}


def _changing_line(fn: types.FunctionType, difference: Difference) -> tuple[str, str]:
    """(line, name of the operation) of the statement that changes what is different, as far as names tell."""
    last = difference.path.replace("[", ".[").replace("closure of ", ".").split(".")[-1]
    missing = re.search(r"\.(\w+)|(\[\S+\])", difference.text) if "is missing" in difference.text or (
        "too much" in difference.text) else None
    if missing:
        last = missing.group(1) or missing.group(2)
    best: tuple[int, str, str] = (0, "", "")
    for code in _codes(fn.__code__):
        line = code.co_firstlineno
        for ins in dis.get_instructions(code):
            line = ins.starts_line if isinstance(ins.starts_line, int) and not isinstance(ins.starts_line, bool) else \
                getattr(ins, "line_number", None) or line
            where = f"{code.co_filename.rsplit('/', 1)[-1]}:{line}"
            score, name = 0, ""
            if ins.opname in _STORES and ins.argval == last:
                score, name = 3, str(ins.argval)
            elif ins.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") and last[:1] == "[":
                score, name = 2, "[]"
            elif ins.argval in _METHODS and "LOAD" in ins.opname:
                score, name = 1, str(ins.argval)
            if score > best[0]:
                best = (score, where, name)
    return best[1], best[2]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


__all__ = ["Outcome", "diagnose", "wrongly_raised"]
