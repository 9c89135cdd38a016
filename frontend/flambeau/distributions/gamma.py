"""The gamma distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl

from . import constraints
from .distribution import ExponentialFamily
from .utils import broadcast_all


class Gamma(ExponentialFamily):
    """Shape ``concentration``, scale ``1 / rate``."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0  # type: ignore[assignment]

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def mode(self) -> Any:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate.pow(2)

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        value = fl._standard_gamma(self.concentration.expand(shape)) / self.rate.expand(shape)
        value.data.clamp_(min=fl.finfo(value.dtype).tiny)  # behind the tape's back: a bound for log_prob
        return value

    def log_prob(self, value: Any) -> Any:
        value = fl.as_tensor(value, dtype=self.rate.dtype, device=self.rate.device)
        if self._validate_args:
            self._validate_sample(value)
        return (fl.xlogy(self.concentration, self.rate) + fl.xlogy(self.concentration - 1, value) - self.rate * value
                - fl.lgamma(self.concentration))

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return fl.special.gammainc(self.concentration, self.rate * value)

    def entropy(self) -> Any:
        return (self.concentration - fl.log(self.rate) + fl.lgamma(self.concentration)
                + (1.0 - self.concentration) * fl.digamma(self.concentration))

    @property
    def _natural_params(self) -> tuple[Any, Any]:
        return self.concentration - 1, -self.rate

    def _log_normalizer(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        return fl.lgamma(x + 1) + (x + 1) * fl.log(-y.reciprocal())
