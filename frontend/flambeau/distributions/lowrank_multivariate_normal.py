"""The normal distribution of vectors whose covariance is a diagonal and a matrix of low rank."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.runtime.tensor import Size

from . import constraints
from .distribution import Distribution
from .multivariate_normal import batch_mahalanobis, batch_mv
from .utils import lazy_property, standard_normal


class LowRankMultivariateNormal(Distribution):
    """Covariance ``cov_factor cov_factor^T + diag(cov_diag)``; [..., n], [..., n, rank], [..., n]."""

    arg_constraints = {"loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
                       "cov_diag": constraints.independent(constraints.positive, 1)}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        if cov_factor.dim() < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        n = loc.shape[-1:]
        if cov_factor.shape[-2:-1] != n:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {n[0]} x m")
        if cov_diag.shape[-1:] != n:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {n}")
        batch = fl.broadcast_shapes(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1])
        self.loc, self.cov_diag = loc.expand((*batch, *n)), cov_diag.expand((*batch, *n))
        self.cov_factor = cov_factor.expand((*batch, *cov_factor.shape[-2:]))
        super().__init__(batch, n, validate_args=validate_args)
        self._factor, self._diag = cov_factor, cov_diag
        # the Cholesky factor of I + W^T D^-1 W, by which a covariance of this form is inverted
        scaled = cov_factor.mT / cov_diag.unsqueeze(-2)
        rank = cov_factor.shape[-1]
        self._capacitance = fl.linalg.cholesky(fl.matmul(scaled, cov_factor) + fl.eye(rank, dtype=loc.dtype, device=loc.device))

    def _expanded(self, name: str, batch_shape: Size) -> Any:
        value = getattr(self, name)
        return value.expand((*batch_shape, *value.shape[len(self._batch_shape):]))

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @lazy_property
    def variance(self) -> Any:  # type: ignore[override]
        return (self._factor.pow(2).sum(-1) + self._diag).expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def covariance_matrix(self) -> Any:
        found = fl.matmul(self._factor, self._factor.mT) + fl.diag_embed(self._diag)
        return found.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def scale_tril(self) -> Any:
        return fl.linalg.cholesky(self.covariance_matrix)

    @lazy_property
    def precision_matrix(self) -> Any:
        scaled = self._factor.mT / self._diag.unsqueeze(-2)
        a = fl.linalg.solve_triangular(self._capacitance, scaled, upper=False)
        found = fl.diag_embed(self._diag.reciprocal()) - a.mT @ a
        return found.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        of_factor = standard_normal((*shape[:-1], self.cov_factor.shape[-1]), self.loc)
        of_diagonal = standard_normal(shape, self.loc)
        return self.loc + batch_mv(self._factor, of_factor) + self._diag.sqrt() * of_diagonal

    def _log_det(self) -> Any:
        return 2 * self._capacitance.diagonal(dim1=-2, dim2=-1).log().sum(-1) + self._diag.log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        away = value - self.loc
        projected = batch_mv(self._factor.mT / self._diag.unsqueeze(-2), away)
        distance = (away.pow(2) / self._diag).sum(-1) - batch_mahalanobis(self._capacitance, projected)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + self._log_det() + distance)

    def entropy(self) -> Any:
        found = 0.5 * (self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._log_det())
        return found if not len(self._batch_shape) else found.expand(tuple(self._batch_shape))
