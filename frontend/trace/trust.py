"""What is taken to stay as it is while a program runs, and the guards on what is not: classes and their namespaces."""
from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.source import Attr, ClassItem, Constant
from flambeau.frontend.trace.values import Const, OutsideConst, Unsupported, Value
from flambeau.runtime.tensor import is_replaced

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

MISSING: Any = object()

# Modules whose code reads its own globals, and whose classes keep their names, without a guard per use.
TRUSTED = {"flambeau", "torch", "builtins", "math", "cmath", "operator", "functools", "itertools", "collections",
           "contextlib", "copy", "typing", "types", "abc", "dataclasses", "enum", "warnings", "numbers", "inspect"}


def is_trusted(module: Any) -> bool:
    """Whether a module of this name is one of ours or of the standard library's."""
    return isinstance(module, str) and module.partition(".")[0] in TRUSTED


def is_plumbing(module: Any, name: str) -> bool:
    """Whether a function is a part of the library that is not worth compiling by itself: no forward, no optimizer."""
    if isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names and module != "__main__":
        return True
    return is_trusted(module) and name != "forward" and not str(module).startswith("flambeau.optim")


def can_change(cls: type) -> bool:
    """Whether a program may well give the class other attributes."""
    return bool(cls.__flags__ & (1 << 9)) and not is_trusted(cls.__dict__.get("__module__"))


def is_of_library(cls: type) -> bool:
    """Whether it is one of flambeau's own classes, which a program may patch."""
    return str(cls.__dict__.get("__module__")).partition(".")[0] == "flambeau"


def mro_lookup(mro: tuple[type, ...], name: str) -> tuple[type | None, Any]:
    """The class attribute `name` without running descriptors, and the class that has it."""
    for cls in mro:
        if name in cls.__dict__:
            return cls, cls.__dict__[name]
    return None, MISSING


def stored_or_found(tr: Tracer, mro: tuple[type, ...], name: str) -> tuple[type | None, Any]:
    """`mro_lookup`, seeing what the trace has stored in classes: that is found as the value it is."""
    for cls in mro if tr.class_stores else ():
        if (cls, name) in tr.class_stores:
            return cls, tr.class_stores[cls, name]
        if name in cls.__dict__:
            break
    return mro_lookup(mro, name)


def depend_on_lookup(tr: Tracer, mro: tuple[type, ...], name: str, owner: type | None) -> None:
    """The trace depends on `name` being found in `owner` (None: nowhere) and in no class before it."""
    seen = False
    for cls in mro:
        if not seen and is_of_library(cls):
            seen = True
            tr.guards.add_lookup(cls, name, tr.where)
        if cls is owner:
            return
        if can_change(cls):
            tr.guards.add_class_absent(cls, name, tr.where)


def find(tr: Tracer, cls: type, name: str, mro: tuple[type, ...] | None = None) -> tuple[type | None, Any]:
    """`mro_lookup` in a class, guarded against being answered by another class later."""
    mro = cls.__mro__ if mro is None else mro
    owner, found = stored_or_found(tr, mro, name)
    depend_on_lookup(tr, mro, name, owner)
    if mro[:1] != (cls,) and can_change(cls):
        tr.guards.add_class_absent(cls, None, tr.where)          # `super()`: what its bases are
    return owner, found


def part_of(tr: Tracer, found: Any, name: str) -> Any:
    """What the class of a class attribute says under `__get__`, `__set__` or `__delete__`, guarded."""
    cls = type(found)
    if can_change(cls):
        owner, _ = find(tr, cls, name)
        if owner is not None and can_change(owner):
            at = ClassItem(Constant(owner, owner.__name__), name)
            tr.guards.add(at, ("exists",), lambda w, v: "True", "{} exists", tr.where)
    return getattr(cls, name, None)


def is_data_descriptor(tr: Tracer, found: Any) -> bool:
    """Whether a class attribute comes before an instance's own."""
    parts = [part_of(tr, found, "__set__"), part_of(tr, found, "__delete__")]
    return parts != [None, None]


def depend_on_code(tr: Tracer, raw: types.FunctionType, source: Any) -> None:
    """The trace depends on what a function of the program does: its code may be exchanged."""
    if is_trusted(raw.__module__) or is_trusted(raw.__globals__.get("__name__")):
        return
    code = raw.__code__
    tr.guards.add(source, ("code", id(code)), lambda w, v: f"{v}.__code__ is {w.constant(code)}",
                  f"{{}} runs {code.co_name}", tr.where)


def depend_on_fact(tr: Tracer, cls: type, name: str, value: Any) -> Value:
    """A fact of a class or function that rarely changes (`__name__`, `__doc__`): a constant that is guarded when used."""
    if not can_change(cls):
        return Const(value)
    return OutsideConst(value, Attr(Constant(cls, cls.__name__), name), tr)


def depend_on_subclass(tr: Tracer, cls: type, kind: type, answer: bool) -> None:
    """The trace depends on whether `cls` counts as a subclass of an abstract class, where that can change."""
    if type(kind) is type or kind in cls.__mro__ or is_trusted(getattr(kind, "__module__", None)):
        return
    tr.guards.add(Constant(cls, cls.__name__), ("subclass", kind, answer),
                  lambda w, v: f"issubclass({v}, {w.constant(kind)}) is {answer}",
                  f"{{}} is {'a' if answer else 'no'} subclass of {kind.__name__}", tr.where)


def depend_on_method(tr: Tracer, cls: type, name: str) -> Any:
    """A method or operator of tensors; the guard is that nobody replaces it."""
    tr.guards.add_lookup(cls, name, tr.where)
    return mro_lookup(cls.__mro__, name)[1]


def depend_on_operator(tr: Tracer, values: Iterable[Any], *names: str) -> None:
    """Operators of the tensors among `values` are still the library's."""
    for value in values:
        for name in names if hasattr(value, "tensor") else ():
            depend_on_method(tr, value.cls, name)
            if is_replaced(value.cls, name):
                raise Unsupported("tensor-operator", f"{value.cls.__name__}.{name} is a function of the program",
                                  "call a function of your own in place of the operator")
