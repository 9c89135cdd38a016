"""The LKJ distribution of correlation matrices."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl

from . import constraints
from .beta import Beta
from .distribution import Distribution
from .utils import broadcast_all


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices of ``dim`` rows, uniform over these for ``concentration`` 1."""

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        self.concentration, = broadcast_all(concentration)
        rows = fl.arange(dim - 1, dtype=self.concentration.dtype, device=self.concentration.device)
        rows = fl.cat([rows.new_zeros((1,)), rows])
        self._beta = Beta(rows + 0.5, (self.concentration + 0.5 * (dim - 2)).unsqueeze(-1) - 0.5 * rows)
        super().__init__(self.concentration.shape, (dim, dim), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = LKJCholesky(self.dim, self.concentration.expand(tuple(batch_shape)), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Any:
        """By the onion method (Lewandowski, Kurowicka and Joe, 2009): row by row a radius and a direction."""
        radius = self._beta.sample(sample_shape).unsqueeze(-1)
        drawn = fl.randn(tuple(self._extended_shape(sample_shape)), dtype=radius.dtype, device=radius.device).tril(-1)
        norm = fl.linalg.vector_norm(drawn, dim=-1, keepdim=True)
        direction = fl.where(norm > 0, drawn / norm, 0.0)
        rows = fl.sqrt(radius) * direction
        diagonal = fl.clamp(1 - (rows ** 2).sum(-1), min=fl.finfo(rows.dtype).tiny).sqrt()
        return rows + fl.diag_embed(diagonal)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = fl.arange(2, self.dim + 1, device=self.concentration.device)
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - order
        n = self.dim - 1
        alpha = self.concentration + 0.5 * n
        normalizer = 0.5 * n * math.log(math.pi) + fl.mvlgamma(alpha - 0.5, n) - fl.lgamma(alpha) * n
        return (order * diagonal.log()).sum(-1) - normalizer
