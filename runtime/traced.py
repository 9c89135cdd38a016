"""Tensors of a trace, dressed so that transforms can run on them.

``vmap``, ``grad`` and ``jvp`` are levels over tensors of any kind (``levels``). While a program is traced their innermost tensors
are :class:`Traced`: each stands for a value of the graph that is being built, and the ops that reach it are recorded. So a
transform inside compiled code is run once, while tracing, and what it computes becomes steps of the one graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir.op import Op
from flambeau.ir.tracing import DataDependentError, GraphBuilder, GraphTensor
from flambeau.ir.tree import tree_map

from .autograd import mode
from .levels import Shell
from .tensor import Tensor


def higher_order(fn: Callable) -> Callable:
    """Mark a function of functions that is run while tracing, on traced tensors, calling back into the program."""
    fn.__flambeau_higher_order__ = True  # type: ignore[attr-defined]
    return fn


def transformed(func: Callable, maker: Callable, *given: Any, **named: Any) -> Callable[[Callable], Callable]:
    """``functools.wraps(func)`` for what ``maker(func, *given, **named)`` returns; a tracer that meets it makes it again."""
    def mark(wrapper: Callable) -> Callable:
        functools.update_wrapper(wrapper, func)
        for name in [n for n in wrapper.__dict__ if n.startswith("__flambeau_")]:  # what is said of func is not of this
            del wrapper.__dict__[name]
        wrapper.__flambeau_transform__ = (maker, (func, *given), named)  # type: ignore[attr-defined]
        return wrapper
    return mark


class Memory:
    """What stands in a traced tensor where a plain one has its storage: shared by views, and counting writes."""

    inference = False
    array = pointer = shared = None

    def __init__(self, device: Any) -> None:
        self.device, self.version, self.views = device, 0, None


class Traced(Tensor):
    """The tensor that ``symbol``, a value of a graph, stands for."""

    symbol: GraphTensor

    def __init__(self, symbol: GraphTensor, memory: Any = None) -> None:
        shape, dtype = tuple(symbol.shape), symbol.dtype
        self.symbol = symbol
        self._a = Shell(shape, dtype.np, row_major(shape, dtype.itemsize))
        self._storage = Memory(symbol.device) if memory is None else memory
        self._grad_fn, self._out_nr, self._view, self._grad, self._hooks = None, 0, None, None, None
        self._dtype = dtype

    @property
    def _rg(self) -> bool:  # type: ignore[override]
        return self.symbol.requires_grad

    @_rg.setter
    def _rg(self, value: bool) -> None:
        self.symbol.requires_grad = value

    def _no_data(self, *_: Any, **__: Any) -> Any:
        raise DataDependentError("the data of a traced tensor is not known while tracing")

    item = tolist = numpy = data_ptr = storage_offset = _no_data
    __bool__ = __int__ = __float__ = __complex__ = __index__ = __array__ = __format__ = _no_data  # type: ignore[assignment]

    def is_contiguous(self, memory_format: Any = None) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Traced({self.symbol!r})"


def row_major(shape: tuple, itemsize: int) -> tuple:
    """The strides, in bytes, of a dense array."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step = step * n
    return tuple(reversed(strides))


class Recorder:
    """The handler below all levels: records ops on traced tensors by ``builder``, in the grad mode of the thread."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self._known: dict[int, Traced] = {}

    def dressed(self, x: Any) -> Any:
        """A symbol as the one traced tensor that stands for it; anything else as it is."""
        if not isinstance(x, GraphTensor):
            return x
        found = self._known.get(id(x))
        if found is None:
            found = self._known[id(x)] = Traced(x)
        return found

    def __call__(self, op: Op, args: tuple) -> Any:
        args = tree_map(self.dressed, args)
        before, self.builder.grad_enabled = self.builder.grad_enabled, mode.grad
        try:
            found = self.builder(op, tree_map(lambda x: x.symbol if isinstance(x, Traced) else x, args))
        finally:
            self.builder.grad_enabled = before
        if op.mutates:
            target = args[op.mutates[0]]
            target._storage.version += 1
            return target
        shared = args[0]._storage if "view" in op.tags and "maybe_copy" not in op.tags and isinstance(args[0], Traced) else None
        return tree_map(lambda x: self._new(x, shared) if isinstance(x, GraphTensor) else x, found)

    def _new(self, symbol: GraphTensor, memory: Any) -> Traced:
        found = self._known.get(id(symbol))
        if found is None:
            found = self._known[id(symbol)] = Traced(symbol, memory)
        return found
