"""Loop expressions as Triton text: what every generated kernel shares, whatever surrounds the expressions.

A value is a :class:`Block`: text, and the axes along which it varies. Each loop expression becomes one Python line with
the user's line as a comment. Half precisions are held as float32 between load and store.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from flambeau.codegen import triton_prelude as prelude
from flambeau.codegen.emit import Values, offset
from flambeau.ir import index as ix
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Call, Const, Expr, IndexValue, Let, Load, Local, Random, Store
from flambeau.ir.loops import walk as walk_values
from flambeau.ir.op import OPS

_TYPES = {"bool": "i1", "uint8": "u8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
          "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}

NOWHERE: frozenset[str] = frozenset()


class TritonUnsupported(NotImplementedError):
    """A kernel that this target does not spell; its steps are then run by the ops' own kernels."""


@dataclass(frozen=True)
class Block:
    """A value: its text, and the axes along which it varies."""

    text: str
    axes: frozenset[str] = NOWHERE
    literal: bool = False          # a Python number, which has no shape to broadcast


def element_type(dtype: DType) -> str:
    """``dtype`` as Triton's signatures name it: ``"fp32"``."""
    if dtype.name not in _TYPES:
        raise TritonUnsupported(f"Triton has no {dtype.name}")
    return _TYPES[dtype.name]


def register_type(dtype: DType) -> str:
    """The type in which a value of ``dtype`` is held between load and store."""
    element_type(dtype)
    if is_half(dtype):
        return "tl.float32"
    return "tl.int1" if dtype.kind == "b" else f"tl.{dtype.name}"


def is_half(dtype: DType) -> bool:
    return dtype.kind == "f" and dtype.itemsize == 2


def identifier(text: str) -> str:
    """``text`` as a Python name."""
    name = re.sub(r"\W+", "_", text)
    return name if name[:1].isalpha() else f"v{name}"


