"""Whole scripts in ordinary PyTorch style, run unmodified: what they print, and the losses in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if "import torch" in path.read_text() and path.stem != "registry")
GOLDENS = HERE / "losses.json"
_LOSS = re.compile(r"^step (\d+) loss (\S+)", re.MULTILINE)


def run(name: str, python: Sequence[str]) -> str:
    """Run a script by `python` (the words before its path); return what it printed."""
    done = subprocess.run([*python, str(HERE / f"{name}.py")], capture_output=True, text=True, timeout=300, cwd=HERE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_in_flambeau(name: str) -> str:
    return run(name, [sys.executable, "-m", "flambeau", "run"])


def losses(printed: str) -> list[float]:
    """The losses of the steps, which are numbered from 0."""
    found = _LOSS.findall(printed)
    assert [int(step) for step, _ in found] == list(range(len(found)))
    return [float(loss) for _, loss in found]


def other_lines(printed: str) -> list[str]:
    """What a script prints besides losses: shapes, counts, schedules."""
    return [line for line in printed.splitlines() if not _LOSS.match(line)]


def goldens() -> dict[str, list[float]]:
    """PyTorch's losses."""
    return json.loads(GOLDENS.read_text())
