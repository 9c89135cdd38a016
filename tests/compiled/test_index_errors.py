"""Indices out of range in compiled code: an error, never a read outside."""

from __future__ import annotations

from typing import Any

import pytest

import flambeau as fl
import flambeau.nn.functional as F

_CASES: dict[str, Any] = {  # a function of a table and indices, and how the indices are shaped
    "embedding": (lambda x, i: F.embedding(i, x) * 2, (5,)),
    "gather": (lambda x, i: fl.gather(x, 1, i) + 1, (12, 3)),
    "index_select": (lambda x, i: fl.index_select(x, 0, i) * 2, (5,)),
    "indexing": (lambda x, i: x[i] * 2, (5,)),
    "cross_entropy": (lambda x, i: F.cross_entropy(x, i), (12,)),
}


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
@pytest.mark.parametrize("name", _CASES)
def test_out_of_range(name: str, backend: str) -> None:
    fn, shape = _CASES[name]
    x, good = fl.randn(12, 10), fl.randint(0, 10, shape)
    compiled = fl.compile(fn, backend=backend)
    wanted = fn(x, good)
    assert fl.allclose(compiled(x, good), wanted, atol=1e-5)
    for bad in (12, 10**12, -13):
        with pytest.raises((IndexError, RuntimeError)):
            compiled(x, fl.full(shape, bad, dtype=fl.int64))
    assert fl.allclose(compiled(x, good), wanted, atol=1e-5)  # and the next call is in order again
