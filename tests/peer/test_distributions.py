"""Distributions beside PyTorch: samples from one seed, densities, moments, gradients through samples, divergences, errors."""

from __future__ import annotations

import itertools
import math

import pytest

import flambeau as fl
import flambeau.distributions
import flambeau.distributions.constraints
import flambeau.distributions.transforms  # noqa: F401

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer


def tensor(t, *values, grad=True):
    return t.tensor(*values, dtype=t.float64, requires_grad=grad)


def make(name):
    """A function of the library and its ``distributions`` that makes the distribution, parameters as leaves."""
    def build(t):
        D, p = t.distributions, lambda *v: tensor(t, *v)
        cov = lambda: p([[2.0, 0.3], [0.3, 1.0]])
        return {
            "Bernoulli": lambda: D.Bernoulli(p([0.2, 0.5, 0.9])), "Bernoulli logits": lambda: D.Bernoulli(logits=p([-1.0, 0.5])),
            "Beta": lambda: D.Beta(p([0.5, 2.0]), p([0.7, 3.0])), "Binomial": lambda: D.Binomial(5, p([0.2, 0.7])),
            "Binomial many": lambda: D.Binomial(tensor(t, [100.0, 40.0], grad=False), logits=p([0.3, -0.7])),
            "Categorical": lambda: D.Categorical(p([[0.2, 0.3, 0.5], [1.0, 1.0, 2.0]])),
            "Categorical logits": lambda: D.Categorical(logits=p([[0.2, 0.3, 0.5], [1.0, -1.0, 2.0]])),
            "Cauchy": lambda: D.Cauchy(p([0.0, 1.0]), p([1.0, 2.0])), "Chi2": lambda: D.Chi2(p([1.0, 5.0])),
            "ContinuousBernoulli": lambda: D.ContinuousBernoulli(p([0.2, 0.4995, 0.9])),
            "Dirichlet": lambda: D.Dirichlet(p([[0.5, 1.0, 3.0], [2.0, 2.0, 2.0]])),
            "Exponential": lambda: D.Exponential(p([0.5, 3.0])),
            "FisherSnedecor": lambda: D.FisherSnedecor(p([3.0, 5.0]), p([6.0, 10.0])),
            "Gamma": lambda: D.Gamma(p([0.3, 2.0, 30.0]), p([1.0, 2.0, 0.5])), "Geometric": lambda: D.Geometric(p([0.2, 0.7])),
            "Gumbel": lambda: D.Gumbel(p([0.0, 1.0]), p([1.0, 2.0])), "HalfCauchy": lambda: D.HalfCauchy(p([1.0, 2.0])),
            "HalfNormal": lambda: D.HalfNormal(p([1.0, 2.0])),
            "InverseGamma": lambda: D.InverseGamma(p([3.0, 4.0]), p([1.0, 2.0])),
            "Independent": lambda: D.Independent(D.Normal(p([[0.0, 1.0]]), p([[1.0, 2.0]])), 1),
            "Kumaraswamy": lambda: D.Kumaraswamy(p([1.5, 2.0]), p([2.0, 3.0])),
            "LKJCholesky": lambda: D.LKJCholesky(3, p([1.0, 0.5])), "Laplace": lambda: D.Laplace(p([0.0, 1.0]), p([1.0, 2.0])),
            "LogNormal": lambda: D.LogNormal(p([0.0, 1.0]), p([1.0, 0.5])),
            "LogisticNormal": lambda: D.LogisticNormal(p([0.0, 1.0]), p([1.0, 0.5])),
            "LowRank": lambda: D.LowRankMultivariateNormal(p([0.0, 1.0]), p([[1.0], [0.5]]), p([1.0, 2.0])),
            "Mixture": lambda: D.MixtureSameFamily(D.Categorical(p([0.3, 0.7])), D.Normal(p([0.0, 2.0]), p([1.0, 0.5]))),
            "Mixture of vectors": lambda: D.MixtureSameFamily(
                D.Categorical(p([0.3, 0.7])),
                D.Independent(D.Normal(p([[0.0, 1.0], [2.0, 3.0]]), p([[1.0, 1.0], [0.5, 1.0]])), 1)),
            "Multinomial": lambda: D.Multinomial(10, p([[0.2, 0.3, 0.5], [1.0, 1.0, 2.0]])),
            "MVN covariance": lambda: D.MultivariateNormal(p([0.0, 1.0]), cov()),
            "MVN precision": lambda: D.MultivariateNormal(p([0.0, 1.0]), precision_matrix=cov()),
            "MVN factor": lambda: D.MultivariateNormal(p([[0.0, 1.0], [1.0, 2.0]]), scale_tril=p([[1.0, 0.0], [0.5, 2.0]])),
            "NegativeBinomial": lambda: D.NegativeBinomial(p([3.0, 5.0]), p([0.3, 0.6])),
            "Normal": lambda: D.Normal(p([0.0, 1.0]), p([1.0, 2.0])),
            "OneHot": lambda: D.OneHotCategorical(p([[0.2, 0.8], [0.5, 0.5]])),
            "OneHot straight": lambda: D.OneHotCategoricalStraightThrough(p([0.2, 0.3, 0.5])),
            "Pareto": lambda: D.Pareto(p([1.0, 2.0]), p([3.0, 4.0])), "Poisson": lambda: D.Poisson(p([0.5, 4.0, 30.0])),
            "RelaxedBernoulli": lambda: D.RelaxedBernoulli(p(0.5), p([0.2, 0.7])),
            "RelaxedOneHot": lambda: D.RelaxedOneHotCategorical(p(0.5), p([[0.2, 0.3, 0.5]])),
            "StudentT": lambda: D.StudentT(p([3.0, 5.0]), p([0.0, 1.0]), p([1.0, 2.0])),
            "Transformed": lambda: D.TransformedDistribution(D.Normal(p([0.0, 1.0]), p([1.0, 2.0])), [
                D.transforms.AffineTransform(1.0, p([2.0, -0.5])), D.transforms.SigmoidTransform()]),
            "Uniform": lambda: D.Uniform(p([0.0, 1.0]), p([1.0, 3.0])),
            "VonMises": lambda: D.VonMises(p([0.0, 1.0]), p([0.5, 4.0])),
            "Weibull": lambda: D.Weibull(p([1.0, 2.0]), p([1.5, 0.7]))}
    return lambda t: build(t)[name]()


