"""Optimizers and schedules beside PyTorch's: parameters, rates, state and repr after several steps, with every option of
PyTorch's own list of optimizers; states loaded from one library into the other."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

SHAPES = [(4, 3), (3,), (2, 3, 2)]
CASES = []
for info in optim_db:
    for i, case in enumerate(info.optim_inputs_func(device="cpu")):
        CASES.append(pytest.param(info, case.kwargs, id=f"{info.optim_cls.__name__}-{i}-{case.desc}"))
OTHERS = [  # options that the list does not name
    ("SGD", dict(lr=1e-2, momentum=0.9, dampening=0.5, maximize=True)), ("RMSprop", dict(centered=True, momentum=0.5)),
    ("NAdam", dict(decoupled_weight_decay=True, weight_decay=0.2, maximize=True)), ("RAdam", dict(lr=0.1, betas=(0.5, 0.6))),
    ("ASGD", dict(t0=2, lambd=0.1)), ("Adam", dict(amsgrad=True, maximize=True)), ("Muon", dict(adjust_lr_fn="match_rms_adamw")),
    ("Rprop", dict(etas=(0.3, 1.5), step_sizes=(1e-3, 0.02))), ("Adafactor", dict(eps=(1e-3, 1e-2), d=2.0)),
    ("LBFGS", dict(history_size=2, max_iter=7)), ("LBFGS", dict(line_search_fn="strong_wolfe", max_eval=4, history_size=3)),
]
for name, options in OTHERS:
    found = next(i for i in optim_db if i.optim_cls.__name__ == name)
    CASES.append(pytest.param(found, options, id=f"{name}-{'-'.join(options)}"))


def translated(value):
    """PyTorch's options as ours; a tensor that occurs twice is one tensor."""
    made = {}
    return convert(value, torch.Tensor, lambda x: made.setdefault(id(x), fl.tensor(x.detach().numpy())))


def shapes_for(name):
    return [(4, 3), (2, 5)] if name == "Muon" else SHAPES


class Run:
    """A few parameters of one library with a quadratic loss, and their optimizer."""

    def __init__(self, t, name, options, dtype="float32"):
        rng = np.random.default_rng(0)
        self.t, self.name = t, name
        kind = np.dtype(dtype)
        values = [rng.standard_normal(s) + (1j * rng.standard_normal(s) if kind.kind == "c" else 0) for s in shapes_for(name)]
        self.params = [t.tensor(v.astype(kind)).requires_grad_() for v in values]
        self.targets = [t.tensor(np.asarray(v[::-1] * 0.5 + 0.1).astype(kind)) for v in values]
        options = options if t is torch else translated(options)
        self.optimizer = getattr(t.optim, name)(self.params, **options)

    def loss(self):
        self.optimizer.zero_grad()
        value = sum((abs(p - q) ** 2 * (i + 1)).sum() for i, (p, q) in enumerate(zip(self.params, self.targets)))
        value.backward()
        if self.name == "SparseAdam":
            for p in self.params:
                p.grad[-1] = 0  # a row without a gradient
                if self.t is torch:
                    rows = torch.arange(len(p.grad) - 1)
                    p.grad = torch.sparse_coo_tensor(rows[None], p.grad[:-1], p.shape)
        return value

    def steps(self, n):
        for _ in range(n):
            if self.name == "LBFGS":
                self.optimizer.step(self.loss)
            else:
                self.loss()
                self.optimizer.step()
        return [p.detach().numpy().copy() for p in self.params]


def same(ours, theirs, tolerance):
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def leaves(value):
    """The numbers in a state, in order."""
    if isinstance(value, dict):
        return [x for v in value.values() for x in leaves(v)]
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in leaves(v)]
    return [] if value is None else [np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)]


def tolerance_of(name, dtype):
    if name == "Muon":
        return 2e-2  # computed in bfloat16
    return 1e-9 if dtype in ("float64", "complex128") else 2e-5 if name != "LBFGS" else 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("info, options", CASES)
def test_optimizer(info, options, dtype):
    name, tolerance = info.optim_cls.__name__, tolerance_of(info.optim_cls.__name__, dtype)
    if dtype.startswith("complex") and not info.supports_complex:
        pytest.skip("complex parameters are refused by both")
    theirs, ours = Run(torch, name, options, dtype), Run(fl, name, options, dtype)
    same(ours.steps(4), theirs.steps(4), tolerance)
    assert repr(ours.optimizer) == repr(theirs.optimizer)
    want, have = theirs.optimizer.state_dict(), ours.optimizer.state_dict()
    assert repr(have["param_groups"]) == repr(want["param_groups"])
    assert {k: sorted(v) for k, v in have["state"].items()} == {k: sorted(v) for k, v in want["state"].items()}
    for number, values in want["state"].items():
        for key, value in values.items():
            mine = leaves(have["state"][number][key])
            if name != "LBFGS":  # whose histories amplify rounding
                same(mine, leaves(value), tolerance)
            assert [x.shape for x in mine] == [x.shape for x in leaves(value)]


