"""The normal distribution of vectors."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl

from . import constraints
from .distribution import Distribution
from .utils import lazy_property, standard_normal


def batch_mv(matrix: Any, vector: Any) -> Any:
    """Matrices times vectors, batches broadcast."""
    return fl.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)


def batch_mahalanobis(factor: Any, x: Any) -> Any:
    """``x^T M^-1 x`` for ``M = factor factor^T``, both broadcast over batches. [..., n, n], [..., n] -> [...]."""
    shape = fl.broadcast_shapes(factor.shape[:-1], x.shape)
    solved = fl.linalg.solve_triangular(factor.expand((*shape, shape[-1])), x.expand(tuple(shape)).unsqueeze(-1), upper=False)
    return solved.squeeze(-1).pow(2).sum(-1)


def precision_to_scale_tril(precision: Any) -> Any:
    """The lower Cholesky factor of a precision matrix's inverse."""
    flipped = fl.linalg.cholesky(fl.flip(precision, (-2, -1)))
    inverse = fl.flip(flipped, (-2, -1)).mT
    eye = fl.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return fl.linalg.solve_triangular(inverse, eye.expand(tuple(precision.shape)), upper=False)


class MultivariateNormal(Distribution):
    """Mean ``loc`` [..., n], and one of covariance matrix, precision matrix and ``scale_tril`` [..., n, n]."""

    arg_constraints = {"loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
                       "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
                 validate_args: bool | None = None) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        given = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        (self._matrix, matrix), = given.items()
        if matrix.dim() < 2:
            raise ValueError(f"{self._matrix} must be at least two-dimensional, with optional leading batch dimensions")
        batch = fl.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        setattr(self, self._matrix, matrix.expand((*batch, -1, -1)))
        self.loc = loc.expand((*batch, -1))
        super().__init__(batch, self.loc.shape[-1:], validate_args=validate_args)
        if self._matrix == "scale_tril":
            self._factor = matrix
        elif self._matrix == "covariance_matrix":
            self._factor = fl.linalg.cholesky(matrix)
        else:
            self._factor = precision_to_scale_tril(matrix)

    def _given(self) -> tuple[str, ...]:
        return "loc", self._matrix

    @lazy_property
    def scale_tril(self) -> Any:
        return self._factor.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def covariance_matrix(self) -> Any:
        square = fl.matmul(self._factor, self._factor.mT)
        return square.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def precision_matrix(self) -> Any:
        inverse = fl.cholesky_inverse(self._factor)
        return inverse.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Any:
        return self._factor.pow(2).sum(-1).expand((*self._batch_shape, *self._event_shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.loc + batch_mv(self._factor, standard_normal(self._extended_shape(sample_shape), self.loc))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        distance = batch_mahalanobis(self._factor, value - self.loc)
        half_log_det = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + distance) - half_log_det

    def entropy(self) -> Any:
        half_log_det = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + half_log_det
        return found if not len(self._batch_shape) else found.expand(tuple(self._batch_shape))
