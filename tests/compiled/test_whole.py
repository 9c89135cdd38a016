"""Whole programs show the same compiled as eagerly, on every backend, without a warning."""

from __future__ import annotations

import pytest
from compiled.programs_models import MODELS
from compiled.programs_python import PYTHON
from compiled.programs_tensors import TENSORS
from compiled.whole import Counting, Whole, check

from flambeau.frontend.backends import list_backends

PROGRAMS = MODELS + TENSORS + PYTHON
BACKENDS = [name for name in ("eager", "aot_eager", "numpy", "cpp") if name in list_backends()]


@pytest.mark.parametrize("backend", [*BACKENDS, "a user's"])
@pytest.mark.parametrize("whole", PROGRAMS, ids=lambda w: w.name)
def test_program(whole: Whole, backend: str) -> None:
    check(whole, Counting() if backend == "a user's" else backend)
