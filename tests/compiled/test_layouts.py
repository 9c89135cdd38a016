"""Writing through ``reshape`` and ``contiguous`` reaches what it reaches eagerly, for inputs of any strides."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flambeau as ft
from flambeau.frontend.aot import CompileWarning

LAYOUTS = [lambda: ft.arange(6.0).reshape(2, 3), lambda: ft.arange(6.0).reshape(3, 2).t(),
           lambda: ft.arange(12.0).reshape(2, 6)[:, ::2]]


def through_the_input(x):
    y = x.reshape(-1)
    y.add_(1)
    return y


def before_the_write(x):
    y = x.t().reshape(-1)
    x.mul_(2)
    return y + 1


def of_a_value(x):
    y = x * 2
    z = y.reshape(-1)
    z.add_(1)
    return y, z


def copied(x):
    y = x * 2
    z = y.t().contiguous()
    z.add_(1)
    return y, z


def agrees(fn, backend):
    compiled = ft.compile(fn, backend=backend)
    for layout in LAYOUTS:
        x, y = layout(), layout()
        expected, found = fn(x), compiled(y)
        for e, f in zip(expected if isinstance(expected, tuple) else [expected], found if isinstance(found, tuple) else [found]):
            np.testing.assert_array_equal(f.numpy(), e.numpy())
        np.testing.assert_array_equal(y.numpy(), x.numpy())


@pytest.mark.parametrize("backend", ["aot_eager", "numpy", "cpp"])
@pytest.mark.parametrize("fn", [through_the_input, before_the_write, of_a_value, copied])
def test_writes_reach_what_they_reach_eagerly(fn, backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(fn, backend)


def test_an_unknown_layout_is_left_to_eager():
    def unknown(x):
        y = x.t() * 2
        z = y.reshape(-1)
        z.add_(1)
        return y, z

    with pytest.warns(CompileWarning, match="depending on strides"):
        agrees(unknown, "aot_eager")
