"""NumPy in the traced code, on numbers that the trace knows: computed at once. An array so made is a constant until something
writes to it, which ends the graph; `torch.from_numpy` and `torch.tensor` make a constant of the graph of it.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.trace.builtins import fold_also, on
from flambeau.frontend.trace.sequences import ListValue, TupleValue
from flambeau.frontend.trace.values import Const, ScalarValue, SymValue, TensorValue, Unsupported, Value
from flambeau.ir import dtype as dtypes
from flambeau.ir.op import PUBLIC
from flambeau.ir.ops.constant import tensor as make_tensor
from flambeau.runtime.tensor import Size, Tensor
from flambeau.runtime.tensor import wrap as tensor_of_array

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer

_MAKERS = (np.array, np.asarray, np.ascontiguousarray, np.zeros, np.ones, np.full, np.empty, np.eye, np.identity, np.arange,
           np.linspace, np.logspace, np.zeros_like, np.ones_like, np.full_like, np.tri, np.diag)
_REDUCTIONS = (np.prod, np.sum, np.mean, np.std, np.var, np.min, np.max, np.median, np.argmax, np.argmin, np.cumsum, np.cumprod,
               np.any, np.all, np.ndim, np.shape, np.size)
_OTHERS = (np.concatenate, np.stack, np.vstack, np.hstack, np.reshape, np.transpose, np.tile, np.repeat, np.outer, np.dot,
           np.clip, np.round, np.tril, np.triu, np.where, np.argsort, np.sort, np.roll, np.flip, np.expand_dims, np.squeeze)
_UFUNCS = tuple(f for f in vars(np).values() if isinstance(f, np.ufunc))
KINDS = (np.ufunc, type(np.prod))                                 # of functions written in C
_TYPES = (np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_)
_METHODS = {"astype", "reshape", "transpose", "copy", "flatten", "ravel", "squeeze", "repeat", "sum", "mean", "std", "var",
            "prod", "min", "max", "argmin", "argmax", "cumsum", "cumprod", "any", "all", "round", "clip", "dot", "item", "tolist"}
_FACTS = {"shape", "ndim", "size", "dtype", "strides", "itemsize", "nbytes", "flags"}
_OF_A_CHANGING_NUMBER = {np.sqrt: math.sqrt, np.log: math.log, np.exp: math.exp, np.log2: math.log2}

fold_also(dtypes.from_numpy, np.dtype)


class _Memory:
    """What arrays of the traced code lie in. `shared`: by several, so that none can be made anew; `lent`: by a tensor, whose
    writes only the graph's run knows."""

    shared = lent = False


