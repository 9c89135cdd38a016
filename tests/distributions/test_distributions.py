"""Distributions by themselves: samples against their densities, gradients through samples, shapes, and lazy loading."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import flambeau as fl
from flambeau import distributions as D

CONTINUOUS = {
    "Normal": (lambda: D.Normal(1.0, 2.0), -20, 20), "Laplace": (lambda: D.Laplace(0.5, 1.0), -30, 30),
    "Gumbel": (lambda: D.Gumbel(0.0, 1.5), -10, 50), "Exponential": (lambda: D.Exponential(0.7), 0, 50),
    "Gamma": (lambda: D.Gamma(2.5, 1.5), 0, 40), "Beta": (lambda: D.Beta(2.0, 3.5), 0, 1),
    "Chi2": (lambda: D.Chi2(fl.tensor(4.0)), 0, 80),
    "StudentT": (lambda: D.StudentT(6.0), -200, 200), "Weibull": (lambda: D.Weibull(1.0, 1.7), 0, 12),
    "LogNormal": (lambda: D.LogNormal(0.0, 0.4), 0, 30), "HalfNormal": (lambda: D.HalfNormal(1.5), 0, 20),
    "Kumaraswamy": (lambda: D.Kumaraswamy(2.0, 3.0), 0, 1), "InverseGamma": (lambda: D.InverseGamma(6.0, 3.0), 0, 60),
    "VonMises": (lambda: D.VonMises(0.3, 1.2), -math.pi, math.pi), "Uniform": (lambda: D.Uniform(-1.0, 3.0), -1, 3),
    "Pareto": (lambda: D.Pareto(1.0, 6.0), 1, 40),
    "Mixture": (lambda: D.MixtureSameFamily(D.Categorical(fl.tensor([0.3, 0.7])), D.Normal(fl.tensor([-2.0, 1.0]), 0.5)),
                -10, 10)}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_density_mean_and_samples_agree(name):
    make, low, high = CONTINUOUS[name]
    d = make()
    middle = np.linspace(low, high, 200_001)[1:-1]
    density = np.exp(d.log_prob(fl.tensor(middle, dtype=fl.float64)).numpy().astype(np.float64))
    step = (high - low) / 200_000
    assert density.sum() * step == pytest.approx(1, abs=2e-3)
    fl.manual_seed(0)
    drawn = d.sample((4000,)).double()
    assert bool(d.support.check(drawn.float()).all())
    mean, deviation = (density * middle).sum() * step, math.sqrt((density * middle ** 2).sum() * step
                                                                 - ((density * middle).sum() * step) ** 2)
    assert drawn.mean().item() == pytest.approx(mean, abs=5 * deviation / math.sqrt(4000))
    if name != "VonMises":  # whose moments are the circular ones
        assert float(d.mean) == pytest.approx(mean, abs=5e-3 * (1 + abs(mean)))
        assert float(d.stddev) == pytest.approx(deviation, rel=2e-2)


DISCRETE = {"Bernoulli": (lambda: D.Bernoulli(0.3), 2), "Binomial": (lambda: D.Binomial(30, 0.4), 31),
            "Binomial many": (lambda: D.Binomial(400, 0.9), 401), "Poisson": (lambda: D.Poisson(3.5), 60),
            "Poisson many": (lambda: D.Poisson(40.0), 150), "Geometric": (lambda: D.Geometric(0.3), 120),
            "NegativeBinomial": (lambda: D.NegativeBinomial(4.0, 0.6), 200),
            "Categorical": (lambda: D.Categorical(fl.tensor([1.0, 2, 5])), 3)}


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_add_up_and_samples_follow_them(name):
    make, count = DISCRETE[name]
    d = make()
    p = np.exp(d.log_prob(fl.arange(float(count))).numpy().astype(np.float64))
    assert p.sum() == pytest.approx(1, abs=1e-3)
    fl.manual_seed(1)
    seen = np.bincount(d.sample((5000,)).numpy().astype(int), minlength=count)[:count] / 5000
    assert np.abs(np.cumsum(seen) - np.cumsum(p)).max() < 1.95 / math.sqrt(5000)  # Kolmogorov and Smirnov, one in a thousand


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0, 40.0])
def test_gamma_samples_move_with_their_parameter_at_fixed_probability(alpha):
    from scipy import special
    fl.manual_seed(0)
    a = fl.full((50,), alpha, dtype=fl.float64, requires_grad=True)
    x = fl._standard_gamma(a)
    x.sum().backward()
    y = x.detach().numpy()
    u, h = special.gammainc(alpha, y), 1e-5 * alpha
    slope = (special.gammaincinv(alpha + h, u) - special.gammaincinv(alpha - h, u)) / (2 * h)
    keep = (u < 0.9999) & (y > 1e-200)
    assert a.grad.numpy()[keep] == pytest.approx(slope[keep], rel=1e-4)


def test_gradients_reach_parameters_through_samples():
    for make, parameters in ((lambda m, s: D.Normal(m, s), 2), (lambda a, b: D.Beta(a, b), 2), (lambda a, b: D.Gamma(a, b), 2),
                             (lambda a, b: D.StudentT(a + 2, b, a), 2), (lambda a: D.Dirichlet(fl.stack([a, a, a], -1)), 1)):
        given = [fl.tensor([0.7, 1.3], requires_grad=True) for _ in range(parameters)]
        d = make(*given)
        assert d.has_rsample
        (d.rsample((3,)) ** 2).sum().backward()
        assert all(p.grad is not None and bool(fl.isfinite(p.grad).all()) and float(p.grad.abs().sum()) > 0 for p in given)
        assert not d.sample().requires_grad


def test_random_ops_leave_the_generator_where_single_draws_leave_it():
    for draw in (lambda n: fl._standard_gamma(fl.full((n,), 0.4)), lambda n: fl.poisson(fl.full((n,), 30.0)),
                 lambda n: fl.binomial(fl.full((n,), 90.0), fl.full((n,), 0.4)), lambda n: fl.poisson(fl.full((n,), 2.0))):
        fl.manual_seed(4)
        together = [*draw(5).tolist(), fl.randn(1).item()]
        fl.manual_seed(4)
        assert together == [*(draw(1).item() for _ in range(5)), fl.randn(1).item()]


def test_what_is_drawn_is_checked():
    with pytest.raises(RuntimeError, match="Poisson rate"):
        fl.poisson(fl.tensor([-1.0]))
    with pytest.raises(RuntimeError, match="Found dtype Double but expected Float"):
        fl.binomial(fl.ones(2), fl.ones(2, dtype=fl.float64))
    with pytest.raises(NotImplementedError, match="floating-point"):
        fl._standard_gamma(fl.ones(2, dtype=fl.int64))
    assert fl.poisson(fl.zeros(3)).tolist() == [0, 0, 0] and fl.binomial(fl.tensor([3.0]), fl.tensor([1.0])).tolist() == [3]


def test_users_can_add_pairs_and_distributions():
    class Mine(D.Normal):
        pass

    assert D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 0

    @D.register_kl(Mine, D.Normal)
    def rule(p, q):
        return fl.tensor(7.0)

    assert D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 7
    with pytest.raises(NotImplementedError, match="register_kl"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Cauchy(0.0, 1.0))
    with pytest.raises(TypeError, match="type_p"):
        D.register_kl(int, D.Normal)
    with pytest.warns(FutureWarning, match="sample_n"):
        assert D.Normal(0.0, 1.0).sample_n(3).shape == (3,)


def test_a_variational_autoencoder_s_loss_trains():
    fl.manual_seed(0)
    mean, log_scale = fl.zeros(2, requires_grad=True), fl.zeros(2, requires_grad=True)
    optimizer = fl.optim.Adam([mean, log_scale], lr=0.05)
    target = D.MultivariateNormal(fl.tensor([1.0, -1.0]), fl.tensor([[1.0, 0.0], [0.0, 0.25]]))
    for _ in range(200):
        optimizer.zero_grad()
        q = D.Independent(D.Normal(mean, log_scale.exp()), 1)
        x = q.rsample((16,))
        (q.log_prob(x) - target.log_prob(x)).mean().backward()
        optimizer.step()
    assert mean.tolist() == pytest.approx([1, -1], abs=0.15) and log_scale.exp().tolist() == pytest.approx([1, 0.5], abs=0.15)


def test_nothing_is_loaded_before_it_is_asked_for():
    code = ("import sys, flambeau\nassert not any('distributions' in m or m == 'scipy' for m in sys.modules)\n"
            "flambeau.distributions.Normal(0.0, 1.0)\nfrom flambeau.distributions.normal import Normal\n"
            "assert flambeau.distributions.Normal is Normal and 'scipy' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


COMPILED = {
    "Normal": lambda p: D.Normal(p, p), "Categorical": lambda p: D.Categorical(p), "Bernoulli": lambda p: D.Bernoulli(logits=p),
    "Gamma": lambda p: D.Gamma(p, p), "Beta": lambda p: D.Beta(p, p + 1), "Dirichlet": lambda p: D.Dirichlet(p),
    "Gumbel": lambda p: D.Gumbel(p, p), "Geometric": lambda p: D.Geometric(p), "Poisson": lambda p: D.Poisson(p),
    "MVN": lambda p: D.MultivariateNormal(p, scale_tril=fl.diag(p)), "StudentT": lambda p: D.StudentT(p),
    "Mixture": lambda p: D.MixtureSameFamily(D.Categorical(p), D.Normal(p, p)),
    "Transformed": lambda p: D.TransformedDistribution(D.Independent(D.Normal(p, p), 1), D.transforms.StickBreakingTransform())}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_code_draws_and_scores_in_one_graph(name):
    def run(p, y):
        d = COMPILED[name](p)
        x = d.rsample((3,)) if d.has_rsample else d.sample((3,))
        return d.log_prob(y), x

    p = fl.tensor([0.3, 0.7], requires_grad=True)
    fl.manual_seed(0)
    y = COMPILED[name](p).sample((3,))
    results = []
    for f in (run, fl.compile(run, fullgraph=True)):
        fl.manual_seed(1)
        score, x = f(p, y)
        results.append([score, x, *fl.autograd.grad(score.sum() + (x.sum() if x.requires_grad else 0), p)])
    for ours, eager in zip(*results):
        assert fl.allclose(ours.float(), eager.float(), rtol=1e-4, atol=1e-5)


def test_divergences_and_limits_of_dtypes_are_in_one_graph():
    def run(mean, mask):
        kl = D.kl_divergence(D.Normal(mean, 2.0), D.Normal(fl.zeros_like(mean), fl.ones_like(mean)))
        return kl.sum() + fl.softmax(mean.masked_fill(mask, fl.finfo(mean.dtype).min), -1)[0] + fl.iinfo(fl.int8).max

    mean, mask = fl.tensor([1.0, -2.0, 0.5]), fl.tensor([False, True, False])
    assert fl.compile(run, fullgraph=True)(mean, mask).item() == pytest.approx(run(mean, mask).item(), rel=1e-5)


def test_compiled_code_sees_rules_that_are_registered_later():
    class Mine(D.Normal):
        pass

    fn = fl.compile(lambda: D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)) + 1, backend="eager")
    assert fn().item() == 1
    D.register_kl(Mine, D.Normal)(lambda p, q: fl.tensor(7.0))
    assert fn().item() == 8


def test_a_rule_registered_in_compiled_code_counts_at_once():
    class Mine(D.Normal):
        pass

    def fn():
        D.register_kl(Mine, D.Normal)(lambda p, q: fl.tensor(7.0))
        return D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0))

    assert fl.compile(fn, backend="eager")().item() == 7
