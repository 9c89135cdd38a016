"""Measures Dynamo on the corpus, and writes the numbers: `.venv-peer/bin/python -m tests.corpus.record [NAME...]`.

Each program runs eagerly and under `torch.compile` with a backend that counts the graphs it is given and runs them as they
are. What Dynamo gets wrong, or cannot run, is recorded as that.
"""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import counters

from . import given
from .runner import RECORDED, Counts, differences, files, load, run


def main(wanted: list[str]) -> None:
    known = json.loads(RECORDED.read_text())["programs"] if RECORDED.exists() else {}
    now: dict[str, Any] = {}
    for stem in files():
        eager, compiled = load(stem, torch), load(stem, torch)
        for name in eager:
            key = f"{stem}.{name}"
            if key in known and wanted and not any(w in (stem, name, key) for w in wanted):
                now[key] = known[key]
                continue
            now[key] = _measure(eager[name], compiled[name])
            print(key, now[key], flush=True)
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(now.items()))
    versions = json.dumps({"torch": torch.__version__, "python": platform.python_version()})
    RECORDED.write_text(f'{{\n"versions": {versions},\n"programs": {{\n{lines}\n}}\n}}\n')


def _measure(eager: given.Program, program: given.Program) -> dict[str, Any]:
    expected = run(eager, eager.fn, torch)
    torch._dynamo.reset()
    counters.clear()
    counts = Counts()

    def backend(graph: Any, examples: Any) -> Any:
        counts.graphs += 1
        return graph.forward

    got = run(program, torch.compile(program.fn, backend=backend), torch)
    found: dict[str, Any] = {"graphs": counts.graphs, "compiles": counters["frames"]["total"]}
    wrong = differences(expected, got)
    if wrong:
        found["wrong"] = wrong[0][:200]
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
