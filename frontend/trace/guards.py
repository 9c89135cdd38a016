"""Guards: the conditions under which a trace may be reused, as one generated function per entry.

Each guard knows the source it reads, the test, the sentence a person reads, and the user line that caused it. The
generated function takes the frame's values and returns the flat graph inputs, or None at the first test that fails.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from flambeau.frontend.config import config
from flambeau.frontend.trace.source import Attr, Constant, Source
from flambeau.frontend.trace.writer import Writer
from flambeau.ir import dtype as dtypes
from flambeau.ir.op import state as op_state
from flambeau.runtime.autograd import mode

Test = Callable[[Writer, str], str]


@dataclass(frozen=True)
class Guard:
    """`test(writer, variable)` is an expression over the fetched value; `key` makes equal guards equal.

    `sentence` is the text for people, with `{}` where the source is named.
    """

    source: Source
    key: tuple[Any, ...]
    test: Test
    sentence: str
    line: str

    @property
    def text(self) -> str:
        return self.sentence.format(self.source)

    def __str__(self) -> str:
        return self.text + (f"  # {self.line}" if self.line else "")


class GuardSet:
    """The guards of one trace, in the order in which they arose, without repeats."""

    def __init__(self) -> None:
        self.guards: list[Guard] = []
        self._seen: set[tuple[Any, ...]] = set()
        self.absent: dict[Source, tuple[set[str], str]] = {}
        self._class_absent: dict[type, tuple[set[str], str]] = {}

    def add(self, source: Source, key: tuple[Any, ...], test: Test, sentence: str, line: Callable[[], str]) -> None:
        if (source, *key) not in self._seen:
            self._seen.add((source, *key))
            self.guards.append(Guard(source, key, test, sentence, line()))

    def add_absent(self, source: Source, name: str, line: str) -> None:
        """`name` is in no way an own attribute of the object; one test per object covers all its names."""
        self.absent.setdefault(source, (set(), line))[0].add(name)

    def add_class_absent(self, cls: type, name: str | None, line: Callable[[], str]) -> None:
        """`name` is no attribute that the class itself defines, and its bases are the same (None: only that)."""
        found = self._class_absent.get(cls)
        if found is None:
            found = self._class_absent[cls] = (set(), line())
        found[0].update([name] if name is not None else [])

    def finished(self) -> list[Guard]:
        """All guards, those about absent attributes last."""
        return self.guards + [_absent(source, names, line) for source, (names, line) in self.absent.items()] + \
            [guard for cls, (names, line) in self._class_absent.items() for guard in _class_absent(cls, names, line)]


def all_distinct(values: Sequence[Source], line: str) -> Guard:
    """No two of the objects are one object: the trace changed one of them and looked at others of its type."""
    first, names = values[0], escape(", ".join(map(str, values)))

    def test(w: Writer, v: str) -> str:
        if len(values) == 2:
            return f"{v} is not {w.fetch(values[1])}"
        return f"len({{{', '.join(f'id({w.fetch(s)})' for s in values)}}}) == {len(values)}"

    return Guard(first, ("distinct", tuple(values)), test, f"{names} are different objects", line)


def _absent(source: Source, names: set[str], line: str) -> Guard:
    ordered = tuple(sorted(names))
    if len(ordered) == 1:
        return Guard(source, ("absent", ordered), lambda w, v: f"{ordered[0]!r} not in {v}.__dict__",
                     f"{{}} has no own attribute {ordered[0]!r}", line)
    return Guard(source, ("absent", ordered),
                 lambda w, v: f"{w.constant(frozenset(ordered))}.isdisjoint({v}.__dict__)",
                 f"{{}} has no own attributes {', '.join(ordered)}", line)


def _class_absent(cls: type, names: set[str], line: str) -> list[Guard]:
    """A class does not define names that were found in its bases, or nowhere; its bases are the same."""
    ordered = tuple(sorted(names))
    at = Constant(cls, cls.__name__)
    mro = cls.__mro__
    absent = Guard(Attr(at, "__dict__"), ("absent", ordered), lambda w, v: " and ".join(f"{n!r} not in {v}" for n in ordered),
                   f"the class {escape(cls.__name__)} does not itself define {escape(', '.join(ordered))}", line)
    guards = [absent] if ordered else []
    if len(mro) == 2:
        return guards
    return [*guards, Guard(Attr(at, "__mro__"), ("is", id(mro)), lambda w, v: f"{v} is {w.constant(mro)}",
                          f"{escape(cls.__name__)} has the same base classes", line)]


# --------------------------------------------------------------------------- kinds of tests

def is_type(cls: type) -> tuple[tuple[Any, ...], Test, str]:
    return ("type", cls), lambda w, v: f"type({v}) is {w.constant(cls)}", f"{{}} is a {cls.__name__}"


def is_object(value: Any) -> tuple[tuple[Any, ...], Test, str]:
    named = (getattr(value, attribute, None) for attribute in ("__qualname__", "__name__"))
    name = next((n for n in named if n and isinstance(n, str)), type(value).__name__)
    return ("is", id(value)), lambda w, v: f"{v} is {_named(w, value)}", f"{{}} is {escape(name)}"


def equals(value: Any) -> tuple[tuple[Any, ...], Test, str]:
    """Same type and equal; floats bit by bit where `==` would mislead."""
    if value is None or value is True or value is False or value is Ellipsis:
        return ("is", id(value)), lambda w, v: f"{v} is {value}", f"{{}} is {value}"
    if isinstance(value, (complex, range)):
        return ("repr", repr(value)), lambda w, v: f"type({v}) is {w.constant(type(value))} and repr({v}) == {repr(value)!r}", \
            f"{{}} == {value!r}"
    if isinstance(value, float) and (value == 0.0 or math.isnan(value)):
        return ("repr", repr(value)), lambda w, v: f"type({v}) is float and repr({v}) == {repr(value)!r}" \
            if not math.isnan(value) else f"type({v}) is float and {v} != {v}", f"{{}} == {value!r}"
    return ("==", type(value), value), \
        lambda w, v: f"{v} == {_spelled(w, value)} and type({v}) is {w.constant(type(value))}", \
        f"{{}} == {escape(repr(value))}"


def exists() -> tuple[tuple[Any, ...], Test, str]:
    """The value can be fetched; what it is does not matter."""
    return ("exists",), lambda w, v: "True", "{} exists"


def has_length(n: int) -> tuple[tuple[Any, ...], Test, str]:
    return ("len", n), lambda w, v: f"len({v}) == {n}", f"len({{}}) == {n}"


def has_keys(keys: Sequence[Any]) -> tuple[tuple[Any, ...], Test, str]:
    keys = tuple(keys)
    if not keys:
        return ("keys", keys), lambda w, v: f"not {v}", "{} is empty"
    return ("keys", keys), lambda w, v: f"tuple({v}) == {w.literal(keys)}", f"{{}} has the keys {escape(repr(keys))}"


def contains(key: Any, present: bool) -> tuple[tuple[Any, ...], Test, str]:
    word = "in" if present else "not in"
    return ("contains", key, present), lambda w, v: f"{w.literal(key)} {word} {v}", f"{escape(repr(key))} {word} {{}}"


def escape(text: str) -> str:
    """`text` as part of a guard's sentence."""
    return text.replace("{", "{{").replace("}", "}}")


