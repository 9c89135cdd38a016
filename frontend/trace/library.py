"""What functions and classes of the standard library do to symbolic values, beyond the built-ins.

Most are inlined: from their own Python source, or from `polyfills` where they are written in C.
"""
from __future__ import annotations

import collections
import dataclasses
import functools
import heapq
import inspect
import itertools
import math
import operator
import random
import re
import reprlib
import textwrap
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace import polyfills
from flambeau.frontend.trace.builtins import Handler, fold_also, on
from flambeau.frontend.trace.callables import BoundMethod, FunctionValue, GeneratorValue
from flambeau.frontend.trace.objects import ClassValue
from flambeau.frontend.trace.sequences import ListValue, sorted_values
from flambeau.frontend.trace.source import Attr, Constant
from flambeau.frontend.trace.values import NONE, Const, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


def inlined(polyfill: Callable[..., Any], kind: type | None = None) -> Handler:
    """A handler that traces `polyfill`; a generator that it makes is said to be a `kind`."""
    def handler(tr: Tracer, *args: Value, **kwargs: Value) -> Value:
        found = tr.call(tr.constant(polyfill), list(args), kwargs)
        if isinstance(found, GeneratorValue):
            found.kind = kind or found.kind
        return found
    return handler


for _kind in ("takewhile", "dropwhile", "filterfalse", "starmap", "compress", "accumulate", "groupby", "batched",
              "combinations_with_replacement"):
    if hasattr(itertools, _kind):
        on(getattr(itertools, _kind))(inlined(getattr(polyfills, _kind), getattr(itertools, _kind)))
on(itertools.tee)(inlined(polyfills.tee))
on(operator.countOf)(inlined(polyfills.count_of))
on(operator.indexOf)(inlined(polyfills.index_of))
on(operator.concat)(inlined(polyfills.concatenate))
on(operator.iconcat)(inlined(polyfills.concatenate_in_place))
on(operator.delitem)(inlined(polyfills.delete_item))
if hasattr(operator, "call"):
    on(operator.call)(inlined(polyfills.call))
on(getattr(collections, "_count_elements"))(inlined(polyfills.count_elements))      # noqa: B009 - private
on(math.prod)(inlined(polyfills.product))

# Pure functions of strings.
fold_also(re.compile, re.match, re.search, re.fullmatch, re.findall, re.split, re.sub, re.escape, textwrap.dedent,
          textwrap.indent, textwrap.fill)


@on(heapq.nlargest)
def _extreme_items(tr: Tracer, n: Value, items: Value, key: Value = NONE, *, largest: bool = True) -> Value:
    ordered = sorted_values(tr, tr.unpack(items), key, largest)
    return ListValue(ordered[:max(tr.index(n), 0)])


on(heapq.nsmallest)(functools.partial(_extreme_items, largest=False))


# --------------------------------------------------------------------------- Python functions that are not inlined

