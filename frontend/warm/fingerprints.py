"""What tells, in another process, that a function, class or file of the program is still what it was.

Everything here is text or bytes that come out the same in every process that runs the same source: no ids, no addresses, no
order of sets.
"""
from __future__ import annotations

import enum
import functools
import inspect
import operator
import os
import re
import sys
import types
from typing import Any

import numpy as np

from flambeau.codegen import cache

_FOLDERS = [os.path.dirname(os.path.abspath(sys.modules[name].__file__ or "")) for name in (
    "flambeau", "flambeau.ir", "flambeau.runtime", "flambeau.frontend")]
#: Folders whose code changes only with the installation, which the key of an entry names.
FOLDERS = tuple(dict.fromkeys([*_FOLDERS, *(os.path.join(os.path.dirname(_FOLDERS[1]), name) for name in ("passes", "codegen"))]))
_OURS = tuple(os.path.join(folder, "") for folder in FOLDERS)
_LIBRARY = os.path.join(os.path.dirname(os.path.abspath(os.__file__)), "")
_PACKAGES = tuple(os.path.join(_LIBRARY, name, "") for name in ("site-packages", "dist-packages"))
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range, slice)


class Unsteady(Exception):
    """Something whose contents cannot be told in a way that holds in another process."""


def is_installed(path: str) -> bool:
    """Whether a file belongs to flambeau or to the standard library."""
    if path.startswith(_OURS):
        return True
    return path.startswith("<frozen") or (path.startswith(_LIBRARY) and not path.startswith(_PACKAGES))


def is_ours(fn: types.FunctionType) -> bool:
    """Whether a function is flambeau's or the standard library's, generated ones included."""
    path = fn.__code__.co_filename
    if path.startswith("<") and not path.startswith("<frozen"):
        return str(fn.__globals__.get("__name__") or fn.__module__).partition(".")[0] == "flambeau"
    return is_installed(path)


def is_registered(space: dict[str, Any]) -> bool:
    """Whether a namespace is that of the module that `sys.modules` has under its name (a file may be loaded twice)."""
    module = sys.modules.get(str(space.get("__name__")))
    return module is not None and vars(module) is space


def is_program_class(cls: type) -> bool:
    """Whether a class is the program's: written in Python, and neither flambeau's nor the standard library's."""
    if not cls.__flags__ & (1 << 9):
        return False
    module = sys.modules.get(cls.__module__)
    path = getattr(module, "__file__", None)
    return path is None and cls.__module__ not in sys.builtin_module_names or path is not None and not is_installed(path)


# --------------------------------------------------------------------------- code

_hashes: dict[int, tuple[types.CodeType, bytes]] = {}


def code_hash(code: types.CodeType) -> bytes:
    """A hash of all that a code object does (and of the lines it reports)."""
    known = _hashes.get(id(code))
    if known is None:
        digest = cache.new_digest()
        _feed_code(digest, code)
        known = _hashes[id(code)] = (code, digest.digest())
    return known[1]


def _feed_code(digest: Any, code: types.CodeType) -> None:
    parts = (code.co_name, code.co_filename, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags,
             code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_stacksize, code.co_firstlineno)
    digest.update(repr(parts).encode())
    digest.update(code.co_code)
    digest.update(code.co_linetable)
    digest.update(getattr(code, "co_exceptiontable", b""))
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            _feed_code(digest, value)
        else:
            digest.update(plain_text(value).encode())


def plain_text(value: Any) -> str:
    """A text for plain data. Raises :class:`Unsteady` for anything else."""
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__}:{value!r}"
    if kind in (tuple, list):
        return f"{kind.__name__}({', '.join(map(plain_text, value))})"
    if kind in (set, frozenset):
        return f"{kind.__name__}{{{', '.join(sorted(map(plain_text, value)))}}}"
    if kind is dict:
        return f"{{{', '.join(f'{plain_text(k)}: {plain_text(v)}' for k, v in value.items())}}}"
    if isinstance(value, enum.Enum):
        return f"{kind.__module__}.{kind.__qualname__}.{value.name}={plain_text(value.value)}"
    if isinstance(value, np.dtype):
        return f"dtype:{value}"
    if isinstance(value, types.CodeType):
        return f"code:{code_hash(value).hex()}"
    if isinstance(value, type):
        return f"class:{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.FunctionType):
        return f"def:{value.__module__}.{value.__qualname__}:{'' if is_ours(value) else code_hash(value.__code__).hex()}"
    if isinstance(value, types.ModuleType):
        return f"module:{value.__name__}"
    raise Unsteady(f"a {kind.__qualname__}")


# --------------------------------------------------------------------------- classes

#: Entries of a class's namespace that say nothing of what it does, or are there only once somebody asked.
_PASSING = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__abstractmethods__", "_abc_impl",
                      "__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__", "__static_attributes__",
                      "__firstlineno__", "__subclasshook__", "__parameters__", "__orig_bases__", "__hash__",
                      "_member_map_", "_value2member_map_", "_unhashable_values_", "_hashable_values_",
                      "_unhashable_values_map_"})


def class_print(cls: type) -> str:
    """A text for all that the program's part of a class and of its bases defines."""
    digest = cache.new_digest()
    for base in cls.__mro__:
        digest.update(f"class {base.__module__}.{base.__qualname__}\n".encode())
        if not is_program_class(base):
            continue
        digest.update(plain_text(type(base)).encode())
        for name, value in base.__dict__.items():
            if name not in _PASSING:
                digest.update(f"{name} = {_member_text(value)}\n".encode())
    return digest.hexdigest()


