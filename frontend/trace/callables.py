"""Functions, methods, classes, cells and generators."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from functools import partial
from types import CellType, CodeType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.guards import contains, equals, has_keys
from flambeau.frontend.trace.mappings import DictValue, InstanceDict
from flambeau.frontend.trace.said import binding_error
from flambeau.frontend.trace.sequences import TupleValue
from flambeau.frontend.trace.source import Attr, CellContents, Constant, Item, Source
from flambeau.frontend.trace.values import Const, Observed, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.frame import Frame
    from flambeau.frontend.trace.interp import Tracer

_UNSET: Any = object()


class CellValue(Value):
    """A closure cell, from outside (`raw`, `source`) or made in the trace. `contents` is None when empty."""

    mutable = True

    def __init__(self, contents: Value | None = None, source: Source | None = None, raw: Any = None) -> None:
        self.source, self.raw = source, raw
        self._contents = contents
        self._loaded = raw is None

    def get(self, tr: Tracer) -> Value | None:
        if not self._loaded:
            self._loaded = True
            try:
                value = self.raw.cell_contents
            except ValueError:
                raise Unsupported("empty-cell", "a closure variable is read before it is assigned") from None
            self._contents = tr.wrap(value, CellContents(self.source))        # type: ignore[arg-type]
        return self._contents

    def set(self, tr: Tracer, value: Value | None) -> None:
        tr.effects.touch(self)
        self._loaded, self._contents = True, value

    def pytype(self) -> type:
        return CellType

    def getattr(self, tr: Tracer, name: str) -> Value:
        found = self.get(tr) if name == "cell_contents" else None
        return found if found is not None else super().getattr(tr, name)

    def children(self) -> Iterator[Value]:
        if self._contents is not None:
            yield self._contents

    def rebuild(self, out: Rebuilder) -> str:
        cell = out.variable(f"{out.constant(CellType)}()")
        out.remember(self, cell)                 # a recursive function holds a cell that holds the function
        contents = self._contents
        if contents is not None:
            out.later(lambda: out.line(f"{cell}.cell_contents = {out.expr(contents)}"))
        return cell


class FunctionValue(Value):
    """A Python function: one from outside (`raw`) or one made by the traced code."""

    def __init__(self, code: CodeType, globals: dict[str, Any], closure: list[CellValue], source: Source | None = None,
                 raw: Any = None) -> None:
        self.code, self.globals, self.closure, self.source, self.raw = code, globals, closure, source, raw
        self.defaults: Value | None = None
        self.kwdefaults: Value | None = None
        self.annotations: Value | None = None
        self.attrs: dict[str, Value | None] = {}         # stored by the trace; None: deleted
        self.mutable = raw is None

    def __repr__(self) -> str:
        return f"Function({self.code.co_name})"

    def pytype(self) -> type:
        return FunctionType

    @property
    def label(self) -> str:
        return self.code.co_name

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return tr.inline(self, args, kwargs)

    def getattr(self, tr: Tracer, name: str) -> Value:
        found = self.attrs.get(name)
        if found is not None:
            return found
        if name == "__dict__":
            return InstanceDict(self)
        if name in self.attrs:
            raise tr.observe(AttributeError(f"'function' object has no attribute '{name}'"))
        if self.raw is not None:
            return tr.outside_attribute(self, name)
        if name in _FACTS:
            bare = FunctionType(self.code, self.globals, closure=tuple(CellType() for _ in self.code.co_freevars))
            return tr.constant(getattr(bare, name))
        if name == "__annotations__":
            self.annotations = DictValue.make(tr, []) if self.annotations is None else _annotations(tr, self.annotations)
            return self.annotations
        if name in ("__defaults__", "__kwdefaults__"):
            return getattr(self, name.strip("_")) or Const(None)
        return super().getattr(tr, name)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        if name in ("__code__", "__defaults__", "__kwdefaults__", "__dict__", "__globals__", "__closure__"):
            raise Unsupported("attribute-store", f"{name} of the function {self.label} is assigned")
        self.store(tr, name, value)

    def delattr(self, tr: Tracer, name: str) -> None:
        self.getattr(tr, name)
        self.store(tr, name, None)

    def m___get__(self, tr: Tracer, instance: Value, owner: Value | None = None) -> Value:
        return self if _is_none(instance) else BoundMethod(self, instance)

    # ---- its `__dict__`

    def store(self, tr: Tracer, name: str, value: Value | None) -> None:
        if self.raw is not None:
            tr.effects.touch(self)
        self.attrs[name] = value

    def own_attribute(self, tr: Tracer, name: str) -> Value | None:
        if name in self.attrs or self.raw is None:
            return self.attrs.get(name)
        if name in self.raw.__dict__:
            return tr.outside_attribute(self, name)
        assert self.source is not None
        tr.guard(Attr(self.source, "__dict__"), contains(name, False))
        return None

    def own_names(self, tr: Tracer) -> list[str]:
        names = [n for n in self.attrs if n not in _SPECIAL]
        if self.raw is not None:
            assert self.source is not None
            tr.guard(Attr(self.source, "__dict__"), has_keys(list(self.raw.__dict__)))
            names = [*self.raw.__dict__, *(n for n in names if n not in self.raw.__dict__)]
        return [n for n in names if n not in self.attrs or self.attrs[n] is not None]

    def replay(self, out: Rebuilder, target: str) -> list[str]:
        """The stores that the trace made to an outside function."""
        return [f"del {target}.{n}" if v is None else f"{target}.{n} = {out.expr(v)}" for n, v in self.attrs.items()
                if v is not None or hasattr(self.raw, n)]

    def children(self) -> Iterator[Value]:
        yield from self.closure
        yield from (v for v in (self.defaults, self.kwdefaults, *self.attrs.values()) if v is not None)

    def as_python(self, tr: Tracer) -> Any:
        if self.raw is not None and not self.raw.__closure__:
            return self.raw
        return super().as_python(tr)

    def rebuild(self, out: Rebuilder) -> str:
        cells = "".join(out.expr(c) + ", " for c in self.closure)
        defaults = "None" if self.defaults is None else out.expr(self.defaults)
        name = out.variable(f"{out.constant(FunctionType)}({out.constant(self.code)}, {out.constant(self.globals)}, "
                            f"{self.code.co_name!r}, {defaults}, ({cells}))")
        if self.kwdefaults is not None:
            out.line(f"{name}.__kwdefaults__ = {out.expr(self.kwdefaults)}")
        if self.annotations is not None:
            out.line(f"{name}.__annotations__ = {out.expr(_annotations(out.tr, self.annotations))}")
        out.remember(self, name)
        for attribute, value in self.attrs.items():
            if value is not None:
                out.later(partial(self._set, out, name, attribute, value))
        return name

    def _set(self, out: Rebuilder, name: str, attribute: str, value: Value) -> None:
        out.line(f"{name}.{attribute} = {out.expr(value)}")


# What a function knows from its code, and what it does not keep in its `__dict__`.
_FACTS = {"__name__", "__qualname__", "__doc__", "__module__", "__code__", "__type_params__"} & set(dir(FunctionType))
_SPECIAL = _FACTS | {"__annotations__"}


def _annotations(tr: Tracer, value: Value) -> Value:
    """The dict of annotations: given as one, or as names and values in turn."""
    if isinstance(value, TupleValue):
        items = value.values(tr)
        return DictValue.make(tr, zip(items[::2], items[1::2]))
    return value


def outside_function(tr: Tracer, raw: FunctionType, source: Source) -> FunctionValue:
    """The value of a real function; its cells and defaults are read (and guarded) when they are used."""
    names = raw.__code__.co_freevars
    cells = []
    for k, cell in enumerate(raw.__closure__ or ()):
        at: Source = Constant(cell, f"cell_{names[k]}") if tr.is_fixed(source) else Item(Attr(source, "__closure__"), k)
        cells.append(tr.outside_cell(cell, at))
    return FunctionValue(raw.__code__, raw.__globals__, cells, source, raw)


def function_defaults(tr: Tracer, fn: FunctionValue, needed: set[str]) -> tuple[list[Value], dict[str, Value]]:
    """What a function has for arguments that are left out; that it has none matters for those `needed`."""
    if fn.raw is not None:
        at = fn.source
        assert at is not None
        if fn.defaults is None and fn.raw.__defaults__:
            fn.defaults = tr.wrap(fn.raw.__defaults__, Attr(at, "__defaults__"))
        if fn.kwdefaults is None and fn.raw.__kwdefaults__:
            fn.kwdefaults = tr.wrap(fn.raw.__kwdefaults__, Attr(at, "__kwdefaults__"))
        for name in needed - {n for n in needed if getattr(fn.raw, n)}:
            tr.guard(Attr(at, name), equals(getattr(fn.raw, name)))
    positional = tr.unpack(fn.defaults) if fn.defaults is not None else []
    keyword = {str(k.as_python(tr)): v for k, v in fn.kwdefaults.pairs(tr)} \
        if isinstance(fn.kwdefaults, DictValue) else {}
    return positional, keyword


def bind(tr: Tracer, fn: FunctionValue, args: list[Value], kwargs: dict[str, Value]) -> dict[str, Value]:
    """Arguments -> locals, with CPython's rules and errors."""
    code = fn.code
    count, kwonly = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames[:count + kwonly]
    positional, rest = args[:count], args[count:]
    local = dict(zip(names, positional))
    at = count + kwonly
    if code.co_flags & inspect.CO_VARARGS:
        local[code.co_varnames[at]] = TupleValue(rest)
        at += 1
    elif rest:
        raise _refusal(tr, fn, args, kwargs)
    extra: dict[str, Value] = {}
    for key, value in kwargs.items():
        if key in names[code.co_posonlyargcount:]:
            if key in local:
                raise _refusal(tr, fn, args, kwargs)
            local[key] = value
        elif code.co_flags & inspect.CO_VARKEYWORDS:
            extra[key] = value
        else:
            raise _refusal(tr, fn, args, kwargs)
    if code.co_flags & inspect.CO_VARKEYWORDS:
        local[code.co_varnames[at]] = DictValue.make(tr, [(Const(k), v) for k, v in extra.items()])
    missing = [n for n in names if n not in local]
    if missing:
        needed = {"__defaults__" if n in names[:count] else "__kwdefaults__" for n in missing}
        defaults, kwdefaults = function_defaults(tr, fn, needed)
        by_name = dict(zip(names[count - len(defaults):count], defaults)) | kwdefaults
        for n in missing:
            if n not in by_name:
                raise _refusal(tr, fn, args, kwargs)
            local[n] = by_name[n]
    return local


