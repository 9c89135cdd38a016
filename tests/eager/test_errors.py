"""Bad input: PyTorch's exception types, with a message, before anything has changed."""

from __future__ import annotations

import pytest
from bad_calls import CALLS

import flambeau as fl


@pytest.mark.parametrize("call, error", [pytest.param(call, error, id=name) for name, call, error in CALLS])
def test_refused(call, error):
    with pytest.raises(error) as caught:
        call(fl)
    assert str(caught.value)
    assert "numpy" not in str(caught.value).lower() or "numpy()" in str(caught.value)


def test_a_refused_in_place_call_changes_nothing():
    x = fl.arange(3.0)
    with pytest.raises(RuntimeError):
        x.add_(fl.ones(2, 3))
    assert x.tolist() == [0, 1, 2] and x._version == 0
