"""The same seed gives PyTorch's CPU numbers; where only the last place of log, sin and cos differs, that is allowed."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer

EXACT = {
    "rand": lambda t: t.rand(3, 4), "rand64": lambda t: t.rand(5, dtype=t.float64),
    "randhalf": lambda t: t.rand(5, dtype=t.float16),
    "randn-few": lambda t: t.randn(5), "randn64": lambda t: t.randn(7, 3, dtype=t.float64), "randn-odd": lambda t: t.cat(
        [t.randn(3), t.randn(4)]),
    "randint": lambda t: t.randint(0, 10, (9,)), "randint-32": lambda t: t.randint(5, (9,), dtype=t.int32),
    "randint-wide": lambda t: t.randint(0, 1 << 40, (9,)), "randint-2^28": lambda t: t.randint(0, 1 << 28, (9,)),
    "randperm": lambda t: t.randperm(20), "bernoulli": lambda t: t.bernoulli(t.full((9,), 0.3)),
    "uniform_": lambda t: t.empty(9).uniform_(-1, 3), "normal_": lambda t: t.empty(9).normal_(2, 3),
    "random_": lambda t: t.empty(5, dtype=t.int64).random_(), "random_f": lambda t: t.empty(5).random_(),
    "random_range": lambda t: t.empty(5).random_(3, 9), "normal": lambda t: t.normal(0.0, 2.0, (4,)),
    "normal-tensors": lambda t: t.normal(t.zeros(4), t.ones(4) * 2), "complex": lambda t: t.rand(3, dtype=t.complex64),
    "multinomial": lambda t: t.multinomial(t.tensor([0.1, 0.2, 0.7]), 8, True),
    "like": lambda t: t.rand_like(t.zeros(3)) + t.randn_like(t.zeros(3)) + t.randint_like(t.zeros(3), 7),
}
CLOSE = {"randn": lambda t: t.randn(40), "randn-ragged": lambda t: t.randn(37),
         "exponential_": lambda t: t.empty(9).exponential_(2.0)}


def both(make, seed=3):
    torch.manual_seed(seed)
    fl.manual_seed(seed)
    return make(torch).numpy(), make(fl).numpy()


@pytest.mark.parametrize("name", EXACT)
def test_exact(name):
    theirs, ours = both(EXACT[name])
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", CLOSE)
def test_close(name):
    theirs, ours = both(CLOSE[name])
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-7)