NAMES = ["ContinuousBernoulli", "Bernoulli", "Bernoulli logits", "Beta", "Binomial", "Binomial many",
         "Categorical", "Categorical logits", "Cauchy",
         "Chi2", "Dirichlet", "Exponential", "FisherSnedecor", "Gamma", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal",
         "InverseGamma", "Independent", "Kumaraswamy", "LKJCholesky", "Laplace", "LogNormal", "LogisticNormal", "LowRank",
         "Mixture", "Mixture of vectors", "Multinomial", "MVN covariance", "MVN precision", "MVN factor", "NegativeBinomial",
         "Normal", "OneHot", "OneHot straight", "Pareto", "Poisson", "RelaxedBernoulli", "RelaxedOneHot", "StudentT",
         "Transformed", "Uniform", "VonMises", "Weibull"]


def near(ours, theirs, tolerance=1e-6):
    assert (str(ours.dtype), tuple(ours.shape)) == (str(theirs.dtype), tuple(theirs.shape))
    a, b = ours.detach().reshape(-1).tolist(), theirs.detach().reshape(-1).tolist()
    assert a == pytest.approx(b, rel=tolerance, abs=tolerance, nan_ok=True)


def outcome(f, *args):
    """The result, or the type of the error."""
    try:
        return f(*args)
    except Exception as error:
        return type(error)


