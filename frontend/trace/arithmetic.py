"""Operators over symbolic values."""
from __future__ import annotations

import operator
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.computed import decision
from flambeau.frontend.trace.mappings import DictValue, DictView, SetValue, dict_pairs
from flambeau.frontend.trace.numbers import decide
from flambeau.frontend.trace.objects import ClassValue, ObjectValue
from flambeau.frontend.trace.sequences import ListValue, TupleValue
from flambeau.frontend.trace.trust import depend_on_operator, find
from flambeau.frontend.trace.values import ZERO, Const, ScalarValue, SymValue, TensorValue, Unsupported, Value
from flambeau.runtime.tensor import Size

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

_BINARY: dict[str, tuple[Callable[..., Any], str]] = {
    "+": (operator.add, "add"), "-": (operator.sub, "sub"), "*": (operator.mul, "mul"),
    "/": (operator.truediv, "truediv"), "//": (operator.floordiv, "floordiv"), "%": (operator.mod, "mod"),
    "**": (operator.pow, "pow"), "@": (operator.matmul, "matmul"), "&": (operator.and_, "and"),
    "|": (operator.or_, "or"), "^": (operator.xor, "xor"), "<<": (operator.lshift, "lshift"),
    ">>": (operator.rshift, "rshift"),
}
_INPLACE: dict[str, Callable[..., Any]] = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv,
    "%=": operator.imod, "**=": operator.ipow, "@=": operator.imatmul, "&=": operator.iand, "|=": operator.ior,
    "^=": operator.ixor, "<<=": operator.ilshift, ">>=": operator.irshift,
}
_COMPARE: dict[str, tuple[Callable[..., Any], str, str]] = {
    "==": (operator.eq, "__eq__", "__eq__"), "!=": (operator.ne, "__ne__", "__ne__"),
    "<": (operator.lt, "__lt__", "__gt__"), "<=": (operator.le, "__le__", "__ge__"),
    ">": (operator.gt, "__gt__", "__lt__"), ">=": (operator.ge, "__ge__", "__le__"),
}
_UNARY: dict[str, tuple[Callable[..., Any], str]] = {
    "-": (operator.neg, "__neg__"), "+": (operator.pos, "__pos__"), "~": (operator.invert, "__invert__"),
}
_PLAIN = (Const, SymValue, ScalarValue)


def binary(tr: Tracer, op: str, a: Value, b: Value) -> Value:
    """`a op b`, `op` being "+", ... or "+=", ..."""
    plain_op = op.removesuffix("=")
    if isinstance(a, ObjectValue) or isinstance(b, ObjectValue):
        word = _BINARY[plain_op][1]
        a, b = a.plain(tr, f"__{word}__", f"__i{word}__"), b.plain(tr, f"__r{word}__")
    if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
        if plain_op in ("//", "%") and isinstance(b, SymValue) and not tr.truth(compare(tr, ">", b, ZERO)):
            b = Const(tr.index(b))                   # the sign of a divisor is known; zero raises
        known = op != plain_op and isinstance(a, Const) and isinstance(b, Const)
        return tr.fold(_INPLACE[op] if known else _BINARY[plain_op][0], [a, b], {})
    of_arrays = getattr(a, "operator", None) or getattr(b, "operator", None)
    if of_arrays is not None:
        return of_arrays(tr, op, _BINARY[plain_op][0], a, b)
    word = _BINARY[plain_op][1]
    if op == "|=" and isinstance(a, DictValue) and not isinstance(b, DictValue):
        a.m_update(tr, b)                            # from anything that gives pairs
        return a
    if op == "+=" and isinstance(a, ListValue):
        a.m_extend(tr, b)
        return a
    if plain_op == "%" and isinstance(a, Const) and isinstance(a.value, (str, bytes)):
        return tr.fold(operator.mod, [a, b], {})     # formatting
    if _defines(a, f"__{word}__", f"__i{word}__") or _defines(b, f"__r{word}__"):
        return _object_binary(tr, op, plain_op, a, b)
    if isinstance(a, TensorValue) or isinstance(b, TensorValue):
        depend_on_operator(tr, [a], f"__{'i' if op != plain_op else ''}{word}__")
        depend_on_operator(tr, [b] if not isinstance(a, TensorValue) else [], f"__r{word}__")
        return tr.call_pure(_INPLACE[op] if op != plain_op and isinstance(a, TensorValue) else _BINARY[plain_op][0],
                            [a, b], {})
    found = _container_binary(tr, op, plain_op, a, b)
    if found is not None:
        return found
    if op == "|" and (isinstance(a, ClassValue) or isinstance(b, ClassValue)):
        return tr.fold(operator.or_, [a, b], {})
    if not _both_known(a, b):
        raise Unsupported("operator", f"{op} between a {a.pytype().__name__} and a {b.pytype().__name__}")
    raise _refused(tr, op, a, b)


def _both_known(a: Value, b: Value) -> bool:
    return all(isinstance(v, (Const, ListValue, TupleValue, DictValue, SetValue)) for v in (a, b))


