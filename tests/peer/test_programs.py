"""Programs in ordinary PyTorch style, run with both libraries from the same seed: the same values, dtypes and texts."""

from __future__ import annotations

import pytest
import torch
from programs.registry import differences, load, outcome

import flambeau

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("name", load())
def test_program(name: str):
    assert not differences(outcome(load()[name], flambeau), outcome(load()[name], torch))
