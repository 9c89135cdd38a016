"""From a graph to a plan: lowered, scheduled, tiled, placed; each stage shown to whoever asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flambeau.ir.graph import Graph
from flambeau.ir.program import Plan, Target
from flambeau.ir.stage import stage
from flambeau.passes.lower import lower_graph
from flambeau.passes.memory import plan_memory
from flambeau.passes.schedule import schedule
from flambeau.passes.tile import tile


def compile_to_plan(graph: Graph, target: Target, *, strides: Sequence[Sequence[Any] | None] | None = None,
                    writebacks: Mapping[int, int] | None = None, name: str | None = None) -> Plan:
    """The plan that computes ``graph``, which is functional and decomposed, on ``target``.

    ``strides`` are the element strides of each input (None: contiguous). ``writebacks`` maps an output's position to
    that of the input it will be written to; where it is safe the plan writes there itself: such an output's slot is an
    input's. Stages: "loops", "schedule", "plan".
    """
    lowered = stage("loops", lower_graph(graph, target, strides))
    fused = stage("schedule", schedule(lowered, target))
    return stage("plan", plan_memory(tile(fused, target), name or graph.name, writebacks))
