"""The fast path of pointwise ops: CPU tensors of one plain dtype (or with a Python number), no promotion to work out.

A runner made here looks at its operands, calls the kernel, makes the result and, where a gradient is asked for, its tape
node, in a little more time than NumPy itself needs for a small array. Whatever it does not cover goes to the general
runner: other dtypes, subclasses of ndarray, CUDA, errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul as _multiply
from typing import Any

import numpy as np

from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import Op

from . import autograd, fused
from .autograd import LIKE, OpNode, SavedOutput, mode
from .quiet import quietly
from .storage import Storage
from .tensor import Tensor

Runner = Callable[[tuple], Any]

_FLOATS = "fdFD"
_INTEGERS = "lihbB"
#: promotion kind -> NumPy type characters whose result NumPy gets right; the same with a Python float; with an int
_PLAIN = {"default": (_FLOATS + _INTEGERS + "?", _FLOATS, _FLOATS + _INTEGERS), "float": (_FLOATS,) * 3,
          "bool": (_FLOATS + _INTEGERS + "?", _FLOATS, _FLOATS + "lihb"), "real": (_FLOATS + _INTEGERS, "", "")}
_next = autograd._sequence.__next__
_NOTHING: list = []


def _admitted(op: Op) -> tuple[str, ...]:
    """The rows of :data:`_PLAIN` without the types that the op refuses."""
    return tuple("".join(c for c in row if np.dtype(c).kind not in op.refuses) for row in _PLAIN[op.promote or ""])


_ndarray, _new = np.ndarray, object.__new__
_FLOAT32 = np.dtype(np.float32)
#: Python number -> array without dimensions, in float32: NumPy takes a third of a microsecond to make one in every call
_singles: dict[Any, Any] = {}
single_of = _singles.get


def _single(number: Any) -> Any:
    """``number`` as :data:`_singles` will have it. (What equals 0 may be -0.0, and NaN equals nothing.)"""
    array = quietly(np.array, number, _FLOAT32)
    if number and number == number:
        if len(_singles) > 1000:
            _singles.clear()
        _singles[number] = array
    return array


def fresh(array: Any) -> Tensor:
    """A tensor that owns ``array`` (an ndarray on the CPU), made without a call of ``__init__``."""
    t = _new(Tensor)
    t._a = array
    storage = t._storage = _new(Storage)
    storage.array = array
    t._rg = False
    t._grad_fn = t._view = t._grad = t._hooks = t._dtype = None
    t._out_nr = 0
    return t


def window(array: Any, source: Tensor) -> Tensor:
    """A tensor over ``array``, a view of the memory of ``source``, made without a call of ``__init__``."""
    t = _new(Tensor)
    t._a = array
    t._storage = source._storage
    t._rg = False
    t._grad_fn = t._view = t._grad = t._hooks = None
    t._dtype = source._dtype if array.dtype is source._a.dtype else None
    t._out_nr = 0
    return t


class _Tape:
    """What to record for one pattern of operands that need gradients."""

    __slots__ = ("op", "needs", "save_out", "keep", "bare")

    def __init__(self, op: Op, needs: tuple[bool, ...]) -> None:
        self.op, self.needs = op, needs
        self.save_out, keep = op.saves(needs)
        self.keep = tuple(keep[slot] for slot in op.tensor_slots)
        #: The arguments as kept where nothing is kept and the others are at their defaults.
        self.bare = None if self.save_out or any(keep) else (*[LIKE] * len(needs), *(_defaults(op, len(needs)) or ()))


def _edge(x: Tensor) -> Any:
    fn = x._grad_fn if x._view is None else x.grad_fn
    return x if fn is None else (fn, x._out_nr)


def _kept(x: Any, keep: bool, shape: tuple, dtype: Any, saved: list) -> Any:
    """What the tape keeps of an operand: the tensor itself, LIKE where the output says all about it, or its meta."""
    if keep:
        saved.append((x, x._storage.version))
        return x
    a = x._a
    return LIKE if a.shape == shape and a.dtype is dtype else TensorMeta(a.shape, x.dtype, x._storage.device)


def _enter(tape: _Tape, args: tuple, edges: Any, saved: Sequence[tuple], out: Tensor) -> None:
    """Give ``out`` a node. (What is not set here is so by the class.)"""
    node = _new(OpNode)
    node.op, node.needs, node.seq = tape.op, tape.needs, _next()
    node.args, node.edges = args, edges
    if saved:
        node.saved = saved
    if tape.save_out:
        node.out = SavedOutput(out, 0)
    out._rg, out._grad_fn = True, node


def _record_two(tape: _Tape, args: tuple, x: Any, y: Any, out: Tensor) -> None:
    r = out._a
    shape, dtype = r.shape, r.dtype
    saved: list = []
    keep, needs = tape.keep, tape.needs
    kx = _kept(x, keep[0], shape, dtype, saved) if isinstance(x, Tensor) else x
    ky = _kept(y, keep[1], shape, dtype, saved) if isinstance(y, Tensor) else y
    edges = (_edge(x) if needs[0] else None, _edge(y) if needs[1] else None)
    _enter(tape, (kx, ky) if len(args) == 2 else (kx, ky, *args[2:]), edges, saved, out)


def _record_one(tape: _Tape, args: tuple, x: Tensor, out: Tensor) -> None:
    saved: list = []
    kx = _kept(x, tape.keep[0], out._a.shape, out._a.dtype, saved)
    _enter(tape, (kx,) if len(args) == 1 else (kx, *args[1:]), (_edge(x),), saved, out)


class Recorder:
    """Records calls of an op with one result and no lists of tensors among its arguments."""

    __slots__ = ("op", "slots", "tapes")

    def __init__(self, op: Op) -> None:
        self.op, self.slots = op, op.tensor_slots
        self.tapes: dict[tuple[bool, ...], _Tape] = {}

    def __call__(self, args: tuple, out: Tensor) -> None:
        edges = [_edge(a) if isinstance(a, Tensor) and a._rg else None for a in [args[i] for i in self.slots]]
        needs = tuple([e is not None for e in edges])
        tape = self.tapes.get(needs)
        if tape is None:
            tape = self.tapes[needs] = _Tape(self.op, needs)
        r = out._a
        shape, dtype, kept = r.shape, r.dtype, list(args)
        saved: list = []
        for i, keep in zip(self.slots, tape.keep):
            a = args[i]
            if isinstance(a, Tensor):
                kept[i] = _kept(a, keep, shape, dtype, saved)
        _enter(tape, tuple(kept), tuple(edges), saved, out)


def recorder(op: Op) -> Recorder | None:
    """The op's recorder; None for ops with several results or lists of tensors, which the general way serves."""
    plain = op.schema.returns == 1 and all(op.schema.params[i].type != "Tensor[]" for i in op.tensor_slots)
    return Recorder(op) if plain and op.differentiable else None