@pytest.mark.parametrize("info, options", CASES)
def test_states_go_from_one_library_to_the_other(info, options):
    name, tolerance = info.optim_cls.__name__, tolerance_of(info.optim_cls.__name__, "float64")
    theirs, ours = Run(torch, name, options, "float64"), Run(fl, name, options, "float64")
    theirs.steps(3), ours.steps(3)
    to_torch = convert(copy.deepcopy(ours.optimizer.state_dict()), fl.Tensor, lambda x: torch.from_numpy(np.array(x.detach())))
    to_ours = convert(copy.deepcopy(theirs.optimizer.state_dict()), torch.Tensor, lambda x: fl.tensor(x.detach().numpy().copy()))
    theirs.optimizer.load_state_dict(to_torch)
    ours.optimizer.load_state_dict(to_ours)
    same(ours.steps(3), theirs.steps(3), tolerance)


def convert(value, kind, fn):
    if isinstance(value, kind):
        return fn(value)
    if isinstance(value, dict):
        return {k: convert(v, kind, fn) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(convert(v, kind, fn) for v in value)
    return value


ERRORS = []
for info in optim_db:
    for i, case in enumerate(info.optim_error_inputs_func(device="cpu", dtype=torch.float32)):
        ERRORS.append(pytest.param(info, case, id=f"{info.optim_cls.__name__}-{i}"))


@pytest.mark.parametrize("info, case", ERRORS)
def test_bad_options(info, case):
    if case.error_on.name != "CONSTRUCTION_ERROR":
        pytest.skip("an error of the step")
    given = case.optimizer_error_input
    if "parse params" in case.error_regex or "sparse" in repr(given.params):
        pytest.skip("there are no sparse tensors")
    params = [fl.ones(2, 2).requires_grad_()] if given.params is None else translated(given.params)
    expected = pytest.warns if issubclass(case.error_type, Warning) else pytest.raises
    with expected(case.error_type, match=case.error_regex):
        getattr(fl.optim, info.optim_cls.__name__)(params, **translated(given.kwargs))


SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, 2, 0.5),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 3, eta_min=1e-4),
    "lambda": lambda s, o: s.LambdaLR(o, lambda e: 0.9**e),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "linear": lambda s, o: s.LinearLR(o, total_iters=4),
    "multistep": lambda s, o: s.MultiStepLR(o, [2, 4, 4]),
    "constant": lambda s, o: s.ConstantLR(o, total_iters=3),
    "polynomial": lambda s, o: s.PolynomialLR(o, 5, 2.0),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 2),
    "restarts-1": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3),
    "onecycle": lambda s, o: s.OneCycleLR(o, 0.01, total_steps=20, cycle_momentum=False),
    "onecycle-momentum": lambda s, o: s.OneCycleLR(o, 0.01, epochs=5, steps_per_epoch=4, anneal_strategy="linear"),
    "onecycle-three": lambda s, o: s.OneCycleLR(o, [0.01, 0.02], total_steps=20, three_phase=True),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.001, 0.01, 3, 2),
    "cyclic-2": lambda s, o: s.CyclicLR(o, [0.001, 0.002], 0.01, 2, mode="triangular2", cycle_momentum=False),
    "cyclic-exp": lambda s, o: s.CyclicLR(o, 0.001, 0.01, 2, mode="exp_range", gamma=0.9),
    "cyclic-fn": lambda s, o: s.CyclicLR(o, 0.001, 0.01, 2, scale_fn=lambda x: 0.8**x, scale_mode="iterations"),
    "sequential": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)], [3]),
    "sequential-warm": lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1, 1, 4), s.CosineAnnealingLR(o, 6)], [4]),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)]),
}


def scheduled(t, make, name="SGD", **options):
    a, b = t.ones(2).requires_grad_(), t.ones(3).requires_grad_()
    groups = [{"params": [a]}, {"params": [b], "lr": 0.02}]
    optimizer = getattr(t.optim, name)(groups, lr=1e-2, **(options or dict(momentum=0.9)))
    return optimizer, make(t.optim.lr_scheduler, optimizer)


