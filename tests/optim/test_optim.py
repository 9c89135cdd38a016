"""Optimizers against their published update rules, written out in NumPy, and against their own saved state."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import flambeau as fl

STEPS = 6


def run(make, start, steps=STEPS):
    """Minimise sum(c * p^2) from ``start``; the parameter after each step."""
    p = fl.tensor(start, dtype=fl.float64, requires_grad=True)
    c = fl.tensor([1.0, 2.0, 3.0], dtype=fl.float64)
    optimizer = make([p])
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        (c * p * p).sum().backward()
        optimizer.step()
        seen.append(p.detach().numpy().copy())
    return np.array(seen)


def gradient(p):
    return 2 * np.array([1.0, 2.0, 3.0]) * p


START = [1.0, -2.0, 0.5]


def sgd(p, lr, momentum=0.0, decay=0.0, nesterov=False):
    buffer, seen = None, []
    for _ in range(STEPS):
        g = gradient(p) + decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
        seen.append(p)
    return np.array(seen)


def adam(p, lr, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, decoupled=False, amsgrad=False):
    m, v, top, seen = 0.0, 0.0, 0.0, []
    for t in range(1, STEPS + 1):
        g = gradient(p)
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        top = np.maximum(top, v)
        root = np.sqrt((top if amsgrad else v) / (1 - b2**t)) + eps
        p = p - lr * m / (1 - b1**t) / root
        seen.append(p)
    return np.array(seen)


def rmsprop(p, lr, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    v, mean, buffer, seen = 0.0, 0.0, 0.0, []
    for _ in range(STEPS):
        g = gradient(p)
        v, mean = alpha * v + (1 - alpha) * g * g, alpha * mean + (1 - alpha) * g
        root = np.sqrt(v - mean * mean if centered else v) + eps
        buffer = momentum * buffer + g / root
        p = p - lr * buffer
        seen.append(p)
    return np.array(seen)


CASES = [
    (lambda p: fl.optim.SGD(p, lr=0.1), lambda p: sgd(p, 0.1)),
    (lambda p: fl.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1), lambda p: sgd(p, 0.05, 0.9, 0.1)),
    (lambda p: fl.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True), lambda p: sgd(p, 0.05, 0.9, nesterov=True)),
    (lambda p: fl.optim.Adam(p, lr=0.1), lambda p: adam(p, 0.1)),
    (lambda p: fl.optim.Adam(p, lr=0.1, weight_decay=0.2, amsgrad=True), lambda p: adam(p, 0.1, decay=0.2, amsgrad=True)),
    (lambda p: fl.optim.AdamW(p, lr=0.1), lambda p: adam(p, 0.1, decay=0.01, decoupled=True)),
    (lambda p: fl.optim.RMSprop(p), lambda p: rmsprop(p, 0.01)),
    (lambda p: fl.optim.RMSprop(p, momentum=0.5, centered=True), lambda p: rmsprop(p, 0.01, momentum=0.5, centered=True)),
]


@pytest.mark.parametrize("make, rule", CASES)
def test_update_rule(make, rule):
    np.testing.assert_allclose(run(make, START), rule(np.array(START)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [make for make, _ in CASES])
def test_resuming_from_a_saved_state_goes_on_as_if_never_stopped(make):
    whole = run(make, START, 6)
    p = fl.tensor(START, dtype=fl.float64, requires_grad=True)
    c = fl.tensor([1.0, 2.0, 3.0], dtype=fl.float64)
    optimizer = make([p])
    for step in range(6):
        if step == 3:
            saved = copy.deepcopy(optimizer.state_dict())
            p = p.detach().clone().requires_grad_()
            optimizer = make([p])
            optimizer.load_state_dict(saved)
        optimizer.zero_grad()
        (c * p * p).sum().backward()
        optimizer.step()
    np.testing.assert_array_equal(p.detach().numpy(), whole[-1])


def test_groups_have_their_own_options():
    a, b = fl.ones(2, requires_grad=True), fl.ones(2, requires_grad=True)
    optimizer = fl.optim.SGD([{"params": [a]}, {"params": [b], "lr": 1.0}], lr=0.1)
    (a + b).sum().backward()
    optimizer.step()
    assert a.tolist() == pytest.approx([0.9, 0.9])
    assert b.tolist() == [0.0, 0.0]


def test_closure_is_run_with_gradients_and_its_loss_returned():
    p = fl.ones(1, requires_grad=True)
    optimizer = fl.optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert p.item() == 0.0


@pytest.mark.parametrize("bad, error", [
    (lambda: fl.optim.SGD([], lr=0.1), ValueError),
    (lambda: fl.optim.SGD(fl.ones(1), lr=0.1), TypeError),
    (lambda: fl.optim.SGD([3.0], lr=0.1), TypeError),
    (lambda: fl.optim.SGD([fl.ones(1, requires_grad=True) * 2], lr=0.1), ValueError),
    (lambda: fl.optim.SGD([fl.ones(1)], lr=-1), ValueError),
    (lambda: fl.optim.SGD([fl.ones(1)], nesterov=True), ValueError),
    (lambda: fl.optim.Adam([fl.ones(1)], betas=(1.0, 0.9)), ValueError),
])
def test_bad_input(bad, error):
    with pytest.raises(error):
        bad()


def test_a_parameter_may_not_stand_in_two_groups():
    p = fl.ones(1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        fl.optim.SGD([{"params": [p]}, {"params": [p]}])


def rates(make, steps=8):
    optimizer = fl.optim.SGD([fl.ones(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_schedules_follow_their_closed_forms():
    s = fl.optim.lr_scheduler
    assert rates(lambda o: s.StepLR(o, 3, 0.5)) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert rates(lambda o: s.LambdaLR(o, lambda e: 1 / (e + 1))) == [1 / (e + 1) for e in range(8)]
    assert rates(lambda o: s.MultiStepLR(o, [2, 5], 0.1)) == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    cosine = [0.1 + 0.9 * (1 + np.cos(np.pi * t / 8)) / 2 for t in range(8)]
    assert rates(lambda o: s.CosineAnnealingLR(o, 8, eta_min=0.1)) == pytest.approx(cosine)
    assert rates(lambda o: s.LinearLR(o, 0.5, 1.0, 4)) == pytest.approx([0.5, 0.625, 0.75, 0.875, 1, 1, 1, 1])


def test_plateau_lowers_the_rate_after_patience():
    optimizer = fl.optim.SGD([fl.ones(1, requires_grad=True)], lr=1.0)
    scheduler = fl.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.1)
    for loss in (1.0, 1.0, 1.0, 1.0):
        scheduler.step(loss)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_stepping_the_schedule_first_is_reported():
    optimizer = fl.optim.SGD([fl.ones(1, requires_grad=True)], lr=1.0)
    scheduler = fl.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


@pytest.mark.parametrize("options", [
    dict(decoupled_weight_decay=True, weight_decay=0.1), dict(weight_decay=0.1, maximize=True), dict(amsgrad=True),
    dict(betas=(0.3, 0.9)),
])
def test_all_f32_parameters_at_once_as_one_by_one(options, monkeypatch):
    def trained(at_once):
        rng = np.random.default_rng(0)
        params = [fl.from_numpy(rng.standard_normal(shape, dtype=np.float32)).requires_grad_()
                  for shape in [(5,), (33, 17), (0, 2), (300, 101)]]
        optimizer = fl.optim.Adam(params, lr=0.01, **options)
        if not at_once:
            monkeypatch.setattr(optimizer, "_update_at_once", lambda group: False)
        for _ in range(STEPS):
            for p in params:
                p.grad = fl.from_numpy(rng.standard_normal(p.shape, dtype=np.float32))
            optimizer.step()
        return np.concatenate([p.detach().numpy().ravel() for p in params])

    np.testing.assert_allclose(trained(True), trained(False), rtol=1e-5, atol=1e-6)


def test_a_step_is_seen_by_autograd():
    p = fl.ones(3, requires_grad=True)
    optimizer = fl.optim.AdamW([p])
    loss = (p * p).sum()
    p.grad = fl.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