def binary(op: Op, slow: Runner) -> Runner:
    """The runner of a pointwise op of two operands."""
    kernel, ufunc, default = op.kernel, getattr(np, op.extra.get("ufunc", ""), None), _defaults(op, 2)
    assert kernel is not None and op.promote is not None  # what `runner` looked at
    plain, with_float, with_int = _admitted(op)
    usual = default[0] if default is not None and len(default) == 1 else None  # the one parameter behind the operands
    single = _FLOAT32 if "f" in plain else None  # (the dtype that is met most needs no look at its character)
    recorded = op.differentiable
    blocked = not recorded and "nograd" not in op.tags  # differentiated through its parts
    tapes: list[Any] = [None] * 4

    def tape_for(rx: bool, ry: bool) -> _Tape:
        tape = tapes[rx + 2 * ry] = _Tape(op, (rx, ry))
        return tape

    def run(args: tuple) -> Any:
        x, y = args[0], args[1]
        kind, other = type(y), type(x)
        if kind is float or kind is int or other is float or other is int:
            return with_number(args, x, y)
        try:
            a, b = x._a, y._a
            rx, ry, dtype = x._rg, y._rg, a.dtype
        except AttributeError:
            return slow(args)
        if b.dtype is not dtype or type(a) is not _ndarray or type(b) is not _ndarray or (
                dtype is not single and dtype.char not in plain):
            return slow(args)
        grad = (rx or ry) and mode.grad
        if grad and blocked:
            return slow(args)
        plainly = default is None or (args[2] == usual if usual is not None else args[2:] == default)
        try:
            if ufunc is not None and plainly:
                r = quietly(ufunc, a, b)
            else:
                r = quietly(kernel, np, a, b, *args[2:])
        except Exception:
            return slow(args)
        if type(r) is not _ndarray:
            r = np.asarray(r)
        # `fresh` and `_record_bare`, in place: a call costs a tenth of an addition
        out = _new(Tensor)
        out._a = r
        storage = out._storage = _new(Storage)
        storage.array = r
        out._grad_fn = out._view = out._grad = out._hooks = out._dtype = None
        out._out_nr = 0
        if not grad or not recorded:
            out._rg = False
            return out
        tape = tapes[rx + 2 * ry] or tape_for(rx, ry)
        if tape.bare is None or not plainly or r.dtype is not dtype or a.shape != b.shape:
            _record_two(tape, args, x, y, out)
            return out
        node = _new(OpNode)
        node.op, node.needs, node.seq, node.args = op, tape.needs, _next(), tape.bare
        if rx:
            fn = x._grad_fn if x._view is None else x.grad_fn
            x = x if fn is None else (fn, x._out_nr)
        else:
            x = None
        if ry:
            fn = y._grad_fn if y._view is None else y.grad_fn
            y = y if fn is None else (fn, y._out_nr)
        else:
            y = None
        node.edges = (x, y)
        out._rg, out._grad_fn = True, node
        return out

    def with_number(args: tuple, x: Any, y: Any) -> Any:
        first = type(y) is float or type(y) is int
        t, number = (x, y) if first else (y, x)
        try:
            a, rt = t._a, t._rg
        except AttributeError:
            return slow(args)
        dtype = a.dtype
        if type(a) is not _ndarray or dtype.char not in (with_float if type(number) is float else with_int):
            return slow(args)
        grad = rt and mode.grad
        if grad and blocked:
            return slow(args)
        plainly = default is None or (args[2] == usual if usual is not None else args[2:] == default)
        try:
            if ufunc is None or not plainly:
                r = quietly(kernel, np, a, number, *args[2:]) if first else quietly(kernel, np, number, a, *args[2:])
            else:
                n = single_of(number) if dtype is _FLOAT32 else number
                if n is None:
                    n = _single(number)
                r = quietly(ufunc, a, n) if first else quietly(ufunc, n, a)
        except Exception:
            return slow(args)
        if type(r) is not _ndarray:
            r = np.asarray(r)
        out = fresh(r)
        if grad and recorded:
            tape = tapes[1 if first else 2] or tape_for(first, not first)
            if tape.bare is None or r.dtype is not dtype:
                _record_two(tape, args, x, y, out)
            else:
                edge = _edge(t)
                if first:
                    _enter(tape, (LIKE, *args[1:]), (edge, None), _NOTHING, out)
                else:
                    _enter(tape, (number, LIKE, *args[2:]), (None, edge), _NOTHING, out)
        return out

    return run


