"""The targets that generate code: what each takes whole, and how a graph of pure ops becomes a function of tensors."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

from flambeau.codegen import host, template_calls
from flambeau.codegen import numpy as numpy_code
from flambeau.codegen.cpp import Unsupported
from flambeau.ir import program
from flambeau.ir.graph import Graph
from flambeau.ir.op import Op
from flambeau.ir.stage import stage
from flambeau.passes.pipeline import compile_to_plan
from flambeau.runtime import native
from flambeau.runtime.executor import Executor, array_runner

from .aot import CompileWarning
from .bodies import build_bodies
from .runners import Runner, executor_runner


@functools.cache
def _say_once(message: str) -> None:
    warnings.warn(message, CompileWarning, stacklevel=2)


class CppTarget:
    """C++ for this machine: one library for each graph, hand-written templates for products, attention, convolution."""

    name = "cpp"

    def __init__(self) -> None:
        self.machine = program.Target("cpp", threads=native.default_threads(), templates=template_calls.TEMPLATES)

    def keep(self, op: Op) -> bool:
        """Ops with a loop form or a template of their own; the rest becomes its parts."""
        return op.lower is not None or op.extra.get("template") in self.machine.templates

    #: Whether ``build`` takes ``writebacks`` (see ``compile_to_plan``).
    writes_in_place = True

    def build(self, graph: Graph, options: dict[str, Any], writebacks: Mapping[int, int] | None = None) -> Runner:
        build_bodies(graph, lambda body: self.build(body, options))
        plan = compile_to_plan(graph, self.machine, writebacks=writebacks)
        try:
            artifact = host.build_plan(plan)
        except Unsupported as reason:
            _say_once(f"{graph.name}: {reason}; this graph runs on the numpy target instead")
            return NumpyTarget().build(graph, options)
        if artifact is None:
            _say_once("no C++ compiler was found (flambeau doctor says how to get one); graphs run on the numpy target "
                      "instead, which is slower")
            return NumpyTarget().build(graph, options)
        stage(self.name, artifact.sources["cpp"])
        return executor_runner(Executor(artifact))


class NumpyTarget:
    """Whole-array NumPy: the reference for every fused loop, and what runs where there is no compiler."""

    name = "numpy"
    machine = program.Target("numpy", templates=frozenset(), epilogues=frozenset())

    def keep(self, op: Op) -> bool:
        """Ops with a loop form, and the hot composites that have a kernel of their own."""
        return op.lower is not None or op.extra.get("template") is not None and op.kernel is not None

    def build(self, graph: Graph, options: dict[str, Any]) -> Runner:
        return array_runner(self._artifact(graph))

    def _artifact(self, graph: Graph) -> program.Artifact:
        build_bodies(graph, lambda body: self._artifact(body).run)
        artifact = numpy_code.build_plan(compile_to_plan(graph, self.machine))
        stage(self.name, artifact.sources["numpy"])
        return artifact


@functools.cache
def cpp_target() -> CppTarget:
    return CppTarget()
