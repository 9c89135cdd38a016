"""The targets that generate code: what each takes whole, and how a graph of pure ops becomes a function of tensors."""

from __future__ import annotations

import functools
from typing import Any

from flambeau.codegen import host, template_calls
from flambeau.ir import program
from flambeau.ir.graph import Graph
from flambeau.ir.op import Op
from flambeau.ir.stage import stage
from flambeau.passes.pipeline import compile_to_plan
from flambeau.runtime import native
from flambeau.runtime.executor import Executor

from .aot import Runner


class NoCompiler(RuntimeError):
    """There is no C++ compiler on this machine."""


class CppTarget:
    """C++ for this machine: one library for each graph, hand-written templates for products, attention, convolution."""

    name = "cpp"

    def __init__(self) -> None:
        self.machine = program.Target("cpp", threads=native.default_threads(), templates=template_calls.TEMPLATES)

    def keep(self, op: Op) -> bool:
        """Ops with a loop form or a template of their own; the rest becomes its parts."""
        return op.lower is not None or op.extra.get("template") in self.machine.templates

    def build(self, graph: Graph, options: dict[str, Any]) -> Runner:
        plan = compile_to_plan(graph, self.machine)
        artifact = host.build_plan(plan)
        if artifact is None:
            raise NoCompiler("no C++ compiler was found; flambeau doctor says how to get one")
        stage(self.name, artifact.sources["cpp"])
        return Executor(artifact).run


@functools.cache
def cpp_target() -> CppTarget:
    return CppTarget()
