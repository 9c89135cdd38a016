"""Graphs for the tests of lowering: functions written in ops, captured, decomposed, and run both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import flambeau as fl
from flambeau.ir.graph import Graph, parse_graph
from flambeau.ir.interp import run_graph
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import use_handler
from flambeau.ir.program import Group, Kernel, Plan, Target
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.passes.decompose import decompose
from flambeau.passes.pipeline import compile_to_plan

from .evaluate import run_plan

CPU = Target("cpp")


def capture(fn: Callable[..., Any], *metas: TensorMeta, name: str = "forward") -> Graph:
    """The graph of ``fn``, composites taken apart."""
    graph = Graph(name)
    builder = GraphBuilder(graph)
    tensors = [GraphTensor(graph.input(f"x{i}", m)) for i, m in enumerate(metas)]
    with use_handler(builder):
        found = fn(*tensors)
    graph.outputs = [t.node for t in (found if isinstance(found, tuple) else (found,))]
    return plain(graph)


def plain(graph: Graph) -> Graph:
    """``graph`` in primitives."""
    found = decompose(graph, lambda op: False)
    found.remove_dead()
    return found


def array(meta: TensorMeta, rng: np.random.Generator) -> np.ndarray:
    """Values that suit a dtype."""
    if meta.dtype.kind == "f":
        return rng.uniform(-2, 2, meta.shape).astype(meta.dtype.np)
    return rng.integers(0, 2 if meta.dtype.kind == "b" else 5, meta.shape).astype(meta.dtype.np)


def check(graph: Graph, target: Target = CPU, inputs: Sequence[np.ndarray] | None = None, rtol: float = 2e-5) -> Plan:
    """The plan of ``graph``, after comparing what it computes with the ops run eagerly."""
    rng = np.random.default_rng(0)
    arrays = [array(n.meta, rng) for n in graph.inputs] if inputs is None else list(inputs)
    strides = [tuple(s // a.itemsize for s in a.strides) for a in arrays]
    plan = compile_to_plan(graph, target, strides=strides)
    wanted = run_graph(graph, [fl.from_numpy(a.copy()) for a in arrays])
    found = run_plan(plan, arrays)
    for n, (w, f) in enumerate(zip(wanted, found)):
        w = np.asarray(w.numpy() if isinstance(w, fl.Tensor) else w)
        assert w.shape == f.shape and w.dtype == f.dtype, (n, w.shape, f.shape, w.dtype, f.dtype)
        wide = np.float64 if w.dtype.kind not in "biu" else w.dtype
        loose = rtol if w.dtype.itemsize > 2 or w.dtype.kind in "biu" else 2e-2
        np.testing.assert_allclose(f.astype(wide), w.astype(wide), rtol=loose, atol=loose, err_msg=f"output {n}\n{plan}")
    return plan


def kernels(plan: Plan) -> list[Any]:
    """The kernels (or groups) of a plan."""
    return [s for s in plan.schedule.steps if isinstance(s, (Kernel, Group))]


def parsed(text: str) -> Graph:
    """A graph from its text, in primitives."""
    return plain(parse_graph(text))
