"""Masked reductions against NumPy's masked arrays, windows against their formulas, losses of many classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import masked, nn
from flambeau.autograd import gradcheck
from flambeau.signal import windows

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(4, 5))
MASK = RNG.random((4, 5)) < 0.6
MASK[:, 0] = True


def _hidden() -> Any:
    return np.ma.masked_array(VALUES, ~MASK)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std"])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_reductions(name: str, dim: int | None) -> None:
    options = {"ddof": 1} if name in ("var", "std") else {}
    wanted = getattr(np.ma, name)(_hidden(), axis=dim, **options)
    found = getattr(masked, name)(flambeau.tensor(VALUES), dim, mask=flambeau.tensor(MASK)).numpy()
    kept = MASK.sum(dim) > 1 if options else MASK.any(dim)  # NumPy says 0, PyTorch NaN, of one element's deviation
    np.testing.assert_allclose(np.where(kept, found, 0), np.where(kept, np.ma.filled(wanted, 0), 0), atol=1e-12)


@pytest.mark.parametrize("name", ["amax", "amin", "argmax", "argmin"])
def test_extremes(name: str) -> None:
    wanted = getattr(_hidden(), name.replace("amax", "max").replace("amin", "min"))(axis=1)
    found = getattr(masked, name)(flambeau.tensor(VALUES), 1, mask=flambeau.tensor(MASK))
    assert np.asarray(wanted).tolist() == found.tolist()


def test_softmax_of_what_counts() -> None:
    found = masked.softmax(flambeau.tensor(VALUES), 1, mask=flambeau.tensor(MASK)).numpy()
    np.testing.assert_allclose(found.sum(1), 1)
    assert not found[~MASK].any()


def test_masks_broadcast_and_gradients_stay_inside() -> None:
    x = flambeau.tensor(VALUES, requires_grad=True)
    masked.logsumexp(x, 1, mask=flambeau.tensor([True, False, True, True, False])).sum().backward()
    assert not x.grad[:, [1, 4]].any() and x.grad[:, [0, 2, 3]].all()
    with pytest.raises(IndexError, match="dimensionality"):
        masked.sum(x, mask=flambeau.ones(2, 4, 5, dtype=flambeau.bool))


def test_windows() -> None:
    np.testing.assert_allclose(windows.hann(9, dtype=flambeau.float64).numpy(), np.hanning(9), atol=1e-15)
    np.testing.assert_allclose(windows.blackman(9, dtype=flambeau.float64).numpy(), np.blackman(9), atol=1e-15)
    np.testing.assert_allclose(windows.bartlett(9, dtype=flambeau.float64).numpy(), np.bartlett(9), atol=1e-15)
    np.testing.assert_allclose(windows.kaiser(9, beta=5.0, dtype=flambeau.float64).numpy(), np.kaiser(9, 5.0), rtol=1e-12)
    np.testing.assert_allclose(windows.hamming(8, sym=False, dtype=flambeau.float64).numpy(), np.hamming(9)[:-1], atol=1e-15)
    for bad in (lambda: windows.hann(-1), lambda: windows.hann(3, dtype=flambeau.int64), lambda: windows.gaussian(3, std=0)):
        with pytest.raises(ValueError):
            bad()


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_chunks_change_nothing(chunk: int, reduction: str) -> None:
    flambeau.manual_seed(0)
    x, w, b = (flambeau.randn(*s, dtype=flambeau.float64, requires_grad=True) for s in ((7, 4), (5, 4), (5,)))
    target, weight = flambeau.tensor([0, 4, -1, 2, 2, 1, -1]), flambeau.rand(5, dtype=flambeau.float64)
    results = []
    for options in (None, nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)):
        loss = F.linear_cross_entropy(x, w, target, linear_bias=b, weight=weight, reduction=reduction, ignore_index=-1,
                                      options=options)
        results.append([loss, *flambeau.autograd.grad((loss * loss).sum(), [x, w, b])])
    for one, other in zip(*results):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=1e-12)


def test_pooling_at_random_places() -> None:
    flambeau.manual_seed(0)
    x = flambeau.randn(2, 3, 7, 8, dtype=flambeau.float64, requires_grad=True)
    values, index = F.fractional_max_pool2d(x, (2, 3), output_size=(3, 4), return_indices=True)
    assert values.shape == index.shape == (2, 3, 3, 4)
    assert x.detach().flatten(2).gather(2, index.flatten(2)).tolist() == values.detach().flatten(2).tolist()
    samples = flambeau.rand(2, 3, 2, dtype=flambeau.float64)
    assert gradcheck(lambda t: F.fractional_max_pool2d(t, 2, 3, _random_samples=samples), [x])


def test_adaptive_softmax() -> None:
    flambeau.manual_seed(0)
    model = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0, head_bias=True)
    x, target = flambeau.randn(6, 8), flambeau.tensor([0, 3, 5, 9, 12, 19])
    output, loss = model(x, target)
    every = model.log_prob(x)
    np.testing.assert_allclose(every.exp().sum(1).detach().numpy(), 1, rtol=1e-5)
    np.testing.assert_allclose(output.detach().numpy(), every.gather(1, target[:, None])[:, 0].detach().numpy(), rtol=1e-5)
    assert loss.item() == pytest.approx(-output.mean().item())
    assert model.predict(x).tolist() == every.argmax(1).tolist()
    with pytest.raises(RuntimeError, match="Target values"):
        model(x, target + 1)
