"""The ops that the program itself runs in a call, beside those of its captured graphs: where the two first part."""
from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flambeau.ir as _ir
from flambeau.frontend.checking.compare import Difference, compare_tensors
from flambeau.frontend.checking.state import Picture
from flambeau.frontend.pieces import with_sizes
from flambeau.ir.graph import Node, getitem, map_nodes
from flambeau.ir.op import Op, state, use_handler
from flambeau.ir.tree import leaves, tree_map
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Tensor, wrap

_PACKAGE = str(Path(_ir.__file__).resolve().parent.parent)


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

    @property
    def dtypes(self) -> set[str]:
        """Of all values on the way."""
        return {t.dtype.name for c in self.calls for t in c.kept[1]}

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
    found = wrap(value._a.copy())
    found._dtype = value._dtype
    return found


def _user_line() -> str:
    """The nearest line outside the package."""
    frame: Any = sys._getframe(2)
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}" if frame is not None else ""


def original_ops(checker: Any, args: tuple, kwargs: dict[str, Any], before: Picture) -> tuple[_Recorder, Any]:
    """The original once more, its ops recorded; what it did."""
    recorder = _Recorder(state.handler)

    def run(*args: Any, **kwargs: Any) -> Any:
        with use_handler(recorder):
            return checker.fn(*args, **kwargs)
    found = checker.observe(run, "original", args, kwargs, before)
    before.restore()
    return recorder, found


def _graph_ops(ran: Sequence[Any]) -> list[OpCall]:
    """The ops of the captured graphs on the inputs of the call."""
    calls: list[OpCall] = []
    for one in ran:
        env: dict[Node, Any] = dict(zip(one.graph.inputs, one.example.copies()[0]))
        recorded = {n for n in one.graph.nodes if n.requires_grad}
        recorded |= {n.args[0] for n in recorded if n.op is getitem}
        with GradMode(False):
            for node in one.graph.nodes:
                args = map_nodes(env.__getitem__, with_sizes(node.args, env))
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


def first_departure(calls: list[OpCall], ran: Sequence[Any]) -> tuple[OpCall, str] | None:
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
        elif tag in ("replace", "insert") and (control := _control(nodes[j1:j2])):
            if not _agrees(control, calls[i1:i2]):
                return control, f"{control.op.name} in the graph gives something else than what the program does there"
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
    follows = call.op.family == "view" and node.recorded  # a view that is handed out: see `tape_views`
    if call.recorded != node.recorded and not call.op.mutates and not follows:
        return "it is recorded on the tape" if node.recorded else "it is not recorded on the tape"
    text = compare_tensors(call.result, node.result)
    return f"another result: {text}" if text else ""


def _control(nodes: Sequence[OpCall]) -> OpCall | None:
    """A branch or loop of the graph, which the program runs as the ops of its body."""
    return next((n for n in nodes if "bodies" in n.op.tags), None)


def _agrees(control: OpCall, calls: Sequence[OpCall]) -> bool:
    """Whether some op of the program gives what each result of the branch or loop is."""
    made = [t for c in calls for t in leaves((c.args, c.result)) if isinstance(t, Tensor)]
    return all(any(not compare_tensors(t, r) for t in made) for r in leaves((control.result,)) if isinstance(r, Tensor))


# --------------------------------------------------------------------------- what was to be changed

def changing_op(recorder: _Recorder, after: Picture, difference: Difference) -> tuple[str, str] | None:
    """(line, op) of the op that writes the tensor that is different, or makes it; None where there is none."""
    there = after.at(difference.trail)
    if not isinstance(there, (Tensor, Storage)):
        return None
    storage = there if isinstance(there, Storage) else there._storage
    made = None
    for call in recorder.calls:
        if call.op.mutates and any(t._storage is storage for t in call.kept[0]):
            made = call
        elif any(t is there for t in call.kept[1]) or made is None and any(t._storage is storage for t in call.kept[1]):
            made = call
    return None if made is None else (made.line, made.op.name)