def unary(op: Op, slow: Runner) -> Runner:
    """The runner of a pointwise op of one operand."""
    kernel, ufunc, default = op.kernel, getattr(np, op.extra.get("ufunc", ""), None), _defaults(op, 1)
    assert kernel is not None and op.promote is not None
    plain = _admitted(op)[0] if op.family == "pointwise" else "fd"  # a composite's kernel may leave casts to the general way
    recorded = op.differentiable
    blocked = not recorded and "nograd" not in op.tags
    tape: Any = None
    forms = fused.forms_of(op)

    def compute(a: Any, args: tuple) -> Any:
        if ufunc is not None and (default is None or args[1:] == default):
            r = quietly(ufunc, a)
        else:
            r = quietly(kernel, np, a, *args[1:])
        return fresh(r if type(r) is _ndarray else np.asarray(r))

    def run(args: tuple) -> Any:
        nonlocal tape
        x = args[0]
        try:
            a = x._a
            grad = x._rg and mode.grad
        except AttributeError:
            return slow(args)
        if type(a) is not _ndarray or a.dtype.char not in plain or (grad and blocked):
            return slow(args)
        out = forms.call(args) if forms is not None and fused.big(x) else None
        if out is None:
            try:
                out = compute(a, args)
            except Exception:
                return slow(args)
        if grad and recorded:
            if tape is None:
                tape = _Tape(op, (True,))
            _record_one(tape, args, x, out)
        return out

    return run


