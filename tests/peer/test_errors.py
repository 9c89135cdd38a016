"""The peer refuses the same calls with the same exception types."""

from __future__ import annotations

import pytest
from bad_calls import CALLS

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call, _ in CALLS])
def test_same_type(call):
    with pytest.raises(Exception) as theirs:  # noqa: B017 - whatever the peer raises
        call(torch)
    with pytest.raises(theirs.type):
        call(fl)