class ArrayValue(Value):
    """An array that the traced code made of what is known. The trace never changes it."""

    mutable = True                                                 # has an identity

    def __init__(self, raw: np.ndarray, memory: _Memory | None = None) -> None:
        self._raw, self.memory, self.source = raw, memory or _Memory(), None

    def __repr__(self) -> str:
        return f"Array({self._raw.dtype}{list(self._raw.shape)})"

    @property
    def raw(self) -> np.ndarray:
        if self.memory.lent:
            raise Unsupported("opaque", "an array is read whose memory a tensor shares", "read the tensor, or give it a copy")
        return self._raw

    def pytype(self) -> type:
        return np.ndarray

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in _FACTS:
            return tr.constant(getattr(self._raw, name))
        if name == "T":
            return _compute(tr, np.transpose, [self], {})
        if name in _METHODS:
            return tr.bound_builtin(self, name)
        raise Unsupported("opaque", f"attribute {name!r} of an array is read")

    def method(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if name not in _METHODS:
            raise Unsupported("builtin-method", f"ndarray.{name} is called")
        return _compute(tr, getattr(np.ndarray, name), [self, *args], kwargs)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        return _compute(tr, np.ndarray.__getitem__, [self, key], {})

    def length(self, tr: Tracer) -> int:
        try:
            return len(self._raw)
        except TypeError as error:
            raise tr.observe(error) from None

    def truth(self, tr: Tracer) -> bool:
        try:
            return bool(self.raw)
        except ValueError as error:
            raise tr.observe(error) from None

    def iterate(self, tr: Tracer) -> Value:
        return tr.iterator([_compute(tr, np.ndarray.__getitem__, [self, Const(i)], {}) for i in range(self.length(tr))])

    def taken(self) -> np.ndarray:
        """The elements, for a constant of the graph."""
        return self.raw.copy()

    def lend(self) -> Value:
        """The elements, for a tensor that shares them."""
        found = Const(self.taken())
        self.memory.lent = True
        return found

    def rebuild(self, out: Rebuilder) -> str:
        if self.memory.shared or self.memory.lent:
            raise Unsupported("rebuild", "an array that shares its memory cannot be made for real",
                              "return a copy, or make it outside the compiled function")
        return f"{out.constant(self.raw)}.copy()"

    @staticmethod
    def operator(tr: Tracer, name: str, op: Any, a: Value, b: Value) -> Value:
        """An operator one of whose operands is an array, the other an array or a number."""
        if name.endswith("=") and isinstance(a, ArrayValue):
            raise Unsupported("operator", "an array is written to", "compute a new array")
        if isinstance(a, TensorValue) or isinstance(b, TensorValue):
            raise Unsupported("operator", "an operator between an array and a tensor", "make a tensor of it: torch.tensor(array)")
        return _compute(tr, op, [a, b], {})


def _call(fn: Any, tr: Tracer, *args: Value, **kwargs: Value) -> Value:
    """A function of NumPy that makes something new of its arguments."""
    if "out" in kwargs or any(isinstance(a, TensorValue) for a in args):
        raise Unsupported("builtin", f"numpy.{fn.__name__} is called with {'out=' if 'out' in kwargs else 'a tensor'}",
                          "move the call out of the compiled function")
    if len(args) == 1 and not kwargs:
        if isinstance(args[0], (SymValue, ScalarValue)) and fn in _OF_A_CHANGING_NUMBER:
            return tr.fold(_OF_A_CHANGING_NUMBER[fn], list(args), {})
        if fn is np.prod and isinstance(args[0], (ListValue, TupleValue)) \
                and any(isinstance(v, SymValue) for v in args[0].values(tr)):
            return tr.fold(math.prod, list(args), {})
    return _compute(tr, fn, list(args), kwargs)


for _function in (*_MAKERS, *_REDUCTIONS, *_OTHERS, *_UFUNCS, *_TYPES):
    on(_function)(functools.partial(_call, _function))


def _compute(tr: Tracer, fn: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
    given = [_known(tr, a, fn) for a in args]
    named = {k: _known(tr, v, fn) for k, v in kwargs.items()}
    try:
        found = fn(*given, **named)
    except Exception as error:
        raise tr.observe(error) from None
    return _value(tr, found, [a for a in args if isinstance(a, ArrayValue)])


def _value(tr: Tracer, found: Any, of: list[ArrayValue]) -> Value:
    if not isinstance(found, np.ndarray):
        return tr.constant(found)
    if found.dtype.hasobject:
        raise Unsupported("opaque", "an array of objects is made")
    for a in of:
        if a.raw is found:
            return a
        if np.may_share_memory(a.raw, found):
            a.memory.shared = True
            return ArrayValue(found, a.memory)
    return ArrayValue(found)


def _known(tr: Tracer, value: Value, fn: Any) -> Any:
    if isinstance(value, ArrayValue):
        return value.raw
    if isinstance(value, (ListValue, TupleValue)) and value.pytype() in (list, tuple, Size):
        return (list if isinstance(value, ListValue) else tuple)(_known(tr, v, fn) for v in value.values(tr))
    if isinstance(value, SymValue):
        return tr.index(value)
    if isinstance(value, ScalarValue):
        return value.pin(tr)
    if isinstance(value, TensorValue):
        raise Unsupported("builtin", f"numpy.{getattr(fn, '__name__', 'ufunc')} is called with a tensor",
                          "use the function of the same name for tensors")
    return value.as_python(tr)


def for_op(fn: Any, value: Value) -> Value:
    """An argument of an op: NumPy's numbers as Python's, and what `torch.tensor` takes an array for."""
    if fn is make_tensor:
        return Const(value.taken()) if isinstance(value, ArrayValue) else value
    if type(value) is Const and isinstance(value.value, np.generic):
        return Const(value.value.item())
    return value


# --------------------------------------------------------------------------- tensors of arrays and of old constructors

@on(tensor_of_array)
def _tensor_of_array(tr: Tracer, array: Value, *device: Value) -> Value:
    if not isinstance(array, ArrayValue) or device:
        raise Unsupported("argument", "a tensor is made of an array from outside",
                          "make the tensor outside the compiled function")
    return tr.call_pure(make_tensor, [array.lend()], {})


@on(Tensor)
def _old_constructor(tr: Tracer, *args: Value) -> Value:
    """`Tensor()`, `Tensor(2, 3)`, `Tensor([1.0, 2.0])` and so on, always of the default dtype."""
    kind: dict[str, Value] = {"dtype": Const(dtypes.get_default_dtype())}
    if not args:
        return tr.call_pure(make_tensor, [ListValue([])], kind)
    first = args[0]
    if isinstance(first, TensorValue):
        return tr.call_pure(first.tensor.detach().to, [], {**kind, "copy": Const(True)})   # type: ignore[attr-defined]
    if first.pytype() is Size or first.pytype() is int:
        sizes = list(args) if first.pytype() is int else first.values(tr)               # type: ignore[attr-defined]
        return tr.call_pure(PUBLIC["torch"]["zeros"], sizes, kind)
    if isinstance(first, ArrayValue):
        shares = dtypes.from_numpy(first.raw.dtype) is dtypes.get_default_dtype()
        return tr.call_pure(make_tensor, [first.lend() if shares else Const(first.taken())], kind)
    if isinstance(first, (ListValue, TupleValue)):
        return tr.call_pure(make_tensor, [first], kind)
    raise Unsupported("construct", f"a Tensor is made of a {first.pytype().__name__}", "use torch.tensor()")
