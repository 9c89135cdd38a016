"""Objects as plain data: how another process finds the same object again, and how it tells that it is the same.

Numbers, texts and containers are written as they are. Ops, dtypes, functions, classes and modules are written as where they
are found, with their :func:`identity <flambeau.frontend.warm.fingerprints.identity>`. What has no name (closures, functions made
in functions) is found the way the trace found it, by its source from the frame's own values.
"""
from __future__ import annotations

import enum
import functools
import importlib
import marshal
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flambeau.frontend.runners import Libraries, NotKept, recipe_of, runner_of
from flambeau.frontend.warm import fingerprints
from flambeau.frontend.warm.fingerprints import Unsteady, identity
from flambeau.ir import dtype as dtypes
from flambeau.ir.autocast import Autocast
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import OPS, Op, get_op
from flambeau.runtime.autocast import known_handler
from flambeau.runtime.autograd import mode
from flambeau.runtime.code import GraphCode
from flambeau.runtime.tensor import Size
from flambeau.runtime.versions import MISSING, Lookups, lookup

Plain = Any      # None, numbers, strings, bytes, and tuples that start with a tag

_DTYPES = {d.short: d for d in vars(dtypes).values() if isinstance(d, dtypes.DType)}
_SCALARS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


class Gone(Exception):
    """What an entry refers to is not there, or is not what it was."""


# --------------------------------------------------------------------------- writing

class Encoder:
    """Writes objects. `sources`: id -> source, of objects that the frame's values lead to; `codes` are those of inlined
    functions, by id, as data that leads to them; `cells`: id -> (function, number)."""

    def __init__(self) -> None:
        self.sources: dict[int, Any] = {}
        self.types: dict[int, Any] = {}                           # id of a class -> source of an instance
        self.codes: dict[int, Any] = {}                           # id of a code object -> source of a function, or the function
        self.nested: dict[int, tuple[Any, int]] = {}              # id of a code object -> (the code around it, place)
        self.cells: dict[int, tuple[Any, int]] = {}
        self.given: dict[int, str] = {}                           # ids of objects that a function's globals hold by these names
        self.root: types.CodeType | None = None
        self.special: Callable[[Any], Plain | None] = lambda value: None
        self._busy: set[int] = set()

    def encode(self, value: Any) -> Plain:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if id(value) in self.given:
            return "given", self.given[id(value)]
        if _is_source(value):
            return "place", self.source(value)
        made = _WRITERS.get(kind)
        if made is not None and not (kind is tuple and id(value) in self.sources):   # (one compared by identity: an MRO)
            return made(self, value)
        if isinstance(value, np.dtype):
            return _array_dtype(value)
        found = self.special(value)
        if found is not None:
            return found
        if id(value) in self._busy:
            raise NotKept(f"a {kind.__qualname__} that is found through itself")
        self._busy.add(id(value))
        try:
            return self._object(value)
        except Unsteady as error:
            raise NotKept(str(error)) from None
        finally:
            self._busy.discard(id(value))

    def _object(self, value: Any) -> Plain:
        if type(value).__module__ == "flambeau.ir.graph" and hasattr(value, "nodes"):
            return self._body(value)
        if isinstance(value, enum.Enum):
            return "enum", self.encode(type(value)), value.name, identity(value)
        name = _name_of(value)
        if name is not None:
            return "at", *name, identity(value)
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.CellType) and id(value) in self.cells:
            function, k = self.cells[id(value)]
            return "cell", self.encode(function), k
        wrapper = _wrapper_of(value)
        if wrapper is not None:
            return "wrapped", self.encode(wrapper), identity(value)
        source = self.sources.get(id(value))
        if source is not None and fingerprints.is_told_apart(value):
            return "source", self.source(source), identity(value)
        if isinstance(value, type) and id(value) in self.types:
            return "type", self.source(self.types[id(value)]), identity(value)
        raise NotKept(f"{_shown(value)}, which has no name by which another process finds it")

    def _body(self, graph: Any) -> Plain:
        """The graph of a branch or loop, with what runs it."""
        from flambeau.ir.graph import parse_graph  # noqa: PLC0415 - loaded by whoever has a graph
        text = str(graph)
        try:
            same = str(parse_graph(text)) == text
        except Exception:                                         # symbolic sizes, constants that have no text
            same = False
        if not same:
            raise NotKept("a body that its text does not tell")
        recorded = getattr(graph.run, "recorded", None)
        return "body", text, recorded, None if recorded is not None else self.encode(recipe_of(graph.run))

    def _namespace(self, space: dict[Any, Any]) -> Plain:
        module = sys.modules.get(str(space.get("__name__")))
        if module is None or vars(module) is not space:
            raise NotKept("a dict that is made while the program runs")
        return "globals", module.__name__

    def _code(self, code: types.CodeType) -> Plain:
        if code is self.root:
            return ("root",)
        owner = self.codes.get(id(code))
        if owner is not None:
            where = self.encode(owner) if isinstance(owner, types.FunctionType) else ("source", self.source(owner), None)
            return "code", where, fingerprints.code_hash(code)
        if id(code) in self.nested:
            outer, k = self.nested[id(code)]
            return "nested", self.encode(outer), k, fingerprints.code_hash(code)
        raise NotKept(f"the code of {code.co_name}, which nothing leads to")

    def source(self, source: Any) -> Plain:
        """A source as its class and fields."""
        kind = type(source)
        if kind.__module__ != "flambeau.frontend.trace.source":
            raise NotKept(f"a value that is computed: {source}")
        if kind.__name__ == "Constant":
            return "Constant", self.encode(source.value), source.label
        return kind.__name__, *(("source", self.source(p)) if _is_source(p) else self.encode(p) for p in source.parts)


