"""`is` of numbers and texts: equal ones may be one object or two, so which it was is guarded. `is` of tensors that ops may return
as they are."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import drawing
from flambeau.frontend.trace.guards import escape
from flambeau.frontend.trace.values import Const, OutsideConst, TensorValue, Value
from flambeau.ir.tracing import GraphTensor

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


def identical(tr: Tracer, a: Value, b: Value) -> bool:
    """`a is b`, as the program asks it."""
    if isinstance(a, TensorValue) and isinstance(b, TensorValue) and a is not b:
        return tr.same(a, b) or _one_tensor(tr, a.tensor, b.tensor)
    if a is b or not (isinstance(a, Const) and isinstance(b, Const)) or _is_only_one(a.value) or _is_only_one(b.value):
        return tr.same(a, b)
    outside = [v for v in (a, b) if isinstance(v, OutsideConst)]
    if not outside or type(a.value) is not type(b.value) or (a.value != b.value and a.value == a.value):
        return tr.same(a, b)
    return _guarded(tr, outside, a.value is b.value, b.value if outside[0] is a else a.value)


def _one_tensor(tr: Tracer, a: Any, b: Any) -> bool:
    """Whether one of two tensors of the trace is the other by way of ops that may return what they are given."""
    nodes = {x.node for x in (a, b) if isinstance(x, GraphTensor)}
    if len(nodes) < 2 or not any(n.op is not None and "maybe_self" in n.op.tags for n in nodes):
        return False
    return len({drawing.itself(tr, n) for n in nodes}) == 1


def same_nan(tr: Tracer, a: Const, b: Const) -> bool:
    """`is` of two NaNs, which are in one list, or equal as parts of a tuple, by their identity alone."""
    outside = [v for v in (a, b) if isinstance(v, OutsideConst)]
    return _guarded(tr, outside, a.value is b.value, b.value if outside[0] is a else a.value) if outside else a.value is b.value


def _guarded(tr: Tracer, outside: list[OutsideConst], answer: bool, constant: Any) -> bool:
    first, other = outside[0].source, outside[1].source if len(outside) == 2 else None
    assert first is not None
    word = "is" if answer else "is not"
    if other is not None:
        tr.guards.add(first, ("same" if answer else "differs", other), lambda w, v: f"{v} {word} {w.fetch(other)}",
                      f"{{}} {word} " + escape(str(other)), tr.where)
    else:
        tr.guards.add(first, ("identity", word, id(constant)), lambda w, v: f"{v} {word} {w.constant(constant)}",
                      f"{{}} {word} this very {escape(repr(constant))}", tr.where)
    return answer


def _is_only_one(value: Any) -> bool:
    """Whether Python has one object for this value."""
    kind = type(value)
    return value is None or kind is bool or (kind is int and -5 <= value <= 256) or (kind in (str, bytes, tuple) and not value) \
        or kind not in (int, float, complex, str, bytes, tuple, frozenset, range)
