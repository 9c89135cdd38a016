"""Spells scheduled kernels as Triton.

A kernel is a loop nest whose outer loops are independent and whose inner loops either reduce or map a row
(``passes.tile_gpu`` makes exactly such nests). The outer loops become the programs of the grid, several iterations
each; an inner chain of loops becomes the second axis of a block: at once where the row fits in a block ("persistent"),
else in a ``for`` over pieces. Values are blocks of shape ``(X, 1)``, ``(1, R)`` or ``(X, R)``, one Python line for each
loop expression, with the user's line as a comment. Half precisions are held as float32 between load and store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from flambeau.codegen.emit import statements, walk_body
from flambeau.codegen.triton_blocks import INT32_MAX, Axis, Blocking, inner_chain, layout, merged, product, shape_of
from flambeau.codegen.triton_build import TritonSource
from flambeau.codegen.triton_templates import HEADER
from flambeau.codegen.triton_values import Block, Speller, TritonUnsupported, element_type, identifier, register_type
from flambeau.ir import index as ix
from flambeau.ir.dtype import DType, int64
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, For, IndexValue, Init, Local
from flambeau.ir.program import Kernel

_PAIRED = {"argmax": "first_largest", "argmin": "first_smallest"}


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


def generate(kernel: Kernel, blocking: Blocking | None = None) -> GeneratedKernel:
    """Spell ``kernel``, with the block sizes of ``blocking`` where it names any. Raises TritonUnsupported for complex
    numbers, scratch rows, random streams and ops without a Triton spelling."""
    if kernel.scratch:
        raise TritonUnsupported(f"{kernel.name} keeps rows in scratch memory")
    return _KernelSpeller(kernel, blocking or Blocking()).generate()


@dataclass
class _Accumulator:
    """``name`` holds one value per outer iteration (``name_at`` its position), once ``started``; within a loop over
    pieces, ``partial`` names a whole block of them."""

    kind: str
    dtype: DType
    name: str
    started: bool = False
    partial: str = ""


class _KernelSpeller(Speller):
    """The Triton target of ``codegen.emit`` for a whole kernel: grid, loops and reductions."""

    def __init__(self, kernel: Kernel, blocking: Blocking) -> None:
        super().__init__(kernel.params, kernel.sizes)
        self.kernel = kernel
        self.layout = layout(kernel, blocking)
        self.accumulators: dict[str, _Accumulator] = {}
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
        head = [f"# {loc}" for loc in kernel.locs]
        text = "\n".join([*self.helper_texts(), *head, "@triton.jit", f"def {name}({', '.join(signature)}):", *self.lines])
        source = TritonSource(name, HEADER + text + "\n", signature, aligned=frozenset(self.pointers.values()),
                              num_warps=self.layout.warps)
        grid = (ix.div(ix.add(x.extent, x.block - 1), x.block),)
        return GeneratedKernel(source, (*self.pointers, *kernel.sizes), grid)

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

    def shape(self, axes: frozenset[str]) -> str:
        x = self.layout.x
        first = x.block if x.name in axes else 1
        if self.layout.flat:
            return f"({first},)"
        second = [axis.block for axis in self.layout.rows.values() if axis.name in axes]
        return f"({first}, {second[0] if second else 1})"

    def address(self, buffer: str, index: Sequence[IndexLike]) -> IndexLike:
        return self.layout.address(buffer, index)

    def masked(self) -> list[str]:
        return [axis.name for axis in (self.layout.x, *self.layout.rows.values()) if axis.masked]

    def local(self, e: Local) -> Block:
        if e.name not in self.accumulators:
            return super().local(e)
        accumulator = self.accumulators[e.name]
        self.start(accumulator)
        positional = accumulator.kind in _PAIRED and e.dtype.is_integral and not accumulator.dtype.is_integral
        return Block(accumulator.name + ("_at" if positional else ""), frozenset({self.layout.x.name}))

    # ---- statements

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