def _refusal(tr: Tracer, fn: FunctionValue, args: list[Value], kwargs: dict[str, Value]) -> Exception:
    defaults, kwdefaults = function_defaults(tr, fn, {"__defaults__", "__kwdefaults__"})
    return tr.observe(binding_error(fn, len(args), kwargs, len(defaults), kwdefaults))


class BoundMethod(Value):
    """A Python function bound to an object."""

    def __init__(self, function: Value, owner: Value, source: Source | None = None) -> None:
        self.function, self.owner, self.source = function, owner, source

    def pytype(self) -> type:
        return MethodType

    @property
    def label(self) -> str:
        return getattr(self.function, "label", "method")

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return tr.call(self.function, [self.owner, *args], kwargs)

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in ("__self__", "__func__"):
            return self.owner if name == "__self__" else self.function
        return self.function.getattr(tr, name)

    def children(self) -> Iterator[Value]:
        yield self.function
        yield self.owner

    def rebuild(self, out: Rebuilder) -> str:
        return f"{out.constant(MethodType)}({out.expr(self.function)}, {out.expr(self.owner)})"


class BoundBuiltin(Value):
    """A method of a built-in type bound to a symbolic value (`xs.append`, `x.sum`)."""

    def __init__(self, owner: Value, name: str) -> None:
        self.owner, self.name = owner, name

    def __repr__(self) -> str:
        return f"BoundBuiltin({self.owner!r}.{self.name})"

    def pytype(self) -> type:
        return type([].append)

    @property
    def label(self) -> str:
        return self.name

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return self.owner.method(tr, self.name, args, kwargs)

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name == "__self__":
            return self.owner
        if name in ("__name__", "__qualname__"):
            return Const(self.name)
        return super().getattr(tr, name)

    def children(self) -> Iterator[Value]:
        yield self.owner

    def rebuild(self, out: Rebuilder) -> str:
        return f"({out.expr(self.owner)}).{self.name}"            # (7.real is no Python)


