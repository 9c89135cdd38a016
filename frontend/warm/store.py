"""Captured entries on disk: a later process finds guards, run function and library of a call that some process has compiled.

Entries lie in the kernel cache, those of one point of one program together. The name of the file says all that is cheap to
know before anything is loaded: flambeau, Python, NumPy and the processor, the settings, the code of the point, and an
outline of the values. Everything else that an entry depends on is in the entry and is looked at when it is read: the code of
each function that was inlined, the classes, the files. Then its guards decide, as they decide on an entry of this process.
What cannot be found again, or has changed, is captured anew.

This module reads; `keeping` writes. It imports neither tracer nor compiler.
"""
from __future__ import annotations

import functools
import itertools
import marshal
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.codegen import cache
from flambeau.frontend.backends import KEPT
from flambeau.frontend.config import config
from flambeau.frontend.runners import KeptTraining, Libraries, NotKept, Recipe, Runner, innermost, runner_of
from flambeau.frontend.trace.frames import Layout
from flambeau.frontend.warm import fingerprints
from flambeau.frontend.warm.references import Decoder, Encoder, Gone
from flambeau.ir.stage import watched
from flambeau.runtime import native
from flambeau.runtime.tensor import Tensor

PASSES: Any = object()      # `load` says: the function has no parts of its own
SUFFIX = ".entries"
BACKWARD = ".backward"
FORMAT = 4
#: Entries of one point that are kept; the oldest go first.
MOST = 16
#: From so many guards on it is worth while, after so many calls, to read them and remember what they find.
MANY, PATIENCE = 64, 8
_SETTINGS = ("automatic_dynamic_shapes", "assume_static_by_default", "recompile_limit")
_WITHOUT = ("FLAMBEAU_CACHE_DIR", "FLAMBEAU_CACHE_MB", "FLAMBEAU_LOGS", "FLAMBEAU_WARM", "FLAMBEAU_CHECK_DIR")
_ENVIRONMENT = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


# --------------------------------------------------------------------------- names

@functools.cache
def stamp() -> str:
    """A text that changes with the code of flambeau."""
    return package_stamp()


def package_stamp() -> str:
    """The same, read from the disk now."""
    found: list[str] = []
    folders = fingerprints.FOLDERS
    waiting = [folder for folder in folders if not any(folder.startswith(os.path.join(other, "")) for other in folders)]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as files:
            for f in files:
                if f.name == "__pycache__":
                    continue
                if f.is_dir():
                    waiting.append(f.path)
                elif not f.name.endswith(".pyc"):
                    stat = f.stat()
                    found.append(f"{f.path} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(sorted(set(found)))


@functools.cache
def _process() -> str:
    """What entries of this process have in common."""
    return cache.key_of(str(FORMAT), stamp(), sys.version, str(sys.flags.optimize), np.__version__,
                        cache.cpu_identity(), str(native.default_threads()))


def _surroundings() -> str:
    environment = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT or k.startswith("FLAMBEAU_") and k not in _WITHOUT}
    return repr((sorted(environment.items()), [getattr(config, name) for name in _SETTINGS]))


def usable(settings: Any) -> bool:
    """Whether entries of a function compiled with these settings are kept and found."""
    return config.warm_start and settings.warm and settings.backend in KEPT and not watched() \
        and not settings.options.get("check", config.check)


def key_of(point: Any, values: Sequence[Any]) -> str | None:
    """The name of the file with the entries of a point for values like these; None where there is none."""
    settings, code = point.context.settings, point.code
    if not fingerprints.is_registered(point.globals) and point.globals.get("__name__") != "flambeau":
        return None
    try:
        chosen = fingerprints.plain_text((settings.fullgraph, settings.dynamic, settings.options))
    except fingerprints.Unsteady:
        return None
    module = str(point.globals.get("__name__"))
    return cache.key_of("entries", _process(), _surroundings(), KEPT[settings.backend], chosen, module,
                        getattr(code, "co_qualname", code.co_name), fingerprints.code_hash(code).hex(), str(point.index),
                        repr(tuple(point.layout)), repr([outline(v, 0) for v in values]))


def outline(value: Any, depth: int) -> Any:
    """What a value looks like from afar: enough to keep the entries of different programs apart."""
    if isinstance(value, Tensor):
        return value.dtype.short, value._a.ndim
    if isinstance(value, types.CellType):
        try:
            return outline(value.cell_contents, depth)
        except ValueError:
            return "empty"
    if isinstance(value, types.FunctionType):
        return value.__module__, value.__qualname__
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    plain = kind.__getattribute__ is object.__getattribute__       # else code of the program may answer
    parts = getattr(value, "__dict__", {}).get("_modules") if plain and not isinstance(value, type) else None
    if isinstance(parts, dict) and depth < 50:
        parameters = value.__dict__.get("_parameters") or {}
        return (name, [(k, outline(v, depth + 1)) for k, v in parts.items()],
                [(k, p.dtype.short, p._a.shape) for k, p in parameters.items() if isinstance(p, Tensor)])
    return name