def same(ours, theirs, tolerance=1e-6):
    if isinstance(theirs, type) or isinstance(ours, type):
        assert ours is theirs, (ours, theirs)
    else:
        near(ours, theirs, tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_samples_and_densities(name):
    ours, theirs = make(name)(fl), make(name)(torch)
    assert tuple(ours.batch_shape) == tuple(theirs.batch_shape) and tuple(ours.event_shape) == tuple(theirs.event_shape)
    assert ours.has_rsample == theirs.has_rsample and ours.has_enumerate_support == theirs.has_enumerate_support
    for shape in ((), (20,), (3, 2)):
        torch.manual_seed(5)
        fl.manual_seed(5)
        x, y = ours.sample(shape), theirs.sample(shape)
        near(x, y)
        near(ours.log_prob(fl.tensor(y.tolist(), dtype=getattr(fl, str(y.dtype)[6:]))), theirs.log_prob(y), 1e-5)
        same(outcome(ours.cdf, fl.tensor(y.tolist(), dtype=fl.float64)), outcome(theirs.cdf, y))
    for number in ("mean", "mode", "variance", "stddev"):
        same(outcome(getattr, ours, number), outcome(getattr, theirs, number), 1e-5)
    same(outcome(ours.entropy), outcome(theirs.entropy), 1e-5)
    same(outcome(ours.enumerate_support), outcome(theirs.enumerate_support))
    q = [0.1, 0.4] if tuple(theirs.batch_shape)[-1:] in ((2,), ()) else [0.3]
    same(outcome(ours.icdf, tensor(fl, q)), outcome(theirs.icdf, tensor(torch, q)), 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_expanded(name):
    if name == "RelaxedOneHot":
        shapes = [(4, 1), (2, 1)]
    else:
        batch = tuple(make(name)(torch).batch_shape)
        shapes = [(3, *batch), (2, 3, *batch)]
    for shape in shapes:
        ours, theirs = make(name)(fl).expand(shape), make(name)(torch).expand(shape)
        assert tuple(ours.batch_shape) == tuple(theirs.batch_shape) == shape and type(ours).__name__ == type(theirs).__name__
        torch.manual_seed(1)
        fl.manual_seed(1)
        y = theirs.sample((2,))
        near(ours.sample((2,)), y)
        near(ours.log_prob(fl.tensor(y.tolist(), dtype=getattr(fl, str(y.dtype)[6:]))), theirs.log_prob(y), 1e-5)
        same(outcome(getattr, ours, "mean"), outcome(getattr, theirs, "mean"), 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_densities_and_through_samples(name):
    results = []
    for t in (fl, torch):
        d = make(name)(t)
        t.manual_seed(2)
        y = d.sample((5,))
        if t is fl:
            value = y
        params = _parameters(t, name)
        d = _rebuilt(t, name, params)
        found = [t.autograd.grad(d.log_prob(t.tensor(value.tolist(), dtype=getattr(t, str(value.dtype)[6:]))).sum(), params,
                                 allow_unused=True)]
        if d.has_rsample:
            params = _parameters(t, name)
            d = _rebuilt(t, name, params)
            t.manual_seed(3)
            weights = t.arange(1.0, 6.0, dtype=t.float64)
            x = d.rsample((5,))
            total = (x.reshape(5, -1) * weights[:, None]).sum() + x.square().sum()
            found.append(t.autograd.grad(total, params, allow_unused=True))
        results.append(found)
    for ours, theirs in zip(*results):
        for a, b in zip(ours, theirs):
            if a is None or b is None:  # (where all elements come out as zeros, a library may know or not)
                assert (a if b is None else b) is not None or a is b or float((b if a is None else a).abs().max()) == 0
            else:
                # the slope of gamma and beta samples is an approximation in PyTorch
                near(a, b, 5e-3 if name in ("Beta", "Gamma", "Chi2", "Dirichlet", "StudentT", "FisherSnedecor", "InverseGamma",
                                            "LKJCholesky") else 1e-5)


class _Recorder:
    """The library, with ``tensor`` remembered: the parameters that a constructor makes."""

    def __init__(self, t, replay=None):
        self._t, self.made, self._replay = t, [], list(replay or [])

    def __getattr__(self, name):
        return getattr(self._t, name)

    def tensor(self, *args, requires_grad=False, **kwargs):
        if requires_grad and self._replay:
            return self._replay.pop(0)
        made = self._t.tensor(*args, requires_grad=requires_grad, **kwargs)
        if requires_grad:
            self.made.append(made)
        return made


def _parameters(t, name):
    recorder = _Recorder(t)
    make(name)(recorder)
    return recorder.made


def _rebuilt(t, name, params):
    return make(name)(_Recorder(t, params))


FAMILIES = ["ContinuousBernoulli", "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Dirichlet", "Exponential",
            "Gamma", "Geometric", "Gumbel",
            "HalfNormal", "Independent", "Laplace", "LogNormal", "LowRank", "MVN covariance", "MVN precision", "Normal", "OneHot",
            "Pareto", "Poisson", "Uniform", "Chi2", "Transformed"]


@pytest.mark.parametrize(("p", "q"), list(itertools.product(FAMILIES, FAMILIES)), ids=lambda x: x)
def test_divergences(p, q):
    def found(t):
        return t.distributions.kl_divergence(make(p)(t), make(q)(t))
    ours, theirs = outcome(lambda: found(fl)), outcome(lambda: found(torch))
    shapes = [tuple(make(name)(torch).batch_shape) for name in (p, q)]
    if isinstance(outcome(torch.broadcast_shapes, *shapes), type):
        return  # shapes that do not fit together
    if isinstance(theirs, type) or isinstance(ours, type):
        assert ours is theirs, (ours, theirs)
    else:
        near(ours, theirs, 1e-5)


TRANSFORMS = {
    "Exp": lambda T, t: T.ExpTransform(), "Sigmoid": lambda T, t: T.SigmoidTransform(), "Tanh": lambda T, t: T.TanhTransform(),
    "Softplus": lambda T, t: T.SoftplusTransform(), "Affine": lambda T, t: T.AffineTransform(1.0, -2.0),
    "Affine of vectors": lambda T, t: T.AffineTransform(tensor(t, [1.0, 2.0, 3.0]), tensor(t, [1.0, -2.0, 0.5]), 1),
    "Stick": lambda T, t: T.StickBreakingTransform(), "CorrCholesky": lambda T, t: T.CorrCholeskyTransform(),
    "Compose": lambda T, t: T.ComposeTransform([T.AffineTransform(1.0, 0.5), T.ExpTransform(), T.AffineTransform(0.0, 2.0)]),
    "Compose events": lambda T, t: T.ComposeTransform([T.StickBreakingTransform(), T.ExpTransform()]),
    "Independent": lambda T, t: T.IndependentTransform(T.ExpTransform(), 1),
    "Reshape": lambda T, t: T.ReshapeTransform((3,), (1, 3)),
    "Cat": lambda T, t: T.CatTransform([T.ExpTransform(), T.TanhTransform()], -1, [1, 2]),
    "Stack": lambda T, t: T.StackTransform([T.ExpTransform(), T.TanhTransform(), T.identity_transform], -1),
    "Inverse": lambda T, t: T.ExpTransform().inv.inv,
    "Power": lambda T, t: T.ComposeTransform([T.ExpTransform(), T.PowerTransform(0.5)]),
    "Cumulative": lambda T, t: T.CumulativeDistributionTransform(t.distributions.Normal(0.0, 2.0)),
    "Abs": lambda T, t: T.AbsTransform(), "Softmax": lambda T, t: T.SoftmaxTransform(),
    "Cached": lambda T, t: T.TanhTransform(cache_size=1)}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    results = []
    for t in (fl, torch):
        transform = TRANSFORMS[name](t.distributions.transforms, t)
        x = tensor(t, [[0.1, -0.4, 1.2], [0.5, 0.2, -0.3]])
        y = transform(x)
        back = transform.inv(y)
        change = outcome(transform.log_abs_det_jacobian, x, y)
        gradient = t.autograd.grad((y * t.arange(1.0, y.numel() + 1).reshape(tuple(y.shape))).sum(), x)[0]
        results.append((y, back, change, gradient, tuple(transform.forward_shape((2, 3))), transform.bijective,
                        transform.domain.event_dim, transform.codomain.event_dim, repr(transform.domain), repr(transform)))
    for a, b in zip(*results):
        if isinstance(b, (torch.Tensor, type)) or isinstance(a, type):
            same(a, b, 1e-6)
        else:
            assert a == b


def test_matrix_transforms():
    for name in ("LowerCholeskyTransform", "PositiveDefiniteTransform"):
        results = []
        for t in (fl, torch):
            transform = getattr(t.distributions.transforms, name)()
            x = tensor(t, [[0.1, -0.4], [0.5, 0.2]])
            results.append((transform(x), transform.inv(transform(x))))
        for a, b in zip(*results):
            near(a, b)


CONSTRAINTS = ["boolean", "one_hot", "nonnegative_integer", "positive_integer", "real", "real_vector", "positive",
               "nonnegative", "unit_interval", "simplex", "lower_triangular", "lower_cholesky", "corr_cholesky", "square",
               "symmetric", "positive_semidefinite", "positive_definite", "integer_interval(-1, 2)", "greater_than(0.5)",
               "greater_than_eq(0.5)", "less_than(0.5)", "interval(0.0, 0.5)", "half_open_interval(0.0, 0.5)",
               "multinomial(3)", "independent(real, 2)", "dependent"]
VALUES = [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.2, 0.8]], [[1.0, 2.0], [-1.0, 3.0]], [[2.0, 0.0], [-1.0, 3.0]],
          [[2.0, 0.5], [0.5, 3.0]], [[math.nan, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.6, 0.8]]]


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints(name):
    ours, theirs = (eval(name, vars(t.distributions.constraints)) for t in (fl, torch))
    assert repr(ours) == repr(theirs)
    for value in VALUES:
        a, b = outcome(ours.check, tensor(fl, value)), outcome(theirs.check, tensor(torch, value))
        assert a is b if isinstance(b, type) else a.tolist() == b.tolist(), value
    for registry in ("biject_to", "transform_to"):
        x = [[0.3, -0.2], [0.1, 0.6]] if name != "corr_cholesky" else [[0.3], [0.1]]
        def moved(t, constraint, registry=registry, x=x):
            return getattr(t.distributions, registry)(constraint)(tensor(t, x))
        same(outcome(moved, fl, ours), outcome(moved, torch, theirs))


@pytest.mark.parametrize("wrong", [
    lambda D, t: D.Normal(t.tensor([0.0]), t.tensor([-1.0])), lambda D, t: D.Normal(t.tensor([t.nan]), t.tensor([1.0])),
    lambda D, t: D.Bernoulli(t.tensor([1.5])), lambda D, t: D.Bernoulli(), lambda D, t: D.Bernoulli(0.5, 0.5),
    lambda D, t: D.Categorical(t.tensor([-1.0, 2.0])), lambda D, t: D.Categorical(t.tensor(1.0)),
    lambda D, t: D.Uniform(1.0, 0.0), lambda D, t: D.Beta(t.tensor([0.0]), t.tensor([1.0])), lambda D, t: D.Geometric(0.0),
    lambda D, t: D.MultivariateNormal(t.zeros(2)), lambda D, t: D.MultivariateNormal(t.tensor(0.0), t.eye(2)),
    lambda D, t: D.MultivariateNormal(t.zeros(2), t.tensor([[1.0, 2.0], [2.0, 1.0]])),
    lambda D, t: D.Independent(D.Normal(0.0, 1.0), 1),
    lambda D, t: D.Normal(0.0, 1.0).log_prob(3.0), lambda D, t: D.Exponential(1.0).log_prob(t.tensor(-1.0)),
    lambda D, t: D.Categorical(t.ones(3)).log_prob(t.tensor(3)),
    lambda D, t: D.Normal(t.zeros(2), t.ones(2)).log_prob(t.zeros(3)),
    lambda D, t: D.Dirichlet(t.ones(3)).log_prob(t.ones(2)), lambda D, t: D.Poisson(t.tensor(-1.0)),
    lambda D, t: D.Normal("a", 1.0), lambda D, t: D.kl_divergence(D.Normal(0.0, 1.0), D.Poisson(1.0)),
    lambda D, t: D.Bernoulli(0.5).rsample(), lambda D, t: D.Multinomial(t.tensor([1, 2]), t.ones(3)),
    lambda D, t: D.MixtureSameFamily(D.Normal(0.0, 1.0), D.Normal(t.zeros(2), t.ones(2))), lambda D, t: D.LKJCholesky(1),
    lambda D, t: D.TransformedDistribution(D.Normal(0.0, 1.0), 3)])
def test_errors(wrong):
    torch.distributions.Distribution.set_default_validate_args(True)  # PyTorch's compiler switches it off when it is first used
    with pytest.raises(Exception) as theirs:
        wrong(torch.distributions, torch)
    with pytest.raises(Exception) as ours:
        wrong(fl.distributions, fl)
    assert type(ours.value) is type(theirs.value)
    if isinstance(theirs.value, ValueError) and "expand" not in str(theirs.value):
        assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]


