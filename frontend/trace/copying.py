"""`copy.copy` and `copy.deepcopy` of symbolic values."""
from __future__ import annotations

import copy
import types
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.builtins import on
from flambeau.frontend.trace.callables import BuiltinValue, FunctionValue
from flambeau.frontend.trace.mappings import DictValue, SetValue, dict_key
from flambeau.frontend.trace.objects import ClassValue, ModuleValue, ObjectValue
from flambeau.frontend.trace.overlaps import shows_all
from flambeau.frontend.trace.sequences import ListValue, SliceValue, TupleValue
from flambeau.frontend.trace.subclasses import ContentsObject
from flambeau.frontend.trace.trust import find
from flambeau.frontend.trace.values import Const, ScalarValue, SymValue, TensorValue, Unsupported, Value
from flambeau.ir.graph import Node, root_of

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

_SHARED = (Const, SymValue, ScalarValue, ClassValue, FunctionValue, BuiltinValue, ModuleValue)
_PROTOCOL = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__getnewargs_ex__", "__getnewargs__")


@on(copy.copy)
def _copy(tr: Tracer, value: Value) -> Value:
    if isinstance(value, (*_SHARED, TupleValue)):
        return value
    if isinstance(value, (ListValue, DictValue, SetValue)):
        return value.m_copy(tr)
    if isinstance(value, ObjectValue):
        method = value.dunder(tr, "__copy__")
        if method is not None:
            return tr.call(method, [], {})
        new = _empty_like(tr, value)
        new.attrs = {n: value.own_attribute(tr, n) for n in value.own_names(tr)}
        if isinstance(value, ContentsObject) and isinstance(new, ContentsObject):
            new.contents = _copy(tr, value.contents)
        return new
    raise Unsupported("copy", f"a {value.pytype().__name__} is copied")


@on(copy.deepcopy)
def _deepcopy(tr: Tracer, value: Value, memo: Value | None = None) -> Value:
    if memo is not None and not (isinstance(memo, _Memo) or isinstance(memo, Const)):
        raise Unsupported("copy", "deepcopy is given a memo", "let it make its own")
    return _deep(tr, value, memo if isinstance(memo, _Memo) else _Memo())


