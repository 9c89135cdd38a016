"""Templates as kernels of a schedule: attention, and matrix products with the loops that follow in their epilogue."""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.codegen.triton import GeneratedKernel
from flambeau.codegen.triton_attention import Mask, Shape, Strided, attention, attention_tiles
from flambeau.codegen.triton_templates import Epilogue, Matrix, Tile, matmul, matmul_tiles
from flambeau.codegen.triton_values import Block, Speller, TritonUnsupported, element_type, identifier
from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer, Expr, Load, Store
from flambeau.ir.program import Extern, Ref

TEMPLATES = frozenset({"matmul", "attention"})
EPILOGUES = frozenset({"matmul"})
TEMPLATE_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64", "bool"})


def template_kernels(step: Extern, buffers: dict[str, Buffer]) -> list[GeneratedKernel]:
    """Candidates for a template step, the likeliest first.

    Raises TritonUnsupported for symbolic sizes and for dtypes that tensor cores do not take.
    """
    if step.template == "attention":
        return _attention_kernels(step, buffers)
    product = _Product(step, buffers)
    return [product.candidate(tile) for tile in product.tiles()]


def _attention_kernels(step: Extern, buffers: dict[str, Buffer]) -> list[GeneratedKernel]:
    """``attention(query, key, value, mask, causal, scale)``, its result and the log-sum-exp."""
    query, key, value, mask, causal, scale = step.args
    kind = element_type(buffers[query.buffer].dtype)
    if kind not in ("fp16", "bf16", "fp32"):
        raise TritonUnsupported(f"{step.name}: no attention of {kind} in Triton")
    (batch, heads, queries, features), (_, groups, keys, _) = _static(query.shape, step), _static(key.shape, step)
    shape = Shape(batch, heads, groups, queries, keys, features, _static(value.shape, step)[-1])
    out = buffers[step.outs[0]]
    places = {name: _strided(ref, step) for name, ref in (("query", query), ("key", key), ("value", value))}
    places["out"] = Strided(_static(out.strides, step))  # type: ignore[arg-type]
    seen = None if mask is None else _mask(mask, shape, element_type(buffers[mask.buffer].dtype), step)
    names = [query.buffer, key.buffer, value.buffer, *([] if mask is None else [mask.buffer]), *step.outs]
    found = []
    for tile in attention_tiles(features, buffers[query.buffer].dtype.itemsize):
        source, grid = attention(identifier(step.name), shape, places, kind, scale=float(scale), causal=bool(causal),
                                 tile=tile, mask=seen, origin=step.loc)
        found.append(GeneratedKernel(source, tuple(names), grid))
    return found


def _strided(ref: Ref, step: Extern) -> Strided:
    return Strided(_static(ref.strides, step), _static((ref.offset,), step)[0])  # type: ignore[arg-type]


def _mask(ref: Ref, shape: Shape, kind: str, step: Extern) -> Mask:
    """A mask of fewer dimensions, or of size 1 where the scores are larger, is walked with stride 0."""
    wanted = (shape.batch, shape.heads, shape.queries, shape.keys)
    lead = 4 - len(ref.shape)
    sizes, steps = (1,) * lead + _static(ref.shape, step), (0,) * lead + _static(ref.strides, step)
    strides = tuple(stride if size == full else 0 for size, full, stride in zip(sizes, wanted, steps))
    return Mask(kind, Strided(strides, _static((ref.offset,), step)[0]))  # type: ignore[arg-type]


class _Product:
    """``[batch, m, k] @ [batch, k, n]`` as a step describes it: two Refs of two or three dimensions, one result."""

    def __init__(self, step: Extern, buffers: dict[str, Buffer]) -> None:
        left, right = (arg for arg in step.args if isinstance(arg, Ref))
        self.step, self.buffers = step, buffers
        self.left, self.right = left, right
        self.kind = element_type(buffers[left.buffer].dtype)
        if self.kind not in ("fp16", "bf16", "fp32", "fp64"):
            raise TritonUnsupported(f"{step.name}: no matrix product of {self.kind} in Triton")
        self.batch, self.m, self.k = _static(left.shape if len(left.shape) == 3 else (1, *left.shape), step)
        self.n = _static(right.shape, step)[-1]

    def tiles(self) -> list[Tile]:
        itemsize = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}[self.kind]
        return matmul_tiles(self.m, self.n, self.k, itemsize)

    def candidate(self, tile: Tile) -> GeneratedKernel:
        speller = _EpilogueSpeller(self, tile)
        epilogue = speller.epilogue()
        source, grid = matmul(identifier(self.step.name), (self.batch, self.m, self.n, self.k), self.matrix(self.left),
                              self.matrix(self.right), epilogue, tile, origin=self.step.loc)
        return GeneratedKernel(source, (self.left.buffer, self.right.buffer, *speller.buffers), grid)

    def matrix(self, ref: Ref) -> Matrix:
        strides = _static(ref.strides if len(ref.strides) == 3 else (0, *ref.strides), self.step)
        (offset,) = _static((ref.offset,), self.step)
        return Matrix(self.kind, strides, offset)  # type: ignore[arg-type]

    def variables(self) -> tuple[Block, ...]:
        """What the loop variables of the result stand for in the template, in order."""
        tile = (Block("row", frozenset({"row"})), Block("column", frozenset({"column"})))
        return tile if len(self.left.shape) == 2 else (Block("batch.to(tl.int64)"), *tile)


