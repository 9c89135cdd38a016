"""C++ as text: names, types, numbers and index arithmetic, and the values that writers pass around."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from flambeau.codegen import emit, prelude
from flambeau.ir import dtype as dtypes
from flambeau.ir import index as ix
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, Buffer, Expr


class Unsupported(Exception):
    """The kernel holds something that C++ code is not generated for; the NumPy target runs it instead."""


@dataclasses.dataclass(frozen=True)
class Value:
    """A C++ expression: its text, its dtype, and whether it is a vector (of the loop's lanes) or one number.

    `narrow` marks an index computed in the mask's integer type because it surely fits.
    """

    text: str
    dtype: DType
    vector: bool = False
    narrow: bool = False


@dataclasses.dataclass
class Lanes:
    """A vector loop being written: its variable, "v" for all-32-bit lanes or "w", and where invariant values go."""

    var: Index
    suffix: str
    changes: emit.Dependence
    varies: emit.Dependence
    hoisted: list[str]
    invariant: dict[Expr, Value]
    depth: int = 0  # of the lines that stand before the loop
    own: frozenset[str] = frozenset()  # accumulators that live inside the loop, one per lane
    part: str = ""  # the argument that tells loads and stores how many lanes take part

    @property
    def count(self) -> str:
        return self.suffix.upper()


#: The parameter of a kernel that checks indices: where the first one out of range is noted.
FAILED = "failed"

_RESERVED = frozenset(
    """alignas asm auto bool break case catch char class const continue default delete do double else enum explicit
    extern false float for friend goto if inline int long mutable namespace new operator private protected public
    register return short signed sizeof static struct switch template this throw true try typedef union unsigned using
    virtual void volatile while begin end host part V W MR get put read write test number keep where count splat failed""".split()
)


_TYPES = re.compile(r"(b8|[iu](8|16|32|64)|b?f16|f32|f64)[vw]?")
_VARIABLES = re.compile(r"[ijkr]\d\w*|bound\d+|tile_\w+")


def identifier(name: str) -> str:
    """Return a C++ name for a buffer, value or kernel that clashes with nothing of ours, of the language, or of a loop."""
    name = re.sub(r"\W", "_", name)
    clash = name in _RESERVED or name in prelude.functions() or _TYPES.fullmatch(name) or _VARIABLES.fullmatch(name)
    return f"{name}_" if clash or name[:1].isdigit() else name


def variable(name: str) -> str:
    """Return the C++ name of a loop variable: its own, which no buffer gets, unless it is that of a type."""
    return f"{name}x" if _TYPES.fullmatch(name) else name


def memory_type(dtype: DType) -> str:
    """Return the C++ type of an element in memory. Raises `Unsupported` for complex numbers."""
    if dtype.is_complex:
        raise Unsupported(f"{dtype} in generated C++")
    return dtype.short


def computing(dtype: DType) -> DType:
    """Return the dtype that values of `dtype` are computed in."""
    return dtypes.float32 if dtype.is_floating_point and dtype.itemsize < 4 else dtype


def scalar_type(dtype: DType) -> str:
    """Return the C++ type of one value of `dtype`."""
    return "bool" if dtype is dtypes.bool_ else memory_type(computing(dtype))


def literal(value: Any, dtype: DType) -> str:
    """Return a number as C++ text of its exact computing type."""
    kind = scalar_type(dtype)
    if kind == "bool":
        return "true" if value else "false"
    if dtype.is_integral:
        if int(value) == -(2**63):
            return f"(-{2**63 - 1}L - 1)"
        return f"{int(value)}L" if kind == "i64" else f"{kind}({int(value)})" if kind != "i32" else str(int(value))
    number = float(value) if kind == "f64" else float(np.float32(value))
    ending = "" if kind == "f64" else "f"
    if number != number:
        return f'__builtin_nan{ending}("")'
    if number in (float("inf"), float("-inf")):
        return f"{'-' if number < 0 else ''}__builtin_inf{ending}()"
    text = repr(number) if kind == "f64" else f"{number:.9g}"
    return (text if "." in text or "e" in text else text + ".") + ending


def size_text(i: IndexLike) -> str:
    """Return an expression over symbolic sizes as C++ text."""
    if not isinstance(i, Index):
        return str(i)
    if i.kind == "size":
        return identifier(i.args[0])
    left, right = size_text(i.args[0]), size_text(i.args[1])
    if i.kind in ("min", "max"):
        return f"{'least' if i.kind == 'min' else 'most'}({left}, {right})"
    if i.kind in ("div", "mod"):
        return f"floor_{i.kind}({left}, {right})"
    return f"({left} {'+' if i.kind == 'add' else '*'} {right})"


def index_of(s: Accumulate) -> IndexLike:
    """Return the position of an argmax or argmin step."""
    if s.position is None:
        raise ValueError(f"{s.kind} of {s.name} has no position")
    return s.position


def identity(kind: str, dtype: DType) -> str:
    """Return what an accumulator of this kind starts from."""
    if kind in ("sum", "any"):
        return literal(0, dtype)
    if kind in ("prod", "all"):
        return literal(1, dtype)
    lowest = kind == "max"
    if dtype is dtypes.bool_:
        return literal(not lowest, dtype)
    if dtype.is_floating_point:
        return literal(float("-inf") if lowest else float("inf"), dtype)
    info = np.iinfo(dtype.np)
    return literal(info.min if lowest else info.max, dtype)


def combined(kind: str, a: str, b: str) -> str:
    """Return the text of one step of an accumulation."""
    forms = {"sum": "{0} + {1}", "prod": "{0} * {1}", "any": "{0} | {1}", "all": "{0} & {1}"}
    forms |= {"max": "maximum({1}, {0})", "min": "minimum({1}, {0})"}
    return forms[kind].format(a, b)


def beats(sign: str, x: str, best: str, here: str, at: str) -> str:
    """The condition that element `x` at `here` takes the place of `best`: NaN wins, of equals the first in position."""
    equal = f"({x} == {best} || ({x} != {x} && {best} != {best})) && {here} < {at}"
    return f"{x} {sign} {best} || ({x} != {x} && {best} == {best}) || ({equal})"


def atom(text: str) -> str:
    return text if re.fullmatch(r"[\w.]+|\w*\([^()]*\)", text) else f"({text})"


def bytes_of(b: Buffer) -> int:
    sizes = [size for size in b.shape if isinstance(size, int)]
    if len(sizes) != len(b.shape):
        raise Unsupported("per-thread rows of symbolic size")
    return int(np.prod(sizes, dtype=np.int64)) * b.dtype.itemsize


def fits(i: IndexLike) -> bool:
    """Say whether an index surely fits in 31 bits."""
    low, high = ix.bounds(i)
    return low is not None and high is not None and -(2**31) <= low and high < 2**31
