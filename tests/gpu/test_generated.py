"""Loops tiled for the GPU and spelled as Triton: values by the interpreter against the loops' plain meaning."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("triton")

from gpu import loop_oracle  # noqa: E402

import flambeau.ir.ops  # noqa: E402, F401
from flambeau.codegen.triton import generate  # noqa: E402
from flambeau.codegen.triton_blocks import Blocking  # noqa: E402
from flambeau.codegen.triton_build import lower  # noqa: E402
from flambeau.codegen.triton_interp import interpret  # noqa: E402
from flambeau.codegen.triton_values import TritonUnsupported  # noqa: E402
from flambeau.ir import dtype as D  # noqa: E402
from flambeau.ir import index as ix  # noqa: E402
from flambeau.ir import loops as L  # noqa: E402
from flambeau.ir.index import IndexLike  # noqa: E402
from flambeau.ir.loops import Buffer, Expr, Load, Loop, Reduce  # noqa: E402
from flambeau.ir.program import Kernel, Schedule, Target  # noqa: E402
from flambeau.passes.schedule import schedule  # noqa: E402
from flambeau.passes.tile_gpu import tile_gpu  # noqa: E402

F32 = D.float32
TARGETS = ("cuda:80", "cuda:90", "hip:gfx942")


class Program:
    """A group under construction: inputs are drawn, loops are added by functions of their index."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.buffers: dict[str, Buffer] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.loops: list[Loop] = []
        self.kept: list[str] = []
        self.sizes: dict[str, int] = {}

    def input(self, name: str, *shape: IndexLike, dtype: D.DType = F32, values: np.ndarray | None = None) -> Source:
        real = tuple(self.sizes[n.args[0]] if isinstance(n, ix.Index) else n for n in shape)
        drawn = self.rng.standard_normal(real) * 2 if values is None else values
        self.arrays[name] = np.ascontiguousarray(drawn).astype(dtype.np)
        return self._buffer(name, shape, dtype)

    def loop(self, name: str, shape: tuple[IndexLike, ...], body: Callable[..., Expr], *, keep: bool = False,
             loc: str = "") -> Source:
        """``name[i, j, ...] = body(i, j, ...)``."""
        ranges = tuple(ix.var(f"{name}_{place}", n) for place, n in enumerate(shape))
        value = body(*ranges)
        real = tuple(self.sizes[n.args[0]] if isinstance(n, ix.Index) else n for n in shape)
        self.arrays[name] = np.zeros(real, value.dtype.np)
        self.loops.append(Loop(name, ranges, ranges, value, loc or f"net.py:{len(self.loops) + 1}"))
        if keep:
            self.kept.append(name)
        return self._buffer(name, shape, value.dtype)

    def _buffer(self, name: str, shape: tuple[IndexLike, ...], dtype: D.DType) -> Source:
        strides: list[IndexLike] = []
        step: IndexLike = 1
        for n in reversed(shape):
            strides.insert(0, step)
            step = ix.mul(step, n) if isinstance(n, ix.Index) else ix.mul(n, step) if isinstance(step, ix.Index) else n * step
        self.buffers[name] = Buffer(name, dtype, shape, tuple(strides))
        return lambda *index, mask=None, other=0: Load(dtype, name, tuple(index), mask, other)

    def kernels(self) -> list[Kernel]:
        """Through the scheduler: what it fuses is part of what is tested."""
        made = {loop.buffer for loop in self.loops}
        lowered = Schedule(tuple(self.loops), self.buffers, tuple(n for n in self.buffers if n not in made),
                           tuple(self.kept))
        fused = schedule(lowered, Target(kind="triton", threads=1))
        self.buffers |= fused.buffers
        return [tile_gpu(group, self.buffers) for group in fused.steps]

    def check(self, blocking: Blocking | None = None, tolerance: float = 2e-5, kernels: int | None = None) -> str:
        """Run both ways and compare what is kept; the kernels' text is returned."""
        expected = {name: array.copy() for name, array in self.arrays.items()}
        loop_oracle.run(self.loops, expected, self.sizes)
        found = {name: np.full_like(array, 1) if name in self.kept else array for name, array in self.arrays.items()}
        found |= {loop.buffer: np.ones_like(found[loop.buffer]) for loop in self.loops}
        generated = [generate(kernel, blocking) for kernel in self.kernels()]
        for kernel in generated:
            args = [found[name] if name in found else self.sizes[name] for name in kernel.args]
            interpret(kernel.source, kernel.grid_for(self.sizes), args)
        for name in self.kept:
            got, wanted = (array[name].astype(np.float64) for array in (found, expected))
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=name)
        assert kernels in (None, len(generated))
        return "\n".join(kernel.source.source for kernel in generated)


