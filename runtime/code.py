"""What running a plan or a graph takes, as plain data: the source of a function and what it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.ir.op import state

from .autograd import mode


class PlanCode(NamedTuple):
    """All that running a plan takes beside its library: the source of the function, the constants it names, what it calls
    in order (functions of the library, or the numbers of steps done by eager kernels), the words of its block and the bytes
    of its own arena (None: made anew at each call), and whether a step may raise after one has written to an input."""

    text: str
    constants: dict[str, Any]
    entries: tuple[str | int, ...]
    words: int
    arena: int | None
    late_errors: bool


class GraphCode(NamedTuple):
    """A graph as the source of a function, with the constants (ops, dtypes, numbers...) that it names."""

    text: str
    constants: dict[str, Any]

    def function(self) -> Callable[..., tuple]:
        env = {"_mode": mode, "_state": state, **self.constants}
        exec(self.text, env)  # noqa: S102 - written by `runtime.graphs`
        return env["run"]
