"""The relaxed Bernoulli distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl

from . import constraints
from .bernoulli import OfProbsOrLogits
from .distribution import Distribution
from .relaxed_categorical import Relaxed
from .transforms import SigmoidTransform
from .utils import broadcast_all, clamp_probs


class LogitRelaxedBernoulli(OfProbsOrLogits, Distribution):
    """Log-odds of :class:`RelaxedBernoulli`."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.temperature = temperature
        given, = broadcast_all(self._take(probs, logits))
        setattr(self, self._param_name, given)
        super().__init__(given.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        given = {self._param_name: self._param.expand(tuple(batch_shape))}
        new = LogitRelaxedBernoulli(self.temperature, **given, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        probs = clamp_probs(self.probs.expand(shape))
        uniforms = clamp_probs(fl.rand(shape, dtype=probs.dtype, device=probs.device))
        return (uniforms.log() - (-uniforms).log1p() + probs.log() - (-probs).log1p()) / self.temperature

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        away = logits - value.mul(self.temperature)
        return self.temperature.log() + away - 2 * away.exp().log1p()


class RelaxedBernoulli(Relaxed):
    """Numbers in [0, 1] near 0 or 1 the more, the lower the ``temperature``; they can be differentiated."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval  # type: ignore[assignment]

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits)
        super().__init__(base, SigmoidTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        given = {self.base_dist._param_name: self.base_dist._param.expand(tuple(batch_shape))}
        new = RelaxedBernoulli(self.temperature, **given, validate_args=False)
        new._validate_args = self._validate_args
        return new
