"""The negative binomial distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
import flambeau.nn.functional as F

from . import constraints
from .bernoulli import OfProbsOrLogits
from .distribution import Distribution
from .gamma import Gamma
from .utils import broadcast_all, lazy_property


class NegativeBinomial(OfProbsOrLogits, Distribution):
    """Successes (of probability ``probs``) before ``total_count`` failures."""

    arg_constraints = {"total_count": constraints.greater_than_eq(0), "probs": constraints.half_open_interval(0.0, 1.0),
                       "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.total_count, given = broadcast_all(total_count, self._take(probs, logits))
        self.total_count = self.total_count.type_as(given)
        setattr(self, self._param_name, given)
        super().__init__(given.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.total_count * fl.exp(self.logits)

    @property
    def mode(self) -> Any:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Any:
        return self.mean / fl.sigmoid(-self.logits)

    @lazy_property
    def _gamma(self) -> Gamma:
        return Gamma(self.total_count, fl.exp(-self.logits), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Any:
        with fl.no_grad():
            return fl.poisson(self._gamma.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        unnormalized = self.total_count * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits)
        normalizer = -fl.lgamma(self.total_count + value) + fl.lgamma(1.0 + value) + fl.lgamma(self.total_count)
        normalizer = normalizer.masked_fill(self.total_count + value == 0.0, 0.0)
        return unnormalized - normalizer
