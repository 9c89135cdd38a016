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


@pytest.mark.parametrize("times", [1.5, "s", None, fl.Size([2])], ids=repr)
def test_a_shape_is_repeated_as_a_tuple_is(times):
    size = fl.Size([2, 3])
    for repeated in (lambda: size * times, lambda: times * size):
        with pytest.raises(TypeError, match="can't multiply sequence by non-int of type '"):
            repeated()
    assert size * 2 == 2 * size == fl.Size([2, 3, 2, 3]) and type(2 * size) is fl.Size