class BlockValues(Values[Block]):
    """Values that stay known from one statement to the next: rows in registers are read only once."""

    def __init__(self, speller: Speller) -> None:
        super().__init__(speller, ())  # type: ignore[arg-type] # values ask for the value half of a target only
        self.speller = speller

    def __call__(self, e: Expr) -> Block:
        found = self._memo.get(e)
        if found is None:
            found = self._spell(e)
            if isinstance(e, (Load, Call, Random)):
                found = self.speller.named(e, found)
            self._memo[e] = found
        return found

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What a loop computes is not known after it."""
        outside = dict(self._memo)
        yield
        self._memo = outside

    def forget(self, buffer: str) -> None:
        """``buffer`` was written: nothing read from it is known any more."""
        self._memo = {e: block for e, block in self._memo.items()
                      if not any(isinstance(part, Load) and part.buffer == buffer for part in walk_values(e))}


class Speller(ABC):
    """The value half of a Triton target of ``codegen.emit``: writes lines, one for each distinct expression.

    A subclass says which axes its blocks have (``shape``, ``masked``) and where an element lies (``address``).
    """

    def __init__(self, buffers: Iterable[Buffer], sizes: Iterable[str]) -> None:
        self.buffers = {buffer.name: buffer for buffer in buffers}
        self.pointers = {name: f"{identifier(name)}_ptr" for name in self.buffers}
        self.names = set(self.pointers.values()) | set(sizes)
        self.values = BlockValues(self)
        self.lines: list[str] = []
        self.indent = 1
        self.loc = ""
        self.helpers: set[str] = set()
        self.lets: dict[str, Block] = {}
        self.places: dict[Index, Block] = {}       # loop variables

    @abstractmethod
    def shape(self, axes: frozenset[str]) -> str:
        """The shape of a block that varies along ``axes``."""

    @abstractmethod
    def masked(self) -> Sequence[str]:
        """The axes some of whose lanes may not exist; those that do are where ``AXIS_in`` holds."""

    def address(self, buffer: str, index: Sequence[IndexLike]) -> IndexLike:
        """The element offset of an access."""
        return offset(self.buffers[buffer], index)

    def helper_texts(self) -> list[str]:
        """The functions that the lines call."""
        return [prelude.definition(name) for name in sorted(self.helpers)]

    # ---- lines and names

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text + (f"  # {self.loc}" if self.loc else ""))

    def fresh(self, stem: str) -> str:
        """``stem`` and the first free number."""
        number = next(n for n in range(len(self.names) + 1) if f"{stem}{n}" not in self.names)
        self.names.add(f"{stem}{number}")
        return f"{stem}{number}"

    def helper(self, name: str) -> str:
        self.helpers.add(name)
        return name

    # ---- where things are

    def index(self, i: IndexLike) -> Block:
        """An index expression; Triton's ``//`` and ``%`` round towards zero, so signs matter."""
        if not isinstance(i, Index):
            return Block(str(i) if i >= 0 else f"({i})")
        if i.kind == "size":
            return Block(i.args[0])
        if i.kind == "var":
            return self.places[i]
        if i.kind == "value":
            return self.values(i.args[0])
        a, b = self.index(i.args[0]), self.index(i.args[1])
        axes = a.axes | b.axes
        if i.kind in ("min", "max"):
            return Block(f"tl.{i.kind}imum({a.text}, {b.text})", axes)
        low = ix.bounds(i.args[0])[0]
        if i.kind in ("div", "mod") and (low is None or low < 0):
            helper = f"floor_{i.kind}"
            self.helpers.add(helper)
            return Block(f"{helper}({a.text}, {b.text})", axes)
        sign = {"add": "+", "mul": "*", "div": "//", "mod": "%"}[i.kind]
        return Block(f"({a.text} {sign} {b.text})", axes)

    def place(self, buffer: str, index: Sequence[IndexLike], axes: frozenset[str]) -> tuple[str, frozenset[str]]:
        """The pointer block of an access that varies at least along ``axes``."""
        address = self.index(self.address(buffer, index))
        text, wanted = address.text, address.axes | axes
        if not address.axes:
            text = f"tl.full({self.shape(wanted)}, {text}, tl.int64)"
        elif wanted != address.axes:
            text = f"tl.broadcast_to({text}, {self.shape(wanted)})"
        text = text[1:-1] if text.startswith("(") and _closes_at_end(text) else text
        return f"{self.pointers[buffer]} + {text}", wanted

    def mask(self, axes: frozenset[str], condition: Block | None) -> str:
        """The lanes of ``axes`` that exist, where ``condition`` holds."""
        parts = [f"{axis}_in" for axis in self.masked() if axis in axes]
        if condition is not None:
            parts.append(condition.text)
        return " & ".join(parts)

    def spread(self, value: Block, shape: str, dtype: DType) -> str:
        """``value`` as a block of ``shape``."""
        if value.literal:
            return f"tl.full({shape}, {value.text}, {register_type(dtype)})"
        return f"tl.broadcast_to({value.text}, {shape})"

    # ---- values

    def const(self, e: Const) -> Block:
        value = e.args[0]
        if e.dtype.kind == "f":
            text = repr(value) if math.isfinite(value) else f'float("{value}")'
            if math.copysign(1, value) < 0 and value == value:
                text = f"(-{text[1:]})" if math.isfinite(value) else '(-float("inf"))'
            if register_type(e.dtype) == "tl.float32":
                return Block(text, literal=True)
        else:
            text = str(int(value))
        return Block(f"tl.full({self.shape(NOWHERE)}, {text}, {register_type(e.dtype)})")

    def index_value(self, e: IndexValue) -> Block:
        block = self.index(e.args[0])
        kind = register_type(e.dtype)
        if not block.axes:
            return Block(f"tl.full({self.shape(NOWHERE)}, {block.text}, {kind})")
        return Block(f"({block.text}).to({kind})", block.axes)

    def local(self, e: Local) -> Block:
        return self.lets[e.name]

    def load(self, e: Load) -> Block:
        condition = None if e.mask is None else self.values(e.mask)
        pointer, axes = self.place(e.buffer, e.index, condition.axes if condition else NOWHERE)
        mask = self.mask(axes, condition)
        other = "0" if e.mask is None else self.const(Const(e.dtype, e.other)).text
        text = f"tl.load({pointer}" + (f", mask={mask}, other={_literal(other)})" if mask else ")")
        return Block(text + (".to(tl.float32)" if is_half(e.dtype) else ""), axes)

    def call(self, e: Call, operands: Sequence[Block]) -> Block:
        axes = frozenset().union(*(operand.axes for operand in operands))
        if e.fn == "cast":
            return Block(self.cast(operands[0].text, e.operands[0].dtype, e.dtype), axes)
        scalar = OPS[e.fn].scalar
        if scalar is None or not scalar.triton:
            raise TritonUnsupported(f"{e.fn} has no Triton spelling")
        kind = "float" if e.operands[0].dtype.kind == "f" else "int"
        text = scalar.triton.format(*(operand.text for operand in operands), dtype=register_type(e.dtype), kind=kind)
        self.helpers |= prelude.functions_called(text)
        return Block(text, axes)

    def cast(self, text: str, source: DType, target: DType) -> str:
        if target.kind == "b":
            return f"({text} != 0)"
        if is_half(target):        # rounded, but held as float32
            return f"({text}).to(tl.{target.name}).to(tl.float32)"
        return text if register_type(source) == register_type(target) else f"({text}).to({register_type(target)})"

    def random(self, e: Random, seed: Block) -> Block:
        raise TritonUnsupported("random streams have no Triton spelling")

    def named(self, e: Expr, value: Block) -> Block:
        stem = e.buffer if isinstance(e, Load) else e.fn if isinstance(e, Call) else "value"
        name = self.fresh(identifier(stem) + "_")
        self.line(f"{name} = {value.text}")
        return Block(name, value.axes)

    # ---- statements

    def let(self, s: Let) -> None:
        self.loc = s.loc
        self.lets[s.name] = self.values(s.value)
        self.loc = ""

    def store(self, s: Store) -> None:
        self.loc = s.loc
        value = self.values(s.value)
        condition = None if s.mask is None else self.values(s.mask)
        pointer, axes = self.place(s.buffer, s.index, value.axes | (condition.axes if condition else NOWHERE))
        mask = self.mask(axes, condition)
        text = value.text if value.axes == axes else self.spread(value, self.shape(axes), s.value.dtype)
        masked = f", mask={mask}" if mask else ""
        if s.mode == "add":
            kind = f"tl.{self.buffers[s.buffer].dtype.name}"
            self.line(f'tl.atomic_add({pointer}, ({text}).to({kind}){masked}, sem="relaxed")')
        else:
            self.line(f"tl.store({pointer}, {text}{masked})")
        self.values.forget(s.buffer)
        self.loc = ""


def _literal(text: str) -> str:
    """The number inside ``tl.full(shape, number, type)``: the form that ``other=`` takes."""
    match = re.fullmatch(r"tl\.full\(\([\d, ]+\), (.*), tl\.\w+\)", text)
    return match.group(1) if match else text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place == len(text) - 1
    return False
