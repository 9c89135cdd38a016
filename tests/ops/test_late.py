"""The table of late modules says what these modules publish, no more and no less."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from flambeau.ir import late

_WATCH = """
import json, sys
import flambeau
from flambeau.ir import late
from flambeau.ir.op import OPS, PUBLIC

def shown():
    found = {space: {n for n, f in names.items() if not hasattr(f, "__flambeau_late__")} for space, names in PUBLIC.items()}
    return {**found, "ops": {n for n, op in OPS.items() if op.functional is None}}

before = shown()
__import__("flambeau.ir.ops." + sys.argv[1])
after = shown()
print(json.dumps({s: " ".join(sorted(after[s] - before.get(s, set()))) for s in after}))
"""


def published(module: str) -> dict[str, str]:
    """What importing one module of ``ir/ops`` adds, by space."""
    done = subprocess.run([sys.executable, "-c", _WATCH, module], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", sorted(late.MODULES))
def test_the_table_is_right(module: str) -> None:
    table = {space: " ".join(sorted(names.split())) for space, names in late.MODULES[module].items()}
    found: dict[str, Any] = {s: names for s, names in published(module).items() if names}
    assert {s: found.get(s, "") for s in table} == table
    assert set(found) & {"ops", "torch", "Tensor", "nn.functional"} <= set(table)
