"""The continuous Bernoulli distribution (Loaiza-Ganem and Cunningham, 2019)."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
import flambeau.nn.functional as F

from . import constraints
from .bernoulli import OfProbsOrLogits
from .distribution import ExponentialFamily
from .utils import broadcast_all, clamp_probs, lazy_property, logits_to_probs


class ContinuousBernoulli(OfProbsOrLogits, ExponentialFamily):
    """Numbers in [0, 1] of density proportional to ``probs ** x * (1 - probs) ** (1 - x)``.

    Between ``lims``, where the closed formulas are 0 / 0, Taylor series around one half take their place.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0  # type: ignore[assignment]

    def __init__(self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
                 validate_args: bool | None = None) -> None:
        given, = broadcast_all(self._take(probs, logits))
        if probs is not None:
            if validate_args and not bool(constraints.unit_interval.check(given).all()):
                raise ValueError("The parameter probs has invalid values")
            given = clamp_probs(given)
        setattr(self, self._param_name, given)
        self._lims = lims
        super().__init__(given.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new._lims = self._lims
        return new

    @lazy_property
    def probs(self) -> Any:
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    def _far(self) -> Any:
        """Whether the closed formulas hold."""
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _cut(self) -> tuple[Any, Any]:
        """Probabilities that the closed formulas can be given everywhere, and their log-odds, negated."""
        cut = fl.where(self._far(), self.probs, self._lims[0])
        return cut, fl.log1p(-cut) - fl.log(cut)

    def _log_norm(self) -> Any:
        cut, odds = self._cut()
        x = (self.probs - 0.5) ** 2
        return fl.where(self._far(), fl.log((odds / (1 - 2 * cut)).abs()), math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self) -> Any:
        cut, odds = self._cut()
        x = self.probs - 0.5
        return fl.where(self._far(), cut / (2 * cut - 1) + 1 / odds, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x ** 2) * x)

    @property
    def variance(self) -> Any:
        cut, odds = self._cut()
        x = (self.probs - 0.5) ** 2
        closed = cut * (cut - 1) / (1 - 2 * cut) ** 2 + 1 / odds ** 2
        return fl.where(self._far(), closed, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        return self.icdf(fl.rand(shape, dtype=self.probs.dtype, device=self.probs.device))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none") + self._log_norm()

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        cut, _ = self._cut()
        closed = (cut ** value * (1 - cut) ** (1 - value) + cut - 1) / (2 * cut - 1)
        return fl.where(self._far(), closed, value).clamp(min=0, max=1)

    def icdf(self, value: Any) -> Any:
        cut, odds = self._cut()
        closed = (fl.log1p(-cut + value * (2 * cut - 1)) - fl.log1p(-cut)) / -odds
        return fl.where(self._far(), closed, value)

    def entropy(self) -> Any:
        log_zero = fl.log1p(-self.probs)
        return self.mean * (log_zero - fl.log(self.probs)) - self._log_norm() - log_zero

    @property
    def _natural_params(self) -> tuple[Any]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        far = (x <= self._lims[0] - 0.5) | (x > self._lims[1] - 0.5)
        cut = fl.where(far, x, self._lims[0] - 0.5)
        return fl.where(far, fl.log((fl.expm1(cut) / cut).abs()), 0.5 * x + x ** 2 / 24.0 - x ** 4 / 2880.0)