def _is_source(value: Any) -> bool:
    return type(value).__module__ == "flambeau.frontend.trace.source"


def _shown(value: Any) -> str:
    return f"{getattr(value, '__qualname__', '')} (a {type(value).__qualname__})".strip()


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Plain:
    """A dict of the compiler's own, a module's namespace, or the table of modules."""
    if value is sys.modules:
        return ("modules",)
    if "__name__" in value:
        return encoder._namespace(value)
    return "dict", *(part for k, x in value.items() for part in (encoder.encode(k), encoder.encode(x)))


def _graph_code(encoder: Encoder, code: GraphCode) -> Plain:
    return "graph", marshal.dumps((code.text, encoder.encode(code.constants)))


def _array_dtype(value: Any) -> Plain:
    """A NumPy dtype, by the dtype of ours that has it."""
    for short, found in _DTYPES.items():
        if found.np == value:
            return "numpy", short
    raise NotKept(f"the NumPy dtype {value}")


def _autocast(encoder: Encoder, handler: Autocast) -> Plain:
    """The handler of a region of autocast, which is one for each setting."""
    if known_handler(mode, handler.settings) is not handler:
        raise NotKept("autocast within a transform")
    return "autocast", encoder.encode(handler.settings)


def _operator(encoder: Encoder, op: Op) -> Plain:
    """An op that the library defines."""
    if OPS.get(op.name) is not op:
        raise NotKept(f"the op {op.name}, which is not registered")
    for part in (op.kernel, op.decompose, op.vjp):
        if isinstance(part, types.FunctionType) and not (part.__code__.co_filename.startswith("<") or fingerprints.is_ours(part)):
            raise NotKept(f"the op {op.name} of the program")
    return "op", op.name


_WRITERS: dict[type, Callable[[Encoder, Any], Plain]] = {
    tuple: lambda e, v: ("tuple", *map(e.encode, v)),
    Size: lambda e, v: ("size", *map(e.encode, v)),
    list: lambda e, v: ("list", *map(e.encode, v)),
    dict: _dict,
    set: lambda e, v: ("set", *map(e.encode, v)),
    frozenset: lambda e, v: ("frozenset", *map(e.encode, v)),
    slice: lambda e, v: ("slice", e.encode(v.start), e.encode(v.stop), e.encode(v.step)),
    range: lambda e, v: ("range", v.start, v.stop, v.step),
    TensorMeta: lambda e, v: ("meta", e.encode(tuple(v.shape)), e.encode(v.dtype), e.encode(v.device)),
    dtypes.DType: lambda e, v: ("dtype", v.short),
    GraphCode: _graph_code,
    Autocast: _autocast,
    Op: _operator,
    Lookups: lambda e, v: ("lookups", e.encode(v.cls), tuple([(name, _said(found)) for name, found in sorted(v.found.items())])),
}

#: Modules in which objects are looked for that do not know where they are: the standard library's, and flambeau's.
_LIBRARY = ("types", "builtins", "operator", "functools", "itertools", "collections", "contextlib", "math")
_HEAVY = ("flambeau.frontend.trace", "flambeau.passes", "flambeau.codegen")
_index: dict[int, tuple[str, str, Any]] = {}
_indexed: set[str] = set()