Source = Callable[..., Expr]


def total(kind: str, size: IndexLike, body: Callable[[ix.Index], Expr], name: str = "r", dtype: D.DType | None = None) -> Expr:
    var = ix.var(name, size)
    value = body(var)
    return Reduce(dtype or value.dtype, kind, (var,), value)


def softmax(rows: int, columns: int, dtype: D.DType = F32) -> Program:
    p = Program()
    x = p.input("x", rows, columns, dtype=dtype)
    wide = lambda *index: L.cast(x(*index), F32)  # noqa: E731
    top = p.loop("top", (rows,), lambda i: total("max", columns, lambda r: wide(i, r)))
    weight = p.loop("weight", (rows, columns), lambda i, j: L.call("exp", wide(i, j) - top(i)))
    norm = p.loop("norm", (rows,), lambda i: total("sum", columns, lambda r: weight(i, r)))
    p.loop("out", (rows, columns), lambda i, j: L.cast(L.call("div", weight(i, j), norm(i)), dtype), keep=True)
    return p


def layer_norm(rows: int, columns: int, dtype: D.DType = F32) -> Program:
    p = Program()
    x, gain, bias = p.input("x", rows, columns, dtype=dtype), p.input("gain", columns), p.input("bias", columns)
    wide = lambda *index: L.cast(x(*index), F32)  # noqa: E731
    mean = p.loop("mean", (rows,), lambda i: total("sum", columns, lambda r: wide(i, r)) * (1 / columns), keep=True)
    centred = p.loop("centred", (rows, columns), lambda i, j: wide(i, j) - mean(i))
    square = p.loop("square", (rows,), lambda i: total("sum", columns, lambda r: centred(i, r) * centred(i, r)))
    scale = p.loop("scale", (rows,), lambda i: L.call("rsqrt", square(i) * (1 / columns) + 1e-5), keep=True)
    p.loop("out", (rows, columns), lambda i, j: L.cast(centred(i, j) * scale(i) * gain(j) + bias(j), dtype), keep=True)
    return p


def pointwise(*shape: int, dtype: D.DType = F32) -> Program:
    p = Program()
    x, y, z = p.input("x", *shape, dtype=dtype), p.input("y", shape[-1], dtype=dtype), p.input("z", *shape, dtype=dtype)
    hidden = p.loop("hidden", shape, lambda *i: L.cast(x(*i), F32) * L.cast(y(i[-1]), F32), loc="net.py:7 block")
    p.loop("out", shape, lambda *i: L.cast(L.call("exp", -hidden(*i)) + L.cast(z(*i), F32), dtype), keep=True)
    return p


# ---- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 33), (2, 3, 70), (1, 1)])
def test_pointwise(shape: tuple[int, ...]) -> None:
    pointwise(*shape).check(Blocking(x=32), 1e-4)


def test_contiguous_loops_are_one_index() -> None:
    text = pointwise(4, 16).check()
    assert "tl.load(x_ptr + x)" in text and "tl.store(out_ptr + x, " in text
    assert "% 16" in text                       # the broadcast operand still needs its column


@pytest.mark.parametrize("rows, columns", [(1, 65), (5, 100), (3, 128), (40, 70)])
@pytest.mark.parametrize("blocking", [Blocking(), Blocking(x=2, r=16)], ids=["persistent", "looped"])
@pytest.mark.parametrize("make", [softmax, layer_norm])
def test_row_kernels(make: Callable[[int, int], Program], rows: int, columns: int, blocking: Blocking) -> None:
    text = make(rows, columns).check(blocking, kernels=1)
    assert ("for start" in text) == (blocking.r is not None)


@pytest.mark.parametrize("make", [softmax, layer_norm])
@pytest.mark.parametrize("rows, columns", [(1, 1), (40, 9)])
def test_short_rows(make: Callable[[int, int], Program], rows: int, columns: int) -> None:
    make(rows, columns).check()


@pytest.mark.parametrize("make", [softmax, layer_norm, pointwise])
@pytest.mark.parametrize("dtype", [D.bfloat16, D.float16], ids=str)
def test_half_precisions_compute_in_float32(make: Callable[..., Program], dtype: D.DType) -> None:
    make(3, 20, dtype=dtype).check(tolerance=1e-2)