class _Memo(DictValue):
    """What `deepcopy` hands to `__deepcopy__`: the copies so far, by original. Nothing else can be done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[int, tuple[Value, Value]] = {}
        self.memories: dict[Node, TensorValue] = {}              # the tensors copied so far, by whose memory they show

    def getitem(self, tr: Tracer, key: Value) -> Value:
        raise Unsupported("copy", "the memo of deepcopy is looked into")

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        raise Unsupported("copy", "the memo of deepcopy is changed")


def _deep(tr: Tracer, value: Value, memo: _Memo) -> Value:
    if isinstance(value, _SHARED):
        return value
    known = memo.copies.get(id(value))
    if known is not None:
        return known[1]
    if isinstance(value, TupleValue):
        items = [_deep(tr, v, memo) for v in value.values(tr)]
        same = all(a is b for a, b in zip(items, value.values(tr)))
        return value if same else _remember(memo, value, TupleValue(items, value.cls))
    if isinstance(value, ListValue):
        new = value.like([])
        _remember(memo, value, new)
        new.method(tr, "extend", [TupleValue(_deep(tr, v, memo) for v in value.values(tr))], {})
        return new
    if isinstance(value, DictValue):
        return _deep_dict(tr, value, memo)
    if isinstance(value, SetValue):
        members = [_deep(tr, v, memo) for v in value.entries.values()]
        return _remember(memo, value, SetValue({dict_key(tr, v): v for v in members}, value.cls))
    if isinstance(value, SliceValue):
        return SliceValue([_deep(tr, p, memo) for p in value.parts])
    if isinstance(value, TensorValue) and not value.tensor.requires_grad:
        _own_memory(tr, value, memo)
        _refuse_own(tr, value)
        if not shows_all(tr, value.tensor.node):                  # type: ignore[attr-defined]
            raise Unsupported("copy", "a tensor that is a part of its memory is copied deeply, with all of it",
                              "clone() it, or copy it outside the compiled function")
        return _remember(memo, value, tr.call_pure(type(value.tensor).clone, [value], {}))    # type: ignore[attr-defined]
    if isinstance(value, ObjectValue):
        return _deep_object(tr, value, memo)
    raise Unsupported("copy", f"a {value.pytype().__name__} is copied deeply", "copy it outside the compiled function")


def _has_own(tensor: Any) -> bool:
    """Whether a copy of a tensor would have more than its data: attributes, or a gradient."""
    return bool(tensor.__dict__) or tensor._grad is not None


def _refuse_own(tr: Tracer, value: TensorValue) -> None:
    """What the program has set on a tensor is copied with it, which a clone does not."""
    outside = value.source is not None and _has_own(value.raw)
    if outside or tr.tensor_attrs.get(id(value)):
        raise Unsupported("copy", "a tensor with attributes of its own, or a gradient, is copied deeply",
                          "clone() it, or copy it outside the compiled function")
    if value.source is not None:
        tr.guard(value.source, (("no attributes", True), lambda w, v: f"not {w.constant(_has_own)}({v})",
                                "{} has no attributes of its own and no gradient"))


def _own_memory(tr: Tracer, value: TensorValue, memo: _Memo) -> None:
    """Copies of tensors that share memory share it too, which clones do not: such a copy is left to Python."""
    node = root_of(value.tensor.node)                             # type: ignore[attr-defined]
    outside = tr.inputs.get(node)
    for other in memo.memories:
        source, raw = tr.inputs.get(other, (None, None))
        if other is node or (outside is not None and raw is not None and raw._storage is outside[1]._storage):
            raise Unsupported("copy", "tensors that share memory are copied deeply", "copy them outside the compiled function")
        if outside is not None and source is not None:
            tr.guards.add(outside[0], ("own memory", source),
                          lambda w, v, s=source: f"{v}._storage is not {w.fetch(s)}._storage",       # type: ignore[misc]
                          "{} has memory of its own, not that of " + g.escape(str(source)), tr.where)
    memo.memories[node] = value


def _remember(memo: _Memo, value: Value, new: Value) -> Value:
    memo.copies[id(value)] = (value, new)
    return new


def _deep_dict(tr: Tracer, value: DictValue, memo: _Memo) -> Value:
    new = DictValue(cls=value.cls, factory=value.factory)
    _remember(memo, value, new)
    for k, v in value.pairs(tr):
        new.setitem(tr, _deep(tr, k, memo), _deep(tr, v, memo))
    return new


def _deep_object(tr: Tracer, value: ObjectValue, memo: _Memo) -> Value:
    method = value.dunder(tr, "__deepcopy__")
    if method is not None:
        return _remember(memo, value, tr.call(method, [memo], {}))
    new = _empty_like(tr, value)
    _remember(memo, value, new)
    if isinstance(value, ContentsObject) and isinstance(new, ContentsObject):
        new.contents = _deep(tr, value.contents, memo)
    for name in value.own_names(tr):
        own = value.own_attribute(tr, name)
        assert own is not None
        new.attrs[name] = _deep(tr, own, memo)
    return new


def _empty_like(tr: Tracer, value: ObjectValue) -> ObjectValue:
    """A new object of the same class, made past its `__init__`."""
    for name in _PROTOCOL:
        if isinstance(find(tr, value.cls, name)[1], types.FunctionType):
            raise Unsupported("copy", f"{value.cls.__name__} copies itself with {name}", "copy it outside the compiled function")
    if value.args is not None or any(c.__dict__.get("__slots__") for c in value.cls.__mro__):
        raise Unsupported("copy", f"a {value.cls.__name__} is copied", "copy it outside the compiled function")
    if isinstance(value, ContentsObject):
        return ContentsObject(value.cls, value.kind, value.contents)
    return ObjectValue(value.cls)
