"""The generalized Pareto distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl

from . import constraints
from .distribution import Distribution
from .utils import broadcast_all


class GeneralizedPareto(Distribution):
    """Excesses above ``loc``: a tail that falls with a power for positive ``concentration``, exponentially for 0, and ends
    for a negative one."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        end = fl.where(self.concentration < 0, self.loc - self.scale / self.concentration, fl.inf)
        return constraints.interval(self.loc, end)

    def _power(self) -> tuple[Any, Any]:
        """Where the concentration is 0, and the concentration with a 1 there."""
        zero = fl.isclose(self.concentration, fl.zeros_like(self.concentration))
        return zero, fl.where(zero, 1.0, self.concentration)

    @property
    def mean(self) -> Any:
        finite = self.concentration < 1
        return fl.where(finite, self.loc + self.scale / (1 - fl.where(finite, self.concentration, 0.5)), fl.nan)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        finite = self.concentration < 0.5
        c = fl.where(finite, self.concentration, 0.25)
        return fl.where(finite, self.scale ** 2 / ((1 - c) ** 2 * (1 - 2 * c)), fl.nan)

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        return self.icdf(fl.rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        zero, c = self._power()
        y = 1 / c + fl.ones_like(z)
        return -self.scale.log() - fl.where(zero, z, fl.where(y == 0, y, y * fl.log1p(c * z)))

    def log_survival_function(self, value: Any) -> Any:
        """The logarithm of the probability of more than ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        zero, c = self._power()
        return fl.where(zero, -z, -fl.log1p(c * z) / c)

    def log_cdf(self, value: Any) -> Any:
        """The logarithm of :meth:`cdf`."""
        return fl.log1p(-fl.exp(self.log_survival_function(value)))

    def cdf(self, value: Any) -> Any:
        return fl.exp(self.log_cdf(value))

    def icdf(self, value: Any) -> Any:
        zero, c = self._power()
        log_rest = fl.log1p(-value)
        return fl.where(zero, self.loc - self.scale * log_rest, self.loc + self.scale / c * fl.expm1(-c * log_rest))

    def entropy(self) -> Any:
        return fl.log(self.scale) + self.concentration + 1
