"""What built-in functions and classes, and C functions of the standard library, do to symbolic values.

A table from the real function to a handler. Functions that are pure on constants are folded; op functions are called
with symbolic tensors; everything else is a graph break.
"""
from __future__ import annotations

import builtins
import cmath
import collections
import functools
import inspect
import math
import operator
import sys
import types
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.arithmetic import unary
from flambeau.frontend.trace.callables import (
    BoundMethod,
    PartialValue,
)
from flambeau.frontend.trace.computed import text_of
from flambeau.frontend.trace.identity import identical
from flambeau.frontend.trace.mappings import DictValue, SetValue, dict_pairs, members
from flambeau.frontend.trace.objects import ClassValue, ObjectValue, SuperValue
from flambeau.frontend.trace.said import call_error, error_of
from flambeau.frontend.trace.sequences import (
    ListValue,
    SliceValue,
    TupleValue,
    solid,
)
from flambeau.frontend.trace.source import Constant, KeptResult
from flambeau.frontend.trace.trust import depend_on_subclass, find, is_trusted, mro_lookup
from flambeau.frontend.trace.values import (
    FALSE,
    NO_TEXT,
    NONE,
    ZERO,
    Const,
    Observed,
    ScalarValue,
    SymValue,
    TensorValue,
    Unsupported,
    Value,
)
from flambeau.ir.op import is_compiling
from flambeau.runtime.autograd import mode
from flambeau.runtime.tensor import Size

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

Handler = Callable[..., Value]
_HANDLERS: dict[Any, Handler] = {}
_MISSING: Any = object()


def on(*functions: Any) -> Callable[[Handler], Handler]:
    def mark(handler: Handler) -> Handler:
        for function in functions:
            _HANDLERS[function] = handler
        return handler
    return mark


def knows(raw: Any) -> bool:
    """Whether calling `raw` is described here."""
    return is_pure(raw) or (_hashable(raw) and (raw in _HANDLERS or raw in _FOLDED))


_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType,
              functools._lru_cache_wrapper, type)


def is_pure(raw: Any) -> bool:
    """Whether `raw` is a function marked as pure apart from ops (objects of the program are not asked for attributes)."""
    return isinstance(raw, _FUNCTIONS) and bool(getattr(raw, "__flambeau_pure__", False))


def _hashable(raw: Any) -> bool:
    try:
        hash(raw)
    except TypeError:
        return False
    return True


#: Not to be called to hear what they say.
_ACTS: set[Any] = {print, input, open, exec, eval, compile, setattr, delattr, __import__, breakpoint}