def inplace(op: Op, functional: Op, slow: Runner) -> Runner:
    """The runner of an in-place op that a ufunc computes, or that stores plainly, where nothing is to be recorded."""
    store, ufunc = functional.extra.get("store"), getattr(np, functional.extra.get("ufunc", ""), None)
    if store is not None:
        return _storing(store, functional, slow)
    if ufunc is None or functional.tensor_slots != (0, 1) or functional.promote not in ("default", "float"):
        return slow
    plain, with_float, with_int = _admitted(functional)
    has_alpha = len(functional.schema.params) > 2

    def run(args: tuple) -> Any:
        x, y = args[0], args[1]
        kind = type(y)
        try:
            a = x._a
            if kind is float or kind is int:
                b, allowed = y, with_float if kind is float else with_int
                grad = x._rg
            else:
                b, allowed = y._a, plain
                grad = x._rg or y._rg
                if type(b) is not _ndarray or b.dtype is not a.dtype or (y._storage is x._storage and y is not x):
                    return slow(args)
        except AttributeError:
            return slow(args)
        if type(a) is not _ndarray or a.dtype.char not in allowed or 0 in a.strides or (grad and mode.grad):
            return slow(args)
        if x._view is not None and x._view.ban is not None:
            return slow(args)
        try:
            if has_alpha and args[2] != 1:
                b = quietly(_multiply, b, args[2])
                if type(b) is _ndarray and b.dtype is not a.dtype:
                    return slow(args)
            elif b is y and a.dtype is _FLOAT32:
                b = single_of(y)
                if b is None:
                    b = _single(y)
            quietly(ufunc, a, b, a)
        except Exception:
            return slow(args)
        x._storage.version += 1
        return x

    return run


def _storing(store: Callable[..., Any], functional: Op, slow: Runner) -> Runner:
    slots = functional.tensor_slots

    def run(args: tuple) -> Any:
        x = args[0]
        grad, arrays = False, list(args)
        for i in slots:
            t = args[i]
            if isinstance(t, Tensor):
                a = arrays[i] = t._a
                grad = grad or t._rg
                if type(a) is not _ndarray or (t is not x and t._storage is x._storage):
                    return slow(args)
        if not isinstance(x, Tensor) or (grad and mode.grad) or 0 in x._a.strides:
            return slow(args)
        if x._view is not None and x._view.ban is not None:
            return slow(args)
        try:
            if quietly(store, *arrays) is NotImplemented:
                return slow(args)
        except Exception:
            return slow(args)
        x._storage.version += 1
        return x

    return run


def _defaults(op: Op, operands: int) -> tuple | None:
    """The parameters behind the operands at their defaults; None when there are none."""
    rest = op.schema.params[operands:]
    return tuple(p.default for p in rest) if rest else None


def select(op: Op, slow: Runner) -> Runner:
    """The runner of a choice between two operands of one dtype, or numbers, by a tensor of bools."""
    recorder_of, slots = Recorder(op), op.tensor_slots
    kernel = op.kernel
    assert kernel is not None

    def run(args: tuple) -> Any:
        condition, x, y = args
        try:
            c, rx, ry = condition._a, False, False
            if type(x) is float or type(x) is int:
                a = x
            else:
                a, rx = x._a, x._rg
            if type(y) is float or type(y) is int:
                b = y
            else:
                b, ry = y._a, y._rg
        except AttributeError:
            return slow(args)
        if type(a) is _ndarray:
            dtype = a.dtype
            if type(b) is _ndarray and b.dtype is not dtype:
                return slow(args)
        elif type(b) is _ndarray:
            dtype = b.dtype
        else:
            return slow(args)
        if type(c) is not _ndarray or c.dtype.char != "?" or dtype.char not in "fd" or type(a) is type(b) is not _ndarray:
            return slow(args)
        try:
            r = quietly(kernel, np, c, a, b)
        except Exception:
            return slow(args)
        if type(r) is not _ndarray or r.dtype is not dtype:
            return slow(args)
        out = fresh(r)
        if (rx or ry) and mode.grad:
            recorder_of(args, out)
        return out

    return run if slots == (0, 1, 2) and len(op.schema.params) == 3 and op.differentiable else slow


def runner(op: Op, slow: Runner) -> Runner:
    """The fast runner of an elementwise op, or ``slow`` where none applies."""
    slots = op.tensor_slots
    if op.promote == "select" and op.kernel is not None:
        return select(op, slow)
    if op.promote not in _PLAIN or op.kernel is None or "check" in op.tags:
        return slow
    if op.family != "pointwise":
        return unary(op, slow) if slots == (0,) and op.schema.returns == 1 else slow
    if slots == (0, 1):
        return binary(op, slow)
    return unary(op, slow) if slots == (0,) else slow
