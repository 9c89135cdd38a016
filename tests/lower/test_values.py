"""Every sample of every op, lowered, scheduled, tiled and placed, computes what the op computes; its texts parse back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as fl
from flambeau.ir import dtype as D
from flambeau.ir.graph import Graph
from flambeau.ir.loops_text import parse_plan, parse_schedule
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import OPS, use_handler
from flambeau.ir.program import Target
from flambeau.ir.samples import Sample, T
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.ir.tree import leaves, tree_map
from flambeau.passes.lower import lower_graph
from flambeau.passes.schedule import schedule

from .build import CPU, check, kernels, plain

_SKIPPED_TAGS = {"random", "graph_only", "effect"}
_WITHOUT = {"empty", "to_device"}  # values of no meaning; another device


def _ops() -> list[str]:
    return sorted(name for name, op in OPS.items() if op.samples is not None and not op.mutates
                  and not op.tags & _SKIPPED_TAGS and name not in _WITHOUT and op.dtypes.strip("c"))


def _array(t: T, rng: np.random.Generator, default: D.DType) -> np.ndarray:
    dtype = t.dtype or default
    if t.values is not None:
        return np.array(t.values).astype(dtype.np)
    if t.distinct:
        found = rng.permutation(int(np.prod(t.shape))).reshape(t.shape) / (10.0 if dtype.kind == "f" else 1)
    elif dtype.kind == "f":
        found = rng.uniform(t.low, t.high, t.shape)
    else:
        low = 0 if dtype.kind == "b" else int(np.ceil(t.low))
        found = rng.integers(low, 2 if dtype.kind == "b" else max(int(np.ceil(t.high)), low + 1), t.shape)
    found = np.asarray(found).astype(dtype.np)
    return np.ascontiguousarray(found.T).T if t.layout == "t" else found


def _graph(op: Any, sample: Sample, dtype: D.DType) -> tuple[Graph, list[np.ndarray]]:
    rng, graph, arrays = np.random.default_rng(1), Graph(), []

    def made(x: Any) -> Any:
        if not isinstance(x, T):
            return x
        arrays.append(_array(x, rng, dtype))
        return GraphTensor(graph.input(f"x{len(arrays) - 1}", TensorMeta(arrays[-1].shape, D.from_numpy(arrays[-1].dtype))))

    args, kwargs = tree_map(made, tuple(sample.args)), {k: tree_map(made, v) for k, v in sample.kwargs.items()}
    with use_handler(GraphBuilder(graph)):
        found = op.method(*args, **kwargs)
    graph.outputs = [t.node for t in leaves(found) if isinstance(t, GraphTensor)]
    return plain(graph), arrays


@pytest.mark.parametrize("name", _ops())
@pytest.mark.parametrize("kind", ["cpp", "numpy"])
def test_samples(name: str, kind: str) -> None:
    op = OPS[name]
    target = CPU if kind == "cpp" else Target("numpy")
    for sample in op.samples():
        allowed = sample.dtypes or op.dtypes
        try:
            graph, arrays = _graph(op, sample, D.float32 if "f" in allowed else D.int64)
        except NotImplementedError as e:  # shapes that depend on data have no graph
            pytest.skip(str(e))
        plan = check(graph, target, arrays)
        assert parse_plan(str(plan)) == plan
        lowered = lower_graph(graph, target)
        assert parse_schedule(str(lowered)) == lowered
        fused = schedule(lowered, target)
        assert parse_schedule(str(fused)) == fused
        assert str(schedule(lower_graph(graph, target), target)) == str(fused)


@pytest.mark.parametrize("dtype", [D.bfloat16, D.float16, D.float64, D.int32, D.uint8, D.bool_], ids=lambda d: d.short)
def test_dtypes(dtype: D.DType) -> None:
    for name in ("add", "mul", "maximum", "sum", "amax", "where", "eq", "cat", "reshape", "cast"):
        op = OPS[name]
        for sample in op.samples():
            if dtype.kind in (sample.dtypes or op.dtypes):
                check(*[(g, CPU, a) for g, a in [_graph(op, sample, dtype)]][0])


def test_half_precisions_compute_in_float32() -> None:
    from .build import capture
    plan = check(capture(lambda x: fl.softmax(x * 2, 1), TensorMeta((4, 8), D.bfloat16)))
    text = str(kernels(plan)[0])
    assert "cast[f32]" in text and "cast[bf16]" in text and "exp[bf16]" not in text
