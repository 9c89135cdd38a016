"""`assert` on the data of a tensor: the trace assumes that it holds, and the run function asks once the graph has run.

Nothing has happened by then that could be seen: the graph writes to no memory, and the program's effects come after it.
Where an assertion fails the frame runs natively, and raises in its own time. A graph that writes, or draws random numbers,
cannot be run and forgotten: there the assertion is a break.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.values import TensorValue, Value
from flambeau.ir.tracing import GraphTensor

if TYPE_CHECKING:
    from flambeau.frontend.trace.decode import Instr
    from flambeau.frontend.trace.frame import Frame
    from flambeau.frontend.trace.interp import Tracer


def taken_by_assertion(tr: Tracer, f: Frame, ins: Instr, value: Value) -> bool | None:
    """Whether the jump is taken if the `assert` around it holds; None if it belongs to no assertion on data."""
    if not _is_asked_later(tr, value) or ins.arg not in ("TRUE", "FALSE"):
        return None
    fails = [_raises(f, at) for at in (f.ip, ins.target)]
    if fails[0] == fails[1]:
        return None
    taken = fails[0]
    tr.asserted.append((value, taken == (ins.arg == "TRUE")))     # type: ignore[arg-type]
    return taken


def is_kept_for_assertion(tr: Tracer, f: Frame, value: Value) -> bool:
    """Whether a tensor's truth is asked for an assertion's jump, which comes next."""
    following = f.program.instrs[f.ip]
    return following.op == "POP_JUMP_IF" and _is_asked_later(tr, value) and _raises(f, f.ip + 1) != _raises(f, following.target)


def _raises(f: Frame, at: int | None) -> bool:
    return at is not None and f.program.instrs[at].op == "LOAD_ASSERTION_ERROR"


def _is_asked_later(tr: Tracer, value: Value) -> bool:
    return tr.may_assert and isinstance(value, TensorValue) and isinstance(value.tensor, GraphTensor) and tr.transform is None \
        and not tr.nested and all(type(n) is int and n == 1 for n in value.tensor.shape)


def failing(asserted: list[tuple[Any, bool]], outputs: Any) -> str:
    """The test, in the run function, that some assertion fails."""
    return " or ".join(("not " if wanted else "") + f"bool({outputs(value)})" for value, wanted in asserted)
