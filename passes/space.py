"""Iteration spaces: how the loops of one fused group are brought to common variables.

A loop's elements are found in another loop's space through the index at which the one reads the other. When that index,
as a position in memory, is a mixed-radix number of the reader's variables, each variable of the writer is one of its
digits, and the writer can be computed in the reader's loops (reshapes and permutations included).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flambeau.ir import index as ix
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer
from flambeau.ir.meta import contiguous_strides

Env = dict[Index, IndexLike]


def extent(v: Index) -> IndexLike:
    """The number of values of a loop variable."""
    return v.args[1]


def static_numel(vars: Sequence[Index]) -> int | None:
    """The number of points of a space; None when it is symbolic."""
    total = ix.product(extent(v) for v in vars)
    return total if isinstance(total, int) else None


def flat(buffer: Buffer, index: Sequence[IndexLike]) -> IndexLike:
    """The number of an element counted in row-major order of the buffer's shape, whatever its strides."""
    total: IndexLike = 0
    for i, step in zip(index, contiguous_strides(buffer.shape)):
        total = ix.add(total, ix.mul(i, step))
    return total


def covers(buffer: Buffer, index: Sequence[IndexLike]) -> set[Index] | None:
    """The variables that ``index`` is made of, if it meets each element of the buffer exactly once; else None."""
    plain = _permutes(buffer, index)
    if plain is not None:
        return plain
    factors = ix.linear(flat(buffer, index))
    if factors is None:
        return None
    step: IndexLike = 1
    rest = dict(factors)
    while rest:
        v = next((v for v, factor in rest.items() if factor == step and extent(v) != 0), None)
        if v is None:
            return None
        step = ix.mul(step, extent(v))
        del rest[v]
    return set(factors) if step == ix.product(buffer.shape) else None


def _permutes(buffer: Buffer, index: Sequence[IndexLike]) -> set[Index] | None:
    """The variables, when each dimension is indexed by one of its own whose extent is the dimension's size."""
    found: set[Index] = set()
    for i, size in zip(index, buffer.shape):
        if not isinstance(i, Index):
            if size != 1 or not isinstance(size, int):
                return None
        elif i.kind != "var" or i in found or extent(i) is not size and extent(i) != size:
            return None
        else:
            found.add(i)
    return found


def solve(buffer: Buffer, written: Sequence[IndexLike], read: Sequence[IndexLike]) -> Env | None:
    """The variables of ``written`` such that it equals ``read``. ``written`` covers the buffer."""
    if all(not isinstance(w, Index) or w.kind == "var" for w in written):
        return {w: r for w, r in zip(written, read) if isinstance(w, Index)}
    position = flat(buffer, read)
    factors = ix.linear(flat(buffer, written))
    return None if factors is None else digits(position, factors, buffer.shape)


def digits(position: IndexLike, places: Mapping[Index, IndexLike], shape: Sequence[IndexLike] = ()) -> Env:
    """Each variable as a digit of ``position``; ``places`` are their steps. The one of the largest step, for a position
    inside ``shape``, needs no remainder."""
    total = ix.product(shape) if shape else None
    return {v: ix.div(position, step) if ix.mul(step, extent(v)) == total else ix.mod(ix.div(position, step), extent(v))
            for v, step in places.items()}


def pair(old: Sequence[Index], new: Sequence[Index]) -> Env | None:
    """``old`` variables in terms of ``new`` ones, in order: one to one, or regrouped when the sizes' product agrees."""
    sizes, wanted = [extent(v) for v in old], [extent(v) for v in new]
    if sizes == wanted:
        return dict(zip(old, new))
    if ix.product(sizes) != ix.product(wanted):
        return None
    position: IndexLike = 0
    for v, step in zip(new, contiguous_strides(wanted)):
        position = ix.add(position, ix.mul(v, step))
    return digits(position, dict(zip(old, contiguous_strides(sizes))))


def variables(indices: Sequence[IndexLike]) -> set[Index]:
    """All loop variables in some index expressions."""
    found: set[Index] = set()
    for i in indices:
        found |= ix.variables(i)
    return found


def renamed(index: Sequence[IndexLike], env: Mapping[Index, IndexLike]) -> tuple[IndexLike, ...]:
    """``index`` with variables replaced."""
    return tuple(ix.substitute(i, env) if isinstance(i, Index) else i for i in index)


def hint(size: Any) -> int:
    """A guess of a size, for scores: symbolic sizes count as 64 each."""
    if isinstance(size, int):
        return size
    if size.kind == "size":
        return 64
    if size.kind == "var":
        return hint(extent(size))
    parts = [hint(a) for a in size.args] if size.kind != "value" else [64]
    if size.kind in ("div", "mod"):
        return max(1, parts[0] // max(parts[1], 1)) if size.kind == "div" else parts[1]
    return _HINTS.get(size.kind, max)(parts)


_HINTS: dict[str, Callable[[Iterable[int]], int]] = {"add": sum, "mul": math.prod, "min": min, "max": max}


def numel_hint(sizes: Sequence[Any]) -> int:
    """A guess of a product of sizes."""
    return math.prod(hint(s) for s in sizes)
