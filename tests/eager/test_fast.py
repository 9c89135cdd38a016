"""The fast path of small calls: what it keeps between calls, and the silent context that one call at a time is in."""

from __future__ import annotations

import math
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.runtime import fast
from flambeau.runtime.quiet import quietly


def test_numbers_are_told_apart_that_compare_equal() -> None:
    x = flambeau.ones(2)
    for number in (1, 1.0, True):
        assert flambeau.equal(x + number, flambeau.full((2,), 2.0))
    for zero in (0.0, -0.0, 0.0, -0.0):
        assert math.copysign(1, (flambeau.full((1,), -0.0) * 1.0 + zero).item()) == math.copysign(1, zero)
        assert (x / zero)[0].item() == math.copysign(math.inf, zero)
    assert (x + math.nan).isnan().all()


def test_a_number_that_was_met_keeps_its_value_and_dtype() -> None:
    for dtype in (flambeau.float32, flambeau.float64, flambeau.complex64, flambeau.int32):
        for _ in range(2):
            r = flambeau.ones(2, dtype=dtype) * 3
            assert r.dtype is dtype and r.tolist() == [3, 3]
    found = flambeau.tensor(1.0) + 2.5
    found.add_(1.0)
    assert (flambeau.zeros(()) + 2.5).item() == 2.5


def test_numbers_out_of_range_behave_as_before() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (flambeau.ones(1) * 1e300).item() == math.inf
    with pytest.raises((OverflowError, RuntimeError)):
        flambeau.ones(1) * 10**400


def test_met_numbers_do_not_pile_up() -> None:
    x = flambeau.ones(1)
    for k in range(3000):
        assert (x + (k + 0.5)).item() == k + 1.5
    assert len(fast._singles) <= 1001


def test_a_call_within_a_quiet_call_takes_the_other_way() -> None:
    found: list[Any] = []

    def nested() -> None:
        found.append((flambeau.ones(2) + flambeau.ones(2)).tolist())
        found.append(flambeau.full((1,), 3e38).mul_(10.0).tolist())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quietly(nested)
    assert found == [[2.0, 2.0], [math.inf]]


def test_the_settings_of_numpy_are_the_users() -> None:
    with np.errstate(all="raise"):
        assert (flambeau.ones(1) / 0.0).item() == math.inf
        with pytest.raises(FloatingPointError):
            np.ones(1) / np.zeros(1)


def test_threads_compute_at_once() -> None:
    a, wrong = np.full(200_000, 3e38, np.float32), []

    def work() -> None:
        x = flambeau.from_numpy(a)
        for _ in range(40):
            if not bool((x + x).isinf().all()):
                wrong.append(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


@pytest.mark.parametrize("flip", [False, True])
def test_a_recorded_call_with_a_number_has_its_gradient(flip: bool) -> None:
    for op in (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, lambda a, b: a ** b):
        x = flambeau.tensor([1.5, 2.0], dtype=flambeau.float64, requires_grad=True)
        assert flambeau.autograd.gradcheck((lambda t, op=op: op(3.0, t)) if flip else (lambda t, op=op: op(t, 3.0)), (x,))


def test_modes_start_in_each_thread_as_they_are_at_first() -> None:
    seen: list[bool] = []
    with flambeau.no_grad():
        thread = threading.Thread(target=lambda: seen.append((flambeau.ones(1, requires_grad=True) + 1).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]
