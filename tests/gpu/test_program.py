"""Graphs to Triton programs: the whole middle, the kernels it yields, and their values by the interpreter."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("triton")

import flambeau  # noqa: E402
from flambeau.codegen.triton_extern import EPILOGUES, TEMPLATES  # noqa: E402
from flambeau.codegen.triton_program import InterpreterDevice, Launch, TritonProgram, build  # noqa: E402
from flambeau.ir.graph import parse_graph  # noqa: E402
from flambeau.ir.program import Group, Schedule, Target  # noqa: E402
from flambeau.passes.lower import lower_graph  # noqa: E402
from flambeau.passes.manager import lowered  # noqa: E402
from flambeau.passes.schedule import schedule  # noqa: E402
from flambeau.passes.tile_gpu import tile_gpu  # noqa: E402
from flambeau.runtime.graphs import graph_function  # noqa: E402

TARGET = Target(kind="triton", threads=1, templates=TEMPLATES, epilogues=EPILOGUES)

MLP = """
def forward(x: f32[20, 24], w: f32[24, 40], b: f32[40], v: f32[40, 20]):
    mm: f32[20, 40] = ops.mm(x, w)  # net.py:5 up
    add: f32[20, 40] = ops.add(mm, b, 1)  # net.py:5 up
    gelu: f32[20, 40] = ops.gelu(add, 'none')  # net.py:6
    mm_1: f32[20, 20] = ops.mm(gelu, v)  # net.py:7 down
    return mm_1,
"""

RESIDUAL = """
def forward(x: f32[3, 20, 24], w: f32[3, 24, 24]):
    bmm: f32[3, 20, 24] = ops.bmm(x, w)  # net.py:5
    add: f32[3, 20, 24] = ops.add(bmm, x, 1)  # net.py:6
    tanh: f32[3, 20, 24] = ops.tanh(add)  # net.py:7
    return tanh, add
"""

SOFTMAX = """
def forward(x: f32[6, 100]):
    softmax: f32[6, 100] = ops.softmax(x, 1, None)  # net.py:3
    return softmax,
"""

NORM = """
def forward(x: f32[6, 100], w: f32[100], b: f32[100]):
    layer_norm: f32[6, 100] = ops.layer_norm(x, (100,), w, b, 1e-05)  # net.py:4 norm
    return layer_norm,
"""

TRANSPOSED = """
def forward(x: f32[16, 20], w: f32[30, 20]):
    t: f32[20, 30] = ops.t(w)  # net.py:2
    mm: f32[16, 30] = ops.mm(x, t)  # net.py:2
    return mm,
"""

COLUMNS = """
def forward(x: f32[70, 20]):
    sum: f32[20] = ops.sum(x, 0, False, None)  # net.py:2
    mean: f32[70, 1] = ops.mean(x, 1, True, None)  # net.py:3
    sub: f32[70, 20] = ops.sub(x, mean, 1)  # net.py:4
    return sum, sub
"""

CUMULATIVE = """
def forward(x: f32[6, 10]):
    exp: f32[6, 10] = ops.exp(x)  # net.py:2
    sort: tuple[f32[6, 10], i64[6, 10]] = ops.sort(exp, 1, False, False)  # net.py:3
    values: f32[6, 10] = sort[0]
    neg: f32[6, 10] = ops.neg(values)  # net.py:4
    return neg,
"""


def program(text: str) -> TritonProgram:
    graph = lowered(parse_graph(text), lambda op: False)
    loops = lower_graph(graph, TARGET)
    fused = schedule(loops, TARGET)
    steps = tuple(tile_gpu(step, {**loops.buffers, **fused.buffers}) if isinstance(step, Group) else step for step in fused.steps)
    return build(Schedule(steps, fused.buffers, fused.inputs, fused.outputs))


def run(text: str, tolerance: float = 2e-5) -> TritonProgram:
    """Build, run by the interpreter, and compare with the graph run op by op."""
    graph = parse_graph(text)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.meta.shape).astype(n.meta.dtype.np) for n in graph.inputs]
    built = program(text)
    found = built.run(arrays, InterpreterDevice())
    expected = graph_function(graph)(*[flambeau.tensor(array) for array in arrays])
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=tolerance, atol=tolerance)
    return built


@pytest.mark.parametrize("text", [MLP, RESIDUAL, SOFTMAX, NORM, TRANSPOSED, COLUMNS],
                         ids=["mlp", "residual", "softmax", "norm", "transposed", "columns"])
def test_values(text: str) -> None:
    built = run(text)
    assert all(isinstance(step, Launch) for step in built.steps)


def test_what_follows_a_product_is_fused_into_it() -> None:
    built = run(MLP)
    first, second = built.steps
    text = first.kernels[0].source.source
    assert "tl.dot(" in text and "tl.erf(" in text
    assert re.search(r"tl\.store\(\w+_ptr .*# net\.py:6", text)
    assert "tl.dot(left, right" in text and "# net.py:5 up" in text


def test_both_results_of_an_epilogue_are_stored() -> None:
    (step,) = run(RESIDUAL).steps
    assert step.reads == ("x", "w", "x", "add", "tanh") or set(step.reads) == {"x", "w", "add", "tanh"}


def test_a_softmax_is_one_kernel_that_reads_once() -> None:
    (step,) = run(SOFTMAX).steps
    assert step.kernels[0].source.source.count("tl.load(") == 1


def test_an_op_without_a_loop_runs_by_its_own_kernel() -> None:
    built = run(CUMULATIVE)
    assert [isinstance(step, Launch) for step in built.steps] == [True, False, True]
    assert "# ---- sort: sort by its own kernel" in built.text()


@pytest.mark.parametrize("target", ["cuda:80", "cuda:90", "hip:gfx942"])
@pytest.mark.parametrize("text", [MLP, NORM], ids=["mlp", "norm"])
def test_programs_lower(text: str, target: str) -> None:
    stages = program(text).lowered(target)
    assert list(stages) == ["ttir", "ttgir", "llir", "amdgcn" if target.startswith("hip") else "ptx"]
    assert all("net.py:" in stage for stage in stages.values())


def test_text_names_every_step() -> None:
    text = program(MLP).text()
    assert text.count("# ---- ") == 2 and "mm: grid 2 x 1 x 1, 4 warps" in text
    assert text == program(MLP).text()
