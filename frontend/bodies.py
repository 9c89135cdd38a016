"""The bodies of branches and loops, built for the target that builds the graph around them.

A call of such an op is a step between kernels: a loop or branch in Python that calls the functions made here. So one call
of the compiled graph runs nested plans, and no op of a body is run by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ir.graph import Graph, bodies
from flambeau.ir.stage import stages_of


def build_bodies(graph: Graph, build: Callable[[Graph], Any]) -> None:
    """Give each body in ``graph`` its function, made by ``build``."""
    for node in graph.nodes:
        for body in bodies(node):
            with stages_of(body.name):
                body.run = build(body)
