"""The scripts of tests/scripts under PyTorch and under `flambeau run`: the same losses, the same other lines."""

from __future__ import annotations

import sys

import pytest
from scripts.registry import NAMES, goldens, losses, other_lines, run, run_in_flambeau


@pytest.mark.parametrize("name", NAMES)
def test_script(name: str) -> None:
    theirs, ours = run(name, [sys.executable]), run_in_flambeau(name)
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-4)
    assert other_lines(ours) == other_lines(theirs)
    assert goldens()[name] == pytest.approx(losses(theirs), rel=1e-5), "losses.json is out of date"