def _container_binary(tr: Tracer, op: str, plain_op: str, a: Value, b: Value) -> Value | None:
    inplace = op != plain_op
    if plain_op == "+" and isinstance(a, ListValue) and inplace:
        a.m_extend(tr, b)
        return a
    if plain_op == "+" and isinstance(a, ListValue) and isinstance(b, ListValue) and a.cls is b.cls:
        return a.joined(tr, a.values(tr) + b.values(tr))
    if plain_op == "+" and isinstance(a, TupleValue) and isinstance(b, TupleValue):
        return TupleValue(a.values(tr) + b.values(tr), Size if Size in (a.cls, b.cls) else tuple)
    if plain_op == "*":
        for seq, count in ((a, b), (b, a)):
            if isinstance(seq, (ListValue, TupleValue)) and isinstance(count, _PLAIN) and hasattr(count.pytype(), "__index__"):
                items = seq.values(tr) * tr.index(count)
                if inplace and isinstance(seq, ListValue) and seq is a:
                    tr.effects.touch(seq)
                    seq.items[:] = items
                    return seq
                if isinstance(seq, ListValue):
                    return seq.joined(tr, items)
                return TupleValue(items, Size if seq.cls is Size else tuple)
    if plain_op == "|" and isinstance(a, DictValue) and isinstance(b, DictValue):
        if inplace:
            a.m_update(tr, b)
            return a
        kind = b if a.cls is not b.cls and issubclass(b.cls, a.cls) else a         # a subclass answers first
        new = DictValue.make(tr, dict_pairs(tr, a) + dict_pairs(tr, b), kind.cls)
        new.factory = kind.factory
        return new
    if isinstance(a, (SetValue, DictView)) and isinstance(b, (SetValue, DictView)):
        left = a if isinstance(a, SetValue) else SetValue.make(tr, tr.unpack(a))
        keep: Any = {"|": set.union, "&": set.intersection, "-": set.difference, "^": set.symmetric_difference}.get(plain_op)
        if keep is not None:
            result = left.combine(tr, b, keep)
            if inplace and isinstance(a, SetValue) and a.cls is set:
                tr.effects.touch(a)
                a.entries = result.entries
                return a
            return result
    return None


def _try_dunder(tr: Tracer, owner: Value, name: str, other: Value) -> Value | None:
    """Result of a special method, or None if there is none or it returns NotImplemented."""
    method = owner.dunder(tr, name) if isinstance(owner, ObjectValue) else _tuple_method(tr, owner, name)
    if method is None:
        return None
    result = tr.call(method, [other], {})
    return None if isinstance(result, Const) and result.value is NotImplemented else result


def _tuple_method(tr: Tracer, owner: Value, name: str) -> Value | None:
    """An operator that a namedtuple's class defines in Python."""
    if not isinstance(owner, TupleValue) or owner.cls in (tuple, Size) or not isinstance(
            find(tr, owner.cls, name)[1], FunctionType):
        return None
    return owner.getattr(tr, name)


def _defines(value: Value, *names: str) -> bool:
    """Whether one of these operators may be the program's own."""
    return isinstance(value, ObjectValue) or isinstance(value, TupleValue) and value.cls not in (tuple, Size) and \
        any(isinstance(getattr(value.cls, name, None), FunctionType) for name in names)


def _object_binary(tr: Tracer, op: str, plain_op: str, a: Value, b: Value) -> Value:
    name = _BINARY[plain_op][1]
    attempts = [(a, f"__{name}__", b), (b, f"__r{name}__", a)]
    if a.pytype() is not b.pytype() and issubclass(b.pytype(), a.pytype()):
        attempts.reverse()
    if op != plain_op:
        attempts.insert(0, (a, f"__i{name}__", b))
    for owner, method, other in attempts:
        found = _try_dunder(tr, owner, method, other)
        if found is not None:
            return found
    if plain_op == "|" and op == plain_op and issubclass(a.pytype(), dict) and issubclass(b.pytype(), dict):
        new = DictValue.make(tr, dict_pairs(tr, a) + dict_pairs(tr, b), b.cls if isinstance(b, DictValue) else dict)
        new.factory = b.factory if isinstance(b, DictValue) else None
        return new
    raise _refused(tr, op, a, b)


def _refused(tr: Tracer, op: str, a: Value, b: Value) -> Exception:
    """What Python raises for an operator that neither type has for the other."""
    function = _INPLACE[op] if op in _INPLACE else _BINARY[op][0] if op in _BINARY else _COMPARE[op][0]
    return tr.refuse_operator(function, a, b)


