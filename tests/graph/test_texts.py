"""Every stage of a compile is its text: ``parse(str(x)) == x``, for programs as users write them and their gradients."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from capture import capture
from compiled.programs import PROGRAMS, Program
from compiled.programs_models import MODELS
from compiled.whole import Whole, seen
from imports import ROOT

import flambeau as ft
from flambeau.frontend import aot, triton
from flambeau.frontend.targets import CppTarget, NumpyTarget
from flambeau.ir.graph import Graph, parse_graph
from flambeau.ir.loops_text import parse_kernel, parse_plan, parse_schedule
from flambeau.ir.program import Kernel, Plan, Schedule
from flambeau.ir.tree import leaves
from flambeau.passes import manager, pipeline
from flambeau.passes.functionalize import Functional, parse_functional
from flambeau.passes.joint import Joint, parse_joint

GRAPHS = {Graph: parse_graph, Functional: parse_functional, Joint: parse_joint}
LOOPS: dict[type, Callable[[str], Any]] = {Schedule: parse_schedule, Plan: parse_plan}


class PlansOnly(CppTarget):
    """Everything up to the plan as for C++; nothing is built, the graph runs on NumPy."""

    def build(self, graph: Graph, options: dict[str, Any], writebacks: Any = None) -> Any:
        pipeline.compile_to_plan(graph, self.machine, writebacks=writebacks)
        return NumpyTarget().build(graph, options)


def symbols_of(thing: Any) -> dict[str, Any]:
    """The symbolic sizes among the inputs of a graph, by name."""
    graph = thing if isinstance(thing, Graph) else thing.graph
    return {str(s): s for node in graph.inputs for s in node.meta.shape if not isinstance(s, int)}


def check_text(name: str, thing: Any) -> Any:
    """What stands in for ``stage``: print, read back, compare."""
    if type(thing) in GRAPHS:
        found: Any = GRAPHS[type(thing)](str(thing), symbols_of(thing).__getitem__)
    elif type(thing) in LOOPS:
        found = LOOPS[type(thing)](str(thing))
    else:
        return thing
    assert str(found) == str(thing), name
    assert found == thing, f"{name} prints the same and is not the same"
    for kernel in kernels_of(thing):
        assert parse_kernel(str(kernel), buffers_of(thing)) == kernel
        assert kernel.locs, f"{name}: {kernel.name} names no line of the program"
    return thing


def buffers_of(thing: Plan | Schedule) -> dict[str, Any]:
    return (thing.schedule if isinstance(thing, Plan) else thing).buffers


def kernels_of(thing: Any) -> list[Kernel]:
    schedule = thing.schedule if isinstance(thing, Plan) else thing
    return [step for step in schedule.steps if isinstance(step, Kernel)] if isinstance(schedule, Schedule) else []


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> set[type]:
    """The kinds of stages read back during the test."""
    met: set[type] = set()

    def stage(name: str, thing: Any) -> Any:
        met.add(type(thing))
        return check_text(name, thing)

    for module in (aot, manager, pipeline, triton):
        monkeypatch.setattr(module, "stage", stage)
    return met


def compile_and_read(fn: Any = None, **settings: Any) -> Any:
    """``compile``, on a backend that stops at the plan."""
    def backend(graph_module: Any, examples: list[Any]) -> Any:
        run = aot.compile_graph(graph_module.graph, PlansOnly(), {}, True)
        return lambda *inputs: run(inputs)

    return ft.compile(fn, backend=backend, **settings)


def run_backward(found: Any) -> None:
    total = [o.abs().sum() for o in leaves(found) if isinstance(o, ft.Tensor) and o.requires_grad]
    if total:
        ft.stack(total).sum().backward()


def load_demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_model", ROOT / "examples" / "digits" / "model.py")
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_programs(program: Program, kinds: set[type]) -> None:
    inputs = program.inputs()
    run_backward(aot.compile_graph(capture(program.fn, inputs), PlansOnly(), {}, True)(inputs))
    assert {Graph, Functional, Schedule, Plan} <= kinds


@pytest.mark.slow
@pytest.mark.parametrize("whole", MODELS, ids=lambda w: w.name)
def test_models(whole: Whole, kinds: set[type]) -> None:
    seen(whole, compile_and_read)
    assert {Graph, Functional, Schedule, Plan} <= kinds


@pytest.mark.slow
def test_the_demo(kinds: set[type]) -> None:
    demo = load_demo()
    run_backward(compile_and_read(demo.Net(), fullgraph=True)(*demo.example_inputs()))
    assert {Graph, Functional, Joint, Schedule, Plan} <= kinds


@pytest.mark.slow
def test_the_demo_for_a_gpu(kinds: set[type]) -> None:
    demo = load_demo()
    net = ft.compile(demo.Net(), backend="triton", options={"target": "cuda:90"}, fullgraph=True)
    run_backward(net(*demo.example_inputs()))
    assert {Graph, Functional, Joint, Schedule} <= kinds


def test_symbolic_sizes(kinds: set[type]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = compile_and_read(lambda x, y: ft.softmax(ft.cat([x, y * 2]).reshape(-1, 2), 0) @ ft.ones(2, 3), dynamic=True)
        run_backward(run(ft.randn(5, 4, requires_grad=True), ft.randn(7, 4)))
    assert {Joint, Plan} <= kinds


def test_a_graph_differs_from_one_with_another_name_place_constant_or_type() -> None:
    text = "def f(x: f32[2]):\n    a: f32[2] = ops.add(x, 1)  # m.py:3\n    return a,\n"
    assert parse_graph(text) == parse_graph(text)
    for old, new in [("def f", "def g"), ("m.py:3", "m.py:4"), ("x, 1", "x, 1.0"), ("x, 1", "x, True"), ("x, 1", "x, x"),
                     ("f32[2] =", "f64[2] ="), ("f32[2] =", 'f32[2, "grad"] ='), ("ops.add", "ops.sub"), ("a,", "a, a")]:
        assert parse_graph(text) != parse_graph(text.replace(old, new)), new