def _named(w: Writer, value: Any) -> str:
    return w.constant(value)


def _spelled(w: Writer, value: Any) -> str:
    return repr(value) if type(value) in (int, str, bytes) or (type(value) is float and math.isfinite(value)) \
        else w.constant(value)


def is_tensor(raw: Any, dynamic: Mapping[int, Any]) -> tuple[tuple[Any, ...], Test, str]:
    """Class, dtype, device, rank, requires_grad and every static size of a tensor."""
    shape = tuple(raw.shape)
    sizes = tuple(None if k in dynamic else n for k, n in enumerate(shape))
    cls, requires_grad, device, array_dtype = type(raw), bool(raw.requires_grad), raw.device, raw._a.dtype

    def test(w: Writer, v: str) -> str:
        dtype = w.constant(array_dtype)
        parts = [f"type({v}) is {w.constant(cls)}"]
        if None not in sizes:
            parts.append(f"{v}._a.shape == {shape}")
        else:
            parts.append(f"{v}._a.ndim == {len(shape)}")
            parts += [f"{v}._a.shape[{k}] == {n}" for k, n in enumerate(sizes) if n is not None]
        parts += [f"({v}._a.dtype is {dtype} or {v}._a.dtype == {dtype})", f"{v}._rg is {requires_grad}",
                  f"{v}._storage.device == {w.constant(device)}"
                  if device.type != "cpu" else f"{v}._storage.device is {w.constant(device)}"]
        return " and ".join(parts)

    shown = ", ".join(str(dynamic[k]) if n is None else str(n) for k, n in enumerate(sizes))
    text = f"{{}} is a {cls.__name__} {raw.dtype.short}[{shown}] on {device}" + \
        (", requires_grad" if requires_grad else "")
    return ("tensor", cls, sizes, array_dtype, device, requires_grad), test, text


