"""Which numbers a continuation is sure to see change: what the broken step has made, and what a loop around it counts."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.decode import Program
from flambeau.frontend.trace.frames import NULL, Layout, parameter_names

if TYPE_CHECKING:
    from flambeau.frontend.trace.breaks import Step

_State = tuple[Mapping[str, Any], Sequence[Any]]        # locals and stack


def made_numbers(step: Step, index: int, layout: Layout, before: _State, after: _State) -> set[str]:
    """Parameters of the point at `index` that hold such a number, or one that changed already before the broken `step`; before
    and after it are the frame's locals and stack."""
    counted = _stored_in_loops(step.program, step.index) | _stored_in_loops(step.program, index) | step.changing
    names = dict(zip(layout.locals, parameter_names(layout)))
    found = {names[name] for name in layout.locals if _is_number(after[0][name])
             and (name in counted or before[0].get(name, NULL) is not after[0][name])}
    old, new = before[1], after[1]
    return found | {f"stack{k}" for k, v in enumerate(new) if _is_number(v) and (
        k >= len(old) or old[k] is not v or f"stack{k}" in step.changing)}


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _stored_in_loops(program: Program, index: int) -> set[str]:
    """Locals that are assigned in a loop around `index`: between a jump back and where it leads."""
    found: set[str] = set()
    for at, ins in enumerate(program.instrs):
        if ins.target is not None and ins.target <= index <= at:
            found |= {i.arg for i in program.instrs[ins.target:at] if i.op == "STORE_FAST"}
    return found
