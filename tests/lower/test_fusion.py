"""How many kernels things become, and that what is fused computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flambeau.ir import dtype as D
from flambeau.ir import index as ix
from flambeau.ir.loops import For
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops
from flambeau.ir.program import Extern, Target

from .build import CPU, capture, check, kernels

EAGER_THREADS = Target("cpp", parallel_work=64)  # everything is worth a thread


def f32(*shape: int) -> TensorMeta:
    return TensorMeta(shape, D.float32)


def i64(*shape: int) -> TensorMeta:
    return TensorMeta(shape, D.int64)


def count(fn: Any, *metas: TensorMeta, target: Target = CPU) -> tuple[int, int]:
    """Kernels and externs of the plan, after checking its values."""
    plan = check(capture(fn, *metas), target)
    return len(kernels(plan)), sum(isinstance(s, Extern) for s in plan.schedule.steps)


@pytest.mark.parametrize("fn, metas", [
    (lambda x: ops.exp(x) * 2 + x, [f32(3, 4, 5)]),
    (lambda x: ops.softmax(x, -1), [f32(6, 20)]),
    (lambda x: ops.softmax(x, 0), [f32(20, 6)]),
    (lambda x: ops.log_softmax(x, 1), [f32(3, 5, 4)]),
    (lambda x, w, b: ops.layer_norm(x, (16,), w, b), [f32(2, 5, 16), f32(16), f32(16)]),
    (lambda x, w: ops.rms_norm(x, (16,), w), [f32(4, 16), f32(16)]),
    (lambda x, y: ops.cat([x * 2, -y], 1) + 1, [f32(3, 4), f32(3, 2)]),
    (lambda x: ops.std(x, 0), [f32(8, 16)]),
    (lambda x: (ops.sum(x, 1), ops.amax(x, 1), x + 1), [f32(8, 16)]),
], ids=["pointwise", "softmax", "softmax0", "log_softmax", "layer_norm", "rms_norm", "cat", "std", "rows"])
def test_one_kernel(fn: Any, metas: list[TensorMeta]) -> None:
    assert count(fn, *metas) == (1, 0)


@pytest.mark.parametrize("fn, metas", [
    (lambda x, w, b: ops.gelu(ops.linear(x, w, b)), [f32(2, 5, 16), f32(32, 16), f32(32)]),
    (lambda x, w, b: ops.relu(ops.mm(x, w) + b), [f32(5, 16), f32(16, 8), f32(8)]),
    (lambda x, w, y: y + ops.matmul(x, w), [f32(2, 5, 16), f32(16, 8), f32(2, 5, 8)]),
    (lambda x, y: ops.permute(ops.bmm(x, y) * 2, (1, 0, 2)), [f32(3, 4, 5), f32(3, 5, 6)]),
    (lambda x, w, b: (lambda h: (h, ops.tanh(h)))(ops.linear(x, w, b)), [f32(5, 16), f32(32, 16), f32(32)]),
], ids=["gelu", "relu", "residual", "bmm", "saved"])
def test_what_follows_a_product_is_its_epilogue(fn: Any, metas: list[TensorMeta]) -> None:
    assert count(fn, *metas) == (0, 1)


def test_a_product_whose_rows_are_needed_has_no_epilogue() -> None:
    assert count(lambda x, w: ops.softmax(ops.mm(x, w), 1), f32(5, 16), f32(16, 8)) == (1, 1)


def test_products_joined_go_to_the_later_one() -> None:
    assert count(lambda x, w, v: ops.silu(ops.mm(x, w)) * ops.mm(x, v), f32(5, 16), f32(16, 8), f32(16, 8)) == (0, 2)


def test_cross_entropy() -> None:
    kernels_, externs = count(lambda x, t: ops.cross_entropy(x, t), f32(8, 10), i64(8))
    assert kernels_ <= 2 and not externs


def test_adam_step_is_one_kernel() -> None:
    def step(p: Any, g: Any, m: Any, v: Any) -> Any:
        m2 = m * 0.9 + g * 0.1
        v2 = v * 0.999 + g * g * 0.001
        return p - 1e-3 * (m2 / 0.1) / (ops.sqrt(v2 / 0.001) + 1e-8), m2, v2
    assert count(step, *[f32(4, 30)] * 4) == (1, 0)


def test_producer_with_other_readers_is_stored_and_still_fused() -> None:
    plan = check(capture(lambda x: (lambda y: (y, ops.softmax(y, 1)))(ops.exp(x) + x), f32(6, 20)))
    assert len(kernels(plan)) == 1 and len(plan.schedule.outputs) == 2


def test_an_element_read_everywhere_is_finished_first() -> None:
    """The reader stands before the group that its producer joined, and takes another element than the one at hand."""
    def fn(x: Any, y: Any) -> Any:
        a = ops.where(ops.sum(x) > 0, x, y) * 2
        return a, y + ops.select(ops.select(a, 0, 0), 0, 0), ops.sum(ops.cast(a > 0, D.int64))
    assert count(fn, f32(3, 4), f32(3, 4)) == (2, 0)


def test_no_cycle_through_an_extern() -> None:
    """x+1 feeds a sort whose result meets x+1 again: one kernel before, one after."""
    def fn(x: Any) -> Any:
        y = ops.exp(x) * x
        return y * ops.sort(y, 1, False)[0] + ops.sum(y, 1, True)
    plan = check(capture(fn, f32(6, 8)))
    assert sum(isinstance(s, Extern) for s in plan.schedule.steps) == 1


def test_expensive_values_of_several_passes_are_kept_in_a_row() -> None:
    kernel = kernels(check(capture(lambda x: ops.softmax(x, -1), f32(6, 20))))[0]
    assert [b.name for b in kernel.scratch] == ["exp_row"]
    assert str(kernel).count("= exp(") == 1


def test_column_sums_run_along_memory() -> None:
    kernel = kernels(check(capture(lambda x: ops.sum(x * x, 0), f32(300, 48))))[0]
    loops = _innermost(kernel.body)
    assert all(v.kind == "vector" and v.var.args[1] == 48 for v in loops)


def test_short_column_sums_run_in_lanes() -> None:
    kernel = kernels(check(capture(lambda x: ops.sum(x * x, 0), f32(6, 48))))[0]
    (around,) = [s for s in kernel.body if isinstance(s, For)]
    assert around.kind == "vector" and around.var.args[1] == 48
    assert [(v.kind, v.var.args[1]) for v in _innermost(around.body)] == [("serial", 6)]
    assert not kernel.scratch


def test_long_reductions_are_split_for_threads() -> None:
    plan = check(capture(lambda x: ops.sum(x), f32(64, 11)), EAGER_THREADS)
    first, second = kernels(plan)
    assert first.body[0].kind == "parallel" and "parts" in first.name
    assert len(kernels(check(capture(lambda x: ops.sum(x), f32(8, 8))))) == 1


def test_uneven_split_reads_nothing_outside() -> None:
    check(capture(lambda x: (ops.sum(x), ops.amax(x - 3)), f32(661)), EAGER_THREADS)


@pytest.mark.parametrize("shape", [(7, 32), (8, 3, 4, 4), (3001,), (1,), (0, 4)])
def test_parallel_pieces(shape: tuple[int, ...]) -> None:
    plan = check(capture(lambda x: x * 2 + 1, f32(*shape)), EAGER_THREADS)
    if np.prod(shape) < 64:
        return
    assert "parallel" in str(kernels(plan)[0])


def test_small_kernels_are_not_parallel() -> None:
    assert "parallel" not in str(check(capture(lambda x: ops.softmax(x, 1) * 2, f32(8, 16))))


def test_transposed_copies_are_blocked() -> None:
    plan = check(capture(lambda x: ops.t(x) + 1, f32(150, 12)))
    text = str(kernels(plan)[0])
    assert "vector(min(16" in text


@pytest.mark.parametrize("fn, shape", [
    (lambda x: ops.sum(x, 1), (40, 3)), (lambda x: ops.softmax(x, -1), (40, 5)), (lambda x: ops.argmax(x, 1, False), (40, 3)),
    (lambda x: ops.amax(ops.windows(x * 2, (2, 2), (2, 2), (1, 1)), (3, 4)), (2, 8, 40)),
], ids=["sum", "softmax", "argmax", "pool"])
def test_short_reductions_run_in_the_lanes_of_their_neighbours(fn: Any, shape: tuple[int, ...]) -> None:
    kernel = kernels(check(capture(fn, f32(*shape))))[0]
    assert not kernel.scratch and all(loop.kind == "serial" for loop in _innermost(kernel.body))
    assert "in vector(20)" in str(kernel) or "in vector(40)" in str(kernel)


def test_loops_are_cut_at_the_edges_of_what_is_put_together() -> None:
    """No condition of a concatenation of long pieces changes within a vector loop."""
    text = str(kernels(check(capture(lambda x, y: ops.cat([x * 2, y], 1) + 1, f32(3, 64), f32(3, 32))))[0])
    assert "in vector(32)" in text and "index(i1a)" in text and "i1b)" not in text


def test_reshapes_fuse_with_permutations() -> None:
    def heads(x: Any, w: Any) -> Any:
        y = ops.permute(ops.reshape(x * w, (2, 5, 4, 8)), (0, 2, 1, 3))
        return ops.reshape(ops.permute(ops.exp(y), (0, 2, 1, 3)), (2, 5, 32)) + x
    assert count(heads, f32(2, 5, 32), f32(32)) == (1, 0)


def test_norm_backward_is_few_kernels() -> None:
    def fn(g: Any, x: Any, w: Any, mean: Any, rstd: Any) -> Any:
        hat = (x - mean) * rstd
        gw = g * w
        dx = rstd * (gw - ops.mean(gw, 1, True) - hat * ops.mean(gw * hat, 1, True))
        return dx, ops.sum(g * hat, 0), ops.sum(g, 0)
    kernels_, _ = count(fn, f32(24, 16), f32(24, 16), f32(16), f32(24, 1), f32(24, 1))
    assert kernels_ == 2


def test_strided_inputs_are_read_in_place() -> None:
    x = np.arange(120, dtype=np.float32).reshape(10, 12)[::2, ::3]
    plan = check(capture(lambda x: x * 2, f32(5, 4)), inputs=[x])
    assert plan.schedule.buffers["x0"].strides == (24, 3)


def test_input_returned_and_output_views() -> None:
    plan = check(capture(lambda x: (x, ops.t(x), ops.t(x + 1)), f32(3, 4)))
    assert plan.schedule.outputs[0] == "x0" and plan.schedule.outputs[1].strides == (1, 4)


def test_names_follow_the_values_and_lines() -> None:
    from flambeau.ir.graph import parse_graph
    from flambeau.passes.pipeline import compile_to_plan
    graph = parse_graph("def forward(x: f32[8, 16]):\n"
                        "    exp: f32[8, 16] = ops.exp(x)  # model.py:3 block\n"
                        "    mul: f32[8, 16] = ops.mul(exp, x)  # model.py:4\n"
                        "    return (mul,)\n")
    text = str(compile_to_plan(graph, CPU))
    assert "exp_v = exp(x_v)  # model.py:3 block" in text and "locs=['model.py:3 block', 'model.py:4']" in text


def _innermost(body: Any) -> list[For]:
    found: list[For] = []
    for s in body:
        if isinstance(s, For):
            found += _innermost(s.body) or [s]
    return found


def test_symbolic_sizes_are_index_sizes() -> None:
    from flambeau.passes.lower import as_index
    assert as_index(7) == 7 and as_index(ix.size("s0")) is ix.size("s0")


def test_scatter_runs_as_loops() -> None:
    """What data decides runs in order; the dimension beside it is a vector loop, and what is added is checked."""
    metas = [f32(6, 80), i64(9), f32(9, 80)]
    for target in (CPU, EAGER_THREADS):
        plan = check(capture(lambda x, i, s: ops.index_add(x, 0, i, s), *metas), target)
        text = str(kernels(plan)[0])
        assert "checked_index" in text and not any(isinstance(s, Extern) for s in plan.schedule.steps)
    assert "in parallel(2)" in text
    assert count(lambda x, i, s: ops.scatter_add(x, 1, i, s), f32(6, 8), i64(6, 5), f32(6, 5)) == (1, 0)


def test_embedding_gradient() -> None:
    assert count(lambda g, i: ops.embedding_backward(g, i, 7, 2), f32(3, 4, 8), i64(3, 4)) == (2, 0)


def test_indices_are_checked_where_they_are_read() -> None:
    with pytest.raises(IndexError):
        check(capture(lambda w, i: ops.embedding(w, i) * 2, f32(4, 8), i64(3)),
              inputs=[np.ones((4, 8), np.float32), np.array([0, 4, 1])])
