"""The one way in for values from outside: `wrap` gives an object its symbolic value, with the guard that its use needs."""
from __future__ import annotations

import collections
import enum
import functools
import operator
import re
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import arrays, builtins, standard
from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.callables import (
    BoundBuiltin,
    BoundMethod,
    BuiltinValue,
    PartialValue,
    outside_function,
)
from flambeau.frontend.trace.deques import DequeValue
from flambeau.frontend.trace.higher_order import HigherOrder, takes_functions
from flambeau.frontend.trace.library import getter_from_outside
from flambeau.frontend.trace.mappings import DictValue, SetValue, dict_key
from flambeau.frontend.trace.objects import ClassValue, ModuleValue, ObjectValue, OpaqueValue, made_in_c
from flambeau.frontend.trace.sequences import ListValue, Pending, SliceValue, TupleValue
from flambeau.frontend.trace.shapes import SizeOf
from flambeau.frontend.trace.source import Attr, Constant, DictKey, Global, Item, Root, Source
from flambeau.frontend.trace.subclasses import builtin_base, wrap_contents
from flambeau.frontend.trace.tensors import ModeValue
from flambeau.frontend.trace.trust import TRUSTED, can_change, depend_on_code, is_trusted
from flambeau.frontend.trace.values import (
    Const,
    OutsideConst,
    ScalarValue,
    SymValue,
    TensorValue,
    Unsupported,
    Value,
)
from flambeau.ir.device import Device
from flambeau.ir.dtype import DType
from flambeau.ir.meta import TensorMeta
from flambeau.ir.tracing import GraphTensor
from flambeau.runtime.autograd import mode
from flambeau.runtime.tensor import Size, Tensor

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

_GETTERS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
_CONSTANT = (DType, Device, enum.Enum, re.Pattern, types.UnionType, types.GenericAlias, types.CodeType)
PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), type(NotImplemented), range)
_BUILTIN_TYPES = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
                  types.MethodWrapperType, types.GetSetDescriptorType, types.MemberDescriptorType,
                  types.ClassMethodDescriptorType, property, functools._lru_cache_wrapper, *arrays.KINDS)


def wrap(tr: Tracer, raw: Any, source: Source) -> Value:
    """The symbolic value of an outside object, with the guard that its use needs."""
    known = tr.known.get(id(raw))
    if known is not None:
        first = known.source
        if first is None:                                # (a bound method of a constant)
            tr.guard(source, g.is_object(raw))
        elif first != source:
            tr.guards.add(source, ("same", first), lambda w, v: f"{v} is {w.fetch(first)}",
                          "{} is " + g.escape(str(first)), tr.where)
        return known
    value = _wrap(tr, raw, source)
    if not isinstance(value, (Const, SymValue)):
        tr.known[id(raw)] = value
        tr.keep.append(raw)
    return value


def _wrap(tr: Tracer, raw: Any, source: Source) -> Value:
    cls = type(raw)
    if isinstance(raw, Tensor):
        bare = cls is not Tensor and hasattr(cls, "cls_to_become")      # a lazy layer's, without a shape as yet
        return _wrap_tensor(tr, raw, source) if not bare and not can_change(cls) else _wrap_subclass(tr, raw, source)
    if cls is int and tr.dynamic(source, None, raw, raw):
        tr.guard(source, g.is_type(int))
        return SymValue(tr.shapes.symbol(raw, SizeOf(source, None)), source)
    if cls is float and tr.dynamic(source, None, raw, raw):
        tr.guard(source, g.is_type(float))
        return ScalarValue(raw, "{}", [], source)
    if cls in PLAIN:
        if not isinstance(source, Root):
            tr.guard(source, g.exists())
        return OutsideConst(raw, source, tr)
    if isinstance(raw, _CONSTANT) or getattr(cls, "__flambeau_constant__", False):
        tr.guard(source, g.equals(raw) if isinstance(raw, Device) else g.is_object(raw))
        return Const(raw, source)
    if isinstance(raw, type):
        tr.guard(source, g.is_object(raw))
        return ClassValue(raw, source)
    if cls is weakref.ref:
        tr.guard(source, g.is_type(cls))
        return standard.wrap_reference(tr, raw, source)
    if cls in _GETTERS:
        tr.guard(source, g.is_object(raw))
        return getter_from_outside(tr, raw)
    handler = _WRAPPERS.get(cls)
    if handler is not None:
        return handler(tr, raw, source)
    if isinstance(raw, tuple) and cls.__iter__ is tuple.__iter__ and cls.__getitem__ in (tuple.__getitem__,
                                                                                        Size.__getitem__):
        return _wrap_tuple(tr, raw, source)
    if raw is mode:
        return ModeValue(source)
    if builtins.is_pure(raw) or isinstance(raw, _BUILTIN_TYPES):
        tr.guard(source, g.is_object(raw))
        return BuiltinValue(raw, source)
    return _wrap_object(tr, raw, source)