class BuiltinValue(Value):
    """A callable the tracer does not look into: a C function, an op function, a descriptor."""

    def __init__(self, raw: Any, source: Source | None = None) -> None:
        self.raw, self.source = raw, source

    def __repr__(self) -> str:
        return f"Builtin({self.label})"

    def pytype(self) -> type:
        return type(self.raw)

    @property
    def label(self) -> str:
        return getattr(self.raw, "__qualname__", None) or getattr(self.raw, "__name__", None) or repr(self.raw)

    def as_python(self, tr: Tracer) -> Any:
        return self.raw

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return tr.call_builtin(self.raw, args, kwargs)

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in ("__name__", "__qualname__", "__module__", "__doc__"):
            return tr.constant(getattr(self.raw, name, None))
        return super().getattr(tr, name)

    def rebuild(self, out: Rebuilder) -> str:
        return out.constant(self.raw)


class PartialValue(Value):
    """functools.partial."""

    def __init__(self, function: Value, args: list[Value], kwargs: dict[str, Value], source: Source | None = None
                 ) -> None:
        self.function, self.args, self.kwargs, self.source = function, args, kwargs, source
        self.attrs: dict[str, Value] = {}
        self.mutable = source is None

    def pytype(self) -> type:
        return functools.partial

    @property
    def label(self) -> str:
        return getattr(self.function, "label", "partial")

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return tr.call(self.function, [*self.args, *args], {**self.kwargs, **kwargs})

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name == "func":
            return self.function
        if name == "args":
            return TupleValue(self.args)
        if name == "keywords":
            return DictValue.make(tr, [(Const(k), v) for k, v in self.kwargs.items()])
        if name in self.attrs:
            return self.attrs[name]
        return super().getattr(tr, name)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        if self.source is not None:
            raise Unsupported("attribute-store", "an attribute of a partial function is assigned")
        self.attrs[name] = value

    def children(self) -> Iterator[Value]:
        yield from (self.function, *self.args, *self.kwargs.values())

    def rebuild(self, out: Rebuilder) -> str:
        parts = [out.expr(self.function), *map(out.expr, self.args),
                 *(f"{k}={out.expr(v)}" for k, v in self.kwargs.items())]
        name = out.variable(f"{out.constant(functools.partial)}({', '.join(parts)})")
        for attribute, value in self.attrs.items():
            out.line(f"{name}.{attribute} = {out.expr(value)}")
        return name


