"""Optimizers and schedules beside PyTorch's: parameters, rates, state and repr after several steps."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer

OPTIMIZERS = {
    "sgd": lambda t, p: t.optim.SGD(p, lr=1e-3),
    "sgd-nesterov": lambda t, p: t.optim.SGD(p, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=0.1),
    "sgd-dampened": lambda t, p: t.optim.SGD(p, lr=1e-3, momentum=0.9, dampening=0.5, maximize=True),
    "adam": lambda t, p: t.optim.Adam(p, lr=1e-2),
    "adam-amsgrad": lambda t, p: t.optim.Adam(p, lr=1e-2, amsgrad=True, weight_decay=0.1),
    "adamw": lambda t, p: t.optim.AdamW(p, lr=1e-2),
    "rmsprop": lambda t, p: t.optim.RMSprop(p, lr=1e-2),
    "rmsprop-centered": lambda t, p: t.optim.RMSprop(p, lr=1e-2, centered=True, momentum=0.5),
}
SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, 2, 0.5),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 3),
    "lambda": lambda s, o: s.LambdaLR(o, lambda e: 0.9**e),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "linear": lambda s, o: s.LinearLR(o, total_iters=4),
    "multistep": lambda s, o: s.MultiStepLR(o, [2, 4]),
    "constant": lambda s, o: s.ConstantLR(o, total_iters=3),
    "polynomial": lambda s, o: s.PolynomialLR(o, 5, 2.0),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 2),
    "onecycle": lambda s, o: s.OneCycleLR(o, 0.01, total_steps=10, cycle_momentum=False),
    "sequential": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)], [3]),
}


def train(t, make, schedule=None, steps=7):
    t.manual_seed(0)
    p, q = t.rand(4, 3, requires_grad=True), t.rand(3, requires_grad=True)
    optimizer = make(t, [p, q])
    scheduler = schedule(t.optim.lr_scheduler, optimizer) if schedule else None
    losses, rates = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((t.ones(2, 4) @ p + q) ** 2).sum()
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(loss.item())
        rates.append(optimizer.param_groups[0]["lr"])
    return losses, rates, p.detach().numpy(), optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    losses, _, p, optimizer = train(torch, OPTIMIZERS[name])
    ours, _, q, mine = train(fl, OPTIMIZERS[name])
    np.testing.assert_allclose(ours, losses, rtol=2e-6)
    np.testing.assert_allclose(q, p, rtol=1e-5, atol=2e-6)
    assert repr(mine) == repr(optimizer)
    theirs, state = optimizer.state_dict(), mine.state_dict()
    assert theirs["param_groups"] == state["param_groups"]
    for number, values in theirs["state"].items():
        assert sorted(values) == sorted(state["state"][number])
        for key, value in values.items():
            np.testing.assert_allclose(np.asarray(state["state"][number][key]), value.numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore")
def test_schedule(name):
    def sgd(t, p):
        return t.optim.SGD(p, lr=1e-3)
    theirs, ours = train(torch, sgd, SCHEDULES[name]), train(fl, sgd, SCHEDULES[name])
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12)
