"""Kullback-Leibler divergences (PyTorch: ``torch.distributions.kl``).

Pairs of one family have formulas of their own. Between families, ``KL(p || q)`` is minus the entropy of ``p`` minus the mean
under ``p`` of ``log q``, and that mean takes a few moments of ``p``: of ``x``, ``log x``, ``log(1 - x)`` and ``exp(-t x)``.
It is infinite where ``p`` reaches outside the support of ``q``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import flambeau as fl
import flambeau.nn.functional as F

from .bernoulli import Bernoulli
from .beta import Beta
from .binomial import Binomial
from .categorical import Categorical
from .cauchy import Cauchy
from .continuous_bernoulli import ContinuousBernoulli
from .dirichlet import Dirichlet
from .distribution import Distribution, ExponentialFamily
from .exponential import Exponential
from .gamma import Gamma
from .geometric import Geometric
from .gumbel import Gumbel
from .half_normal import HalfNormal
from .independent import Independent
from .laplace import Laplace
from .lowrank_multivariate_normal import LowRankMultivariateNormal
from .multivariate_normal import MultivariateNormal, batch_mahalanobis
from .normal import Normal
from .one_hot_categorical import OneHotCategorical
from .pareto import Pareto
from .poisson import Poisson
from .transformed_distribution import TransformedDistribution
from .uniform import Uniform
from .utils import euler_constant, sum_rightmost

Rule = Callable[[Any, Any], Any]
_rules: dict[tuple[type, type], Rule] = {}
_found: dict[tuple[type, type], Rule | None] = {}
_registered = ""  # another text after each registration: compiled code that has looked for a rule depends on it


def register_kl(type_p: type, type_q: type) -> Callable[[Rule], Rule]:
    """Decorates a function ``(p, q) -> divergence`` for these classes and their subclasses. Raises ``TypeError``."""
    for kind, name in ((type_p, "type_p"), (type_q, "type_q")):
        if not isinstance(kind, type) or not issubclass(kind, Distribution):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def add(rule: Rule) -> Rule:
        global _registered
        _rules[type_p, type_q] = rule
        _found.clear()
        _registered += "+"
        return rule

    add.__flambeau_disable__ = True  # type: ignore[attr-defined] # what is looked up while tracing must have happened
    return add


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """The divergence of ``q`` from ``p``, of the batch shape. Raises ``NotImplementedError`` for an unknown pair."""
    rule = _rule(type(p), type(q), _registered)
    if rule is None:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}; "
                                  "give one with register_kl, or estimate it from samples")
    return rule(p, q)


def _rule(kind_p: type, kind_q: type, registered: str) -> Rule | None:
    if (kind_p, kind_q) not in _found:
        _found[kind_p, kind_q] = _chosen(kind_p, kind_q)
    return _found[kind_p, kind_q]


_rule.__flambeau_pure__ = True  # type: ignore[attr-defined]


def _chosen(kind_p: type, kind_q: type) -> Rule | None:
    """The rule of the nearest classes; a warning where p's side and q's side disagree about which are nearest."""
    matches = [(a, b) for a, b in _rules if issubclass(kind_p, a) and issubclass(kind_q, b)]
    if not matches:
        return None
    far_p, far_q = kind_p.__mro__.index, kind_q.__mro__.index
    left = min(matches, key=lambda m: (far_p(m[0]), far_q(m[1])))
    right = min(matches, key=lambda m: (far_q(m[1]), far_p(m[0])))
    if _rules[left] is not _rules[right]:
        warnings.warn(f"Ambiguous kl_divergence({kind_p.__name__}, {kind_q.__name__}). Please register_kl({left[0].__name__}, "
                      f"{right[1].__name__})", RuntimeWarning, stacklevel=3)
    return _rules[left]


# ---- one family ---------------------------------------------------------------------------------------------------------


def _ratio_term(p: Any, q: Any, difference: Any) -> Any:
    """``p * difference`` with its limits: 0 where p is 0, infinite where only q is."""
    return fl.where(p == 0, 0.0, fl.where(q == 0, fl.inf, p * difference))


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Any:
    ones = _ratio_term(p.probs, q.probs, F.softplus(-q.logits) - F.softplus(-p.logits))
    return ones + _ratio_term(1 - p.probs, 1 - q.probs, F.softplus(q.logits) - F.softplus(p.logits))


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Any:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    found = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return fl.where(p.total_count > q.total_count, fl.inf, found)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Any:
    return _ratio_term(p.probs, q.probs, p.logits - q.logits).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Any:
    return _categorical(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Any:
    return -p.entropy() - _mean_log_density(p, q)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Any:
    return -p.entropy() - fl.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Any:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Poisson, Bernoulli)
@register_kl(Poisson, Binomial)
def _poisson_bounded(p: Any, q: Any) -> Any:
    return fl.full_like(p.rate, fl.inf)


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Any:
    return _dirichlet(p._dirichlet, q._dirichlet)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    normalizers = total.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1)
    return normalizers + ((a - b) * (a.digamma() - total.digamma().unsqueeze(-1))).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    return (b * (p.rate / q.rate).log() + fl.lgamma(b) - fl.lgamma(a) + (a - b) * fl.digamma(a)
            + (q.rate - p.rate) * (a / p.rate))


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Any:
    ratio, away = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return away - ratio.log() + euler_constant * (ratio - 1) + fl.exp((1 + ratio).lgamma() - away) - 1


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Any:
    ratio, away = p.scale / q.scale, (p.loc - q.loc).abs()
    return away / q.scale + ratio * fl.exp(-away / p.scale) - 1 - ratio.log()


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Any:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Any:
    return ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log() - (4 * p.scale * q.scale).log()


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    return fl.where(p.scale < q.scale, fl.inf, q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Any:
    return fl.where((q.low > p.low) | (q.high < p.high), fl.inf, ((q.high - q.low) / (p.high - p.low)).log())


@register_kl(ExponentialFamily, ExponentialFamily)
def _family(p: Any, q: Any) -> Any:
    """The Bregman divergence of the log normalizer."""
    if type(p) is not type(q):
        raise NotImplementedError("The cross KL-divergence between different exponential families cannot be computed using "
                                  "Bregman divergences")
    at = [x.detach().requires_grad_() for x in p._natural_params]
    normalizer = p._log_normalizer(*at)
    gradients = fl.autograd.grad(normalizer.sum(), at, create_graph=True)
    found = q._log_normalizer(*q._natural_params) - normalizer
    for a, b, g in zip(at, q._natural_params, gradients):
        found = found - sum_rightmost((b - a) * g, len(q.event_shape))
    return found


# ---- vectors ------------------------------------------------------------------------------------------------------------


def _same_event(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between two (Low Rank) Multivariate Normals with different event shapes cannot be "
                         f"computed: {tuple(p.event_shape)} and {tuple(q.event_shape)}")


def _log_det(p: Any) -> Any:
    if isinstance(p, LowRankMultivariateNormal):
        return p._log_det()
    return 2 * p._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _factors(p: Any) -> list[Any]:
    """Matrices whose squares add up to the covariance."""
    if isinstance(p, LowRankMultivariateNormal):
        return [p._factor, fl.diag_embed(p._diag.sqrt())]
    return [p._factor]


@register_kl(MultivariateNormal, MultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _multivariate_normal(p: Any, q: Any) -> Any:
    _same_event(p, q)
    factor = q.scale_tril if isinstance(q, LowRankMultivariateNormal) else q._factor
    batch = fl.broadcast_shapes(p.batch_shape, q.batch_shape)
    n = p.event_shape[0]
    left = factor.expand((*batch, n, n))
    trace = 0.0
    for part in _factors(p):
        solved = fl.linalg.solve_triangular(left, part.expand((*batch, *part.shape[-2:])), upper=False)
        trace = trace + solved.pow(2).sum((-2, -1))
    return 0.5 * (_log_det(q) - _log_det(p) + trace + batch_mahalanobis(factor, q.loc - p.loc) - n)


# ---- made of others -------------------------------------------------------------------------------------------------------


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("KL between Independents that reinterpret different numbers of dimensions is not implemented")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("KL between transformed distributions is implemented for equal transforms and event shapes")
    return kl_divergence(p.base_dist, q.base_dist)


# ---- between families -----------------------------------------------------------------------------------------------------


def _ends(p: Any) -> tuple[Any, Any]:
    """The interval in which a distribution lies."""
    if isinstance(p, Uniform):
        return p.low, p.high
    if isinstance(p, Pareto):
        return p.scale, fl.inf
    if isinstance(p, (Beta, ContinuousBernoulli)):
        return 0.0, 1.0
    return (0.0, fl.inf) if isinstance(p, (Exponential, Gamma)) else (-fl.inf, fl.inf)


def _mean_log(p: Any) -> Any:
    """The mean of ``log x``."""
    if isinstance(p, Beta):
        return p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma()
    if isinstance(p, Gamma):
        return p.concentration.digamma() - p.rate.log()
    if isinstance(p, Exponential):
        return -euler_constant - p.rate.log()
    if isinstance(p, Pareto):
        return p.scale.log() + p.alpha.reciprocal()
    if isinstance(p, Uniform):
        return (p.high.xlogy(p.high) - p.low.xlogy(p.low)) / (p.high - p.low) - 1
    return fl.full_like(p.mean, fl.nan)  # of no use: such a p is not within the support


def _mean_log_rest(p: Any) -> Any:
    """The mean of ``log(1 - x)``."""
    if isinstance(p, Beta):
        return p.concentration0.digamma() - (p.concentration1 + p.concentration0).digamma()
    if isinstance(p, Uniform):
        a, b = 1 - p.high, 1 - p.low
        return (b.xlogy(b) - a.xlogy(a)) / (b - a) - 1
    return fl.full_like(p.mean, fl.nan)


def _decay(p: Any, t: Any) -> Any:
    """The mean of ``exp(-t x)``."""
    if isinstance(p, Gamma):
        return (1 + t / p.rate).pow(-p.concentration)
    if isinstance(p, Exponential):
        return p.rate / (p.rate + t)
    if isinstance(p, Normal):
        return fl.exp(0.5 * (t * p.scale).pow(2) - t * p.loc)
    if isinstance(p, Uniform):
        return (fl.exp(-t * p.low) - fl.exp(-t * p.high)) / (t * (p.high - p.low))
    raise NotImplementedError(f"no mean of exp(-t x) is known for {type(p).__name__}")


def _mean_log_density(p: Any, q: Any) -> Any:
    """The mean under ``p`` of the logarithm of the density of ``q``."""
    if isinstance(q, Normal):
        spread = p.variance + (p.mean - q.loc).pow(2)
        return -spread / (2 * q.scale.pow(2)) - q.scale.log() - 0.5 * math.log(2 * math.pi)
    if isinstance(q, Exponential):
        return q.rate.log() - q.rate * p.mean
    if isinstance(q, Gamma):
        c = q.concentration
        return c * q.rate.log() - c.lgamma() + (c - 1) * _mean_log(p) - q.rate * p.mean
    if isinstance(q, Beta):
        a, b = q.concentration1, q.concentration0
        normalizer = (a + b).lgamma() - a.lgamma() - b.lgamma()
        return normalizer + (a - 1) * _mean_log(p) + (b - 1) * _mean_log_rest(p)
    if isinstance(q, Pareto):
        return q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _mean_log(p)
    if isinstance(q, Uniform):
        return -(q.high - q.low).log() + 0 * p.mean
    if isinstance(q, ContinuousBernoulli):
        return p.mean * q.logits + fl.log1p(-q.probs) + q._log_norm()
    assert isinstance(q, Gumbel)
    return -q.scale.log() - (p.mean - q.loc) / q.scale - fl.exp(q.loc / q.scale) * _decay(p, q.scale.reciprocal())


def _across(p: Any, q: Any) -> Any:
    found = -p.entropy() - _mean_log_density(p, q)
    (low, high), (q_low, q_high) = _ends(p), _ends(q)
    below: Any = fl.as_tensor(low < q_low)
    outside = below | fl.as_tensor(high > q_high)
    return fl.where(outside, fl.inf, found)


for _p, _qs in ((Beta, (Pareto, Exponential, Gamma, Normal, Uniform)),
                (ContinuousBernoulli, (Pareto, Exponential, Normal, Uniform)),
                (Exponential, (Beta, Pareto, Uniform, Gamma, Gumbel, Normal)),
                (Gamma, (Beta, Pareto, Uniform, Exponential, Gumbel, Normal)),
                (Gumbel, (Beta, Exponential, Gamma, Pareto, Uniform, Normal)),
                (Laplace, (Beta, Exponential, Gamma, Pareto, Uniform, Normal)),
                (Normal, (Beta, Exponential, Gamma, Pareto, Uniform, Gumbel)),
                (Pareto, (Beta, Uniform, Exponential, Gamma, Normal)),
                (Uniform, (Beta, Exponential, Gamma, Gumbel, Normal, Pareto))):
    for _q in (*_qs, *((ContinuousBernoulli,) if _p is not ContinuousBernoulli else ())):
        register_kl(_p, _q)(_across)


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Any:
    away = p.loc - q.loc
    z = away / p.scale
    distance = math.sqrt(2 / math.pi) * p.scale * fl.exp(-0.5 * z.pow(2)) + away * fl.erf(math.sqrt(0.5) * z)
    return distance / q.scale + (2 * q.scale).log() - p.entropy()


__all__ = ["kl_divergence", "register_kl"]