class _EpilogueSpeller(Speller):
    """Spells the loops after a product for one tile of it, whose elements are ``acc``."""

    def __init__(self, product: _Product, tile: Tile) -> None:
        step = product.step
        read = dict.fromkeys(e.buffer for loop in step.epilogue for e in loops.walk(loop.value) if isinstance(e, Load))
        made = {*step.outs, *(loop.buffer for loop in step.epilogue)}
        names = [*(name for name in read if name not in made), *step.written]
        super().__init__((product.buffers[name] for name in names), ())
        self.product, self.tile = product, tile
        self.made = {loop.buffer: loop for loop in step.epilogue}
        self.names |= {"acc", "row", "column", "batch", "m", "n", "k"}
        for place, (block, extent) in enumerate(zip(product.variables(), self._extents())):
            self.places[ix.var(f"i{place}", extent)] = block

    def _extents(self) -> tuple[int, ...]:
        product = self.product
        return (product.m, product.n) if len(product.left.shape) == 2 else (product.batch, product.m, product.n)

    def epilogue(self) -> Epilogue:
        step = self.product.step
        if step.outs[0] in step.written:
            self._store_product(step.outs[0])
        for loop in step.epilogue:
            if loop.buffer in step.written:
                self.store(Store(loop.buffer, loop.index, loop.value, loc=loop.loc))
        params = {self.pointers[name]: f"*{element_type(buffer.dtype)}" for name, buffer in self.buffers.items()}
        return Epilogue(self.lines, params, self.helper_texts())

    def _store_product(self, name: str) -> None:
        buffer = self.buffers[name]
        index: tuple[IndexLike, ...] = tuple(0 if extent == 1 else ix.var(f"i{place}", extent)
                                             for place, extent in enumerate(self._extents()))
        self.store(Store(name, index, Load(buffer.dtype, name, index, None, 0), loc=self.product.step.loc))

    def load(self, e: Load) -> Block:
        if e.buffer == self.product.step.outs[0]:
            return Block("acc", frozenset({"row", "column"}))
        return self._computed(e) if e.buffer in self.made else super().load(e)

    def _computed(self, e: Load) -> Block:
        """The result of another loop of the epilogue, spelled at the index where it is read."""
        loop = self.made[e.buffer]
        env: dict[Index, IndexLike] = {}
        for place, at in zip(loop.index, e.index, strict=True):
            if isinstance(place, Index) and place is not at:
                if place.kind != "var":
                    raise TritonUnsupported(f"{e.buffer} is written at {place} and read at {at} in an epilogue")
                env[place] = at
        value = loops.rewrite(loop.value, lambda part: None, env) if env else loop.value
        if e.mask is not None:
            value = loops.select(e.mask, value, loops.const(e.other, e.dtype))
        before, self.loc = self.loc, loop.loc
        found = self.values(value)
        self.loc = before
        return found

    def named(self, e: Expr, value: Block) -> Block:
        known = isinstance(e, Load) and (e.buffer in self.made or e.buffer == self.product.step.outs[0])
        return value if known else super().named(e, value)

    def shape(self, axes: frozenset[str]) -> str:
        return f"({self.tile.m if 'row' in axes else 1}, {self.tile.n if 'column' in axes else 1})"

    def masked(self) -> Sequence[str]:
        return ("row", "column")


def _static(extents: Sequence[IndexLike], step: Extern) -> tuple[int, ...]:
    if any(isinstance(extent, Index) for extent in extents):
        raise TritonUnsupported(f"{step.name}: the matrix product template takes static sizes")
    return tuple(extents)  # type: ignore[arg-type]
