"""The half-Cauchy distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl

from .cauchy import Cauchy
from .half_normal import Folded


class HalfCauchy(Folded):
    """Absolute values of a Cauchy variate of ``scale``."""

    _whole = Cauchy

    @property
    def mean(self) -> Any:
        return fl.full_like(self.scale, fl.inf)

    @property
    def variance(self) -> Any:
        return self.base_dist.variance