# --------------------------------------------------------------------------- reading

def load(point: Any, values: Sequence[Any]) -> Any:
    """(kept entry, its run function) for these values, or None."""
    key = key_of(point, values)
    data = cache.read(key, SUFFIX) if key is not None else None
    if data is None:
        return None
    asked = any(map(_is_marked, values))
    try:
        for packed in _unpacked(data):
            found = _read(point, values, packed, asked)
            if found is not None:
                return found
    except Exception as error:                                    # damaged in a way that its sum does not show
        if not config.suppress_errors:
            raise
        _say_once(f"an entry of the warm start cannot be read and is captured again: {type(error).__name__}: {error}")
    return None


def _is_marked(value: Any) -> bool:
    """Whether `mark_dynamic` was called on a tensor, or on one of several arguments."""
    if isinstance(value, tuple):
        return any(map(_is_marked, value))
    return isinstance(value, Tensor) and bool(getattr(value, "__dict__", {}).get("_flambeau_dynamic_dims"))


def _read(point: Any, values: Sequence[Any], packed: bytes, symbolic: bool) -> Any:
    """One entry, or None where it does not serve; `symbolic`: one with symbolic sizes is wanted."""
    reader = _Reader(point, values, packed)
    if reader.data.get("passes"):
        return PASSES
    if symbolic and not reader.data["symbolic"]:
        return None
    try:
        return reader.entry()
    except (Gone, NotKept):
        return None


@functools.cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _unpacked(data: bytes) -> list[bytes]:
    try:
        version, packed = marshal.loads(data)
    except (ValueError, EOFError, TypeError):
        return []
    return packed if version == FORMAT else []


class _Reader:
    """One entry on its way back."""

    def __init__(self, point: Any, values: Sequence[Any], packed: bytes) -> None:
        self.point, self.values = point, values
        self.data: dict[str, Any] = marshal.loads(packed)
        self.decoder = Decoder(dict(zip(point.names, values)), point.code)
        self.decoder.special["step"] = functools.partial(_step, point.context)

    def entry(self) -> Any:
        """The entry if all it depends on is as it was and its guards accept the values."""
        data = self.data
        for path, stat, digest in data["files"]:
            if fingerprints.file_stat(path) != stat and fingerprints.file_hash(path) != digest:
                return None
        for fact in data["facts"]:
            self.decoder.decode(fact)
        guard = self._function("guard", data["guard"])
        if guard(*self.values) is None:
            return None
        self.decoder.libraries = libraries = Found(data["libraries"])
        graph = self.decoder.decode(data["graph"])
        compiled = _nothing if graph is None else runner_of(graph, libraries)
        run = self._function("run", data["run"], graph=compiled)
        training = innermost(compiled)
        if isinstance(training, KeptTraining):
            name_backward(training, data["backward"])
        for where, sizes in data["sizes"]:
            self.point.sizes.setdefault(where, set()).update(sizes)
        return Kept(guard, data, self.point), run

    def _function(self, name: str, parts: tuple[bytes, dict[str, Any]], **given: Any) -> types.FunctionType:
        code, constants = parts
        space = {"__builtins__": __builtins__, **given}
        for constant, plain in constants.items():
            space[constant] = self.decoder.decode(plain)
        return types.FunctionType(marshal.loads(code), space, name)


def _step(points: Any, decoder: Decoder, code: Any, globals: Any, index: int, layout: Any, native: bool, compile_callee: bool,
          must_raise: str) -> KeptStep:
    found = decoder.decode(code), decoder.decode(globals)
    return KeptStep(points, *found, index, Layout(*layout), native, compile_callee, must_raise)


class KeptStep:
    """A step of an entry from disk: the tracer's `Step` once it is taken. (Most have one only in case their graph raises.)"""

    def __init__(self, points: Any, code: types.CodeType, globals: dict[str, Any], *rest: Any) -> None:
        self.points, self.code, self.globals, self.rest = points, code, globals, rest

    @functools.cached_property
    def step(self) -> Any:
        from flambeau.frontend.trace.breaks import Step  # noqa: PLC0415 - see above
        from flambeau.frontend.trace.decode import decode  # noqa: PLC0415
        return Step(self.points, decode(self.code), self.globals, *self.rest)

    @functools.cached_property
    def take(self) -> Callable[[tuple[Any, ...]], tuple[bool, Any, Any]]:
        """The step's own method."""
        return self.step.take

    @property
    def program(self) -> Any:
        """The step's program."""
        return self.step.program


def _nothing(inputs: Any) -> tuple[Any, ...]:
    return ()