def _name_of(value: Any) -> tuple[str, str] | None:
    """(module, path) under which `value` is found in any process that has imported the module."""
    if isinstance(value, types.ModuleType):
        return (value.__name__, "") if sys.modules.get(value.__name__) is value else None
    named = value.fget if isinstance(value, property) else value
    for module in (getattr(named, "__module__", None), getattr(getattr(value, "__objclass__", None), "__module__", None)):
        path = getattr(named, "__qualname__", None) or getattr(value, "__name__", None)
        if isinstance(module, str) and isinstance(path, str) and _resolved(module, path) is value:
            return module, path
    if isinstance(value, (int, float, str, bytes, tuple, dict, list, set, types.CodeType)):
        return None
    _fill_index()
    found = _index.get(id(value))
    return found[:2] if found is not None else None


def _wrapper_of(value: Any) -> Any:
    """The object that has a function's name and wraps it (`functools.wraps`, `lru_cache`)."""
    if not isinstance(value, types.FunctionType):
        return None
    found = _resolved(value.__module__, value.__qualname__)
    return found if getattr(found, "__wrapped__", None) is value else None


def _resolved(module: str, path: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in path.split(".") if path else ():
        if isinstance(found, type) and part in found.__dict__:
            raw = found.__dict__[part]
            found = raw if not isinstance(raw, (staticmethod, classmethod)) else getattr(found, part)
        else:
            found = getattr(found, part, None)
    return found


def _fill_index() -> None:
    """Where the objects of flambeau are that have no name of their own (states, tables); lighter modules come first."""
    new = [name for name in sys.modules.keys() - _indexed if name in _LIBRARY or name.partition(".")[0] == "flambeau"]
    _indexed.update(sys.modules)
    for name in sorted(new, key=lambda n: (n.startswith(_HEAVY), n in _LIBRARY, n.partition(".")[2][:2] not in ("ir", "ru"), n)):
        for attribute, value in list(vars(sys.modules[name]).items()):
            if not isinstance(value, (int, float, str, bytes, tuple, type(None))):
                _index.setdefault(id(value), (name, attribute, value))


# --------------------------------------------------------------------------- reading

class Decoder:
    """Finds objects again. `roots` are the frame's values by name, `code` the point's own."""

    def __init__(self, roots: Mapping[str, Any], code: types.CodeType | None) -> None:
        self.roots, self.code = roots, code
        self.special: dict[str, Callable[..., Any]] = {}
        self.libraries: Libraries | None = None                   # where recipes within find what they name

    def decode(self, plain: Plain) -> Any:
        if type(plain) is not tuple:
            return plain
        read = _READERS.get(plain[0]) or self.special.get(plain[0])
        if read is None:
            raise Gone(f"data of the unknown kind {plain[0]!r}")
        return read(self, *plain[1:])

    def source(self, plain: Plain) -> Any:
        kind = getattr(_sources(), plain[0])
        return kind(*(self.source(p[1]) if type(p) is tuple and p[0] == "source" else self.decode(p) for p in plain[1:]))

    def fetch(self, plain: Plain) -> Any:
        try:
            return self.source(plain).fetch(self.roots)
        except Gone:
            raise
        except Exception as error:                                # whatever reading the program's objects raises
            raise Gone(f"{type(error).__name__}: {error}") from None

    def at(self, module: str, path: str, expected: Any) -> Any:
        if module not in sys.modules and module.partition(".")[0] == "flambeau":
            importlib.import_module(module)
        return checked(_resolved(module, path), expected)

    def nested(self, outer: Plain, k: int, digest: bytes) -> Any:
        consts = self.decode(outer).co_consts
        found = consts[k] if k < len(consts) else None
        return _checked_code(found, digest)


@functools.cache
def _sources() -> types.ModuleType:
    """The classes of sources; imported where something has no name."""
    return importlib.import_module("flambeau.frontend.trace.source")


def checked(found: Any, expected: Any) -> Any:
    """`found`, which must be what `expected` says."""
    try:
        if expected is not None and identity(found) != expected:
            raise Gone(f"{_shown(found)} has changed")
    except Unsteady as error:
        raise Gone(str(error)) from None
    return found


def _checked_code(found: Any, digest: bytes) -> types.CodeType:
    if not isinstance(found, types.CodeType) or fingerprints.code_hash(found) != digest:
        raise Gone("code that has changed")
    return found


def _read_code(decoder: Decoder, where: Plain, digest: bytes) -> types.CodeType:
    function = decoder.decode(where)
    if isinstance(function, types.FunctionType) and not (fingerprints.is_ours(function) or
                                                         fingerprints.is_registered(function.__globals__)):
        raise Gone("a function of a module that was loaded again")
    return _checked_code(getattr(function, "__code__", None), digest)


def _read_globals(decoder: Decoder, module: str) -> dict[str, Any]:
    if module not in sys.modules:
        if module.partition(".")[0] != "flambeau":
            raise Gone(f"the module {module} is not imported")
        importlib.import_module(module)
    return vars(sys.modules[module])


def _read_cell(decoder: Decoder, function: Plain, k: int) -> Any:
    closure = decoder.decode(function).__closure__ or ()
    if k >= len(closure):
        raise Gone("a closure that has changed")
    return closure[k]


def _read_enum(decoder: Decoder, cls: Plain, name: str, expected: Any) -> Any:
    return checked(getattr(decoder.decode(cls), name, None), expected)


def _read_names(decoder: Decoder, cls: Plain, expected: str) -> None:
    if fingerprints.names_print(decoder.decode(cls)) != expected:
        raise Gone("a class of the library to which the program has added something")


def _said(found: Any) -> Any:
    """What a class of the library says under a name: where it cannot be told, at least that it says something."""
    try:
        return None if found is MISSING else identity(found)
    except Unsteady:
        return True


def _read_lookups(decoder: Decoder, cls: Plain, names: tuple[tuple[str, Any], ...]) -> Lookups:
    found = Lookups(decoder.decode(cls), {name: lookup(decoder.decode(cls), name) for name, _ in names})
    if any(_said(found.found[name]) != expected for name, expected in names):
        raise Gone("a class of the library which the program has changed")
    return found


def _read_op(decoder: Decoder, name: str) -> Op:
    try:
        return get_op(name)
    except KeyError:
        importlib.import_module("flambeau.ir.graph")              # some ops are in graphs alone
    try:
        return get_op(name)
    except KeyError as error:
        raise Gone(str(error)) from None


def _read_graph(decoder: Decoder, data: bytes) -> Callable[[], GraphCode]:
    inner = Decoder({}, None)
    inner.libraries = decoder.libraries

    def read() -> GraphCode:
        text, constants = marshal.loads(data)
        return GraphCode(text, inner.decode(constants))
    return read


def _read_body(decoder: Decoder, text: str, recorded: bool | None, recipe: Plain) -> Any:
    graph = importlib.import_module("flambeau.ir.graph").parse_graph(text)
    if recorded is None:
        if decoder.libraries is None:
            raise Gone("a body without libraries")
        graph.run = runner_of(decoder.decode(recipe), decoder.libraries)
        return graph
    run = importlib.import_module("flambeau.runtime.graphs").graph_function(graph, recorded)
    graph.run = lambda inputs: run(*inputs)
    graph.run.recorded = recorded
    return graph


_READERS: dict[str, Callable[..., Any]] = {
    "tuple": lambda d, *v: tuple([d.decode(x) for x in v]),
    "size": lambda d, *v: Size([d.decode(x) for x in v]),
    "dtype": lambda d, short: _DTYPES[short],
    "numpy": lambda d, short: _DTYPES[short].np,
    "list": lambda d, *v: [d.decode(x) for x in v],
    "dict": lambda d, *v: {d.decode(v[k]): d.decode(v[k + 1]) for k in range(0, len(v), 2)},
    "set": lambda d, *v: {d.decode(x) for x in v},
    "frozenset": lambda d, *v: frozenset([d.decode(x) for x in v]),
    "slice": lambda d, *v: slice(*map(d.decode, v)),
    "range": lambda d, *v: range(*v),
    "meta": lambda d, *v: TensorMeta(*map(d.decode, v)),
    "graph": _read_graph,
    "lookups": _read_lookups,
    "op": _read_op,
    "body": _read_body,
    "autocast": lambda d, settings: known_handler(mode, d.decode(settings)),
    "at": Decoder.at,
    "wrapped": lambda d, wrapper, expected: checked(getattr(d.decode(wrapper), "__wrapped__", None), expected),
    "enum": _read_enum,
    "globals": _read_globals,
    "member": lambda d, space, name, expected: checked(d.decode(space).get(name), expected),
    "names": _read_names,
    "modules": lambda d: sys.modules,
    "place": lambda d, source: d.source(source),
    "root": lambda d: d.code,
    "code": _read_code,
    "nested": Decoder.nested,
    "cell": _read_cell,
    "source": lambda d, source, expected: checked(d.fetch(source), expected),
    "type": lambda d, source, expected: checked(type(d.fetch(source)), expected),
}
