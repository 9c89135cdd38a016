"""The base of distributions (PyTorch: ``torch.distributions.Distribution``).

A distribution here is made again from its parameters where PyTorch copies it: :meth:`Distribution.expand` calls the class
with the expanded parameters that ``arg_constraints`` names (or, of ``probs`` and ``logits``, the one it was given).
"""

from __future__ import annotations

import warnings
from typing import Any

import flambeau as fl
from flambeau.ir.op import is_compiling
from flambeau.runtime.tensor import Size

from . import constraints
from .utils import lazy_property


class Distribution:
    """A distribution with ``batch_shape`` independent sets of parameters; one sample has ``event_shape``."""

    has_rsample = False
    has_enumerate_support = False
    _validate_args = __debug__
    arg_constraints: Any = {}
    support: Any

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether parameters and samples are checked where nothing else is said."""
        if value not in (True, False):
            raise ValueError("set_default_validate_args takes True or False")
        Distribution._validate_args = value

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args and not is_compiling():  # (compiled code does not look at values)
            for name, constraint in self.arg_constraints.items():
                if not constraints.is_dependent(constraint):
                    self._check_parameter(name, constraint)

    def _check_parameter(self, name: str, constraint: Any) -> None:
        if name not in self.__dict__ and isinstance(getattr(type(self), name, None), lazy_property):
            return
        value = getattr(self, name)
        inside = constraint.check(value)
        if not (inside if isinstance(inside, bool) else bool(inside.all())):
            raise ValueError(f"Expected parameter {name} ({type(value).__name__} of shape "
                             f"{tuple(getattr(value, 'shape', ()))}) of distribution {self!r} to satisfy the constraint "
                             f"{constraint!r}, but found invalid values:\n{value}")

    # ---- shapes

    @property
    def batch_shape(self) -> Size:
        """The shape of the sets of parameters."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one sample of one set."""
        return self._event_shape

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _given(self) -> tuple[str, ...]:
        """The parameters that the constructor was given."""
        chosen = getattr(self, "_param_name", None)
        return tuple(n for n in self.arg_constraints if chosen is None or n not in ("probs", "logits") or n == chosen)

    def _expanded(self, name: str, batch_shape: Size) -> Any:
        value = getattr(self, name)
        if not isinstance(value, fl.Tensor):
            return value
        events = value.ndim - max(value.ndim - self.arg_constraints[name].event_dim, 0)
        return value.expand((*batch_shape, *value.shape[value.ndim - events:]))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with parameters expanded to ``batch_shape``; no memory is taken for them."""
        batch_shape = Size(batch_shape)
        new = type(self)(**{n: self._expanded(n, batch_shape) for n in self._given()}, validate_args=False)
        new._validate_args = self._validate_args
        return new

    # ---- numbers; subclasses give those that exist

    @property
    def mean(self) -> Any:
        """The mean."""
        raise NotImplementedError(f"{type(self)} does not implement mean")

    @property
    def mode(self) -> Any:
        """The most probable value."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Any:
        """The variance."""
        raise NotImplementedError(f"{type(self)} does not implement variance")

    @property
    def stddev(self) -> Any:
        """The standard deviation."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Any:
        """``sample_shape`` samples of each set of parameters, without a gradient."""
        with fl.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Samples that can be differentiated with respect to the parameters (where ``has_rsample``)."""
        raise NotImplementedError(f"{type(self)} has no rsample: its samples cannot be differentiated; use sample()")

    def sample_n(self, n: int) -> Any:
        """``sample((n,))``."""
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.", FutureWarning, stacklevel=2)
        return self.sample(Size((n,)))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density, or of the probability, at ``value``."""
        raise NotImplementedError(f"{type(self)} does not implement log_prob")

    def cdf(self, value: Any) -> Any:
        """The probability of less or equal."""
        raise NotImplementedError(f"{type(self)} does not implement cdf")

    def icdf(self, value: Any) -> Any:
        """The inverse of :meth:`cdf`."""
        raise NotImplementedError(f"{type(self)} does not implement icdf")

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values of a discrete distribution along a new first dimension."""
        raise NotImplementedError(f"{type(self)} does not implement enumerate_support")

    def entropy(self) -> Any:
        """The entropy."""
        raise NotImplementedError(f"{type(self)} does not implement entropy")

    def perplexity(self) -> Any:
        """The exponential of the entropy."""
        return fl.exp(self.entropy())

    # ---- checks

    def _validate_sample(self, value: Any) -> None:
        """Raise ``ValueError`` for a value of a wrong kind or shape, or outside the support."""
        if not isinstance(value, fl.Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        events = len(self._event_shape)
        if tuple(value.shape[value.ndim - events:]) != tuple(self._event_shape):
            raise ValueError(f"The right-most size of value must match event_shape: {value.size()} vs {self._event_shape}.")
        expected = self._batch_shape + self._event_shape
        for i, j in zip(reversed(value.shape), reversed(expected)):
            if 1 not in (i, j) and i != j:
                raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {value.size()} vs {expected}.")
        if is_compiling():
            return
        try:
            support = self.support
        except (NotImplementedError, AttributeError):
            warnings.warn(f"{type(self)} does not define `support` to enable sample validation. Please initialize the "
                          "distribution with `validate_args=False` to turn off validation.", stacklevel=3)
            return
        if not bool(support.check(value).all()):
            raise ValueError(f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be within the "
                             f"support ({support!r}) of the distribution {self!r}, but found invalid values:\n{value}")

    def __repr__(self) -> str:
        shown = []
        for name in self.arg_constraints:
            value = self.__dict__.get(name)
            if isinstance(value, fl.Tensor):
                shown.append(f"{name}: {value if value.numel() == 1 else value.size()}")
            elif value is not None:
                shown.append(f"{name}: {value}")
        return f"{type(self).__name__}({', '.join(shown)})"


class ExponentialFamily(Distribution):
    """A density ``exp(<t(x), theta> - F(theta) + k(x))``: subclasses give ``_natural_params`` and ``_log_normalizer``."""

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        raise NotImplementedError(f"{type(self)} does not tell its natural parameters")

    def _log_normalizer(self, *natural_params: Any) -> Any:
        raise NotImplementedError(f"{type(self)} does not tell its log normalizer")

    @property
    def _mean_carrier_measure(self) -> float:
        raise NotImplementedError(f"{type(self)} does not tell the mean of its carrier measure")

    def entropy(self) -> Any:
        """By the gradient of the log normalizer (the Bregman divergence)."""
        found = -self._mean_carrier_measure
        natural = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*natural)
        gradients = fl.autograd.grad(normalizer.sum(), natural, create_graph=True)
        found = found + normalizer
        for p, g in zip(natural, gradients):
            found = found - (p * g).reshape((*self._batch_shape, -1)).sum(-1)
        return found
