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


# ---- hooks, subclasses, differentiated steps ----


def one(make=fl.optim.SGD, **options):
    p = fl.ones(2, requires_grad=True)
    p.grad = fl.ones(2)
    return p, make([p], lr=0.5, **options)


def test_hooks_of_steps_run_in_order_and_may_replace_the_arguments():
    p, optimizer = one()
    seen = []
    handles = [optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", p.tolist()))),
               optimizer.register_step_pre_hook(lambda o, args, kwargs: ((lambda: seen.append("closure"),), {})),
               optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", p.tolist())))]
    optimizer.step()
    assert seen == [("pre", [1, 1]), "closure", ("post", [0.5, 0.5])]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(seen) == 3
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_hooks_of_all_optimizers():
    from flambeau.optim import optimizer as base  # noqa: PLC0415
    seen = []
    with (base.register_optimizer_step_pre_hook(lambda *_: seen.append("pre")),
          base.register_optimizer_step_post_hook(lambda *_: seen.append("post"))):
        one()[1].step()
        one(fl.optim.Adam)[1].step()
    one()[1].step()
    assert seen == ["pre", "post"] * 2


def test_a_step_of_ones_own_has_hooks_and_satisfies_schedules():
    class Halve(fl.optim.SGD):
        def step(self, closure=None):
            with fl.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.mul_(0.5)
            return super().step(closure)

    p, optimizer = one(Halve)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(p.tolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = fl.optim.lr_scheduler.StepLR(optimizer, 1)
        optimizer.step()
        scheduler.step()
    assert seen == [[0.0, 0.0]]


def test_hooks_of_states():
    _, optimizer = one(fl.optim.Adam)
    optimizer.step()
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(state.pop("more")))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    assert seen == ["saving", 1, "loaded"] and "more" in saved


def test_names_of_parameters_are_kept():
    model = fl.nn.Linear(2, 2)
    optimizer = fl.optim.SGD(model.named_parameters(), lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


@pytest.mark.parametrize("make, options", [
    (fl.optim.SGD, dict(momentum=0.9, nesterov=True, weight_decay=0.1)), (fl.optim.Adam, dict(amsgrad=True, weight_decay=0.1)),
    (fl.optim.AdamW, {}), (fl.optim.RMSprop, dict(centered=True)), (fl.optim.Adagrad, {}), (fl.optim.Adadelta, {}),
    (fl.optim.Adamax, {}), (fl.optim.NAdam, {}), (fl.optim.RAdam, {}), (fl.optim.ASGD, {}),
])
def test_a_differentiable_step_has_the_gradient_of_differences(make, options):
    start = fl.tensor([0.7, -0.4, 1.3], dtype=fl.float64)
    slopes = fl.tensor([0.3, 0.5, -0.6], dtype=fl.float64, requires_grad=True)

    def trained(slopes):
        p = start.clone().requires_grad_()
        p = p * 1
        optimizer = make([p], lr=0.1, differentiable=True, **options)
        for _ in range(2):
            p.grad = slopes * slopes
            optimizer.step()
        return p

    assert fl.autograd.gradcheck(trained, (slopes,))


def test_a_rate_can_be_differentiated():
    rate = fl.tensor(0.1, dtype=fl.float64, requires_grad=True)
    slope = fl.tensor([1.0, 2.0], dtype=fl.float64)
    for make, options in ((fl.optim.SGD, {}), (fl.optim.Adam, {"betas": (fl.tensor(0.5, dtype=fl.float64, requires_grad=True),
                                                                         fl.tensor(0.9, dtype=fl.float64, requires_grad=True))})):
        def trained(rate, *betas, make=make):
            p = fl.ones(2, dtype=fl.float64).requires_grad_() * 1
            optimizer = make([p], lr=rate, differentiable=True, **({"betas": betas} if betas else {}))
            for _ in range(2):
                p.grad = slope
                optimizer.step()
            return p
        assert fl.autograd.gradcheck(trained, (rate, *options.get("betas", ())))


def test_optimizers_are_copied_and_pickled():
    import pickle  # noqa: PLC0415
    _, optimizer = one(fl.optim.Adam)
    optimizer.step()
    for again in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert repr(again) == repr(optimizer)
        assert again.state_dict()["state"][0]["step"].item() == 1
        again.step()


def test_a_rate_that_is_a_tensor_is_written_in_place():
    p = fl.ones(1, requires_grad=True)
    rate = fl.tensor(1.0)
    optimizer = fl.optim.SGD([p], lr=rate)
    scheduler = fl.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    assert rate.item() == 0.5 and optimizer.param_groups[0]["lr"] is rate


@pytest.mark.parametrize("name, options, whole", [
    ("SGD", dict(momentum=0.9, nesterov=True), True), ("AdamW", dict(amsgrad=True), True), ("NAdam", {}, True),
    ("RMSprop", dict(centered=True), True), ("ASGD", {}, False),
])
def test_a_compiled_step_is_the_eager_one(name, options, whole):
    def trained(compiled):
        params = [fl.linspace(-1, 2, 12).reshape(4, 3).requires_grad_(), fl.linspace(1, 2, 3).requires_grad_()]
        optimizer = getattr(fl.optim, name)(params, lr=0.1, **options)
        step = fl.compile(lambda: optimizer.step(), fullgraph=whole) if compiled else optimizer.step
        for i in range(3):
            for p in params:
                p.grad = p.detach() * 2 + i
            step()
        return np.concatenate([p.detach().numpy().ravel() for p in params])

    np.testing.assert_allclose(trained(True), trained(False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [make for make, _ in CASES])
def test_a_step_in_parts_is_the_step_of_each_parameter(make, monkeypatch):
    """Small parameters are stepped as one, large ones in parts, and those that are not row-major by themselves."""
    def trained(in_parts):
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(s) for s in [(5,), (3, 4), (), (200, 700), (0, 2), (1 << 16,), (70, 30)]]
        params = [fl.from_numpy(a).requires_grad_() for a in arrays] + [fl.from_numpy(np.ones((8, 6)).T).requires_grad_()]
        optimizer = make(params)
        optimizer._elementwise = in_parts
        monkeypatch.setattr(type(optimizer), "_update_at_once", lambda self, group: False, raising=False)
        for _ in range(3):
            for p in params[1:]:
                p.grad = fl.from_numpy(np.asarray(rng.standard_normal(p.shape)))
            params[0].grad = fl.from_numpy(rng.standard_normal((5, 2)))[:, 1]
            optimizer.step()
        return params, optimizer.state_dict()["state"]

    (ours, state), (alone, other) = trained(True), trained(False)
    for p, q in zip(ours, alone):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12)
        assert p._version == q._version or p._version > 0
    for number, values in other.items():
        for key, value in values.items():
            np.testing.assert_allclose(state[number][key].numpy(), value.numpy(), rtol=1e-12)
