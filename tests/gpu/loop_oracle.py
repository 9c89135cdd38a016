"""What loops mean, computed the slow way: every loop variable is an axis of a NumPy array, every op its own kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Call, Const, Expr, IndexValue, Load, Loop, Reduce
from flambeau.ir.op import OPS

_REDUCTIONS = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all,
               "argmax": np.argmax, "argmin": np.argmin}
_INTEGER = {"add": np.add, "mul": np.multiply, "div": np.floor_divide, "mod": np.mod, "min": np.minimum,
            "max": np.maximum}
RANK = 12                      # every array has this many axes, most of length 1


def run(loops: list[Loop], arrays: dict[str, np.ndarray], sizes: dict[str, int] | None = None) -> None:
    """Compute each loop into ``arrays`` (buffers by name, written in place), in order."""
    for loop in loops:
        _Evaluation(loop, arrays, sizes or {}).run()


class _Evaluation:
    def __init__(self, loop: Loop, arrays: dict[str, np.ndarray], sizes: dict[str, int]) -> None:
        self.loop, self.arrays, self.sizes = loop, arrays, sizes
        self.vars = [*loop.ranges]

    def run(self) -> None:
        value = self.value(self.loop.value)
        extents = [int(self.index(v.args[1])) for v in self.loop.ranges]
        shape = (*extents, *[1] * (RANK - len(extents)))
        target = self.arrays[self.loop.buffer]
        if not extents:
            target[()] = np.asarray(value).reshape(())
            return
        places = tuple(np.broadcast_to(self.index(i), shape) for i in self.loop.index)
        target[places] = np.broadcast_to(value, shape).astype(target.dtype)

    def index(self, i: IndexLike) -> Any:
        if not isinstance(i, Index):
            return i
        if i.kind == "size":
            return self.sizes[i.args[0]]
        if i.kind == "value":
            return self.value(i.args[0])
        if i.kind == "var":
            return self.lane(i)
        return _INTEGER[i.kind](self.index(i.args[0]), self.index(i.args[1]))

    def lane(self, var: Index) -> np.ndarray:
        """The variable as an axis of its own: new ones are appended, so all arrays are padded to the same rank."""
        place = self.vars.index(var)
        lane = np.arange(int(self.index(var.args[1])))
        return lane.reshape([-1 if axis == place else 1 for axis in range(RANK)])

    def value(self, e: Expr) -> Any:
        if isinstance(e, Const):
            return e.dtype.np.type(e.args[0])
        if isinstance(e, IndexValue):
            return np.asarray(self.index(e.args[0])).astype(e.dtype.np)
        if isinstance(e, Load):
            return self.load(e)
        if isinstance(e, Reduce):
            return self.reduce(e)
        assert isinstance(e, Call)
        operands = [self.value(o) for o in e.operands]
        if e.fn == "cast":
            return np.asarray(operands[0]).astype(e.dtype.np)
        return np.asarray(OPS[e.fn].kernel(np, *_filled(e.fn, operands))).astype(e.dtype.np)

    def load(self, e: Load) -> Any:
        array = self.arrays[e.buffer]
        places = [np.asarray(self.index(i)) for i in e.index]
        if e.mask is None:
            return array[tuple(places)]
        inside = self.value(e.mask)
        places = [np.where(inside, place, 0) for place in places]
        return np.where(inside, array[tuple(places)], np.asarray(e.other, array.dtype))

    def reduce(self, e: Reduce) -> Any:
        hidden = [v for v in e.vars if v in self.vars]
        assert not hidden, f"{hidden} bound twice"
        first = len(self.vars)
        self.vars += e.vars
        value = np.asarray(self.value(e.value))
        del self.vars[first:]
        extents = [int(self.index(v.args[1])) for v in e.vars]
        axes = tuple(range(first, first + len(extents)))
        shape = list(value.shape if value.ndim else (1,) * RANK)
        shape[first:first + len(extents)] = extents
        wide = np.broadcast_to(value, shape)
        if e.kind in ("argmax", "argmin"):
            flat = np.moveaxis(wide, axes, range(-len(axes), 0))
            flat = flat.reshape(*flat.shape[:RANK - len(axes)], -1)
            found = _REDUCTIONS[e.kind](flat, -1)
            return np.expand_dims(found, axes).astype(np.int64)
        kind = np.float64 if e.dtype.kind == "f" else None
        if kind and e.kind in ("sum", "prod"):
            return _REDUCTIONS[e.kind](wide, axis=axes, keepdims=True, dtype=kind).astype(e.dtype.np)
        return _REDUCTIONS[e.kind](wide, axis=axes, keepdims=True).astype(e.dtype.np)


def _filled(name: str, operands: list[Any]) -> list[Any]:
    """Operands, then the defaults of the op's other parameters."""
    return operands + [p.default for p in OPS[name].schema.params[len(operands):]]
