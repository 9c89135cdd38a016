"""The Bernoulli distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
import flambeau.nn.functional as F

from . import constraints
from .distribution import ExponentialFamily
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits


class OfProbsOrLogits:
    """Parameters given as probabilities or as log-odds; the other form is computed when asked for."""

    _binary = True
    _param_name: str

    def _take(self, probs: Any, logits: Any) -> Any:
        """Store the one that is given. Raises ``ValueError`` unless it is just one."""
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self._param_name = "logits" if probs is None else "probs"
        return logits if probs is None else probs

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs, self._binary)

    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits, self._binary)

    @property
    def _param(self) -> Any:
        return getattr(self, self._param_name)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter that was given."""
        return self._param.size()


class Bernoulli(OfProbsOrLogits, ExponentialFamily):
    """1 with probability ``probs``, else 0."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean
    has_enumerate_support = True
    _mean_carrier_measure = 0  # type: ignore[assignment]

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        given, = broadcast_all(self._take(probs, logits))
        setattr(self, self._param_name, given)
        super().__init__(given.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        return fl.where(self.probs == 0.5, fl.nan, (self.probs >= 0.5).to(self.probs.dtype))

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        with fl.no_grad():
            return fl.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Any:
        values = fl.arange(2, dtype=self._param.dtype, device=self._param.device)
        values = values.view((-1, *(1,) * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values

    @property
    def _natural_params(self) -> tuple[Any]:
        return (fl.logit(self.probs),)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        return fl.log1p(fl.exp(x))