class Found(Libraries):
    """Libraries in the kernel cache. `templates`: the names there of the templates that were used."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        self.templates = templates

    def find(self, key: str, needs: tuple[str, ...]) -> Path:
        path = cache.find(key, ".so")
        if path is None:
            raise NotKept("a library that is gone")
        for name in ("pool", *needs):
            template = cache.find(self.templates.get(name, ""), ".so") if name in self.templates else None
            if template is not None:
                native.provide(name, template)
        if not native.available():
            raise NotKept("the runtime library, which is gone and cannot be built")
        return path

    def backward(self, name: str) -> Recipe | None:
        data = cache.read(name, BACKWARD) if name else None
        if data is None:
            return None
        templates, recipe = marshal.loads(data)
        self.templates = {**templates, **self.templates}
        decoder = Decoder({}, None)
        decoder.libraries = self
        return decoder.decode(recipe)

    def build_backward(self, target: str, text: str, options: dict[str, Any]) -> Runner:
        from flambeau.frontend import aot  # noqa: PLC0415 - the compiler, which only a backward nobody has run needs
        from flambeau.frontend.backends import EagerTarget  # noqa: PLC0415
        from flambeau.frontend.targets import cpp_target  # noqa: PLC0415
        chosen: Any = EagerTarget() if target == EagerTarget.name else cpp_target()
        return aot.build_backward(chosen, text, options)


def name_backward(training: Any, name: str) -> None:
    """Say under which name the backward of a kept training graph is found, or will be kept."""
    training.kept_as, training.keep_backward = name, keep_backward


def keep_backward(name: str, recipe: Recipe) -> None:
    """Keep a backward under a name that an entry knows."""
    try:
        data = marshal.dumps((templates(), Encoder().encode(recipe)))
    except NotKept:
        return
    in_background(lambda: cache.update(name, BACKWARD, lambda old: data))


def templates() -> dict[str, str]:
    """The libraries of templates that this process has, by their names in the cache."""
    return {name: path.stem for name, path in native.known_paths().items()}


# --------------------------------------------------------------------------- an entry that was read

class Kept:
    """What is known of an entry from disk, in place of the tracer's `Captured`. Its words are read when they are asked for."""

    def __init__(self, guard: types.FunctionType, data: dict[str, Any], point: Any) -> None:
        self._words: dict[str, Any] | None = None
        self._packed = data["words"]
        self.names: list[str] = point.names
        self.empty: bool = data["empty"]
        self.many = data["guards"] >= MANY
        self.guards = KeptGuards(self, guard)

    @property
    def words(self) -> dict[str, Any]:
        if self._words is None:
            self._words = marshal.loads(self._packed)
        return self._words

    @property
    def graph(self) -> str:
        """The graph's text."""
        return self.words["graph"]

    @property
    def broke(self) -> Any:
        found = self.words["broke"]
        return None if found is None else KeptBreak(**found)


class KeptBreak:
    """A break of an entry from disk, as it was described when it was captured."""

    def __init__(self, code: str, why: str, fix: str, line: str, native: bool, text: str) -> None:
        self.code, self.why, self.fix, self.line, self.native, self.text = code, why, fix, line, native, text
        self.step = None

    def __str__(self) -> str:
        return self.text


class KeptGuards:
    """The guards of an entry from disk."""

    def __init__(self, owner: Kept, function: types.FunctionType) -> None:
        self.owner, self.function = owner, function
        self._restored: Any = None

    def __str__(self) -> str:
        return self.owner.words["guards"]

    def restored(self) -> Any:
        """The guards themselves, as the tracer's `GuardFunction`."""
        if self._restored is None:
            from flambeau.frontend.warm.kept_guards import restored  # noqa: PLC0415 - when one fails, or when there are many
            self._restored = restored(self.owner.words["tests"], self.function)
        return self._restored

    def first_failure(self, roots: Mapping[str, Any]) -> tuple[str, Any, Any]:
        """(sentence, guard, new value) of the first guard that rejects `roots`; the sentence is empty if none does."""
        return self.restored().first_failure(roots)


def patient_guard(kept: Any, replace: Callable[[Any, Any], None]) -> Callable[..., Any]:
    """The guard function of an entry from disk. After some calls many guards are replaced by what remembers their answers."""
    plain, calls = kept.guards.function, itertools.count(1)
    if not kept.many:
        return plain

    def guard(*values: Any) -> Any:
        found = plain(*values)
        if found is not None and next(calls) == PATIENCE:
            from flambeau.frontend.trace.memo import remembering  # noqa: PLC0415 - reads the guards
            if kept.words["tests"]["whole"]:
                replace(guard, remembering(kept.guards.restored(), dict(zip(kept.names, values)), replace))
            else:
                replace(guard, plain)
        return found

    return guard


# --------------------------------------------------------------------------- writing, beside the program

_writing: list[threading.Thread] = []


def in_background(work: Callable[[], None]) -> None:
    """Run `work` beside the program; the process ends after it."""
    _writing[:] = [t for t in _writing if t.is_alive()]
    thread = threading.Thread(target=work, name="flambeau-keeping", daemon=False)
    try:
        thread.start()
    except RuntimeError:                                          # the interpreter is on its way out
        work()
    else:
        _writing.append(thread)


def finish_writing() -> None:
    """Wait for what is being written."""
    for thread in list(_writing):
        thread.join()
