"""Spells scheduled kernels as Triton.

A kernel is a loop nest whose outer loops are independent and whose inner loops either reduce or map a row
(``passes.tile_gpu`` makes exactly such nests). The outer loops become the programs of the grid, several iterations
each; an inner chain of loops becomes the second axis of a block: at once where the row fits in a block ("persistent"),
else in a ``for`` over pieces. Values are blocks of shape ``(X, 1)``, ``(1, R)`` or ``(X, R)``, one Python line for each
loop expression, with the user's line as a comment. Half precisions are held as float32 between load and store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from flambeau.codegen.emit import Values, statements, walk_body
from flambeau.codegen.triton_blocks import INT32_MAX, Axis, Blocking, inner_chain, layout, merged, product, shape_of
from flambeau.codegen.triton_build import TritonSource
from flambeau.codegen.triton_templates import HEADER
from flambeau.ir import index as ix
from flambeau.ir.dtype import DType, int64
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, Call, Const, Expr, For, IndexValue, Init, Let, Load, Local, Random, Store
from flambeau.ir.loops import walk as walk_values
from flambeau.ir.op import OPS
from flambeau.ir.program import Kernel

_TYPES = {"bool": "i1", "uint8": "u8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
          "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}

_PAIR = "take = (a {0} b) | ((a != a) & (b == b)) | (((a == b) | ((a != a) & (b != b))) & (i < j))\n" \
        "    return tl.where(take, a, b), tl.where(take, i, j)"
_HELPERS = {                   # functions of the generated text: parameters and body; NaN wins every comparison
    "largest": ("a, b", "return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)"),
    "smallest": ("a, b", "return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)"),
    "product": ("a, b", "return a * b"),
    "first_largest": ("a, i, b, j", _PAIR.format(">")),
    "first_smallest": ("a, i, b, j", _PAIR.format("<")),
    "floor_div": ("a, b", "return a // b - tl.where((a % b != 0) & ((a < 0) != (b < 0)), 1, 0)"),
    "floor_mod": ("a, b", "return a % b + tl.where((a % b != 0) & ((a < 0) != (b < 0)), b, 0)"),
}
_PAIRED = {"argmax": "first_largest", "argmin": "first_smallest"}
_NOWHERE: frozenset[str] = frozenset()


class TritonUnsupported(NotImplementedError):
    """A kernel that this target does not spell; its steps are then run by the ops' own kernels."""