class GeneratorValue(Value):
    """A generator started by the traced code: a suspended symbolic frame."""

    mutable = True

    def __init__(self, frame: Frame) -> None:
        self.frame, self.finished, self.running = frame, False, False
        self.kind: type = GeneratorType                  # another where the generator stands for an iterator of C

    def pytype(self) -> type:
        return self.kind

    def truth(self, tr: Tracer) -> bool:
        return True

    def iterate(self, tr: Tracer) -> Value:
        return self

    def rebuild(self, out: Rebuilder) -> str:
        """It breaks where it was made: natively, if ending it runs code (see `finalizers`)."""
        error = Unsupported("rebuild", "a generator made in the traced code cannot be made for real")
        frame = self.frame
        error.native = any(ins.op in ("SETUP_FINALLY", "BEFORE_WITH") or frame.handles(ins) for ins in frame.program.instrs)
        raise error

    def next(self, tr: Tracer) -> Value | None:
        found, value = self.resume(tr, Const(None), None)
        return value if found == "yield" else None

    def resume(self, tr: Tracer, sent: Value, thrown: Observed | None) -> tuple[str, Value]:
        """Run to the next yield ("yield", value) or the end ("return", value)."""
        if self.finished:
            if thrown is not None:
                raise thrown
            return "return", Const(None)
        if self.running:
            raise tr.observe(ValueError("generator already executing"))
        self.running = True
        try:
            kind, value = tr.run_generator(self.frame, sent, thrown)
        except Observed as error:
            self.finished = True
            if not issubclass(error.value.pytype(), StopIteration):
                raise
            found = tr.observe(RuntimeError("generator raised StopIteration"))
            found.value.attrs["__cause__"] = found.value.attrs["__context__"] = error.value   # type: ignore[attr-defined]
            raise found from None
        finally:
            self.running = False
        self.finished = kind == "return"
        return kind, value

    def _result(self, tr: Tracer, outcome: tuple[str, Value]) -> Value:
        if outcome[0] == "return":
            raise tr.observe_with(StopIteration, [outcome[1]] if not _is_none(outcome[1]) else [])
        return outcome[1]

    def m_send(self, tr: Tracer, value: Value) -> Value:
        return self._result(tr, self.resume(tr, value, None))

    def m___next__(self, tr: Tracer) -> Value:
        return self._result(tr, self.resume(tr, Const(None), None))

    def m_throw(self, tr: Tracer, *args: Value) -> Value:
        if not args:
            raise tr.observe(TypeError("throw expected at least 1 argument, got 0"))
        value = args[1] if len(args) > 1 and not _is_none(args[1]) else args[0]
        return self._result(tr, self.resume(tr, Const(None), Observed(tr.as_exception(value))))

    def m_close(self, tr: Tracer) -> None:
        if not self.finished and self.frame.started:
            try:
                kind, _ = self.resume(tr, Const(None), tr.observe(GeneratorExit()))
            except Observed as e:
                if not issubclass(e.value.pytype(), (GeneratorExit, StopIteration)):
                    raise
            else:
                if kind == "yield":
                    raise tr.observe(RuntimeError("generator ignored GeneratorExit"))
        self.finished = True


def _is_none(value: Value) -> bool:
    return isinstance(value, Const) and value.value is None
