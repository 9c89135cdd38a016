"""Compiled training steps beside PyTorch's eager ones: all optimizers with many of their options, and double backward."""

from __future__ import annotations

import numpy as np
import pytest
from peer.test_optim import CASES, Run, leaves, same, tolerance_of

import flambeau as fl
from flambeau.frontend.compile import context_of

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

#: Optimizers that look at numbers between the ops of a step.
IN_PARTS = {"LBFGS", "SparseAdam", "Adafactor"}
#: Every third of the list: each optimizer, with most of its options.
SOME = [case for i, case in enumerate(CASES) if i % 3 == 0 and case.values[0].optim_cls.__name__ != "LBFGS"]


def one_graph(compiled):
    found = context_of(compiled).events
    assert not [e for e in found if e.kind in ("break", "fallback")], [e.text for e in found]
    assert sum(e.kind == "graph" for e in found) <= 2, [e.text for e in found if e.kind == "recompile"]


@pytest.mark.parametrize("info, options", SOME)
def test_a_step_of_an_optimizer(info, options):
    """Loss, backward and update as one call, the rate changed on the way."""
    name = info.optim_cls.__name__
    tolerance = max(tolerance_of(name, "float64"), 1e-7)
    theirs, ours = Run(torch, name, options, "float64"), Run(fl, name, options, "float64")
    def step():
        ours.loss()
        ours.optimizer.step()

    compiled = fl.compile(step, backend="aot_eager")
    for k in range(4):
        for run in (theirs, ours):
            for group in run.optimizer.param_groups:
                if k == 3 and isinstance(group["lr"], float):
                    group["lr"] *= 0.5
        same(ours_after(ours, compiled), theirs.steps(1), tolerance)
    want, have = theirs.optimizer.state_dict(), ours.optimizer.state_dict()
    assert {k: sorted(v) for k, v in have["state"].items()} == {k: sorted(v) for k, v in want["state"].items()}
    for number, values in want["state"].items():
        for key, value in values.items():
            same(leaves(have["state"][number][key]), leaves(value), tolerance)
    if name not in IN_PARTS:
        one_graph(compiled)


def ours_after(run, compiled):
    compiled()
    return [p.detach().numpy().copy() for p in run.params]


def penalty(t, w, v, x):
    """A loss on the gradient of a loss, and its gradient."""
    h = (x @ w).tanh() @ v
    inner, = t.autograd.grad(h.sum(), x, create_graph=True)
    loss = (inner.norm(2, dim=1) - 1).square().mean() + h.square().mean()
    loss.backward()
    return loss.detach(), inner.detach()


def test_double_backward():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((3, 4), (4, 1), (5, 3))]
    theirs = [torch.tensor(a).requires_grad_() for a in arrays]
    ours = [fl.tensor(a).requires_grad_() for a in arrays]
    compiled = fl.compile(lambda w, v, x: penalty(fl, w, v, x), backend="numpy")
    for _ in range(3):
        for a, b in zip(compiled(*ours), penalty(torch, *theirs)):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8)
    one_graph(compiled)
