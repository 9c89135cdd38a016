"""The table of late modules says what these modules publish, no more and no less."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import pytest

from flambeau.ir import late

_WATCH = """
import json, os, sys
import flambeau
from flambeau.ir.op import OPS, PUBLIC

def shown():
    found = {space: {n for n, f in names.items() if not hasattr(f, "__flambeau_late__")} for space, names in PUBLIC.items()}
    return {**found, "ops": {n for n, op in OPS.items() if op.functional is None and "graph_only" not in op.tags}}

before = shown()
for module in sys.argv[1:]:  # each in a process of its own, as they may load each other
    if os.fork():
        os.wait()
        continue
    __import__("flambeau.ir.ops." + module)
    after = shown()
    print(json.dumps([module, {s: " ".join(sorted(after[s] - before.get(s, set()))) for s in after}]), flush=True)
    os._exit(0)
"""


@functools.cache
def published(*modules: str) -> dict[str, dict[str, str]]:
    """What importing each module of ``ir/ops`` adds, by space."""
    done = subprocess.run([sys.executable, "-c", _WATCH, *modules], capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("module", sorted(late.MODULES))
def test_the_table_is_right(module: str) -> None:
    table = {space: " ".join(sorted(names.split())) for space, names in late.MODULES[module].items()}
    added = published(*sorted(late.MODULES))[module]
    found: dict[str, Any] = {s: names for s, names in added.items() if names}
    assert {s: found.get(s, "") for s in table} == table
    assert set(found) & {"ops", "torch", "Tensor", "nn.functional"} <= set(table)
