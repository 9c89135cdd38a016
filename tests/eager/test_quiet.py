"""Floating-point overflow is no event: tensors follow IEEE arithmetic without NumPy's warnings, halves too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

import flambeau

CALLS: dict[str, Callable[[], Any]] = {
    "exp": lambda: flambeau.tensor([20.0]).half().exp(),
    "product": lambda: flambeau.tensor([300.0]).half() * 300,
    "matmul": lambda: flambeau.full((2, 2), 300.0).half() @ flambeau.full((2, 2), 300.0).half(),
    "cast": lambda: flambeau.tensor([1e30]).half(),
    "special": lambda: flambeau.special.erfcx(flambeau.tensor([-20.0]).half()),
    "sum": lambda: flambeau.tensor([6e4, 6e4]).half().sum(),
    "double": lambda: flambeau.tensor([1e300], dtype=flambeau.float64).float(),
}


@pytest.mark.parametrize("name", CALLS)
def test_overflow_is_infinite_and_silent(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flambeau.isinf(CALLS[name]()).all()