def _member_text(value: Any) -> str:
    """A text for a member of a class. Objects are told by their class alone: what a trace reads of them, it guards."""
    if isinstance(value, types.FunctionType):
        return plain_text(value) + _defaults_text(value)
    if isinstance(value, (staticmethod, classmethod)):
        return f"{type(value).__name__} {_member_text(value.__func__)}"
    if isinstance(value, property):
        return f"property {[_member_text(f) for f in (value.fget, value.fset, value.fdel)]}"
    if isinstance(value, functools.cached_property):
        return f"cached {_member_text(value.func)}"
    if hasattr(value, "__wrapped__") and callable(value):
        return f"{type(value).__qualname__} of {_member_text(value.__wrapped__)}"
    try:
        return plain_text(value)
    except Unsteady:
        if isinstance(value, enum.Enum):
            raise
        return f"a {type(value).__module__}.{type(value).__qualname__}"


def _defaults_text(fn: types.FunctionType) -> str:
    try:
        return plain_text((fn.__defaults__, fn.__kwdefaults__))
    except Unsteady:
        return ""


def names_print(cls: type) -> str:
    """A text for which names a class of the library defines: a program may have given it more."""
    return cache.key_of(repr(sorted(set(cls.__dict__) - _PASSING)))


# --------------------------------------------------------------------------- what an object is

def identity(value: Any) -> Any:
    """Plain data by which a class, function or other object is told from one that took its place."""
    if isinstance(value, types.FunctionType):
        if is_ours(value):
            code = value.__code__
            generated = "__file__" not in value.__globals__            # an op's function gets its code at its first call
            what = getattr(value.__globals__.get("_op"), "name", "") if generated else code.co_firstlineno
            return "ours", value.__module__, value.__qualname__, what
        return "def", value.__module__, value.__qualname__, code_hash(value.__code__), is_registered(value.__globals__)
    if isinstance(value, type):
        found = value.__module__, value.__qualname__
        return ("class", *found, class_print(value)) if is_program_class(value) else ("ours", *found)
    if isinstance(value, types.ModuleType):
        return "module", value.__name__
    if isinstance(value, types.CodeType):
        return "code", code_hash(value)
    if isinstance(value, property):
        return "property", *(f and identity(f) for f in (value.fget, value.fset, value.fdel))
    if isinstance(value, tuple):
        return "tuple", *map(identity, value)
    if isinstance(value, types.CellType):
        return ("cell",)
    if isinstance(value, enum.Enum):
        return "enum", plain_text(value), class_print(type(value))
    if isinstance(value, _PLAIN):
        return "plain", plain_text(value)
    kind = type(value)
    if kind in _FROM_C:
        owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
        return "built in", kind.__name__, getattr(owner, "__qualname__", getattr(owner, "__name__", "")), value.__name__
    if isinstance(value, (staticmethod, classmethod, types.MethodType)):
        return kind.__name__, identity(value.__func__)
    if kind.__name__ == "_tuplegetter":                                # a field of a named tuple
        return "field", value.__reduce__()[1][0]                       # type: ignore[attr-defined]
    if isinstance(value, functools._lru_cache_wrapper):
        return "cached", identity(value.__wrapped__)
    if isinstance(value, np.ufunc):
        return "ufunc", value.__name__
    if isinstance(value, re.Pattern):
        return "pattern", plain_text(value.pattern), value.flags
    if isinstance(value, (operator.itemgetter, operator.attrgetter, operator.methodcaller)):
        return "getter", kind.__name__, plain_text(value.__reduce__()[1])
    if isinstance(value, _TUPLE_ITEM):
        return "tuple item", value.__reduce__()[1][0]
    if isinstance(value, (types.GenericAlias, types.UnionType)):
        return "alias", repr(value)
    if kind.__module__.partition(".")[0] == "flambeau" and not is_program_class(kind):
        return "ours", kind.__module__, kind.__qualname__
    raise Unsteady(f"a {kind.__qualname__}, told by which object it is")


_TUPLE_ITEM: Any = type(inspect.FullArgSpec.__dict__["args"])   # a field of a named tuple
_FROM_C = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
           types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType)


def is_told_apart(value: Any) -> bool:
    """Whether two objects of one identity do the same. Those of the library are told by their names, which needs a name."""
    if isinstance(value, types.FunctionType):
        return not is_ours(value) or not (value.__closure__ and getattr(value, "__flambeau_pure__", False))
    return isinstance(value, type) or identity(value)[0] != "ours"


# --------------------------------------------------------------------------- files

_files: dict[tuple[Any, ...], str] = {}


def file_stat(path: str) -> tuple[int, ...]:
    """What changes whenever a file is written to or takes another's place: size, times of change, number; () without a file.

    The time of the last change of any kind (`ctime`) cannot be set, so that a file that was unpacked or copied over is another.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev


def file_hash(path: str) -> str:
    """A hash of a file's contents; "" when it cannot be read."""
    try:
        key = (path, *file_stat(path))
        found = _files.get(key)
        if found is None:
            with open(path, "rb") as file:
                digest = cache.new_digest()
                digest.update(file.read())
                found = _files[key] = digest.hexdigest()
        return found
    except OSError:
        return ""


def program_files(modules: set[str]) -> list[str]:
    """The source files of these modules, and of all modules of the program that their namespaces reach."""
    seen: set[str] = set()
    waiting, found = sorted(modules), []
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        path = getattr(module, "__file__", None)
        if name in seen or module is None or path is None or is_installed(path):
            continue
        seen.add(name)
        found.append(path)
        if path.startswith(_PACKAGES):
            continue                                              # an installed package: itself, not all that it imports
        for value in list(vars(module).values()):
            other = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
            if isinstance(other, str) and other not in seen:
                waiting.append(other)
    return sorted(found)
