"""Nested transforms (vmap, grad, jvp): tensors wrapped for a level, and the handler that sends each op to its level.

A transform enters a *level*: it wraps its inputs, and an op that meets wrapped tensors is processed by the innermost
level among them, which calls ops on what lies inside the wrappers, where the next level takes over, down to plain
tensors. Levels carry rising numbers, so that any nesting, in any order, means what the program says. While no transform
runs, none of this is on the way of an op.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flambeau.ir.op import Op, state
from flambeau.ir.tree import tree_map

from .tensor import Tensor

_numbers = itertools.count(1)


class Shell:
    """What stands in a wrapped tensor where a plain one has its array: shape, dtype and strides, and no data."""

    __slots__ = ("shape", "dtype", "strides", "__weakref__")
    __array_ufunc__ = None

    def __init__(self, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...]) -> None:
        self.shape, self.dtype, self.strides = shape, dtype, strides

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def size(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a tensor inside a transform (vmap, grad, jvp) has no array of its own; use tensor operations")


class Wrapped(Tensor):
    """A tensor as one level of transforms sees it; ``value`` is what it is one level further out."""

    __slots__ = ()
    level: Level
    value: Any

    def __init__(self, value: Any, level: Level, skip: int = 0) -> None:
        a = value._a
        self._a = Shell(a.shape[skip:], a.dtype, a.strides[skip:])
        self._storage = value._storage
        self._rg, self._grad_fn, self._out_nr, self._view, self._grad, self._hooks = False, None, 0, None, None, None
        self._dtype = value._dtype
        self.value, self.level = value, level

    def rewrapped(self, value: Any) -> Wrapped:
        """``value`` wrapped as this tensor is."""
        raise NotImplementedError

    # ---- what reads data or takes the tensor apart

    @property  # type: ignore[misc]
    def data(self) -> Any:
        return self.detach()

    def item(self) -> Any:
        return self.value.item()

    def tolist(self) -> Any:
        return self.value.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        return self.value.numpy(force=force)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __index__(self) -> int:
        return self.value.__index__()

    def data_ptr(self) -> int:
        return self.value.data_ptr()

    def storage_offset(self) -> int:
        return self.value.storage_offset()

    def is_contiguous(self, memory_format: Any = None) -> bool:
        return self.value.is_contiguous(memory_format)

    def resize_(self, *size: Any, memory_format: Any = None) -> Tensor:
        raise RuntimeError(f"resize_() cannot be called inside {self.level.name}: make a tensor of the new shape instead")

    def set_(self, *_: Any, **__: Any) -> Tensor:
        raise RuntimeError(f"set_() cannot be called inside {self.level.name}")

    def detach_(self) -> Tensor:
        self._rg, self._grad_fn, self._out_nr = False, None, 0
        return self

    def backward(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("backward() called inside a functorch transform. This is not supported, please use functorch.grad or "
                           "functorch.vjp instead or call backward() outside of functorch transforms.")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError(f"a tensor inside {self.level.name} cannot be pickled")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.clone()

    def __copy__(self) -> Any:
        return self.rewrapped(self.value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(level={self.level.number}, value={self.value!r})"


class Level:
    """One transform that is running. ``number`` orders levels; ``keeps`` says that constants are wrapped too."""

    name = "a transform"
    survives = True  # what is left of its tensors when it has ended are their values
    keeps = True  # factories and ops on outer tensors make tensors of this level, which in-place ops may then change

    def __init__(self) -> None:
        self.number = next(_numbers)

    def wrap(self, value: Any) -> Any:
        """``value`` as a constant of this level."""
        raise NotImplementedError

    def process(self, op: Op, args: tuple) -> Any:
        """``op(*args)``, at least one argument being wrapped for this level and none for a further one."""
        raise NotImplementedError

    def captured(self, op: Op) -> None:
        """Raise for an in-place op on a tensor from outside the level."""
        raise RuntimeError(
            f"During a grad (vjp, jvp, grad, etc) transform, the function provided attempted to call in-place operation "
            f"({op.name}) that would mutate a captured Tensor. This is not supported; please rewrite the function being "
            f"transformed to "
            "explicitly accept the mutated Tensor(s) as inputs.")

    def random(self, op: Op, args: tuple) -> Any:
        """A random op without a tensor of this level; NotImplemented where the level makes no difference."""
        return NotImplemented


class _Levels(threading.local):
    active: tuple[Level, ...] = ()  # by number; an op that runs inside a level's rule knows only of the levels outside it
    handler: Any = None             # what ran ops before the first level was entered


levels = _Levels()


@contextmanager
def entered(level: Level) -> Iterator[Level]:
    """Make ``level`` one of the active ones."""
    before, handler = levels.active, state.handler
    if level in before:
        yield level
        return
    levels.active = tuple(sorted((*before, level), key=lambda x: x.number))
    outermost = handler is not dispatch
    outer = levels.handler
    if outermost:
        levels.handler, state.handler = handler, dispatch
    try:
        yield level
    finally:
        levels.active = before
        if outermost:
            state.handler, levels.handler = handler, outer


@contextmanager
def below(level: Level) -> Iterator[None]:
    """Run ops as the levels outside ``level`` see them."""
    before = levels.active
    levels.active = tuple([x for x in before if x.number < level.number])
    try:
        yield
    finally:
        levels.active = before


def dispatch(op: Op, args: tuple) -> Any:
    """The handler while transforms run."""
    level, active = _highest(op, args), levels.active
    if op.mutates:
        for outer in active:
            if outer.keeps and (level is None or outer.number > level.number):
                outer.captured(op)
    if "random" in op.tags:
        for outer in reversed(active):
            if level is None or outer.number > level.number:
                found = outer.random(op, args)
                if found is not NotImplemented:
                    return found
    if level is not None and level not in active:
        return dispatch(op, _outlived(op, args, level))
    if level is None:
        number, found = 0, levels.handler(op, args)
    else:
        number, found = level.number, _processed(level, op, args)
    for outer in active:
        if outer.number > number and outer.keeps:
            found = _wrapped_all(outer, found)
    return found


def _processed(level: Level, op: Op, args: tuple) -> Any:
    active = levels.active
    if active and active[-1] is level:
        return level.process(op, args)
    levels.active = tuple([x for x in active if x.number <= level.number])
    try:
        return level.process(op, args)
    finally:
        levels.active = active


def _outlived(op: Op, args: tuple, level: Level) -> tuple:
    """The arguments without the wrappers of a level that has ended: what they are outside it. Of a batch there is no such."""
    if not level.survives:
        raise RuntimeError(f"{op.name}: a tensor made inside {level.name} was used after it had ended; return it from the "
                           "transformed function instead")
    return tree_map(lambda x: stripped(x, level), args)


def _wrapped_all(level: Level, found: Any) -> Any:
    if isinstance(found, Tensor):
        return level.wrap(found)
    return tree_map(lambda x: level.wrap(x) if isinstance(x, Tensor) else x, found)


def _highest(op: Op, args: tuple) -> Level | None:
    """The innermost level among the tensors of a call."""
    best: Level | None = None
    for i in op.tensor_slots:
        a = args[i]
        if isinstance(a, Wrapped):
            if best is None or a.level.number > best.number:
                best = a.level
        elif type(a) is list or type(a) is tuple:
            for x in a:
                if isinstance(x, Wrapped) and (best is None or x.level.number > best.number):
                    best = x.level
    return best


def highest_of(values: Any) -> Level | None:
    """The innermost level among any tensors."""
    best: Level | None = None
    for x in values:
        if isinstance(x, Wrapped) and (best is None or x.level.number > best.number):
            best = x.level
    return best


def stripped(t: Any, level: Level) -> Any:
    """``t`` without its wrapper of ``level``, wherever among its wrappers that is."""
    if not isinstance(t, Wrapped):
        return t
    if t.level is level:
        return t.value
    if t.level.number < level.number:
        return t
    inner = stripped(t.value, level)
    return t if inner is t.value else t.rewrapped(inner)