def call_builtin(tr: Tracer, raw: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """Call a function the tracer does not look into."""
    if is_pure(raw):
        return tr.call_pure(raw, args, kwargs)
    handler = _HANDLERS.get(raw) if _hashable(raw) else None
    if handler is not None:
        try:
            return handler(tr, *args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            refusal = None if raw in _ACTS else call_error(raw, args, kwargs)
            if isinstance(refusal, TypeError):                    # wrong number of arguments
                raise tr.observe(refusal) from None
    if isinstance(raw, (types.MethodDescriptorType, types.WrapperDescriptorType)) and args:
        return args[0].method(tr, raw.__name__, args[1:], kwargs)  # `list.append(xs, 1)`, `object.__setattr__(o, ...)`
    if _hashable(raw) and raw in _FOLDED:
        return tr.fold(raw, args if raw in (format, ascii) else [solid(tr, a) for a in args], kwargs)
    if isinstance(raw, functools._lru_cache_wrapper):
        return _call_cached(tr, raw, args, kwargs)
    owner = getattr(raw, "__self__", None)
    if isinstance(owner, types.ModuleType) and owner.__name__ in ("math", "cmath", "_operator"):
        return tr.fold(raw, args, kwargs)
    name = getattr(raw, "__qualname__", repr(raw))
    raise Unsupported("builtin", f"the built-in function {name} is called",
                      "move the call out of the compiled function" if raw is not print
                      else "print after the compiled function, or accept the break")


def _call_cached(tr: Tracer, raw: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """A function that keeps its results: traced as if it kept none, which is the same unless it reads changing state."""
    if not kwargs and not tr.effects.touched and tr.autocast == mode.autocast and all(type(a) is Const for a in args):
        return _kept_result(tr, raw, [a.as_python(tr) for a in args])
    before, touched = len(tr.guards.guards), len(tr.effects.touched)
    result = tr.call(tr.constant(raw.__wrapped__), args, kwargs)
    reads = any(isinstance(guard.source.root, Constant) and guard.key[0] not in ("is", "code", "type", "exists")
                for guard in tr.guards.guards[before:])
    if reads or len(tr.effects.touched) > touched or result.mutable:
        raise Unsupported("cached", f"{raw.__name__} keeps its results (lru_cache) and depends on more than its arguments",
                          "call it outside the compiled function, or leave out the cache")
    return result


def _kept_result(tr: Tracer, raw: Any, args: list[Any]) -> Value:
    """What a function that keeps its results has kept for these constants: called now, as the program would, and again (which
    finds the kept object) wherever the compiled function needs it."""
    try:
        found = raw(*args)
    except Exception as error:
        raise Unsupported("cached", f"{raw.__name__} raises {type(error).__name__}") from error
    return tr.wrap(found, KeptResult(Constant(raw, raw.__name__), tuple(args)))


# Pure on constants (and, for `operator`, on anything through the operators themselves).
_FOLDED: set[Any] = {
    abs, bin, chr, complex, divmod, format, hash, hex, oct, ord, pow, round, ascii, bytes, range, math.prod,
    str.maketrans, int.from_bytes, dict.fromkeys, float.fromhex, bytes.fromhex, math.comb,
    *(f for m in (math, cmath) for f in vars(m).values() if isinstance(f, types.BuiltinFunctionType)),
}
_FOLDED.discard(hash)
_FOLDED.discard(dict.fromkeys)


def fold_also(*functions: Any) -> None:
    """These functions are pure on constants."""
    _FOLDED.update(functions)


# --------------------------------------------------------------------------- inspection

@on(len)
def _len(tr: Tracer, value: Value) -> Value:
    return tr.constant(value.length(tr))


@on(type)
def _type(tr: Tracer, value: Value, *rest: Value) -> Value:
    if rest:
        raise Unsupported("class", "a class is made in the compiled function", "define classes outside")
    if isinstance(value, ClassValue):
        return tr.class_value(type(value.raw))
    return tr.class_value(value.pytype())


def _classes(tr: Tracer, kinds: Value) -> tuple[type, ...]:
    if isinstance(kinds, TupleValue):
        return tuple(c for k in kinds.values(tr) for c in _classes(tr, k))
    if isinstance(kinds, ClassValue):
        return (kinds.raw,)
    try:
        found = kinds.as_python(tr)
    except Exception:
        raise Unsupported("isinstance", "the classes of isinstance are not known while tracing") from None
    if isinstance(found, types.UnionType):
        return found.__args__
    error = error_of(isinstance, None, found)
    if error is not None:
        raise tr.observe(error)
    return (found,)


@on(isinstance)
def _isinstance(tr: Tracer, value: Value, kinds: Value) -> Value:
    real = value.pytype()
    for cls in _classes(tr, kinds):
        check = type(cls).__instancecheck__
        if check is type.__instancecheck__ or type(cls).__module__ in ("abc", "typing"):
            if issubclass(real, cls):
                depend_on_subclass(tr, real, cls, True)
                return Const(True)
            depend_on_subclass(tr, real, cls, False)
        elif isinstance(check, types.FunctionType) and not is_trusted(check.__module__):
            answer = tr.class_value(type(cls)).getattr(tr, "__instancecheck__").call(tr, [tr.class_value(cls), value], {})
            if tr.truth(answer):
                return Const(True)
        elif isinstance(value, TensorValue) and value.raw is None:
            if issubclass(real, cls):                             # Parameter's and Buffer's checks look at instances
                return Const(True)
        elif getattr(value, "raw", None) is not None:
            if isinstance(value.raw, cls):                        # type: ignore[attr-defined]
                return Const(True)
        elif not isinstance(value, Const):
            if issubclass(real, cls):
                return Const(True)
        elif isinstance(value.value, cls):
            return Const(True)
    return Const(False)


@on(issubclass)
def _issubclass(tr: Tracer, cls: Value, kinds: Value) -> Value:
    if not isinstance(cls, ClassValue):
        raise tr.observe(TypeError("issubclass() arg 1 must be a class"))
    for kind in _classes(tr, kinds):
        answer = issubclass(cls.raw, kind)
        depend_on_subclass(tr, cls.raw, kind, answer)
        if answer:
            return Const(True)
    return Const(False)


@on(callable)
def _callable(tr: Tracer, value: Value) -> Value:
    return Const(find(tr, value.pytype(), "__call__")[0] is not None)


@on(id)
def _id(tr: Tracer, value: Value) -> Value:
    raise Unsupported("id", "id() of an object is asked", "compare objects with `is`")


@on(hash)
def _hash(tr: Tracer, value: Value) -> Value:
    if isinstance(value, (Const, SymValue)) or (isinstance(value, TupleValue)):
        return tr.fold(hash, [value], {})
    raise Unsupported("hash", f"the hash of a {value.pytype().__name__} is asked")


@on(getattr)
def _getattr(tr: Tracer, value: Value, name: Value, default: Value | None = None) -> Value:
    try:
        return value.getattr(tr, tr.index_key(name))
    except Observed as error:
        if default is None or not issubclass(error.value.pytype(), AttributeError):
            raise
        return default


@on(hasattr)
def _hasattr(tr: Tracer, value: Value, name: Value) -> Value:
    return Const(_getattr(tr, value, name, _ABSENT) is not _ABSENT)


_ABSENT = Const(_MISSING)


@on(setattr)
def _setattr(tr: Tracer, value: Value, name: Value, new: Value) -> Value:
    value.setattr(tr, tr.index_key(name), new)
    return NONE


@on(delattr)
def _delattr(tr: Tracer, value: Value, name: Value) -> Value:
    value.delattr(tr, tr.index_key(name))
    return NONE


@on(vars)
def _vars(tr: Tracer, value: Value | None = None) -> Value:
    if value is None:
        return _looks_at_frames("vars")
    if isinstance(value, ObjectValue) and not value.cls.__dictoffset__:
        raise tr.observe(TypeError("vars() argument must have __dict__ attribute"))
    return value.getattr(tr, "__dict__")


@on(super)
def _super(tr: Tracer, *args: Value) -> Value:
    if args:
        cls, instance = args
    else:
        frame = tr.frames[-1]
        cell, name = frame.cells.get("__class__"), frame.code.co_varnames[0] if frame.code.co_argcount else ""
        if cell is None or not name:
            return _looks_at_frames("super")
        found = cell.get(tr)
        first = frame.locals.get(name) or (frame.cells[name].get(tr) if name in frame.cells else None)
        if found is None or first is None:
            return _looks_at_frames("super")
        cls, instance = found, first
    if not isinstance(cls, ClassValue):
        raise Unsupported("class", "super() of a class made in the traced code")
    return SuperValue(cls.raw, instance)


# --------------------------------------------------------------------------- conversion

@on(bool)
def _bool(tr: Tracer, value: Value = FALSE) -> Value:
    return Const(tr.truth(value))


@on(int)
def _int(tr: Tracer, value: Value = ZERO, *rest: Value) -> Value:
    if isinstance(value, SymValue) and not rest:
        return value
    return _number(tr, int, "__int__", value, rest)


@on(float)
def _float(tr: Tracer, value: Value = ZERO) -> Value:
    return _number(tr, float, "__float__", value, ())


def _number(tr: Tracer, kind: type, name: str, value: Value, rest: tuple[Value, ...]) -> Value:
    if isinstance(value, ObjectValue):
        method = value.dunder(tr, name)
        if method is not None:
            return tr.call(method, [], {})
    if isinstance(value, TensorValue):
        raise Unsupported("data-dependent", f"{kind.__name__}() needs the data of a tensor",
                          "keep it a tensor: `.to(dtype)`")
    return tr.fold(kind, [value, *rest], {})


@on(str)
def _str(tr: Tracer, value: Value = NO_TEXT, *rest: Value) -> Value:
    if rest:
        return tr.fold(str, [value, *rest], {})
    return format_text(tr, value, "str", Const(""))


@on(repr)
def _repr(tr: Tracer, value: Value) -> Value:
    return format_text(tr, value, "repr", Const(""))


def format_text(tr: Tracer, value: Value, conversion: str | None, spec: Value) -> Value:
    """The text of a value in an f-string, str() or repr()."""
    if isinstance(value, (SymValue, ScalarValue)):
        made = text_of(tr, value, spec) if conversion is None else \
            text_of(tr, value, NO_TEXT) if isinstance(spec, Const) and spec.value == "" else None
        if made is not None:
            return made
        value = Const(tr.index(value) if isinstance(value, SymValue) else value.pin(tr))
    if isinstance(value, ObjectValue):
        method = value.dunder(tr, "__format__") if conversion is None else None
        if isinstance(method, BoundMethod):
            return tr.call(method, [spec], {})
        if conversion is None and isinstance(spec, Const) and spec.value and \
                mro_lookup(value.cls.__mro__, "__format__")[0] is object:
            raise tr.observe(TypeError(f"unsupported format string passed to {value.cls.__name__}.__format__"))
        found = _object_text(tr, value, conversion)
        if found is None:
            raise Unsupported("format", f"the text of a {value.cls.__name__} is asked")
        value, conversion = found, None
    if isinstance(value, ClassValue):
        value = Const(value.raw)
    convert: Any = {"str": str, "repr": repr, "ascii": ascii, None: lambda v: v}[conversion]


    def shown(v: Any, s: Any) -> str:
        return format(convert(v), s)

    shown.__qualname__ = "a text that shows a value"              # what words about breaks call it
    return tr.fold(shown, [value, spec], {})


def _object_text(tr: Tracer, value: ObjectValue, conversion: str | None) -> Value | None:
    if value.args is not None and value.cls.__str__ in (BaseException.__str__, KeyError.__str__):
        show = repr if conversion == "repr" else str
        return tr.fold(lambda *args: show(value.cls.__new__(value.cls, *args)), value.args, {})
    for name in ("__repr__",) if conversion == "repr" else ("__str__", "__repr__"):
        method = value.dunder(tr, name)
        if isinstance(method, BoundMethod):
            return tr.call(method, [], {})
    return None


@on(list)
def _list(tr: Tracer, items: Value | None = None) -> Value:
    return ListValue(tr.unpack(items) if items is not None else [])


@on(tuple)
def _tuple(tr: Tracer, items: Value | None = None) -> Value:
    if isinstance(items, TupleValue) and items.cls is tuple:
        return items
    return TupleValue(tr.unpack(items) if items is not None else [])


@on(Size)
def _size(tr: Tracer, items: Value | None = None) -> Value:
    return TupleValue(tr.unpack(items) if items is not None else [], Size)


@on(tuple.__new__)
def _tuple_new(tr: Tracer, cls: Value, items: Value | None = None) -> Value:
    return TupleValue(tr.unpack(items) if items is not None else [], cls.as_python(tr))


@on(dict)
def _dict(tr: Tracer, other: Value | None = None, **kwargs: Value) -> Value:
    pairs = dict_pairs(tr, other) if other is not None else []
    return DictValue.make(tr, pairs + [(Const(k), v) for k, v in kwargs.items()])


@on(collections.OrderedDict)
def _ordered_dict(tr: Tracer, other: Value | None = None, **kwargs: Value) -> Value:
    pairs = dict_pairs(tr, other) if other is not None else []
    return DictValue.make(tr, pairs + [(Const(k), v) for k, v in kwargs.items()], collections.OrderedDict)


@on(collections.defaultdict)
def _defaultdict(tr: Tracer, factory: Value = NONE, other: Value | None = None, **kwargs: Value) -> Value:
    error = error_of(collections.defaultdict, factory.value) if isinstance(factory, Const) else None
    if error is not None:
        raise tr.observe(error)
    pairs = dict_pairs(tr, other) if other is not None else []
    new = DictValue.make(tr, pairs + [(Const(k), v) for k, v in kwargs.items()], collections.defaultdict)
    new.factory = None if isinstance(factory, Const) and factory.value is None else factory
    return new


@on(dict.fromkeys)
def _fromkeys(tr: Tracer, keys: Value, value: Value = NONE) -> Value:
    return DictValue.make(tr, [(k, value) for k in tr.unpack(keys)])


@on(set)
def _set(tr: Tracer, items: Value | None = None) -> Value:
    return _set_of(tr, items, set)


@on(frozenset)
def _frozenset(tr: Tracer, items: Value | None = None) -> Value:
    return _set_of(tr, items, frozenset)


def _set_of(tr: Tracer, items: Value | None, kind: type) -> Value:
    if kind is frozenset and isinstance(items, SetValue) and items.cls is frozenset:
        return items
    new = SetValue.make(tr, members(tr, items) if items is not None else [], kind)
    new.grown = new.grown and not isinstance(items, SetValue)
    return new


@on(slice)
def _slice(tr: Tracer, *parts: Value) -> Value:
    if not 1 <= len(parts) <= 3:
        raise tr.observe(error_of(slice, *[None] * len(parts)) or TypeError("slice"))
    if len(parts) == 1:
        parts = (NONE, parts[0])
    return SliceValue([*parts, *[NONE] * (3 - len(parts))])


@on(range)
def _range(tr: Tracer, *parts: Value) -> Value:
    found = [tr.index(p) for p in parts]
    try:
        return Const(range(*found))
    except (TypeError, ValueError) as error:
        raise tr.observe(error) from None


@on(object)
def _object(tr: Tracer) -> Value:
    return ObjectValue(object)


@on(object.__new__)
def _object_new(tr: Tracer, cls: Value, *args: Value, **kwargs: Value) -> Value:
    if not isinstance(cls, ClassValue):
        raise Unsupported("construct", "an object of an unknown class is made")
    return ObjectValue(cls.raw)


# --------------------------------------------------------------------------- numbers

@on(abs, operator.abs)
def _abs(tr: Tracer, value: Value) -> Value:
    if isinstance(value, TensorValue):
        return tr.call_pure(operator.abs, [value], {})
    if isinstance(value, ObjectValue):
        method = value.dunder(tr, "__abs__")
        if method is not None:
            return tr.call(method, [], {})
    return tr.fold(abs, [value], {})


@on(pow)
def _pow(tr: Tracer, base: Value, exponent: Value, *mod: Value) -> Value:
    return tr.fold(pow, [base, exponent, *mod], {}) if mod else tr.binary("**", base, exponent)


@on(divmod)
def _divmod(tr: Tracer, a: Value, b: Value) -> Value:
    return TupleValue([tr.binary("//", a, b), tr.binary("%", a, b)])


# --------------------------------------------------------------------------- operator, functools, itertools, ...

def _operator(symbol: str) -> Handler:
    return lambda tr, a, b: tr.binary(symbol, a, b)


for _name, _symbol in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
                       "matmul": "@", "and_": "&", "or_": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
                       "iadd": "+=", "isub": "-=", "imul": "*=", "itruediv": "/=", "imatmul": "@=", "ifloordiv": "//=",
                       "imod": "%=", "ipow": "**=", "iand": "&=", "ior": "|=", "ixor": "^="}.items():
    on(getattr(operator, _name))(_operator(_symbol))


def _comparison(symbol: str) -> Handler:
    return lambda tr, a, b: tr.compare(symbol, a, b)


for _name, _symbol in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    on(getattr(operator, _name))(_comparison(_symbol))


@on(operator.getitem)
def _getitem(tr: Tracer, owner: Value, key: Value) -> Value:
    return owner.getitem(tr, key)


@on(operator.setitem)
def _setitem(tr: Tracer, owner: Value, key: Value, value: Value) -> Value:
    owner.setitem(tr, key, value)
    return NONE


for _name, _symbol in {"neg": "-", "pos": "+", "invert": "~", "not_": "not"}.items():
    on(getattr(operator, _name))(lambda tr, value, symbol=_symbol: unary(tr, symbol, value))


@on(operator.truth)
def _truth(tr: Tracer, value: Value) -> Value:
    return Const(tr.truth(value))


@on(operator.is_)
def _is(tr: Tracer, a: Value, b: Value) -> Value:
    return Const(identical(tr, a, b))


@on(operator.is_not)
def _is_not(tr: Tracer, a: Value, b: Value) -> Value:
    return Const(not identical(tr, a, b))


@on(operator.contains)
def _contains(tr: Tracer, owner: Value, item: Value) -> Value:
    return Const(owner.contains(tr, item))


@on(operator.index)
def _index(tr: Tracer, value: Value) -> Value:
    return value if isinstance(value, SymValue) else tr.fold(operator.index, [value], {})


@on(functools.partial)
def _partial(tr: Tracer, fn: Value, *args: Value, **kwargs: Value) -> Value:
    if isinstance(fn, PartialValue):
        return PartialValue(fn.function, [*fn.args, *args], {**fn.kwargs, **kwargs})
    return PartialValue(fn, list(args), kwargs)


@on(functools.reduce)
def _reduce(tr: Tracer, fn: Value, items: Value, *initial: Value) -> Value:
    values = [*initial, *tr.unpack(items)]
    if not values:
        raise tr.observe(TypeError("reduce() of empty iterable with no initial value"))
    total = values[0]
    for item in values[1:]:
        total = tr.call(fn, [total, item], {})
    return total


def _looks_at_frames(name: str) -> Value:
    """Break at a call of something that looks at the frame it is called from."""
    why = f"{name}() is called, which looks at its caller's frame"
    error = Unsupported("frame", why, "call it outside the compiled function")
    error.native = True
    raise error


def _frame_handler(fn: Any) -> Handler:
    name = fn.__name__ if fn.__module__ == "builtins" else f"{fn.__module__.lstrip('_')}.{fn.__name__}"
    return lambda tr, *args, **kwargs: _looks_at_frames(name)


for _fn in (locals, eval, exec, dir, sys._getframe, inspect.currentframe, inspect.stack, warnings.warn):
    on(_fn)(_frame_handler(_fn))


@on(builtins.__build_class__)
def _build_class(tr: Tracer, body: Value, name: Value, *bases: Value, **kwargs: Value) -> Value:
    made = getattr(name, "value", "")
    raise Unsupported("class", f"the class {made} is made in the compiled function", "define classes outside")


@on(is_compiling)
def _is_compiling(tr: Tracer) -> Value:
    return Const(True)


@on(globals)
def _globals(tr: Tracer) -> Value:
    raise Unsupported("globals", "globals() is called", "read the global by its name")



