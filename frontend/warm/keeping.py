"""Writes captured entries to disk for later processes. See `store`, which reads them.

An entry is kept only if another process can tell that nothing it depends on has changed. What has no name, is a tensor of
the program, or was computed in a way that no data describes, is not kept, and each process captures it for itself.
"""
from __future__ import annotations

import marshal
import types
from collections.abc import Iterator, Sequence
from typing import Any

from flambeau.codegen import cache
from flambeau.frontend.config import config
from flambeau.frontend.runners import NotKept, Training, innermost, recipe_of
from flambeau.frontend.trace.breaks import Step
from flambeau.frontend.warm import fingerprints, kept_guards, store
from flambeau.frontend.warm.fingerprints import Unsteady
from flambeau.frontend.warm.references import Encoder, Plain
from flambeau.runtime.tensor import Tensor


def keep(point: Any, captured: Any, run: types.FunctionType, compiled: Any, values: Sequence[Any]) -> str:
    """Keep an entry that was captured for `values`; returns why not, where it cannot be kept."""
    try:
        key = store.key_of(point, values)
        if key is None:
            return "options that are no plain data"
        data = _Entry(point, captured, run, compiled).data()
    except (NotKept, Unsteady) as error:
        return str(error)
    except Exception as error:                                    # the entry itself is sound: this process goes on with it
        if not config.suppress_errors:
            raise
        return f"{type(error).__name__}: {error}"
    packed = marshal.dumps(data)
    training = innermost(compiled)
    if isinstance(training, Training):
        store.name_backward(training, data["backward"])
        training.offer_backward()
    store.in_background(lambda: _write(key, packed))
    return ""


def _write(key: str, packed: bytes) -> None:
    """Put an entry in its file, unless flambeau's own files have changed since this process has loaded them."""
    if store.package_stamp() == store.stamp():
        cache.update(key, store.SUFFIX, lambda old: _with(old, packed))


def keep_passing(point: Any, values: Sequence[Any]) -> None:
    """Keep that a point has no parts of its own: which is always right, and spares the trace that finds it out."""
    key = store.key_of(point, values)
    if key is not None:
        packed = marshal.dumps({"passes": True})
        store.in_background(lambda: _write(key, packed))


def _with(old: bytes | None, packed: bytes) -> bytes:
    """The file's contents with a new entry in front."""
    known = store._unpacked(old) if old is not None else []
    return marshal.dumps((store.FORMAT, [packed, *(k for k in known if k != packed)][:store.MOST]))


#: Where the classes are that programs derive from, and may add to.
_OPEN = ("flambeau.nn.", "flambeau.optim.", "flambeau.distributions.", "flambeau.utils.", "flambeau.autograd.")


class _Entry:
    """One entry on its way to plain data."""

    def __init__(self, point: Any, captured: Any, run: types.FunctionType, compiled: Any) -> None:
        self.point, self.captured, self.run, self.compiled = point, captured, run, compiled
        self.encoder = encoder = Encoder()
        encoder.root, encoder.special = point.code, self._special
        self.functions = [f for f in captured.seen.functions if f.raw is not None]
        for guard in captured.guards.guards:
            table = {"is": encoder.sources, "code": encoder.codes}.get(guard.key[0])
            if table is not None:
                table.setdefault(guard.key[1], guard.source)
            elif guard.key[0] == "type":
                encoder.types.setdefault(id(guard.key[1]), guard.source)
        for f in self.functions:
            if f.source is not None and type(f.source).__name__ != "Constant":
                encoder.sources.setdefault(id(f.raw), f.source)
            encoder.codes.setdefault(id(f.raw.__code__), f.raw)
            for k, cell in enumerate(f.raw.__closure__ or ()):
                encoder.cells.setdefault(id(cell), (f.raw, k))
        for code in [point.code, *(f.raw.__code__ for f in self.functions)]:
            for outer, k, inner in _nested(code):
                encoder.nested.setdefault(id(inner), (outer, k))

    def data(self) -> dict[str, Any]:
        encode, captured = self.encoder.encode, self.captured
        facts = self._facts()
        has_graph = bool(captured.graph.nodes or captured.graph.outputs)
        graph = encode(recipe_of(self.compiled)) if has_graph else None
        guard = self._function(captured.guards.function)
        return {
            "facts": facts, "files": self._files(), "guard": guard, "run": self._function(self.run), "graph": graph,
            "libraries": store.templates(), "sizes": [(k, sorted(v)) for k, v in self.point.sizes.items()],
            "symbolic": bool(captured.shapes.origins), "empty": captured.empty, "words": marshal.dumps(self._words()),
            "guards": len(captured.guards.guards),
            "backward": cache.key_of("backward", store._process(), repr(graph), repr(guard)),
        }

    # ---- parts

    def _function(self, fn: types.FunctionType) -> tuple[bytes, dict[str, Plain]]:
        if fn.__closure__ or fn.__defaults__ or fn.__kwdefaults__:
            raise NotKept("a generated function of a shape that is not known here")
        skipped = {"__builtins__", fn.__name__, "graph"}
        return marshal.dumps(fn.__code__), {n: self.encoder.encode(v) for n, v in fn.__globals__.items() if n not in skipped}

    def _special(self, value: Any) -> Plain | None:
        if isinstance(value, Step):
            encode = self.encoder.encode
            return ("step", encode(value.program.code), encode(value.globals), value.index, tuple(value.layout),
                    value.native, value.compile_callee, value.must_raise)
        return None

    def _facts(self) -> list[Plain]:
        """What the trace depends on without a guard, each told by what finds it."""
        encode = self.encoder.encode
        found: dict[Any, None] = {}
        for f in self.functions:
            if not fingerprints.is_ours(f.raw):
                found[encode(f.raw.__code__)] = None
        for f in self.captured.seen.functions:
            if f.raw is None and not fingerprints.is_installed(f.code.co_filename):
                found[encode(f.code)] = None
        for cls in self.captured.seen.classes:
            if fingerprints.is_program_class(cls):
                found[encode(cls)] = None
            for base in cls.__mro__:
                if base.__module__.startswith(_OPEN) and not issubclass(base, Tensor):
                    found["names", encode(base), fingerprints.names_print(base)] = None
        for space, name, value in self.captured.seen.assumed:
            found["member", encode(space), name, fingerprints.identity(value)] = None
        return list(found)

    def _files(self) -> list[tuple[str, tuple[int, ...], str]]:
        names = {str(self.point.globals.get("__name__"))}
        names |= {str(f.raw.__module__) for f in self.functions} | {cls.__module__ for cls in self.captured.seen.classes}
        paths = {f.code.co_filename for f in self.captured.seen.functions} | {self.point.code.co_filename}
        files = set(fingerprints.program_files(names))
        files |= {p for p in paths if not p.startswith("<") and not fingerprints.is_installed(p)}
        return [(path, fingerprints.file_stat(path), fingerprints.file_hash(path)) for path in sorted(files)]

    # ---- words

    def _words(self) -> dict[str, Any]:
        captured, broke = self.captured, self.captured.broke
        return {
            "graph": str(captured.graph), "guards": str(captured.guards), "tests": kept_guards.written(captured.guards),
            "broke": None if broke is None else {"code": broke.code, "why": broke.why, "fix": broke.fix, "line": broke.line,
                                                 "native": broke.native, "text": str(broke)},
        }


def _nested(code: types.CodeType) -> Iterator[tuple[types.CodeType, int, types.CodeType]]:
    """(code around, place, code) of all code objects inside one."""
    for k, value in enumerate(code.co_consts):
        if isinstance(value, types.CodeType):
            yield code, k, value
            yield from _nested(value)