def _wrap_object(tr: Tracer, raw: Any, source: Source) -> Value:
    cls = type(raw)
    tr.guard(source, g.is_type(cls))
    kind = builtin_base(cls)
    if kind is not None:
        return wrap_contents(tr, raw, kind, source)
    written_in_python = bool(cls.__flags__ & (1 << 9)) and not isinstance(raw, (list, dict, set, str, int, float)) \
        and not made_in_c(cls) or cls is types.SimpleNamespace
    return ObjectValue(cls, raw, source) if written_in_python else OpaqueValue(raw, source)


def _wrap_tensor(tr: Tracer, raw: Any, source: Source) -> Value:
    shape: list[Any] = list(raw.shape)
    symbols = {}
    for k, n in enumerate(shape):
        if tr.dynamic(source, k, n, raw):
            shape[k] = symbols[k] = tr.shapes.symbol(n, SizeOf(source, k))
    tr.guard(source, g.is_tensor(raw, symbols))
    node = tr.graph.input(_stem(source), TensorMeta(tuple(shape), raw.dtype, raw.device), bool(raw.requires_grad),
                            tr.where())
    tr.inputs[node] = (source, raw)
    tensor = GraphTensor(node)
    value = TensorValue(tensor, type(raw), source, raw)
    tr.tensors[id(tensor)] = value
    return value


def _wrap_subclass(tr: Tracer, raw: Tensor, source: Source) -> Value:
    """A tensor of a class of the program: its ops may do anything, so they run as they are."""
    tr.guard(source, g.is_type(type(raw)))
    return OpaqueValue(raw, source)


def _wrap_tuple(tr: Tracer, raw: tuple[Any, ...], source: Source) -> Value:
    tr.guard(source, g.is_type(type(raw)))
    tr.guard(source, g.has_length(len(raw)))
    return TupleValue([Pending(v, Item(source, k)) for k, v in enumerate(raw)], type(raw), source)


def _wrap_list(tr: Tracer, raw: Any, source: Source) -> Value:
    tr.guard(source, g.is_type(type(raw)))
    items = [Pending(v, Item(source, k)) for k, v in enumerate(raw)]
    if isinstance(raw, collections.deque):
        tr.guard(Attr(source, "maxlen"), g.equals(raw.maxlen))
        return DequeValue(items, source, raw.maxlen)
    return ListValue(items, source, type(raw))


def _wrap_dict(tr: Tracer, raw: Any, source: Source) -> Value:
    tr.guard(source, g.is_type(type(raw)))
    if "__builtins__" in raw:                        # a module's globals, which the trace knows by their names
        return OpaqueValue(raw, source)
    factory = getattr(raw, "default_factory", None)
    return DictValue(raw, source, type(raw),
                     None if factory is None else tr.wrap(factory, Attr(source, "default_factory")))


