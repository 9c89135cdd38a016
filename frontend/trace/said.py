"""What CPython says of a call that fails: it is made for real, with stand-ins, so that its words are never written down here."""
from __future__ import annotations

import collections
import operator
from collections.abc import Callable
from types import CellType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.trust import mro_lookup
from flambeau.frontend.trace.values import Const, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.callables import FunctionValue

_KINDS = (collections.OrderedDict, collections.defaultdict, dict, list, tuple, set, frozenset, collections.deque, int, float, str,
          bytes, complex)
_DESCRIPTORS = (MethodDescriptorType, WrapperDescriptorType)


def error_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception | None:
    """The error of this call; None if it has none after all."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return error.with_traceback(None)
    return None


def stand_in(value: Value) -> Any:
    """An object that errors name as they name this one: a constant, an empty container, or one that can do nothing."""
    if isinstance(value, Const):
        return value.value
    cls = value.pytype()
    if cls is slice:
        return slice(None)
    kind = next((k for k in _KINDS if issubclass(cls, k)), object)
    return cls() if cls is kind else type(type_name(value), (kind,), {})()


def operator_error(function: Callable[..., Any], *values: Value) -> Exception | None:
    """The error of an operator that none of these types has for the others."""
    return error_of(function, *map(stand_in, values))


def call_error(function: Callable[..., Any], args: list[Value], kwargs: dict[str, Value]) -> Exception | None:
    """The error of a built-in function that gets values of these types."""
    return error_of(function, *map(stand_in, args), **{k: stand_in(v) for k, v in kwargs.items()})


def method_error(owner: Value, name: str, args: list[Value], kwargs: dict[str, Value]) -> Exception | None:
    """The error of a method that gets so many arguments."""
    real = stand_in(owner)
    method = getattr(type(real), name, None)
    return None if method is None else error_of(method, real, *[None] * len(args), **dict.fromkeys(kwargs))


#: What asks for a special method.
_ASKS: dict[str, Callable[[Any], Any]] = {
    "__getitem__": lambda v: v[0], "__setitem__": lambda v: operator.setitem(v, 0, 0),
    "__delitem__": lambda v: operator.delitem(v, 0), "__len__": len, "__iter__": iter, "__call__": lambda v: v(),
    "__contains__": lambda v: 0 in v,
}


def lack_error(value: Value, name: str) -> Exception:
    """The error where a special method is asked for that the object's type does not have."""
    asks = _ASKS.get(name)
    error = error_of(asks, stand_in(value)) if asks is not None else None
    return error or TypeError(f"'{type_name(value)}' object does not support {name}")


def is_iterable(value: Value) -> bool:
    """Whether a star may stand before this."""
    return has(value.pytype(), "__iter__") or has(value.pytype(), "__getitem__")


def is_mapping(value: Value) -> bool:
    """Whether two stars may stand before this."""
    return has(value.pytype(), "keys")


def has(cls: type, name: str) -> bool:
    """Whether objects of the class have an attribute of their class (`hasattr` would find the metaclass's)."""
    return mro_lookup(cls.__mro__, name)[0] is not None


def type_name(value: Value) -> str:
    """A type's name as C code has it: with the module where the type is written in C."""
    cls = value.pytype()
    in_c = any(isinstance(d, _DESCRIPTORS) and d.__objclass__ is cls for d in cls.__dict__.values())
    return f"{cls.__module__}.{cls.__name__}" if in_c and cls.__module__ != "builtins" else cls.__name__


def function_name(fn: Value) -> str:
    """A function's name as errors about stars have it."""
    raw = getattr(fn, "raw", None)
    given = getattr(fn, "attrs", {}).get("__qualname__")
    code = getattr(fn, "code", None)
    name = getattr(raw, "__qualname__", None) or (given.value if isinstance(given, Const) else None) or getattr(
        code, "co_qualname", None) or getattr(code, "co_name", None) or getattr(fn, "label", "function")
    module = getattr(raw, "__module__", None) if raw is not None else getattr(fn, "globals", {}).get("__name__")
    return f"{name}()" if module in (None, "builtins") else f"{module}.{name}()"


def binding_error(fn: FunctionValue, args: int, kwargs: dict[str, Value], defaults: int,
                  kwdefaults: dict[str, Value]) -> Exception:
    """The error of a function that these arguments do not fit; it fails before any of the function's code runs."""
    real: Any = FunctionType(fn.code, {}, fn.code.co_name, (None,) * defaults, tuple(CellType() for _ in fn.code.co_freevars))
    real.__kwdefaults__ = dict.fromkeys(kwdefaults)
    name = fn.attrs.get("__qualname__")
    real.__qualname__ = name.value if isinstance(name, Const) else getattr(fn.raw, "__qualname__", real.__qualname__)
    error = error_of(real, *[None] * args, **dict.fromkeys(kwargs))
    assert isinstance(error, TypeError), error
    return error