def rates(optimizer, scheduler, n):
    seen = []
    for _ in range(n):
        optimizer.step()
        scheduler.step()
        seen.append([(float(g["lr"]), g.get("momentum"), g.get("betas")) for g in optimizer.param_groups])
        assert scheduler.get_last_lr() == [g["lr"] for g in optimizer.param_groups]
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name):
    theirs, ours = scheduled(torch, SCHEDULES[name]), scheduled(fl, SCHEDULES[name])
    assert rates(*ours, 12) == rates(*theirs, 12)
    assert plain(ours[1].state_dict()) == plain(theirs[1].state_dict())


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_states_go_from_one_library_to_the_other(name):
    whole = rates(*scheduled(torch, SCHEDULES[name]), 10)
    for source, target in ((torch, fl), (fl, torch)):
        optimizer, scheduler = scheduled(source, SCHEDULES[name])
        rates(optimizer, scheduler, 4)
        new_optimizer, new_scheduler = scheduled(target, SCHEDULES[name])
        new_scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        new_optimizer.load_state_dict(optimizer.state_dict())
        assert rates(new_optimizer, new_scheduler, 6) == whole[4:]


@pytest.mark.parametrize("name", ["cyclic", "onecycle-momentum"])
def test_cycles_of_beta1(name):
    theirs, ours = scheduled(torch, SCHEDULES[name], "Adam", eps=1e-8), scheduled(fl, SCHEDULES[name], "Adam", eps=1e-8)
    assert rates(*ours, 8) == rates(*theirs, 8)


