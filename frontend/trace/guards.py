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
from flambeau.runtime.versions import Lookups, lookup

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
        self._lookups: dict[type, tuple[set[str], str]] = {}

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

    def add_lookup(self, cls: type, name: str, line: Callable[[], str]) -> None:
        """What a class of the library and its bases say under `name` is what they say now."""
        found = self._lookups.get(cls)
        if found is None:
            found = self._lookups[cls] = (set(), line())
        found[0].add(name)

    def finished(self) -> list[Guard]:
        """All guards, those about absent attributes last."""
        return self.guards + [_absent(source, names, line) for source, (names, line) in self.absent.items()] + \
            [guard for cls, (names, line) in self._class_absent.items() for guard in _class_absent(cls, names, line)] + \
            [_as_it_was(cls, names, line) for cls, (names, line) in self._lookups.items()]


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


def _as_it_was(cls: type, met: set[str], line: str) -> Guard:
    """Nobody has replaced, added or removed what the trace met of a class of the library (which by now has all it made late)."""
    names = Lookups(cls, {name: lookup(cls, name) for name in met})
    return Guard(Constant(cls, cls.__name__), ("lookups", cls),
                 lambda w, v: "({0}.tag.value == {0}.known or {0}.hold())".format(w.constant(names)),
                 f"the class {escape(cls.__name__)} is as the library made it", line)


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
    if isinstance(value, (tuple, frozenset)) and not all(type(x) in _DISTINCT for x in value):
        exact, how = parts(value)
        return ("parts", type(value), exact), \
            lambda w, v: f"type({v}) is {w.constant(type(value))} and {v} == {w.constant(value)} and {how(w, v)}", \
            f"{{}} == {escape(repr(value))}"
    return ("==", type(value), value), \
        lambda w, v: f"{v} == {_spelled(w, value)} and type({v}) is {w.constant(type(value))}", \
        f"{{}} == {escape(repr(value))}"


_DISTINCT = (str, bytes, type(None))                     # nothing of another type equals what is of these


def parts(value: Any) -> tuple[Any, Callable[[Writer, str], str]]:
    """What `==` leaves open of the elements of a tuple, a set or keys: 1, 1.0 and True are equal, and so are 0.0 and -0.0."""
    if isinstance(value, (set, frozenset)):
        found: Any = frozenset(map(_exactly, value))
        return found, lambda w, v: f"frozenset(map({w.constant(_exactly)}, {v})) == {w.constant(found)}"
    found = tuple(map(_exactly, value))
    return found, lambda w, v: f"tuple(map({w.constant(_exactly)}, {v})) == {w.constant(found)}"


def _exactly(x: Any) -> Any:
    """A value as what only exactly the same value equals."""
    if type(x) in (float, complex, range):
        return type(x), repr(x)
    if type(x) in (tuple, frozenset):
        return type(x), type(x)(map(_exactly, x))
    return type(x), x


def lacks(name: str) -> tuple[tuple[Any, ...], Test, str]:
    """A module, or anything else that anybody may give attributes, has none of this name."""
    return ("lacks", name), lambda w, v: f"not hasattr({v}, {name!r})", f"{{}} has no attribute {name!r}"


def exists() -> tuple[tuple[Any, ...], Test, str]:
    """The value can be fetched; what it is does not matter."""
    return ("exists",), lambda w, v: "True", "{} exists"


def has_length(n: int) -> tuple[tuple[Any, ...], Test, str]:
    return ("len", n), lambda w, v: f"len({v}) == {n}", f"len({{}}) == {n}"


def has_keys(keys: Sequence[Any]) -> tuple[tuple[Any, ...], Test, str]:
    keys = tuple(keys)
    if not keys:
        return ("keys", keys), lambda w, v: f"not {v}", "{} is empty"
    text = f"{{}} has the keys {escape(repr(keys))}"
    if all(type(k) in _DISTINCT or not isinstance(k, (int, float, complex, tuple, frozenset)) for k in keys):
        return ("keys", keys), lambda w, v: f"tuple({v}) == {w.literal(keys)}", text
    how = parts(keys)[1]
    return ("keys", _Exact(keys)), lambda w, v: f"tuple({v}) == {w.literal(keys)} and {how(w, v)}", text


class _Exact(tuple):
    """Keys that differ where their types do; as people write them."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and _exactly(tuple(self)) == _exactly(tuple(other))

    def __hash__(self) -> int:
        return tuple.__hash__(self)


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
