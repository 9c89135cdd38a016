"""Measures Dynamo on the corpus, and writes the numbers: `.venv-peer/bin/python -m tests.corpus.record [NAME...]`.

Without names it measures the programs that are not recorded yet; `all` measures everything again.

Each program runs eagerly and under `torch.compile` with a backend that counts the graphs it is given and runs them as they
are. What Dynamo gets wrong, and what it gives up and runs eagerly, is recorded as that: there is no number to compare with.
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
    known = _recorded()
    now: dict[str, Any] = {}
    everything: set[str] = set()
    for stem in files():
        eager, compiled = load(stem, torch), load(stem, torch)
        for name in eager:
            key = f"{stem}.{name}"
            everything.add(key)
            if not wanted and key not in known or any(w in (stem, name, key, "all") for w in wanted):
                now[key] = _measure(eager[name], compiled[name])
                print(key, now[key], flush=True)
    found = {k: v for k, v in {**_recorded(), **now}.items() if k in everything}
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(found.items()))
    versions = json.dumps({"torch": torch.__version__, "python": platform.python_version()})
    RECORDED.write_text(f'{{\n"versions": {versions},\n"programs": {{\n{lines}\n}}\n}}\n')


def _recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text())["programs"] if RECORDED.exists() else {}


def _measure(eager: given.Program, program: given.Program) -> dict[str, Any]:
    expected = run(eager, eager.fn, torch)
    torch._dynamo.reset()
    counters.clear()
    counts = Counts()

    backend = counts.backend(lambda graph, examples: graph.forward)
    got = run(program, torch.compile(program.fn, backend=backend), torch, counts)
    found: dict[str, Any] = {"graphs": counts.graphs, "compiles": counters["frames"]["total"], "runs": counts.runs}
    if not counters["frames"]["ok"]:
        found["skipped"] = True                                   # it gave up and ran the function eagerly
    wrong = differences(expected, got)
    if wrong:
        found["wrong"] = wrong[0][:120]
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
