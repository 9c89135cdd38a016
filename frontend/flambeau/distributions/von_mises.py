"""The von Mises distribution."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl

from . import constraints
from .distribution import Distribution
from .utils import broadcast_all, lazy_property


class VonMises(Distribution):
    """Angles around ``loc``, the closer the higher the ``concentration``. Mean and variance are the circular ones."""

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        k = self.concentration
        return k * fl.cos(value - self.loc) - math.log(2 * math.pi) - (fl.special.i0e(k).log() + k)

    @lazy_property
    def _proposal(self) -> Any:
        """The parameter of the wrapped Cauchy distribution that candidates come from (Best and Fisher, 1979)."""
        k = self.concentration.double()
        tau = 1 + (1 + 4 * k ** 2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * k)
        return fl.where(k < 1e-5, 1 / k + k, (1 + rho ** 2) / (2 * rho))

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        with fl.no_grad():
            loc, k, r = self.loc.double(), self.concentration.double(), self._proposal
            x = fl.zeros(shape, dtype=fl.float64, device=loc.device)
            done = fl.zeros(shape, dtype=fl.bool, device=loc.device)
            while not bool(done.all()):
                u1, u2, u3 = fl.rand((3, *shape), dtype=fl.float64, device=loc.device).unbind()
                z = fl.cos(math.pi * u1)
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                accept = ((c * (2 - c) - u2) > 0) | ((c / u2).log() + 1 - c >= 0)
                x = fl.where(accept, (u3 - 0.5).sign() * f.acos(), x)
                done = done | accept
            return ((x + math.pi + loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @lazy_property
    def variance(self) -> Any:  # type: ignore[override]
        return 1 - fl.special.i1e(self.concentration) / fl.special.i0e(self.concentration)
