"""Attributes of symbolic tensors, and the thread's autograd mode."""
from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.callables import BoundBuiltin, BoundMethod
from flambeau.frontend.trace.objects import ObjectValue, bind_attribute
from flambeau.frontend.trace.sequences import TupleValue
from flambeau.frontend.trace.source import Attr
from flambeau.frontend.trace.trust import MISSING, depend_on_method, is_trusted, mro_lookup
from flambeau.frontend.trace.values import LAYOUT_METHODS, NEEDS_DATA, TAPE_METHODS, Const, TensorValue, Unsupported, Value
from flambeau.runtime.autograd import mode
from flambeau.runtime.tensor import Size, is_replaced

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

def tensor_attribute(tr: Tracer, value: TensorValue, name: str) -> Value:
    """What `tensor.name` gives: facts of the symbolic tensor, op methods, or the real tensor's own state."""
    if name == "__class__":
        return tr.class_value(value.cls)
    if name in value_attrs(tr, value):
        return value_attrs(tr, value)[name]
    own = depend_on_method(tr, value.cls, name)
    owner = mro_lookup(value.cls.__mro__, name)[0]
    if is_replaced(value.cls, name) and owner is not None:
        return bind_attribute(tr, owner, name, own, value, tr.class_value(value.cls))
    if name == "shape":
        return shape_of(tr, value)
    if name in NEEDS_DATA or name in TAPE_METHODS or name in LAYOUT_METHODS:
        return BoundBuiltin(value, name)
    found = getattr(type(value.tensor), name, None)
    if isinstance(own, (types.FunctionType, property)) and owner is not None and _is_the_programs(own):
        return bind_attribute(tr, owner, name, own, value, tr.class_value(value.cls))
    if found is not None and callable(found):
        return BoundBuiltin(value, name)
    if name in ("requires_grad", "is_leaf") and _may_be_copy(value.tensor):
        raise Unsupported("tensor-attribute", f"Tensor.{name} is read of what may be a copy, after a write to what it is made of",
                          "use view() for a view, clone() for a copy")
    if name in ("grad", "is_leaf") and value.source is None:
        return tr.tape.fact(value, name)
    if name == "data":
        return tr.call_pure(value.tensor.detach, [], {})          # type: ignore[attr-defined]
    if found is None and value.source is not None and not (callable(own) and not isinstance(own, type)):
        return _outside(tr, value, name)
    if found is not None:
        return tr.from_python(tr.call_host(getattr, value.tensor, name))
    if isinstance(own, types.FunctionType) and owner is not None and getattr(own, "__flambeau_inline__", False):
        return BoundMethod(bind_attribute(tr, owner, name, own, None, tr.class_value(value.cls)), value)
    if isinstance(own, types.FunctionType):
        return BoundBuiltin(value, name)                         # the call is the break
    if own is MISSING and found is None:
        raise tr.observe(AttributeError(f"'{value.cls.__name__}' object has no attribute '{name}'"))
    raise Unsupported("tensor-attribute", f"Tensor.{name} is not known while tracing")


def _may_be_copy(tensor: Any) -> bool:
    """Whether only the run knows if a tensor came onto the tape with what it may be a view of."""
    while tensor is not None:
        base = getattr(tensor, "base", None)
        made = base is not None and not tensor._recorded and base.requires_grad
        if made and "maybe_copy" in tensor.node.op.tags:
            return True
        tensor = base
    return False


def _is_the_programs(method: types.FunctionType | property) -> bool:
    """Whether a method of Tensor was put there by the program."""
    function = method.fget if isinstance(method, property) else method
    return isinstance(function, types.FunctionType) and not is_trusted(function.__module__)


def shape_of(tr: Tracer, value: TensorValue) -> Value:
    return TupleValue([tr.constant(n) for n in value.tensor.shape], Size)


def _outside(tr: Tracer, value: TensorValue, name: str) -> Value:
    """State that only the real tensor has: `grad`, `grad_fn`, user attributes."""
    if not hasattr(value.raw, name):
        tr.guard_absent(value.source, name)
        raise tr.observe(AttributeError(f"'{value.cls.__name__}' object has no attribute '{name}'"))
    assert value.source is not None
    if name in _OF_THE_TAPE and any(node.op is not None and node.op.mutates for node in tr.graph.nodes):
        raise Unsupported("tensor-attribute", f"Tensor.{name} is read after a write, which only happens when the graph runs")
    return tr.wrap(getattr(value.raw, name), Attr(value.source, name))


_OF_THE_TAPE = {"_version", "grad_fn", "output_nr", "_base", "is_leaf"}


def value_attrs(tr: Tracer, value: TensorValue) -> dict[str, Value]:
    """Attributes stored by the traced code."""
    return tr.tensor_attrs.setdefault(id(value), {})


_STORABLE = {"grad"}


def set_tensor_attribute(tr: Tracer, value: TensorValue, name: str, new: Value) -> None:
    """`tensor.name = new`; only attributes without meaning to the tape, and `grad` of tensors from outside."""
    if name == "requires_grad":
        tr.tape.method(value, "requires_grad_", [new], {})
        return
    known = hasattr(value.cls, name)
    if known and (value.source is None or name not in _STORABLE):
        raise Unsupported("tensor-store", f"Tensor.{name} is assigned")
    tr.effects.touch(value)
    value_attrs(tr, value)[name] = new


class ModeValue(ObjectValue):
    """`runtime.autograd.mode`: grad and inference mode of the thread, as the traced code sees them."""

    def __init__(self, source: Any) -> None:
        super().__init__(type(mode), mode, source)
        self.now = {"grad": mode.grad, "inference": mode.inference}

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name == "autocast":
            return tr.from_python(tr.autocast)
        return Const(self.now[name]) if name in self.now else super().getattr(tr, name)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        if name == "autocast":
            tr.effects.touch(self)
            tr.autocast = value.as_python(tr)
            return
        if name != "grad" or not isinstance(value, Const):
            raise Unsupported("autograd-mode", f"autograd mode {name!r} is set")
        tr.effects.touch(self)
        self.now[name] = tr.builder.grad_enabled = bool(value.value)
        if tr.transform is not None:
            mode.grad = self.now[name]                            # which the running transform reads
