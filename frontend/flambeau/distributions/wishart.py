"""The Wishart distribution."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import flambeau as fl

from . import constraints
from .chi2 import Chi2
from .distribution import ExponentialFamily
from .multivariate_normal import precision_to_scale_tril
from .utils import lazy_property


class Wishart(ExponentialFamily):
    """Scatter matrices of ``df`` normal vectors: one of covariance matrix, precision matrix and ``scale_tril`` [..., n, n].

    Samples are made by Bartlett's decomposition; those that are singular are drawn again. (PyTorch draws again those that
    are not, so that its numbers after one seed are others.)
    """

    support = constraints.positive_definite
    has_rsample = True
    _mean_carrier_measure = 0  # type: ignore[assignment]

    @property
    def arg_constraints(self) -> Any:  # type: ignore[override]
        return {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
                "scale_tril": constraints.lower_cholesky, "df": constraints.greater_than(self.event_shape[-1] - 1)}

    def __init__(self, df: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
                 validate_args: bool | None = None) -> None:
        given = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise AssertionError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        (self._matrix, matrix), = given.items()
        if matrix.dim() < 2:
            raise ValueError("scale_tril must be at least two-dimensional, with optional leading batch dimensions")
        df = fl.tensor(df, dtype=matrix.dtype, device=matrix.device) if isinstance(df, numbers.Number) else df
        batch, n = fl.broadcast_shapes(matrix.shape[:-2], df.shape), matrix.shape[-1]
        self.df = df.expand(tuple(batch))
        if bool(self.df.le(n - 1).any()):
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {n - 1}.")
        if bool(self.df.lt(n).any()):
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.",
                          stacklevel=2)
        setattr(self, self._matrix, matrix.expand((*batch, -1, -1)))
        super().__init__(batch, matrix.shape[-2:], validate_args=validate_args)
        if self._matrix == "scale_tril":
            self._factor = matrix
        else:
            self._factor = fl.linalg.cholesky(matrix) if self._matrix == "covariance_matrix" else precision_to_scale_tril(matrix)
        self._chi2 = Chi2(self.df.unsqueeze(-1) - fl.arange(n, dtype=matrix.dtype, device=matrix.device))

    def _given(self) -> tuple[str, ...]:
        return "df", self._matrix

    @lazy_property
    def scale_tril(self) -> Any:
        return self._factor.expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def covariance_matrix(self) -> Any:
        return (self._factor @ self._factor.mT).expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def precision_matrix(self) -> Any:
        return fl.cholesky_inverse(self._factor).expand((*self._batch_shape, *self._event_shape))

    @property
    def mean(self) -> Any:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def mode(self) -> Any:
        factor = self.df - self._event_shape[-1] - 1
        return fl.where(factor <= 0, fl.nan, factor)[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Any:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        return self.df[..., None, None] * (v.pow(2) + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def _drawn(self, sample_shape: Any) -> Any:
        """By a triangular matrix of chi variates on the diagonal and normal ones below."""
        n = self._event_shape[-1]
        diagonal = self._chi2.rsample(sample_shape).sqrt()
        diagonal = diagonal.clamp(min=fl.finfo(diagonal.dtype).eps).diag_embed()
        shape = (*sample_shape, *self._batch_shape, n * (n - 1) // 2)
        below = fl.randn(shape, dtype=diagonal.dtype, device=diagonal.device)
        rows, columns = fl.tril_indices(n, n, -1)
        flat = diagonal.reshape((*diagonal.shape[:-2], n * n))
        noise = flat.scatter(-1, (rows * n + columns).expand(shape), below).reshape(tuple(diagonal.shape))
        root = self._factor @ noise
        return root @ root.mT

    def rsample(self, sample_shape: Any = (), max_try_correction: int | None = None) -> Any:
        """Samples; singular ones are replaced up to ``max_try_correction`` (10) times, with a warning."""
        found = self._drawn(sample_shape)
        for attempt in range(10 if max_try_correction is None else max_try_correction):
            regular = self.support.check(found.detach())
            if bool(regular.all()):
                break
            if not attempt:
                warnings.warn("Singular sample detected.", stacklevel=2)
            found = fl.where(regular[..., None, None], found, self._drawn(sample_shape))
        return found

    def _half_log_det(self) -> Any:
        return self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        n = self._event_shape[-1]
        trace = fl.cholesky_solve(value, self._factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        return (-self.df * (n * math.log(2.0) / 2 + self._half_log_det()) - fl.mvlgamma(self.df / 2, n)
                + (self.df - n - 1) / 2 * fl.linalg.slogdet(value)[1] - trace / 2)

    def entropy(self) -> Any:
        n = self._event_shape[-1]
        half = self.df / 2
        digammas = fl.digamma(half.unsqueeze(-1) - fl.arange(n, dtype=half.dtype, device=half.device) / 2).sum(-1)
        return ((n + 1) * (n * math.log(2.0) / 2 + self._half_log_det()) + fl.mvlgamma(half, n)
                - (self.df - n - 1) / 2 * digammas + self.df * n / 2)

    @property
    def _natural_params(self) -> tuple[Any, Any]:
        return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        n = self._event_shape[-1]
        at = y + (n + 1) / 2
        return at * (-fl.linalg.slogdet(-2 * x)[1] + math.log(2.0) * n) + fl.mvlgamma(at, n)
