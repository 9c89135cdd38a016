"""What CPython says of a call that fails: it is made for real, with stand-ins, so that its words are never written down here."""
from __future__ import annotations

import collections
from collections.abc import Callable
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.values import Const, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.callables import FunctionValue

_KINDS = (collections.OrderedDict, dict, list, tuple, set, frozenset, collections.deque)


def error_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception | None:
    """The error of this call; None if it has none after all."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return error.with_traceback(None)
    return None


def stand_in(value: Value) -> Any:
    """An object that errors name as they name this one: a constant, or an empty container of its kind; None if there is none."""
    if isinstance(value, Const):
        return value.value
    kind = next((k for k in _KINDS if issubclass(value.pytype(), k)), None)
    return None if kind is None else kind()


def operator_error(function: Callable[..., Any], *values: Value) -> Exception | None:
    """The error of an operator for values of these types."""
    return error_of(function, *map(stand_in, values))


def method_error(owner: Value, name: str, args: list[Value], kwargs: dict[str, Value]) -> Exception | None:
    """The error of a method that gets so many arguments."""
    real = stand_in(owner)
    return None if real is None else error_of(getattr(real, name), *[None] * len(args), **dict.fromkeys(kwargs))


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