@dataclass(frozen=True)
class GeneratedKernel:
    """A Triton kernel and how to launch it: ``args`` are buffer names, then sizes, in the order of its parameters;
    ``grid`` may depend on symbolic sizes."""

    source: TritonSource
    args: tuple[str, ...]
    grid: tuple[IndexLike, ...]

    def grid_for(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """The grid with the symbolic sizes known."""
        known: dict[Index, IndexLike] = {ix.size(name): value for name, value in sizes.items()}
        return tuple(int(ix.substitute(extent, known)) for extent in self.grid)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Block:
    """A value: its text, and the axes along which it varies."""

    text: str
    axes: frozenset[str] = _NOWHERE
    literal: bool = False          # a Python number, which has no shape to broadcast


def generate(kernel: Kernel, blocking: Blocking | None = None) -> GeneratedKernel:
    """Spell ``kernel``, with the block sizes of ``blocking`` where it names any. Raises TritonUnsupported for complex
    numbers, scratch rows, random streams and ops without a Triton spelling."""
    if kernel.scratch:
        raise TritonUnsupported(f"{kernel.name} keeps rows in scratch memory")
    return _Speller(kernel, blocking or Blocking()).generate()


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


class _BlockValues(Values[Block]):
    """Values that stay known from one statement to the next: rows in registers are read only once."""

    def __init__(self, speller: _Speller) -> None:
        super().__init__(speller, ())
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


@dataclass
class _Accumulator:
    """``name`` holds one value per outer iteration (``name_at`` its position), once ``started``; within a loop over
    pieces, ``partial`` names a whole block of them."""

    kind: str
    dtype: DType
    name: str
    started: bool = False
    partial: str = ""


class _Speller:
    """The Triton target of ``codegen.emit``: writes the lines of one kernel."""

    def __init__(self, kernel: Kernel, blocking: Blocking) -> None:
        self.kernel = kernel
        self.layout = layout(kernel, blocking)
        self.pointers = {buffer.name: f"{identifier(buffer.name)}_ptr" for buffer in kernel.params}
        self.names = set(self.pointers.values()) | set(kernel.sizes)
        self.values = _BlockValues(self)
        self.lines: list[str] = []
        self.indent = 1
        self.loc = ""
        self.helpers: set[str] = set()
        self.accumulators: dict[str, _Accumulator] = {}
        self.lets: dict[str, Block] = {}
        self.places: dict[Index, Block] = {}       # loop variables
        self.row: Axis | None = None               # the inner chain being written

    # ---- the kernel as a whole

    def generate(self) -> GeneratedKernel:
        kernel, x = self.kernel, self.layout.x
        self.open_axis(x, f"{self.wide('tl.program_id(0)')} * {x.block} + tl.arange(0, {x.block})")
        for axis in self.layout.rows.values():
            if axis.persistent:
                self.open_axis(axis, self.wide(f"tl.arange(0, {axis.block})"))
        walk_body(self, self.layout.body)
        signature = {self.pointers[b.name]: f"*{element_type(b.dtype)}" for b in kernel.params}
        signature |= dict.fromkeys(kernel.sizes, "i64")
        name = identifier(kernel.name)
        helpers = [f"@triton.jit\ndef {helper}({_HELPERS[helper][0]}):\n    {_HELPERS[helper][1]}\n\n"
                   for helper in sorted(self.helpers)]
        head = [f"# {loc}" for loc in kernel.locs]
        text = "\n".join([*helpers, *head, "@triton.jit", f"def {name}({', '.join(signature)}):", *self.lines])
        source = TritonSource(name, HEADER + text + "\n", signature, aligned=frozenset(self.pointers.values()),
                              num_warps=self.layout.warps)
        grid = (ix.div(ix.add(x.extent, x.block - 1), x.block),)
        return GeneratedKernel(source, (*self.pointers, *kernel.sizes), grid)

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text + (f"  # {self.loc}" if self.loc else ""))

    def fresh(self, stem: str) -> str:
        """``stem`` and the first free number."""
        number = next(n for n in range(len(self.names) + 1) if f"{stem}{n}" not in self.names)
        self.names.add(f"{stem}{number}")
        return f"{stem}{number}"

    def wide(self, text: str) -> str:
        return f"{text}.to(tl.int64)" if self.layout.wide else text

    # ---- axes and indices

    def open_axis(self, axis: Axis, lanes: str) -> None:
        """Define the axis variable, its mask, and the loop variables that it stands for."""
        shape = "" if self.layout.flat else "[:, None]" if axis is self.layout.x else "[None, :]"
        self.line(f"{axis.name} = ({lanes}){shape}" if shape else f"{axis.name} = {lanes}")
        if axis.masked:
            self.line(f"{axis.name}_in = {axis.name} < {self.index(axis.extent).text}")
        lane = ix.var(axis.name, axis.extent)
        self.places[lane] = Block(axis.name, frozenset({axis.name}))
        self.places |= {var: Block("0") for var in axis.chain if var.args[1] == 1}
        for group in axis.groups:
            var = merged(group)
            inner = product(shape_of(axis.chain[axis.chain.index(group[-1]) + 1:]))
            place: IndexLike = ix.div(lane, inner) if inner != 0 else lane
            if group[0] is not first_real(axis.chain) and var.args[1] != 0:
                place = ix.mod(place, var.args[1])
            self.places[var] = self.named_place(axis, var, self.index(place))

    def named_place(self, axis: Axis, var: Index, place: Block) -> Block:
        if place.text == axis.name or not place.axes:
            return place
        name = self.fresh(f"{axis.name}_{identifier(str(var))}_")
        self.line(f"{name} = {place.text}")
        return Block(name, place.axes)

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

    def shape(self, axes: frozenset[str]) -> str:
        x = self.layout.x
        first = x.block if x.name in axes else 1
        if self.layout.flat:
            return f"({first},)"
        second = [axis.block for axis in self.layout.rows.values() if axis.name in axes]
        return f"({first}, {second[0] if second else 1})"

    def place(self, buffer: str, index: Sequence[IndexLike], axes: frozenset[str]) -> tuple[str, frozenset[str]]:
        """The pointer block of an access that varies at least along ``axes``."""
        address = self.index(self.layout.address(buffer, index))
        text, wanted = address.text, address.axes | axes
        if not address.axes:
            text = f"tl.full({self.shape(wanted)}, {text}, tl.int64)"
        elif wanted != address.axes:
            text = f"tl.broadcast_to({text}, {self.shape(wanted)})"
        text = text[1:-1] if text.startswith("(") and _closes_at_end(text) else text
        return f"{self.pointers[buffer]} + {text}", wanted

    def mask(self, axes: frozenset[str], condition: Block | None) -> str:
        """The lanes of ``axes`` that exist, where ``condition`` holds."""
        parts = [f"{axis.name}_in" for axis in (self.layout.x, *self.layout.rows.values())
                 if axis.masked and axis.name in axes]
        if condition is not None:
            parts.append(condition.text)
        return " & ".join(parts)

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
        return Block(f"tl.full({self.shape(_NOWHERE)}, {text}, {register_type(e.dtype)})")

    def index_value(self, e: IndexValue) -> Block:
        block = self.index(e.args[0])
        kind = register_type(e.dtype)
        if not block.axes:
            return Block(f"tl.full({self.shape(_NOWHERE)}, {block.text}, {kind})")
        return Block(f"({block.text}).to({kind})", block.axes)

    def local(self, e: Local) -> Block:
        if e.name in self.lets:
            return self.lets[e.name]
        accumulator = self.accumulators[e.name]
        self.start(accumulator)
        positional = accumulator.kind in _PAIRED and e.dtype.is_integral and not accumulator.dtype.is_integral
        return Block(accumulator.name + ("_at" if positional else ""), frozenset({self.layout.x.name}))

    def load(self, e: Load) -> Block:
        condition = None if e.mask is None else self.values(e.mask)
        pointer, axes = self.place(e.buffer, e.index, condition.axes if condition else _NOWHERE)
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
        return Block(scalar.triton.format(*(operand.text for operand in operands), dtype=register_type(e.dtype)), axes)

    def cast(self, text: str, source: DType, target: DType) -> str:
        if target.kind == "b":
            return f"({text} != 0)"
        if is_half(target):        # rounded, but held as float32
            return f"({text}).to(tl.{target.name}).to(tl.float32)"
        return text if register_type(source) == register_type(target) else f"({text}).to({register_type(target)})"

    def random(self, e: Random, seed: Block) -> Block:
        raise TritonUnsupported(f"{self.kernel.name} draws random numbers")

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
        pointer, axes = self.place(s.buffer, s.index, value.axes | (condition.axes if condition else _NOWHERE))
        mask = self.mask(axes, condition)
        dtype = self.layout.buffers[s.buffer].dtype
        text = value.text if value.axes == axes else self.spread(value, self.shape(axes), s.value.dtype)
        if s.mode == "add":
            kind = f"tl.{dtype.name}"
            self.line(f"tl.atomic_add({pointer}, ({text}).to({kind}){f', mask={mask}' if mask else ''}, sem='relaxed')")
        else:
            self.line(f"tl.store({pointer}, {text}{f', mask={mask}' if mask else ''})")
        self.values.forget(s.buffer)
        self.loc = ""

    def init(self, s: Init) -> None:
        self.accumulators[s.name] = _Accumulator(s.kind, s.dtype, self.fresh(identifier(s.name) + "_"))

    def loop(self, s: For) -> None:
        chain, body = inner_chain(s)
        if any(isinstance(inner, For) for inner in body):
            self.serial(s)
            return
        self.row = self.layout.rows[shape_of(chain)]
        if self.row.persistent:
            walk_body(self, body)
        else:
            self.pieces(self.row, body)
        self.row = None

    def serial(self, s: For) -> None:
        """A loop around other loops: its iterations one after the other, its variable a scalar."""
        for inner in statements(s.body):
            if isinstance(inner, Accumulate) and inner.name in self.accumulators:
                self.start(self.accumulators[inner.name])
        name = self.fresh(identifier(str(s.var)) + "_")
        self.line(f"for {name} in range({self.index(s.var.args[1]).text}):")
        with self.indented():
            self.places[s.var] = Block(name)
            walk_body(self, s.body)

    def pieces(self, axis: Axis, body: Sequence[object]) -> None:
        """A row that does not fit: combine block after block lane by lane, then the lanes once."""
        found = [self.accumulators[s.name] for s in body if isinstance(s, Accumulate)]
        shape = self.shape(frozenset({self.layout.x.name, axis.name}))
        for accumulator in found:
            accumulator.partial = self.fresh(f"{accumulator.name}_lanes")
            self.line(f"{accumulator.partial} = {self.identity_block(accumulator, shape)}")
            if accumulator.kind in _PAIRED:
                self.line(f"{accumulator.partial}_at = tl.full({shape}, {INT32_MAX}, tl.int64)")
        start = self.fresh("start")
        self.line(f"for {start} in range(0, {self.index(axis.extent).text}, {axis.block}):")
        with self.indented():
            self.open_axis(axis, f"{start} + {self.wide(f'tl.arange(0, {axis.block})')}")
            walk_body(self, body)
        for accumulator in found:
            partial, accumulator.partial = accumulator.partial, ""
            self.combine(accumulator, *self.across(accumulator, partial, f"{partial}_at"))

    @contextmanager
    def indented(self) -> Iterator[None]:
        with self.values.scope():
            self.indent += 1
            yield
            self.indent -= 1

    # ---- reductions

    def accumulate(self, s: Accumulate) -> None:
        self.loc = s.loc
        accumulator = self.accumulators[s.name]
        axes = {self.layout.x.name} | ({self.row.name} if self.row else set())
        shape = self.shape(frozenset(axes))
        value = self.spread(self.values(s.value), shape, s.value.dtype)
        if s.value.dtype is not accumulator.dtype:
            value = self.cast(value, s.value.dtype, accumulator.dtype)
        position = ""
        if s.position is not None:
            position = self.spread(self.index_value(IndexValue(int64, s.position)), shape, int64)
        if self.row is None:
            self.combine(accumulator, value, position)
        else:
            self.accumulate_row(accumulator, self.row, value, position)
        self.loc = ""

    def spread(self, value: Block, shape: str, dtype: DType) -> str:
        """``value`` as a block of ``shape``."""
        if value.literal:
            return f"tl.full({shape}, {value.text}, {register_type(dtype)})"
        return f"tl.broadcast_to({value.text}, {shape})"

    def accumulate_row(self, accumulator: _Accumulator, axis: Axis, value: str, position: str) -> None:
        if axis.masked:
            value = f"tl.where({axis.name}_in, {value}, {identity(accumulator.kind, accumulator.dtype)})"
            position = position and f"tl.where({axis.name}_in, {position}, {INT32_MAX})"
        if accumulator.partial:
            self.assign(accumulator, accumulator.partial, value, position)
            return
        row = self.fresh(f"{accumulator.name}_row")
        self.line(f"{row} = {value}")
        if position:
            self.line(f"{row}_at = {position}")
        self.combine(accumulator, *self.across(accumulator, row, f"{row}_at"))

    def across(self, accumulator: _Accumulator, block: str, positions: str) -> tuple[str, str]:
        """Combine a block along its row: texts of the value and of the position, each of shape (X, 1)."""
        kind, real = accumulator.kind, accumulator.dtype.kind == "f"
        if kind in _PAIRED:
            name = self.fresh(f"{accumulator.name}_best")
            helper = self.helper(_PAIRED[kind])
            self.line(f"{name}, {name}_at = tl.reduce(({block}, {positions}), 1, {helper}, keep_dims=True)")
            return name, f"{name}_at"
        if kind == "sum":
            return f"tl.sum({block}, 1, keep_dims=True)", ""
        if kind in ("any", "all"):
            return f"(tl.{'max' if kind == 'any' else 'min'}({block}.to(tl.int32), 1, keep_dims=True) != 0)", ""
        if kind == "prod" or real:
            helper = self.helper({"prod": "product", "max": "largest", "min": "smallest"}[kind])
            return f"tl.reduce({block}, 1, {helper}, keep_dims=True)", ""
        return f"tl.{kind}({block}, 1, keep_dims=True)", ""

    def combine(self, accumulator: _Accumulator, value: str, position: str) -> None:
        """Combine one value per outer iteration into the accumulator; the first one is the accumulator."""
        if accumulator.started:
            self.assign(accumulator, accumulator.name, value, position)
            return
        accumulator.started = True
        self.line(f"{accumulator.name} = {value}")
        if position:
            self.line(f"{accumulator.name}_at = {position}")

    def start(self, accumulator: _Accumulator) -> None:
        """Give the accumulator its identity, where it is read or carried through a loop before it has a value."""
        if not accumulator.started:
            shape = self.shape(frozenset({self.layout.x.name}))
            position = f"tl.full({shape}, {INT32_MAX}, tl.int64)" if accumulator.kind in _PAIRED else ""
            self.combine(accumulator, self.identity_block(accumulator, shape), position)

    def identity_block(self, accumulator: _Accumulator, shape: str) -> str:
        value = identity(accumulator.kind, accumulator.dtype)
        return f"tl.full({shape}, {value}, {register_type(accumulator.dtype)})"

    def assign(self, accumulator: _Accumulator, name: str, value: str, position: str) -> None:
        """``name`` combined with ``value``, of equal shape."""
        kind, real = accumulator.kind, accumulator.dtype.kind == "f"
        if kind in _PAIRED:
            helper = self.helper(_PAIRED[kind])
            self.line(f"{name}, {name}_at = {helper}({name}, {name}_at, {value}, {position})")
        elif kind in ("sum", "prod"):
            self.line(f"{name} = {name} {'+' if kind == 'sum' else '*'} {value}")
        elif kind in ("any", "all"):
            self.line(f"{name} = {name} {'|' if kind == 'any' else '&'} {value}")
        else:
            function = self.helper("largest" if kind == "max" else "smallest") if real else f"tl.{kind}imum"
            self.line(f"{name} = {function}({name}, {value})")

    def helper(self, name: str) -> str:
        self.helpers.add(name)
        return name


def identity(kind: str, dtype: DType) -> str:
    """The literal that changes nothing when combined."""
    if kind in ("sum", "any"):
        return "0"
    if kind in ("prod", "all"):
        return "1"
    largest = kind in ("max", "argmax")
    if dtype.kind == "f":
        return '-float("inf")' if largest else 'float("inf")'
    if dtype.kind == "b":
        return "0" if largest else "1"
    bits = dtype.itemsize * 8
    low, high = (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return str(low if largest else high)


def first_real(chain: Sequence[Index]) -> Index | None:
    """The first loop of more than one iteration."""
    return next((var for var in chain if var.args[1] != 1), None)


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