# --------------------------------------------------------------------------- the generated function

def ambient_test(w: Writer) -> tuple[list[str], list[str]]:
    """Tests of the thread's state that every trace depends on, and their sentences."""
    handler = op_state.handler
    m, s = w.constant(mode, "mode"), w.constant(op_state, "state")
    d = w.constant(dtypes.__dict__, "dtypes")
    tests = [f"{s}.handler is {w.constant(handler)}", f"{m}.grad is {mode.grad}", f"{m}.inference is {mode.inference}",
             f"{d}['_default'] is {w.constant(dtypes.get_default_dtype())}"]
    texts = ["no transform is active", f"grad mode is {'on' if mode.grad else 'off'}",
             f"inference mode is {'on' if mode.inference else 'off'}",
             f"the default dtype is {dtypes.get_default_dtype()}"]
    for owner, name, meaning in config.watched:
        tests.append(f"not {w.constant(owner)}.{name}")
        texts.append(meaning)
    return tests, texts


class GuardFunction:
    """The compiled guards of one entry."""

    def __init__(self, guards: Sequence[Guard], parameters: Sequence[str], inputs: Sequence[Source],
                 filename: str) -> None:
        self.guards, self.parameters = list(guards), list(parameters)
        self.inputs, self.filename = list(inputs), filename
        w = Writer(parameters)
        tests, self.ambient = ambient_test(w)
        self._ambient_tests = (tests, w.globals)
        w.line("try:")
        body = len(w.lines)
        w.line(f"if not ({' and '.join(tests)}): return None")
        for guard in guards:
            test = guard.test(w, w.fetch(guard.source))
            if test == "True":
                continue                              # fetching it was the test
            note = f"  # {guard.line}" if guard.line else ""
            w.line(f"if not ({test}): return None{note}")
        values = [w.fetch(s) for s in inputs]
        w.line(f"return ({', '.join(values)}{',' if values else ''})")
        w.lines[body:] = ["    " + line for line in w.lines[body:]]
        w.line("except Exception: return None")
        self.function: FunctionType = w.build("guard", ", ".join(parameters), filename)
        self.source_text = w.text

    def __str__(self) -> str:
        return "\n".join([*self.ambient, *map(str, self.guards)])

    def first_failure(self, roots: Mapping[str, Any]) -> tuple[str, Guard | None, Any]:
        """(sentence, guard, new value) of the first guard that rejects `roots`; the sentence is empty if none does."""
        tests, space = self._ambient_tests
        for test, text in zip(tests, self.ambient):
            if not eval(test, dict(space)):                                # noqa: S307 - our own text
                return text, None, None
        for guard in self.guards:
            w = Writer(self.parameters)
            value = None
            try:
                value = guard.source.fetch(roots)
                w.line(f"return {guard.test(w, w.fetch(guard.source))}")
                ok = w.build("one", ", ".join(self.parameters), "<guard>")(*(roots[p] for p in self.parameters))
            except Exception:
                ok = False
            if not ok:
                return guard.text, guard, value
        return "", None, None