def compare(tr: Tracer, op: str, a: Value, b: Value) -> Value:
    """`a op b` for the six comparisons."""
    real, name, mirrored = _COMPARE[op]
    if isinstance(a, ObjectValue) or isinstance(b, ObjectValue):
        a, b = a.plain(tr, name), b.plain(tr, mirrored)
    if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
        if isinstance(a, ScalarValue) or isinstance(b, ScalarValue):
            decided = decide(tr, real, op, a, b) or decision(tr, real, op, a, b)
            if decided is not None:
                return decided
        return tr.fold(real, [a, b], {})
    if isinstance(a, TensorValue) or isinstance(b, TensorValue):
        return _tensor_compare(tr, op, real, a, b)
    if _defines(a, name) or _defines(b, mirrored):
        found = _try_dunder(tr, a, name, b) or _try_dunder(tr, b, mirrored, a)
        if found is None and op == "!=":
            equal = _try_dunder(tr, a, "__eq__", b) or _try_dunder(tr, b, "__eq__", a)
            found = None if equal is None else Const(not tr.truth(equal))
        if found is not None:
            return found
        if op in ("==", "!="):
            return Const(tr.same(a, b) == (op == "=="))
        raise _refused(tr, op, a, b)
    if op in ("==", "!="):
        return Const(equal_values(tr, a, b) == (op == "=="))
    return _order(tr, op, real, a, b)


def _tensor_compare(tr: Tracer, op: str, real: Callable[..., Any], a: Value, b: Value) -> Value:
    if op in ("==", "!=") and not all(isinstance(v, (TensorValue, *_PLAIN)) and not _is_odd(v) for v in (a, b)):
        return Const(op == "!=")                     # a tensor is never equal to None, a string, a list...
    _, name, mirrored = _COMPARE[op]
    depend_on_operator(tr, [a], name)
    depend_on_operator(tr, [b] if not isinstance(a, TensorValue) else [], mirrored)
    given: list[Value] = [tr.number_tensor(v) if isinstance(v, SymValue) else v for v in (a, b)]
    return tr.call_pure(real, given, {})             # a symbolic int would answer `==` itself


def _is_odd(value: Value) -> bool:
    return isinstance(value, Const) and not isinstance(value.value, (int, float, complex, bool))


#: values whose equality is decided here; of any other it is identity, or its class decides
_COMPARED_HERE = (Const, SymValue, ScalarValue, ListValue, TupleValue, DictValue, DictView, SetValue, TensorValue, ObjectValue)


def equal_values(tr: Tracer, a: Value, b: Value) -> bool:
    """`==` of values of built-in types."""
    for value in (a, b):
        if not isinstance(value, _COMPARED_HERE) and value.pytype().__eq__ is not object.__eq__:
            raise Unsupported("operator", f"== asks the class {value.pytype().__name__}, which is written in C")
    if a is b:
        return True
    for kind in (ListValue, TupleValue):
        if isinstance(a, kind) and isinstance(b, kind):
            left, right = a.values(tr), b.values(tr)
            return len(left) == len(right) and all(
                tr.same(x, y) or tr.truth(tr.compare("==", x, y)) for x, y in zip(left, right))
    if isinstance(a, DictValue) and isinstance(b, DictValue):
        if a.length(tr) != b.length(tr):
            return False
        for key, value in a.pairs(tr):
            other = b.lookup(tr, key)
            if other is None or not (tr.same(value, other) or tr.truth(tr.compare("==", value, other))):
                return False
        return True
    if isinstance(a, (SetValue, DictView)) and isinstance(b, (SetValue, DictView)):
        return a.length(tr) == b.length(tr) and all(b.contains(tr, v) for v in _members(tr, a))
    simple = (Const, SymValue, ListValue, TupleValue, DictValue, SetValue)
    if isinstance(a, simple) and isinstance(b, simple):
        return False
    return tr.same(a, b)


def _members(tr: Tracer, value: Value) -> list[Value]:
    return list(value.entries.values()) if isinstance(value, SetValue) else tr.unpack(value)


def _order(tr: Tracer, op: str, real: Callable[..., Any], a: Value, b: Value) -> Value:
    if isinstance(a, (ListValue, TupleValue)) and type(a) is type(b):
        for x, y in zip(a.values(tr), b.values(tr)):                      # type: ignore[attr-defined]
            if not tr.truth(tr.compare("==", x, y)):
                return tr.compare(op, x, y)
        return Const(real(a.length(tr), b.length(tr)))
    if isinstance(a, SetValue) and isinstance(b, SetValue):
        return Const(real(set(a.entries), set(b.entries)))
    if not _both_known(a, b):
        raise Unsupported("operator", f"{op} between a {a.pytype().__name__} and a {b.pytype().__name__}")
    raise _refused(tr, op, a, b)


def unary(tr: Tracer, op: str, a: Value) -> Value:
    if op == "not":
        return Const(not tr.truth(a))
    real, name = _UNARY[op]
    if isinstance(a, ObjectValue):
        method = a.dunder(tr, name)
        if method is None:
            raise tr.observe(TypeError(f"bad operand type for unary {op}: '{a.pytype().__name__}'"))
        return tr.call(method, [], {})
    if isinstance(a, TensorValue):
        depend_on_operator(tr, [a], name)
        return tr.call_pure(real, [a], {})
    return tr.fold(real, [a], {})