def _wrap_set(tr: Tracer, raw: Any, source: Source) -> Value:
    tr.guard(source, g.is_type(type(raw)))
    if all(type(v) in PLAIN for v in raw):
        tr.guard(source, _equals_set(raw))
        return SetValue({v: Const(v) for v in raw}, type(raw), source)
    tr.guard(source, g.has_length(len(raw)))
    members = [tr.wrap(v, DictKey(source, k)) for k, v in enumerate(raw)]
    return SetValue({dict_key(tr, v): v for v in members}, type(raw), source)


def _wrap_slice(tr: Tracer, raw: slice, source: Source) -> Value:
    tr.guard(source, g.is_type(slice))
    return SliceValue([tr.wrap(getattr(raw, n), Attr(source, n)) for n in ("start", "stop", "step")])


def _wrap_function(tr: Tracer, raw: types.FunctionType, source: Source) -> Value:
    if builtins.knows(raw):
        tr.guard(source, g.is_object(raw))
        return BuiltinValue(raw, source)
    if takes_functions(raw):
        tr.guard(source, g.is_object(raw))
        return HigherOrder(raw, source)
    original = getattr(raw, "__flambeau_original__", None)
    if tr.is_fixed(source):
        tr.guard(source, g.is_object(raw))
        depend_on_code(tr, raw, source)
    else:
        tr.guard(source, g.is_type(types.FunctionType))
        code = raw.__code__
        tr.guard(source, (("code", id(code)), lambda w, v: f"{v}.__code__ is {w.constant(code)}",
                            f"{{}} runs {code.co_name}"))
        if code.co_names:                                         # the same code may run in another namespace
            tr.guard(Attr(source, "__globals__"), g.is_object(raw.__globals__))
    if original is not None:
        return tr.wrap(original, Attr(source, "__flambeau_original__"))
    return outside_function(tr, raw, source)


def _wrap_method(tr: Tracer, raw: types.MethodType, source: Source) -> Value:
    tr.guard(source, g.is_type(types.MethodType))
    return BoundMethod(tr.wrap(raw.__func__, Attr(source, "__func__")),
                       tr.wrap(raw.__self__, Attr(source, "__self__")), source)


def _wrap_builtin(tr: Tracer, raw: Any, source: Source) -> Value:
    owner = raw.__self__
    if owner is None or isinstance(owner, (types.ModuleType, type)):
        tr.guard(source, g.is_object(raw))
        return BuiltinValue(raw, source)
    tr.guard(source, g.is_type(type(raw)))
    tr.guard(Attr(source, "__name__"), g.equals(raw.__name__))
    return BoundBuiltin(tr.wrap(owner, Attr(source, "__self__")), raw.__name__)


def _wrap_partial(tr: Tracer, raw: Any, source: Source) -> Value:
    tr.guard(source, g.is_type(type(raw)))
    args = tr.unpack(tr.wrap(raw.args, Attr(source, "args")))
    keywords = tr.wrap(raw.keywords, Attr(source, "keywords"))
    assert isinstance(keywords, DictValue)
    pairs = {k.as_python(tr): v for k, v in keywords.pairs(tr)}
    return PartialValue(tr.wrap(raw.func, Attr(source, "func")), args, pairs, source)


def _wrap_module(tr: Tracer, raw: types.ModuleType, source: Source) -> Value:
    tr.guard(source, g.is_object(raw))
    if not is_trusted(raw.__name__):
        tr.guards.add(source, *g.is_type(types.ModuleType), tr.where)         # its class may be assigned
    return ModuleValue(raw, source)


def _wrap_cell(tr: Tracer, raw: types.CellType, source: Source) -> Value:
    return tr.outside_cell(raw, source)