def test_float32_samples_from_one_seed():
    for build in (lambda t, D: D.Normal(t.zeros(100), 1.0), lambda t, D: D.Uniform(t.zeros(100), 1.0),
                  lambda t, D: D.Gamma(t.linspace(0.1, 5, 100), t.ones(100)), lambda t, D: D.Poisson(t.linspace(0, 40, 100)),
                  lambda t, D: D.Exponential(t.ones(100)), lambda t, D: D.Laplace(t.zeros(100), 1.0),
                  lambda t, D: D.Categorical(t.ones(50)), lambda t, D: D.Beta(t.ones(100), t.full((100,), 0.5)),
                  lambda t, D: D.Bernoulli(t.full((100,), 0.3)), lambda t, D: D.Binomial(50, t.full((100,), 0.3)),
                  lambda t, D: D.StudentT(t.full((100,), 4.0)), lambda t, D: D.VonMises(t.zeros(20), t.ones(20))):
        torch.manual_seed(9)
        fl.manual_seed(9)
        near(build(fl, fl.distributions).sample((3,)), build(torch, torch.distributions).sample((3,)), 2e-6)
        assert fl.rand(2).tolist() == torch.rand(2).tolist()


def test_text_and_validation_switch():
    for build in (lambda t: t.distributions.Normal(0.0, 1.0), lambda t: t.distributions.Normal(t.zeros(2), t.ones(2)),
                  lambda t: t.distributions.Categorical(t.ones(3)), lambda t: t.distributions.Independent(
                      t.distributions.Normal(t.zeros(2), t.ones(2)), 1)):
        assert repr(build(fl)) == repr(build(torch))
    assert fl.distributions.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    fl.distributions.Distribution.set_default_validate_args(False)
    try:
        fl.distributions.Normal(0.0, -1.0)
    finally:
        fl.distributions.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError):
        fl.distributions.Normal(0.0, -1.0)


