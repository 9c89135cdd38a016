"""The categorical distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.runtime.tensor import Size

from . import constraints
from .bernoulli import OfProbsOrLogits
from .distribution import Distribution


class Categorical(OfProbsOrLogits, Distribution):
    """An index of the last dimension of ``probs`` (weights, normalised here) or ``logits``."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True
    _binary = False

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        given = self._take(probs, logits)
        if given.dim() < 1:
            raise ValueError(f"`{self._param_name}` parameter must be at least one-dimensional.")
        if self._param_name == "probs":
            self.probs = given / given.sum(-1, keepdim=True)
        else:
            self.logits = given - given.logsumexp(dim=-1, keepdim=True)
        self._num_events = self._param.size()[-1]
        super().__init__(given.shape[:-1], validate_args=validate_args)

    def _expanded(self, name: str, batch_shape: Size) -> Any:
        return getattr(self, name).expand((*batch_shape, self._num_events))

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Any:
        return fl.full(tuple(self._extended_shape()), fl.nan, dtype=self.probs.dtype, device=self.probs.device)

    variance = mean

    @property
    def mode(self) -> Any:
        return self.probs.argmax(dim=-1)

    def sample(self, sample_shape: Any = ()) -> Any:
        sample_shape = Size(sample_shape)
        flat = self.probs.detach().reshape(-1, self._num_events)
        drawn = fl.multinomial(flat, sample_shape.numel(), True).t()
        return drawn.reshape(tuple(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        value = value.long().unsqueeze(-1)
        value, logs = fl.broadcast_tensors(value, self.logits)
        return logs.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Any:
        logits = fl.clamp(self.logits, min=fl.finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = fl.arange(self._num_events, dtype=fl.long, device=self._param.device)
        values = values.view((-1, *(1,) * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values


class OverCategorical(Distribution):
    """A distribution made of the shares of a :class:`Categorical`, which it holds as ``_categorical``."""

    _categorical: Categorical

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        return self._categorical.param_shape