def wrap_global(tr: Tracer, raw: Any, source: Source, module: str) -> Value:
    """A global of a module; functions and classes of trusted modules need no guard."""
    package = module.split(".")[0]
    if package in TRUSTED and isinstance(source, Global) and isinstance(source.base, Constant):
        tr.assumed.append((source.base.value, source.name, raw))
    if package == "flambeau" and isinstance(raw, tuple) and isinstance(source, Global) and source.name.isupper():
        return tr.constant(raw)
    if package in TRUSTED and isinstance(source, Global) and (callable(raw) or isinstance(raw, types.ModuleType)) \
            and not isinstance(raw, Tensor) and not hasattr(type(raw), "forward"):
        source = Constant(raw, str(source))
    return tr.wrap(raw, source)


def outside_attribute(tr: Tracer, value: Any, name: str) -> Value:
    """An attribute of a real function or other object, by its source."""
    if not hasattr(value.raw, name):
        tr.guard_absent(value.source, name)
        raise tr.observe(AttributeError(f"'{value.pytype().__name__}' object has no attribute '{name}'"))
    return tr.wrap(getattr(value.raw, name), Attr(value.source, name))


class GlobalsValue(Value):
    """A module's namespace."""

    mutable = True

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space
        self.module = str(space.get("__name__", ""))
        self.at = self.source = Constant(space, f"globals of {self.module}")
        self.stored: dict[str, Value | None] = {}
        self.read: dict[str, Value] = {}

    def pytype(self) -> type:
        return dict

    def load(self, tr: Tracer, name: str) -> Value:
        if name in self.stored:
            found = self.stored[name]
            if found is None:
                raise tr.observe(NameError(f"name '{name}' is not defined"))
            return found
        if name in self.read:
            return self.read[name]
        if name in self.space:
            value = tr.wrap_global(self.space[name], Global(self.at, name), self.module)
        else:
            scope = self.space.get("__builtins__", {})
            scope = scope if isinstance(scope, dict) else vars(scope)
            at = Constant(scope, "builtins")
            if not is_trusted(self.module):
                tr.guard(self.at, g.contains(name, False))
            if name not in scope:
                tr.guard(at, g.contains(name, False))
                raise tr.observe(NameError(f"name '{name}' is not defined"))
            tr.assumed.append((scope, name, scope[name]))
            value = tr.wrap(scope[name], Constant(scope[name], name) if is_trusted(self.module) else Global(at, name))
        self.read[name] = value
        return value

    def store(self, tr: Tracer, name: str, value: Value | None) -> None:
        if is_trusted(self.module):                    # ops called while tracing would not see it
            raise Unsupported("effect", f"a setting of the library is changed ({self.module}.{name})",
                              "set it before the compiled function is called")
        tr.effects.touch(self)
        self.stored[name] = value


def _equals_set(raw: set[Any]) -> tuple[Any, Any, str]:
    frozen = frozenset(raw)
    text = f"{{}} has {len(frozen)} given elements"
    if all(type(x) in (str, bytes) for x in frozen):
        return ("set", frozen), lambda w, v: f"{v} == {w.constant(frozen)}", text
    exact, how = g.parts(frozen)
    return ("set", exact), lambda w, v: f"len({v}) == {len(frozen)} and {how(w, v)}", text


def _stem(source: Source) -> str:
    """Name of a graph input: `x`, `conv1_weight` for `self._modules['conv1'].weight`."""
    if isinstance(source, Root):
        return source.name
    return re.sub(r"^self_|_modules_|_parameters_|_buffers_", "", re.sub(r"\W+", "_", str(source)))


_WRAPPERS: dict[type, Callable[[Tracer, Any, Source], Value]] = {
    tuple: _wrap_tuple, list: _wrap_list, collections.deque: _wrap_list,
    dict: _wrap_dict, collections.OrderedDict: _wrap_dict, collections.defaultdict: _wrap_dict,
    set: _wrap_set, frozenset: _wrap_set, slice: _wrap_slice,
    types.FunctionType: _wrap_function, types.MethodType: _wrap_method,
    types.BuiltinFunctionType: _wrap_builtin, types.MethodWrapperType: _wrap_builtin,
    functools.partial: _wrap_partial, types.ModuleType: _wrap_module, types.CellType: _wrap_cell,
}


