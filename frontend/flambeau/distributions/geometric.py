"""The geometric distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
import flambeau.nn.functional as F
from flambeau.ir.op import is_compiling

from . import constraints
from .bernoulli import OfProbsOrLogits
from .distribution import Distribution
from .utils import broadcast_all


class Geometric(OfProbsOrLogits, Distribution):
    """Failures before the first success of probability ``probs``."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        given, = broadcast_all(self._take(probs, logits))
        setattr(self, self._param_name, given)
        super().__init__(given.shape, validate_args=validate_args)
        if self._validate_args and probs is not None and not is_compiling() and not bool((given > 0).all()):
            raise ValueError(f"Expected parameter probs ({type(given).__name__} of shape {tuple(given.shape)}) of distribution "
                             f"{self!r} to be positive but found invalid values:\n{given[given <= 0]}")

    @property
    def mean(self) -> Any:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Any:
        return fl.zeros_like(self.probs)

    @property
    def variance(self) -> Any:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        with fl.no_grad():
            u = self.probs.new_empty(shape).uniform_(fl.finfo(self.probs.dtype).tiny, 1)
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        value, probs = broadcast_all(value, self.probs)
        certain = (probs == 1) & (value == 0)
        return value * (-probs.masked_fill(certain, 0)).log1p() + self.probs.log()

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs
