"""The Dirichlet distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl

from . import constraints
from .distribution import ExponentialFamily


class Dirichlet(ExponentialFamily):
    """Shares that sum to 1 along the last dimension of ``concentration``."""

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Any:
        above = (self.concentration - 1).clamp(min=0.0)
        found = above / above.sum(-1, True)
        flat = (self.concentration < 1).all(-1)
        corner = fl.nn.functional.one_hot(found.argmax(-1), self.concentration.shape[-1]).to(found)
        return fl.where(flat.unsqueeze(-1), corner, found)

    @property
    def variance(self) -> Any:
        total = self.concentration.sum(-1, True)
        return self.concentration * (total - self.concentration) / (total.pow(2) * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        return fl._sample_dirichlet(self.concentration.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        c = self.concentration
        return fl.xlogy(c - 1.0, value).sum(-1) + fl.lgamma(c.sum(-1)) - fl.lgamma(c).sum(-1)

    def entropy(self) -> Any:
        c, k = self.concentration, self.concentration.size(-1)
        total = c.sum(-1)
        return (fl.lgamma(c).sum(-1) - fl.lgamma(total) - (k - total) * fl.digamma(total)
                - ((c - 1.0) * fl.digamma(c)).sum(-1))

    @property
    def _natural_params(self) -> tuple[Any]:
        return (self.concentration,)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        return x.lgamma().sum(-1) - fl.lgamma(x.sum(-1))
