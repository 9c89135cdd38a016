"""Every program gives what PyTorch gave when ``make_goldens.py`` was last run; needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs.registry import differences, load, outcome

import flambeau

GOLDENS = json.loads((Path(__file__).parent / "goldens.json").read_text())


def test_every_program_has_a_golden():
    assert list(load()) == list(GOLDENS)


@pytest.mark.parametrize("name", load())
def test_program(name: str):
    found = json.loads(json.dumps(outcome(load()[name], flambeau)))
    assert not differences(found, GOLDENS[name])
