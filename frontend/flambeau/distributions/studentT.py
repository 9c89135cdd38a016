"""Student's t distribution."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl

from . import constraints
from .chi2 import Chi2
from .distribution import Distribution
from .utils import broadcast_all, standard_normal


class StudentT(Distribution):
    """``df`` degrees of freedom, moved by ``loc`` and stretched by ``scale``."""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df, validate_args=validate_args)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return fl.where(self.df <= 1, fl.nan, self.loc)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        finite = self.scale.pow(2) * self.df / (self.df - 2)
        found = fl.where(self.df > 2, finite, fl.inf)
        return fl.where(self.df <= 1, fl.nan, found)

    def rsample(self, sample_shape: Any = ()) -> Any:
        x = standard_normal(self._extended_shape(sample_shape), self.df)
        z = self._chi2.rsample(sample_shape)
        return self.loc + self.scale * (x * fl.rsqrt(z / self.df))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        normalizer = (self.scale.log() + 0.5 * self.df.log() + 0.5 * math.log(math.pi) + fl.lgamma(0.5 * self.df)
                      - fl.lgamma(0.5 * (self.df + 1.0)))
        return -0.5 * (self.df + 1.0) * fl.log1p(y ** 2.0 / self.df) - normalizer

    def entropy(self) -> Any:
        log_beta = fl.lgamma(0.5 * self.df) + math.lgamma(0.5) - fl.lgamma(0.5 * (self.df + 1))
        return (self.scale.log() + 0.5 * (self.df + 1) * (fl.digamma(0.5 * (self.df + 1)) - fl.digamma(0.5 * self.df))
                + 0.5 * self.df.log() + log_beta)