def test_persistent_rows_are_loaded_once() -> None:
    text = softmax(5, 100).check()
    assert text.count("tl.load(") == 1 and text.count("tl.exp(") == 1


@pytest.mark.parametrize("blocking", [Blocking(), Blocking(x=8, r=16)], ids=["persistent", "looped"])
def test_column_sum(blocking: Blocking) -> None:
    p = Program()
    x = p.input("x", 50, 24)
    p.loop("out", (24,), lambda j: total("sum", 50, lambda r: x(r, j)), keep=True)
    p.check(blocking)


def test_a_sum_over_rows_takes_wide_blocks_of_columns() -> None:
    p = Program()
    x = p.input("x", 4096, 65536, values=np.zeros((1, 1)))
    p.loop("out", (65536,), lambda j: total("sum", 4096, lambda r: x(r, j)), keep=True)
    assert "tl.arange(0, 64))[:, None]" in generate(p.kernels()[0]).source.source


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", [D.float32, D.float64, D.int32, D.int64, D.uint8], ids=str)
@pytest.mark.parametrize("r", [None, 16])
def test_reductions(kind: str, dtype: D.DType, r: int | None) -> None:
    p = Program()
    values = p.rng.integers(1, 3, (3, 21)) if kind == "prod" else p.rng.integers(0, 100, (3, 21))
    x = p.input("x", 3, 21, dtype=dtype, values=values - (40 if dtype.is_signed and kind != "prod" else 0))
    p.loop("out", (3,), lambda i: total(kind, 21, lambda v: x(i, v)), keep=True)
    p.check(Blocking(r=r))


@pytest.mark.parametrize("kind", ["any", "all"])
@pytest.mark.parametrize("r", [None, 16])
def test_truth_reductions(kind: str, r: int | None) -> None:
    p = Program()
    rows = np.array([[0] * 20 + [1], [0] * 21, [1] * 21, [1] * 20 + [0]])
    x = p.input("x", 4, 21, dtype=D.bool_, values=rows)
    p.loop("out", (4,), lambda i: total(kind, 21, lambda v: x(i, v)), keep=True)
    p.check(Blocking(r=r))


@pytest.mark.parametrize("kind", ["argmax", "argmin"])
@pytest.mark.parametrize("r", [None, 16])
def test_positions_take_the_first_of_equals_and_nan_wins(kind: str, r: int | None) -> None:
    p = Program()
    rows = np.array([[3.0] * 40, np.arange(40), -np.arange(40), [1.0, np.nan] * 20, [-np.inf] * 40])
    x = p.input("x", 5, 40, values=rows)
    p.loop("out", (5,), lambda i: total(kind, 40, lambda v: x(i, v), dtype=D.int64), keep=True)
    p.check(Blocking(r=r))


@pytest.mark.parametrize("kind", ["max", "min", "sum"])
def test_nan_is_kept_by_reductions(kind: str) -> None:
    p = Program()
    x = p.input("x", 2, 4, values=np.array([[1, np.nan, 2, 3], [4, 5, 6, 7]]))
    p.loop("out", (2,), lambda i: total(kind, 4, lambda v: x(i, v)), keep=True)
    p.check()


def test_reduction_over_two_axes() -> None:
    """As batch norm's statistics: the reduced axes surround the kept one, and merge with nothing."""
    p = Program()
    x = p.input("x", 4, 3, 6)
    b, s = ix.var("b", 4), ix.var("s", 6)
    p.loop("out", (3,), lambda c: Reduce(F32, "sum", (b, s), x(b, c, s)), keep=True)
    p.check()


def test_whole_sum_is_one_program() -> None:
    p = Program()
    x = p.input("x", 5, 6)
    a, b = ix.var("a", 5), ix.var("b", 6)
    p.loop("out", (), lambda: Reduce(F32, "sum", (a, b), x(a, b)), keep=True)
    text = p.check()
    assert "tl.load(x_ptr + r0," in text        # both axes merged


def test_empty_reduction_is_the_identity() -> None:
    p = Program()
    x = p.input("x", 3, 0)
    p.loop("out", (3,), lambda i: total("sum", 0, lambda v: x(i, v)), keep=True)
    p.check()


def test_reduction_inside_a_reduction() -> None:
    """max over i of (sum over j): the inner loop depends on the outer one, so it cannot be hoisted."""
    p = Program()
    x = p.input("x", 4, 5, 6)
    inner = p.loop("inner", (4, 5), lambda i, j: total("sum", 6, lambda v: x(i, j, v), "s"))
    p.loop("out", (4,), lambda i: total("max", 5, lambda v: inner(i, v), "t"), keep=True)
    p.check()


