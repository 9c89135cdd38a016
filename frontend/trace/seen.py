"""What a trace has looked at and does not guard, which another process must find unchanged before it uses the result."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flambeau.frontend.trace.callables import FunctionValue
    from flambeau.frontend.trace.interp import Tracer


@dataclass(frozen=True)
class Seen:
    """The functions that were inlined, the classes of what was met, and names of trusted modules: (namespace, name, value)."""

    functions: list[FunctionValue]
    classes: list[type]
    assumed: list[tuple[dict[str, Any], str, Any]]


def seen_by(tr: Tracer) -> Seen:
    """What this trace has looked at."""
    functions = {id(f.raw if f.raw is not None else f.code): f for f in tr.inlined}     # (one code, many closures)
    classes = dict.fromkeys([cls for raw in tr.keep for cls in (type(raw), raw) if isinstance(cls, type)])
    assumed = {(id(space), name): (space, name, value) for space, name, value in tr.assumed}
    return Seen(list(functions.values()), list(classes), list(assumed.values()))
