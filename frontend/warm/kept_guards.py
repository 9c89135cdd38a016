"""The guards of an entry on disk as guards again: to say which one failed, and to remember what they found.

The guard function itself is kept as code and needs none of this. Objects are not looked for again: all that a guard compares
with is among that function's constants, and is named here as it is there.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from flambeau.frontend.runners import NotKept
from flambeau.frontend.trace.guards import Guard, GuardFunction
from flambeau.frontend.trace.writer import Writer
from flambeau.frontend.warm.fingerprints import Unsteady
from flambeau.frontend.warm.references import Decoder, Encoder, Plain

_HOLE = re.compile(r"\b(SOURCE|CONSTANT|VALUE)(\d+)_\b")
_BY_OBJECT = ("is", "code")            # kinds of guards whose key is the address of an object


class _Template(Writer):
    """Writes a test with holes where it names a source, a constant or the value itself."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[Any] = []
        self.constants: list[Any] = []

    def fetch(self, source: Any) -> str:
        self.sources.append(source)
        return f"SOURCE{len(self.sources) - 1}_"

    def constant(self, value: Any, stem: str = "k") -> str:
        self.constants.append(value)
        return f"CONSTANT{len(self.constants) - 1}_"


def written(guards: GuardFunction) -> dict[str, Any]:
    """The guards as plain data. `whole` says that nothing of them is lost."""
    encoder = Encoder()
    skipped = {"__builtins__", guards.function.__name__}
    encoder.given = {id(v): name for name, v in guards.function.__globals__.items() if name not in skipped}
    rows = [_row(encoder, guard) for guard in guards.guards]
    try:
        inputs: list[Plain] | None = [encoder.source(s) for s in guards.inputs]
    except (NotKept, Unsteady):
        inputs = None
    return {"rows": [row[:-1] for row in rows], "inputs": inputs, "parameters": guards.parameters, "file": guards.filename,
            "ambient": guards.ambient, "ambient_tests": guards._ambient_tests[0],
            "whole": inputs is not None and all(row[-1] for row in rows)}


def _row(encoder: Encoder, guard: Guard) -> tuple[Any, ...]:
    """(source, kind, sentence, line, test, its sources, its constants), and whether that is all of the guard."""
    whole = True
    try:
        source = encoder.source(guard.source)
    except (NotKept, Unsteady):
        source, whole = ("Root", "", str(guard.source)), False
    try:
        key = encoder.encode(guard.key[:1] if guard.key[0] in _BY_OBJECT else guard.key)
    except (NotKept, Unsteady):
        key, whole = encoder.encode(guard.key[:1]), False
    w = _Template()
    try:
        test = guard.test(w, "VALUE0_")
        parts = [encoder.source(s) for s in w.sources], [encoder.encode(c) for c in w.constants]
        whole = whole and not w.lines
    except (NotKept, Unsteady):
        test, parts, whole = "True", ([], []), False
    return source, key, guard.sentence, guard.line, test, *parts, whole


def restored(data: dict[str, Any], function: FunctionType) -> GuardFunction:
    """The guards of which `function` is the test."""
    decoder = Decoder({}, None)
    decoder.special["given"] = lambda d, name: function.__globals__[name]
    found = GuardFunction.__new__(GuardFunction)
    found.guards = [_guard(decoder, *row) for row in data["rows"]]
    found.inputs = [decoder.source(s) for s in data["inputs"] or []]
    found.parameters, found.filename, found.ambient = data["parameters"], data["file"], data["ambient"]
    found._ambient_tests = (data["ambient_tests"], function.__globals__)
    found.function = function
    return found


def _guard(decoder: Decoder, source: Plain, key: Plain, sentence: str, line: str, test: str, sources: Sequence[Plain],
           constants: Sequence[Plain]) -> Guard:
    places = [decoder.source(s) for s in sources]
    values = [decoder.decode(c) for c in constants]

    def filled(w: Writer, v: str) -> str:
        def hole(match: re.Match[str]) -> str:
            kind, k = match[1], int(match[2])
            return v if kind == "VALUE" else w.fetch(places[k]) if kind == "SOURCE" else w.constant(values[k])
        return _HOLE.sub(hole, test)

    return Guard(decoder.source(source), decoder.decode(key), filled, sentence, line)
