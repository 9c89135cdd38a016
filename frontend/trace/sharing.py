"""Tensors that share memory in eager mode and are values of their own in the graph: what branches, loops and functions with
their own derivative return without computing it.

That makes a difference to who writes to one of them, and to who sees two of them outside. Both end the trace.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flambeau.frontend.trace.effects import CannotRebuild
from flambeau.frontend.trace.values import Unsupported, Value
from flambeau.ir.graph import Node, root_of

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


class _Shared(NamedTuple):
    result: Node
    others: tuple[Node, ...]
    what: str
    born: int
    line: str


class At(Value):
    """The step of the root frame to break at."""

    def __init__(self, born: int) -> None:
        self.born = born


class Sharing:
    """Which values of one trace share memory."""

    def __init__(self, tr: Tracer) -> None:
        self.tr = tr
        self.found: list[_Shared] = []

    def add(self, result: Node, others: Iterable[Node], what: str) -> None:
        """Eager mode would give `result`, of `what`, the memory of one of `others`."""
        given = tuple(n for n in others if n is not result)
        if given:
            self.found.append(_Shared(result, given, what, self.tr.tick, self.tr.where()))

    def owners(self, node: Node) -> set[Node]:
        """All values whose memory `node` may show."""
        found: set[Node] = set()
        stack = [node]
        while stack:
            root = root_of(stack.pop())
            if root not in found:
                found.add(root)
                stack += [n for s in self.found if s.result is root for n in s.others]
        return found

    def refuse_write(self, node: Node) -> None:
        """Raise for a write that another of the trace's tensors would show in eager mode."""
        for shared in self.found:
            if self.owners(node) & self.owners(shared.result):
                raise _refusal(shared)

    def check(self, outputs: Iterable[Any], inputs: Iterable[Node]) -> None:
        """Raise where two tensors that share memory in eager mode are both seen outside."""
        if not self.found:
            return
        seen = [(n, self.owners(n)) for n in dict.fromkeys([*inputs, *(n for n in outputs if isinstance(n, Node))])]
        for i, (a, owners) in enumerate(seen):
            for b, others in seen[:i]:
                common = owners & others
                if common and root_of(a) is not root_of(b):
                    shared = next(s for s in self.found if self.owners(s.result) & common)
                    raise CannotRebuild(At(shared.born), _refusal(shared))


def _refusal(shared: _Shared) -> Unsupported:
    error = Unsupported("sharing", f"{shared.what} shares memory with another tensor, which the graph does not show",
                        "return a clone()")
    error.line = shared.line
    return error
