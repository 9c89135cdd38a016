"""Which parameters' data a function reads, told from its bytecode.

Derivative rules are small functions ``f(g, out, *args)``. What a rule never reads need not be kept for the backward
pass (and may be changed in place by the user); what it reads only ``shape``, ``dtype`` or ``device`` of is kept as
that. Reading the rule itself keeps this knowledge in one place.
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from typing import Any

_META = {"shape", "dtype", "device", "ndim", "dim", "size", "numel", "is_complex", "is_floating_point"}
_SKIP = {"PUSH_NULL", "CACHE", "RESUME", "EXTENDED_ARG"}


def reads(*names: str) -> Callable[[Any], Any]:
    """State which parameters' data a derivative rule reads, where its code hides it (a loop over a list of tensors)."""
    def mark(fn: Any) -> Any:
        fn.__reads__ = names
        return fn
    return mark


def parameter_uses(fn: Callable[..., Any]) -> list[bool] | None:
    """For each positional parameter of ``fn``, whether its data is read; None when that cannot be told.

    What ``*args`` take in is not among them: it counts as read.
    """
    code = getattr(fn, "__code__", None)
    declared = getattr(fn, "__reads__", None)
    if declared is not None:
        return [name in declared for name in code.co_varnames[:code.co_argcount]]  # type: ignore[union-attr]
    if code is None or code.co_flags & 0x08:  # no Python code, or **kwargs
        return None
    names = code.co_varnames[:code.co_argcount]
    uses = {name: name in code.co_cellvars for name in names}
    pending: list[str] = []
    for ins in dis.get_instructions(code):
        if ins.opname in _SKIP:
            continue
        if pending:
            *early, last = pending
            for name in early:
                uses[name] = True
            if not (ins.opname in ("LOAD_ATTR", "LOAD_METHOD") and ins.argval in _META):
                uses[last] = True
            pending = []
        if "LOAD_FAST" in ins.opname:
            loaded = ins.argval if isinstance(ins.argval, tuple) else (ins.argval,)
            pending = [name for name in loaded if name in uses]
            if pending and pending[-1] != loaded[-1]:  # the last one loaded is no parameter: none meets the attribute
                for name in pending:
                    uses[name] = True
                pending = []
    return [uses[name] for name in names]