def test_wishart():
    results = []
    for t in (fl, torch):
        D, df = t.distributions, tensor(t, [4.0, 7.5])
        d = D.Wishart(df, tensor(t, [[2.0, 0.3], [0.3, 1.0]]))
        value = tensor(t, [[[3.0, 0.5], [0.5, 2.0]], [[1.0, -0.2], [-0.2, 4.0]]])
        kl = D.kl_divergence(d, D.Wishart(df + 1, precision_matrix=tensor(t, [[2.0, 0.3], [0.3, 1.0]])))
        results.append((kl, d.log_prob(value), d.mean, d.variance, d.mode, d.entropy(), d.precision_matrix,
                        d.expand((3, 2)).mean))
    for a, b in zip(*results):
        near(a, b)
    fl.manual_seed(0)
    drawn = fl.distributions.Wishart(5.0, fl.tensor([[2.0, 0.3], [0.3, 1.0]])).sample((4000,))
    assert (drawn.mean(0) - 5 * fl.tensor([[2.0, 0.3], [0.3, 1.0]])).abs().max().item() < 0.4
    assert bool(fl.distributions.constraints.positive_definite.check(drawn).all())


def test_generalized_pareto_in_single_precision():
    """(In double precision PyTorch's fails.)"""
    results = []
    for t in (fl, torch):
        d = t.distributions.GeneralizedPareto(t.tensor([0.0, 1.0, 0.0]), t.tensor([1.0, 2.0, 1.0]), t.tensor([0.2, 0.0, -0.3]))
        t.manual_seed(0)
        y, at = d.sample((10,)), t.tensor([0.5, 1.5, 0.7])
        results.append((y, d.log_prob(at), d.cdf(at), d.icdf(t.tensor([0.2, 0.4, 0.6])), d.mean, d.variance, d.mode, d.entropy(),
                        d.expand((2, 3)).log_survival_function(at)))
    for a, b in zip(*results):
        near(a, b, 1e-5)


def test_names_of_pytorch_exist():
    assert not set(torch.distributions.__all__) - set(dir(fl.distributions))