def test_matrix_product_as_a_plain_reduction() -> None:
    p = Program()
    a, b = p.input("a", 5, 7), p.input("b", 7, 6)
    p.loop("out", (5, 6), lambda i, j: total("sum", 7, lambda v: a(i, v) * b(v, j)), keep=True)
    p.check()


def test_gather_and_embedding() -> None:
    p = Program()
    table = p.input("table", 10, 8)
    ids = p.input("ids", 5, dtype=D.int64, values=np.array([3, 0, 9, 9, 1]))
    p.loop("out", (5, 8), lambda i, j: table(ix.value(ids(i)), j) * 2, keep=True)
    p.check()


def test_transpose_and_flip() -> None:
    p = Program()
    x = p.input("x", 6, 9)
    p.loop("out", (9, 6), lambda i, j: x(ix.add(5, ix.mul(j, -1)), i) + 1, keep=True)
    p.check()


def test_padding_reads_nothing_outside() -> None:
    p = Program()
    x = p.input("x", 6)

    def body(i: ix.Index) -> Expr:
        at = i - 2
        return x(at, mask=L.both(L.compare("ge", at, 0), L.compare("lt", at, 6)), other=7)

    p.loop("out", (11,), body, keep=True)
    p.check()


def test_division_of_negative_indices_rounds_down() -> None:
    p = Program()
    x = p.input("x", 6)
    p.loop("out", (9,), lambda i: x((i - 5) // 2 + 3) + L.index_value((i - 5) % 3, F32), keep=True)
    p.check()


def test_index_values_and_conditions() -> None:
    p = Program()
    x = p.input("x", 5, 5)
    p.loop("out", (5, 5), lambda i, j: L.select(L.compare("le", j, i), x(i, j), L.const(float("-inf"), F32)), keep=True)
    p.check()


def test_symbolic_sizes_are_parameters() -> None:
    p = Program()
    p.sizes["s0"] = 37
    n = ix.size("s0")
    x = p.input("x", n, 8)
    shift = p.loop("shift", (n, 8), lambda i, j: x(i, j) + 1)
    p.loop("out", (n, 8), lambda i, j: L.call("exp", shift(i, j)), keep=True)
    text = p.check(Blocking(x=64))
    assert "def out(x_ptr, out_ptr, s0)" in text


def test_symbolic_rows_are_looped() -> None:
    p = Program()
    p.sizes["s0"] = 37
    n = ix.size("s0")
    x = p.input("x", 4, n)
    p.loop("out", (4,), lambda i: total("sum", n, lambda v: x(i, v)), keep=True)
    p.check(Blocking(r=16))


def test_nests_that_disagree_become_two_kernels() -> None:
    p = Program()
    x = p.input("x", 4, 6)
    p.loop("rows", (4,), lambda i: total("sum", 6, lambda v: x(i, v)), keep=True)
    p.loop("columns", (6,), lambda j: total("sum", 4, lambda v: x(v, j), "s"), keep=True)
    p.check(kernels=2)


def test_constants_of_every_kind() -> None:
    p = Program()
    for dtype in (D.float64, D.int64, D.bool_, D.float32, D.uint8):
        p.loop(f"out_{dtype.name}", (3,), lambda i, dtype=dtype: L.const(1, dtype), keep=True)
    x = p.input("x", 3, dtype=D.float64)
    p.loop("precise", (3,), lambda i: x(i) * (1 / 3), keep=True)
    p.check(tolerance=1e-12)


# ---- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [softmax, layer_norm, pointwise])
def test_generated_kernels_lower(make: Callable[..., Program], target: str) -> None:
    (kernel,) = make(64, 1024, dtype=D.bfloat16).kernels()
    lowered = lower(generate(kernel).source, target)
    assert re.search(r"net\.py:\d", list(lowered.stages.values())[-1])


def test_every_line_of_the_user_is_named() -> None:
    text = softmax(5, 100).check()
    code = text.split("_ptr):")[1]
    assert [f"net.py:{line}" in code for line in (1, 2, 3, 4)] == [True] * 4


def test_text_is_deterministic() -> None:
    assert softmax(5, 100).check() == softmax(5, 100).check()


def test_what_triton_lacks_is_refused() -> None:
    p = Program()
    x = p.input("x", 4, dtype=D.complex64)
    p.loop("out", (4,), lambda i: x(i) + x(i), keep=True)
    with pytest.raises(TritonUnsupported, match="no complex64"):
        generate(p.kernels()[0])