def _dispatch(tr: Tracer, fn: FunctionValue, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`dispatch(cls)` of a single-dispatch function: what it answers now, guarded."""
    if fn.raw is None or len(args) != 1 or not isinstance(args[0], ClassValue):
        raise Unsupported("call", "a single-dispatch function is made in the compiled function")
    cls, dispatch = args[0].raw, fn.raw
    chosen = dispatch(cls)
    at = Constant(dispatch, "dispatch")
    tr.guards.add(at, ("dispatch", cls), lambda w, v: f"{v}({w.constant(cls)}) is {w.constant(chosen)}",
                  f"{cls.__name__} is dispatched to {chosen.__name__}", tr.where)
    return tr.constant(chosen)


def _draws(tr: Tracer, fn: FunctionValue, args: list[Value], kwargs: dict[str, Value]) -> Value:
    raise Unsupported("random", f"random.{fn.label} draws a number from Python's own generator")


def _guarded_repr(tr: Tracer, fn: FunctionValue, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """A `__repr__` that dataclasses guard against endless recursion."""
    wrapped = fn.closure[fn.code.co_freevars.index("user_function")].get(tr)
    assert wrapped is not None
    return tr.call(wrapped, args, kwargs)


def _codes(code: types.CodeType, name: str) -> list[types.CodeType]:
    """Code objects of the functions of that name that are defined inside."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [c for c in inner if c.co_name == name] + [found for c in inner for found in _codes(c, name)]


def by_code(code: types.CodeType) -> Callable[..., Value] | None:
    """How a Python function of the standard library is called that is not traced."""
    return _draws if code.co_filename == random.__file__ else _BY_CODE.get(code)


_BY_CODE = {
    **dict.fromkeys(_codes(functools.singledispatch.__code__, "dispatch"), _dispatch),
    **{c: _guarded_repr for maker in (getattr(dataclasses, "_recursive_repr", None), reprlib.recursive_repr) if maker
       for c in _codes(maker.__code__, "wrapper")},
}


@on(types.MethodType)
def _method_type(tr: Tracer, function: Value, owner: Value) -> Value:
    return BoundMethod(function, owner)


# --------------------------------------------------------------------------- operator's getters

class GetterValue(Value):
    """`itemgetter`, `attrgetter` or `methodcaller` with its arguments, made in the trace."""

    def __init__(self, kind: type, polyfill: Callable[..., Any], args: list[Value], kwargs: dict[str, Value]) -> None:
        self.kind, self.polyfill, self.args, self.kwargs = kind, polyfill, args, kwargs

    def pytype(self) -> type:
        return self.kind

    def truth(self, tr: Tracer) -> bool:
        return True

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if len(args) != 1 or kwargs:
            raise tr.observe(TypeError(f"{self.kind.__name__} expected 1 argument, got {len(args)}"))
        return tr.call(tr.constant(self.polyfill), [args[0], *self.args], self.kwargs)

    def children(self) -> Any:
        return iter([*self.args, *self.kwargs.values()])

    def rebuild(self, out: Rebuilder) -> str:
        parts = [*map(out.expr, self.args), *(f"{k}={out.expr(v)}" for k, v in self.kwargs.items())]
        return f"{out.constant(self.kind)}({', '.join(parts)})"


def _getter(kind: type, polyfill: Callable[..., Any]) -> None:
    on(kind)(lambda tr, *args, **kwargs: GetterValue(kind, polyfill, list(args), kwargs))


_getter(operator.itemgetter, polyfills.get_items)
_getter(operator.attrgetter, polyfills.get_attributes)
_getter(operator.methodcaller, polyfills.call_method)


def getter_from_outside(tr: Tracer, raw: Any) -> Value:
    """The value of a real getter: it cannot change, so its parts are constants."""
    kind, args, *state = raw.__reduce__()
    kwargs: dict[str, Any] = {}
    if kind not in _POLYFILLS:                                    # methodcaller with keywords: partial(methodcaller, name, **kw)
        args, kwargs, kind = (*kind.args, *args), kind.keywords, operator.methodcaller
    return GetterValue(kind, _POLYFILLS[kind], [tr.constant(a) for a in args], {k: tr.constant(v) for k, v in kwargs.items()})


_POLYFILLS: dict[Any, Callable[..., Any]] = {operator.itemgetter: polyfills.get_items,
                                             operator.attrgetter: polyfills.get_attributes,
                                             operator.methodcaller: polyfills.call_method}


# --------------------------------------------------------------------------- inspect

@on(inspect.signature)
def _signature(tr: Tracer, fn: Value, **kwargs: Value) -> Value:
    """The signature of a function or method of the program, which stays as long as its defaults are the same objects."""
    bound = isinstance(fn, BoundMethod)
    function = fn.function if isinstance(fn, BoundMethod) else fn
    if not isinstance(function, FunctionValue) or function.raw is None or function.source is None or kwargs \
            or function.attrs or {"__wrapped__", "__signature__"} & set(function.raw.__dict__):
        raise Unsupported("inspect", "a signature is inspected", "inspect it outside the compiled function")
    raw = function.raw
    tr.guard(function.source, g.is_object(raw))
    for name in ("__defaults__", "__kwdefaults__"):
        tr.guard(Attr(function.source, name), g.is_object(getattr(raw, name)))
    return Const(inspect.signature(types.MethodType(raw, object()) if bound else raw))


@on(inspect.isfunction)
def _isfunction(tr: Tracer, value: Value) -> Value:
    return Const(issubclass(value.pytype(), types.FunctionType))


@on(inspect.isclass)
def _isclass(tr: Tracer, value: Value) -> Value:
    return Const(issubclass(value.pytype(), type))


@on(inspect.ismethod)
def _ismethod(tr: Tracer, value: Value) -> Value:
    return Const(issubclass(value.pytype(), types.MethodType))
