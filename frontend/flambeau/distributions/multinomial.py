"""The multinomial distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.runtime.tensor import Size

from . import constraints
from .binomial import Binomial
from .categorical import Categorical, OverCategorical
from .utils import broadcast_all


class Multinomial(OverCategorical):
    """How often each index comes in ``total_count`` draws."""

    arg_constraints = {"total_count": constraints.nonnegative_integer, "probs": constraints.simplex,
                       "logits": constraints.real_vector}

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = Categorical(probs=probs, logits=logits)
        self._param_name = self._categorical._param_name
        self._binomial = Binomial(total_count=total_count, probs=self.probs)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    def _expanded(self, name: str, batch_shape: Size) -> Any:
        return self.total_count if name == "total_count" else self._categorical._expanded(name, batch_shape)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Any:
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        sample_shape = Size(sample_shape)
        drawn = self._categorical.sample((self.total_count, *sample_shape))
        drawn = drawn.permute(*range(1, drawn.dim()), 0)
        counts = drawn.new_zeros(tuple(self._extended_shape(sample_shape)))
        return counts.scatter_add(-1, drawn, fl.ones_like(drawn)).type_as(self.probs)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        ways = fl.lgamma(value.sum(-1) + 1) - fl.lgamma(value + 1).sum(-1)
        logits = logits.masked_fill((value == 0) & (logits == -fl.inf), 0)
        return ways + (logits * value).sum(-1)

    def entropy(self) -> Any:
        n = fl.tensor(self.total_count)
        values = self._binomial.enumerate_support(expand=False)[1:]
        terms = (fl.exp(self._binomial.log_prob(values)) * fl.lgamma(values + 1)).sum([0, -1])
        return n * self._categorical.entropy() - fl.lgamma(n + 1) + terms
