"""Writes the small Python functions of an entry: its guard and its run function."""
from __future__ import annotations

import linecache
from collections.abc import Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flambeau.frontend.trace.source import Source

_LITERALS = (int, str, bytes, bool, type(None))


class Writer:
    """Collects lines; fetches each source once; keeps objects that have no literal spelling in the globals."""

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self._reserved = set(reserved)
        self.lines: list[str] = []
        self.globals: dict[str, Any] = {}
        self._constants: dict[int, str] = {}
        self._fetched: dict[Source, str] = {}
        self._count = 0

    def line(self, text: str, indent: int = 1) -> None:
        self.lines.append("    " * indent + text)

    def fresh(self, stem: str) -> str:
        while True:
            self._count += 1
            name = f"{stem}{self._count}"
            if name not in self._reserved:
                return name

    def constant(self, value: Any, stem: str = "k") -> str:
        """The name under which the generated function knows `value`."""
        name = self._constants.get(id(value))
        if name is None:
            name = self._constants[id(value)] = self.fresh(stem + "_")
            self.globals[name] = value          # also keeps the object alive, so its id stays its own
        return name

    def literal(self, value: Any) -> str:
        """`value` spelled in the source where it has a spelling, else a named constant."""
        if type(value) in _LITERALS:
            return repr(value)
        if type(value) is tuple and all(type(v) in _LITERALS for v in value):
            return repr(value)
        return self.constant(value)

    def fetch(self, source: Source) -> str:
        """The variable that holds the value of `source`; fetched where it is first asked for."""
        name = self._fetched.get(source)
        if name is None:
            expression = source.code(self)
            if expression.isidentifier():
                name = expression
            else:
                name = self.fresh("v")
                self.line(f"{name} = {expression}")
            self._fetched[source] = name
        return name

    def build(self, name: str, parameters: str, filename: str) -> FunctionType:
        """Compile the collected lines as the body of `def name(parameters)`."""
        self.text = f"def {name}({parameters}):\n" + "\n".join(self.lines or ["    pass"]) + "\n"
        linecache.cache[filename] = (len(self.text), None, self.text.splitlines(True), filename)
        exec(compile(self.text, filename, "exec"), self.globals)     # noqa: S102 - our own text
        return self.globals[name]
