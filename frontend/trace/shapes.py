"""Dynamic shapes and changing ints of one trace: which sizes are symbols, where they are read, what is guarded."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.guards import Guard, escape
from flambeau.frontend.trace.source import Attr, Item, Source
from flambeau.frontend.trace.values import Unsupported

if TYPE_CHECKING:
    from flambeau.frontend.trace.writer import Writer


@dataclass(frozen=True)
class SizeOf:
    """Where a symbol is read at run time."""

    source: Source
    dim: int | None          # None: the source is the int itself

    @property
    def fetched(self) -> Source:
        return self.source if self.dim is None else Item(Attr(self.source, "shape"), self.dim)

    def __str__(self) -> str:
        return str(self.source) if self.dim is None else f"{self.source}.shape[{self.dim}]"


class Shapes:
    """The shape environment of a trace; sympy is imported when the first symbol is made."""

    def __init__(self, where: Callable[[], str] = str) -> None:
        self.env: Any = None
        self.where = where
        self.origins: dict[str, list[SizeOf]] = {}
        self.unbacked: dict[str, tuple[Any, int]] = {}           # size that data decides -> the tensor and dimension that show it
        self.selected: dict[Any, Any] = {}                       # a mask -> how many elements it selects
        self.computed: dict[Any, Any] = {}           # how an int is computed of others -> its value in the trace

    def symbol(self, hint: int, origin: SizeOf, computed: bool = False) -> Any:
        """A SymInt for a size or int whose present value is `hint`, `computed` of others or read. Sizes that are equal now may
        differ later: each has a symbol, and what needs them to be equal guards it."""
        least = 2 if origin.dim is not None or computed else 0
        new = self.new_env().create(hint, str(origin), True, least)
        self.origins.setdefault(new.expr.name, []).append(origin)     # (its text is a number once it is pinned)
        return new

    def new_env(self) -> Any:
        """The environment, made with the first symbol."""
        if self.env is None:
            from flambeau.ir.symint import ShapeEnv
            self.env = ShapeEnv(where=self.where)
        return self.env

    def known_before(self, values: Iterable[Any]) -> None:
        """Break the graph where one of the numbers depends on data: it is needed before the graph runs."""
        if self.unbacked:
            for value in values:
                if not self.unbacked.keys().isdisjoint(self.names(getattr(value, "value", None))):
                    raise _too_early()
                self.known_before(getattr(value, "parts", ()))

    def code(self, value: Any, w: Writer, tensor: Callable[[Any], str] | None = None) -> str:
        """Python expression of a SymInt in a generated function; `tensor` spells an output of the graph."""
        used = self.env.symbols_of(value)
        names = {name: w.fetch(places[0].fetched) for name, places in self.origins.items() if name in used}
        for name in sorted(used & self.unbacked.keys()):
            if tensor is None:
                raise _too_early()
            shown, dim = self.unbacked[name]
            names[name] = f"{tensor(shown)}.shape[{dim}]"
        text = self.env.python(value, names)
        return text if text.isidentifier() else f"({text})"     # it may become an operand

    def names(self, size: Any) -> set[str]:
        """Symbols in a size."""
        return self.env.symbols_of(size) if self.env is not None else set()

    def unbound(self, bound: set[str]) -> list[tuple[str, int, Source]]:
        """(symbol, present value, source) of the symbols that no tensor input shows."""
        return [(name, self.env.hints[name], places[0].fetched) for name, places in self.origins.items()
                if name not in bound]

    def guards(self) -> list[Guard]:
        """Each size is at least 2, each int at least 0, and the same wherever it is read; then what the trace assumed."""
        found = []
        for name, places in self.origins.items():
            first = places[0]
            least = 0 if name.startswith("z") else 2
            found.append(Guard(first.fetched, ("size", name), _at_least(least), f"{name} = {{}} >= {least}", ""))
            for other in dict.fromkeys(places[1:]):
                found.append(Guard(other.fetched, ("same", name), _equal_to(first), "{} == " + escape(str(first)), ""))
        if self.env is not None:
            for assumed in self.env.guards:
                found.append(self._assumption(assumed))
        return found

    def _assumption(self, assumed: Any) -> Guard:
        used = [name for name in self.origins if re.search(rf"\b{name}\b", assumed.text)]
        first = self.origins[used[0]][0]

        def test(w: Writer, v: str) -> str:
            names = {name: w.fetch(self.origins[name][0].fetched) for name in used}
            return re.sub(r"\b[sz]\d+\b", lambda m: names[m.group()], assumed.text)

        where = ", ".join(f"{name} = {self.origins[name][0]}" for name in used)
        return Guard(first.fetched, ("assumed", assumed.text), test, escape(f"{assumed.text} ({where})"), assumed.loc)


def _too_early() -> Unsupported:
    return Unsupported("data-dependent", "a number that depends on data is needed before the graph runs",
                       "keep it a tensor: `mask.sum()` in place of `x[mask].shape[0]`")


def _at_least(least: int) -> Any:
    return lambda w, v: f"{v} >= {least}"


def _equal_to(first: SizeOf) -> Any:
    return lambda w, v: f"{v} == {w.fetch(first.fetched)}"