def plain(value):
    """A schedule's state without what only names functions of the library."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != "anneal_func"}
    return [plain(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("options", [dict(), dict(mode="max", threshold_mode="abs", threshold=0.1, cooldown=1),
                                     dict(patience=1, min_lr=[1e-3, 1e-4]), dict(factor=0.5, patience=0, eps=4e-3)])
def test_plateau(options):
    metrics = [1.0, 0.9, 0.9, 0.95, 1.2, 1.2, -0.3, -0.3, -0.29, 2.0, 2.0, 2.0, 2.0, 1.0]
    seen = []
    for t in (torch, fl):
        optimizer, scheduler = scheduled(t, lambda s, o: s.ReduceLROnPlateau(o, **{"patience": 2, **options}))
        seen.append([])
        for m in metrics:
            scheduler.step(t.tensor(m))
            seen[-1].append([g["lr"] for g in optimizer.param_groups] + [plain(scheduler.state_dict())])
    assert seen[0] == seen[1]


def test_averages_of_weights():
    for make in (lambda u: dict(), lambda u: dict(avg_fn=u.get_ema_avg_fn(0.9)),
                 lambda u: dict(multi_avg_fn=u.get_ema_multi_avg_fn(0.7)),
                 lambda u: dict(multi_avg_fn=u.get_swa_multi_avg_fn()),
                 lambda u: dict(avg_fn=u.get_swa_avg_fn(), use_buffers=True)):
        results = []
        for t in (torch, fl):
            model = t.nn.Sequential(t.nn.Linear(3, 2), t.nn.BatchNorm1d(2))
            average = t.optim.swa_utils.AveragedModel(model, **make(t.optim.swa_utils))
            x = t.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
            for step in range(3):
                with t.no_grad():
                    for i, p in enumerate(model.parameters()):
                        p.fill_(0.5 * i + step)
                model(x)
                average.update_parameters(model)
            t.optim.swa_utils.update_bn([x, [x * 2, None]], average)
            results.append({k: v.numpy() for k, v in average.state_dict().items()})
        assert list(results[0]) == list(results[1])
        for k, v in results[0].items():
            np.testing.assert_allclose(results[1][k], v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 3])
def test_rate_of_weight_averaging(strategy, epochs):
    def make(s, o):
        utils = (torch if isinstance(o, torch.optim.Optimizer) else fl).optim.swa_utils
        return utils.SWALR(o, 0.05, epochs, strategy)
    theirs, ours = scheduled(torch, make), scheduled(fl, make)
    assert rates(*ours, 6) == rates(*theirs, 6)
    assert plain(ours[1].state_dict()) == plain(theirs[1].state_dict())


BAD = [
    lambda t, s, o: s.StepLR(3, 1), lambda t, s, o: s.LambdaLR(o, [lambda e: 1]), lambda t, s, o: s.MultiplicativeLR(o, 3),
    lambda t, s, o: s.ConstantLR(o, 2.0), lambda t, s, o: s.LinearLR(o, 0.0), lambda t, s, o: s.LinearLR(o, 1.0, 2.0),
    lambda t, s, o: s.StepLR(o, 1, last_epoch=3), lambda t, s, o: s.CosineAnnealingWarmRestarts(o, 0),
    lambda t, s, o: s.CosineAnnealingWarmRestarts(o, 2, 0), lambda t, s, o: s.CosineAnnealingWarmRestarts(o, 2).step(-1),
    lambda t, s, o: s.OneCycleLR(o, 0.1), lambda t, s, o: s.OneCycleLR(o, 0.1, total_steps=-1),
    lambda t, s, o: s.OneCycleLR(o, 0.1, epochs=2, steps_per_epoch=0), lambda t, s, o: s.OneCycleLR(o, 0.1, 5, pct_start=1.5),
    lambda t, s, o: s.OneCycleLR(o, 0.1, 5, anneal_strategy="up"), lambda t, s, o: s.OneCycleLR(o, [0.1], 5),
    lambda t, s, o: [x.step() for x in [s.OneCycleLR(o, 0.1, 1)] * 3], lambda t, s, o: s.CyclicLR(o, 0.1, 0.2, mode="no"),
    lambda t, s, o: s.CyclicLR(o, [0.1], 0.2), lambda t, s, o: s.CyclicLR(t.optim.Adagrad([t.ones(1)]), 0.1, 0.2),
    lambda t, s, o: s.SequentialLR(o, [], []), lambda t, s, o: s.SequentialLR(o, [s.StepLR(o, 1)], [3]),
    lambda t, s, o: s.SequentialLR(o, [3], []), lambda t, s, o: s.ChainedScheduler([]),
    lambda t, s, o: s.ChainedScheduler([s.ReduceLROnPlateau(o)]),
    lambda t, s, o: s.ChainedScheduler([s.StepLR(o, 1), s.StepLR(t.optim.SGD([t.ones(1)]), 1)]),
    lambda t, s, o: s.ReduceLROnPlateau(o, "up"), lambda t, s, o: s.ReduceLROnPlateau(o, factor=1.0),
    lambda t, s, o: s.ReduceLROnPlateau(o, threshold_mode="no"), lambda t, s, o: s.ReduceLROnPlateau(o, min_lr=[0.1]),
    lambda t, s, o: s.LRScheduler(o), lambda t, s, o: t.optim.swa_utils.SWALR(o, 0.1, anneal_strategy="up"),
    lambda t, s, o: t.optim.swa_utils.SWALR(o, 0.1, -1), lambda t, s, o: t.optim.swa_utils.get_ema_avg_fn(2.0),
    lambda t, s, o: t.optim.swa_utils.AveragedModel(t.nn.Linear(1, 1), avg_fn=max, multi_avg_fn=max),
    lambda t, s, o: t.optim.LBFGS([{"params": t.ones(1)}, {"params": t.ones(2)}]),
    lambda t, s, o: t.optim.LBFGS([t.ones(1).requires_grad_()], line_search_fn="no").step(lambda: t.ones(1).sum()),
    lambda t, s, o: o.load_state_dict({"state": {}, "param_groups": []}),
    lambda t, s, o: o.load_state_dict({"state": {}, "param_groups": [{"params": []}, {"params": [0]}]}),
    lambda t, s, o: o.add_param_group(3), lambda t, s, o: o.add_param_group({"params": {t.ones(1)}}),
    lambda t, s, o: o.add_param_group({"params": [3]}),
    lambda t, s, o: o.add_param_group({"params": o.param_groups[0]["params"]}),
    lambda t, s, o: t.optim.SGD([{"lr": 1}]), lambda t, s, o: t.optim.Rprop([t.ones(1)], etas=(2.0, 1.0)),
    lambda t, s, o: t.optim.Muon([t.ones(2, 2).requires_grad_()], ns_coefficients=(1.0,)).step(),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_errors_are_of_the_same_type(number):
    kinds = []
    for t in (torch, fl):
        try:
            optimizer, scheduler = scheduled(t, lambda s, o: s)
            BAD[number](t, scheduler, optimizer)
            kinds.append(None)
        except Exception as error:
            kinds.append(type(error).__name__)
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("case", [
    lambda s, o: s.StepLR(o, 1).step(), lambda s, o: [o.step(), s.StepLR(o, 1).step()], lambda s, o: s.StepLR(o, 1).get_lr(),
    lambda s, o: [o.step(), s.ExponentialLR(o, 0.5).step(3)], lambda s, o: s.ReduceLROnPlateau(o).step(1.0, epoch=3),
    lambda s, o: [s.StepLR(o, 1), setattr(o, "step", lambda: None)][0].step(),
    lambda s, o: [s.StepLR(o, 1), o.step(), s.StepLR(o, 2)][2].step(),
])
def test_warnings_are_the_same(case):
    found = []
    for t in (torch, fl):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer, s = scheduled(t, lambda s, o: s)
            case(s, optimizer)
        found.append([w.category.__name__ for w in caught])
    assert found[0] == found[1]
