"""The usual parametrizations: orthogonal, of length and direction, of spectral norm 1 (PyTorch:
``torch.nn.utils.parametrizations``)."""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.ir.op import ops
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor

from .. import functional as F
from ..module import Module
from . import parametrize
from .spectral_norm import as_matrix, default_dim
from .weight_norm import norm_except_dim, normed


def _tensor_of(module: Module, name: str) -> Any:
    found = getattr(module, name, None)
    if not isinstance(found, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return found


# ---- orthogonal -----------------------------------------------------------------------------------------------------


class _Orthogonal(Module):
    """A matrix with orthonormal columns (or rows, if those are fewer), from any matrix of the same shape.

    ``base`` is there with "trivialization": the map then starts from it, which lets any orthogonal matrix be assigned.
    """

    base: Any

    def __init__(self, weight: Any, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Any) -> Any:
        wide = x.shape[-2] < x.shape[-1]
        x = x.mT if wide else x
        q = _reflections(x) if self.orthogonal_map == "householder" else _of_skew(x, self.orthogonal_map)
        if hasattr(self, "base"):
            q = self.base @ q
        return q.mT if wide else q

    def right_inverse(self, q: Any) -> Any:
        """What :meth:`forward` makes ``q`` (or the nearest it can) of."""
        if q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {q.shape}.")
        with GradMode(False):
            wide = q.shape[-2] < q.shape[-1]
            tall = q.mT if wide else q
            if hasattr(self, "base"):
                self.base = _square_orthogonal(tall)
                start = ops.zeros_like(q)
                start.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
                return start
            if self.orthogonal_map != "householder":
                raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley parametrizations "
                                          "when use_trivialization=False.")
            a, tau = flambeau.geqrf(tall)
            signs = a.diagonal(dim1=-2, dim2=-1).sign() * ops.where(tau == 0, -1.0, 1.0).to(a.dtype)
            a.diagonal(dim1=-2, dim2=-1).copy_(signs)
            return a.mT if wide else a


def _of_skew(x: Any, kind: str) -> Any:
    """An orthogonal matrix [..., n, k] from the skew part of ``x`` [..., n, k], by the exponential or Cayley's map."""
    n, k = x.shape[-2], x.shape[-1]
    x = x.tril()
    if n != k:
        x = ops.cat([x, x.new_zeros((*x.shape[:-1], n - k))], -1)
    a = x - x.mH
    if kind == "matrix_exp":
        q = flambeau.matrix_exp(a)
    else:
        eye = flambeau.eye(n, dtype=a.dtype, device=a.device)
        q = flambeau.linalg.solve(eye - a * 0.5, eye + a * 0.5)
    return q if n == k else q[..., :k]


def _reflections(x: Any) -> Any:
    """The product of the Householder reflections below the diagonal of ``x``; the diagonal is of signs."""
    a = x.tril(diagonal=-1)
    q = flambeau.linalg.householder_product(a, 2.0 / (1.0 + (a * a).sum(dim=-2)))
    return q * x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)


def _square_orthogonal(q: Any) -> Any:
    """A square orthogonal matrix that starts with the columns of ``q`` [..., n, k], as far as those are orthonormal."""
    n, k = q.shape[-2], q.shape[-1]
    if n == k and _is_orthogonal(q):
        return q.clone()
    if n != k:
        q = ops.cat([q, flambeau.randn((*q.shape[:-2], n, n - k), dtype=q.dtype, device=q.device)], -1)
    x, tau = flambeau.geqrf(q)
    return flambeau.linalg.householder_product(x, tau) * x.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def _is_orthogonal(q: Any) -> bool:
    eye = flambeau.eye(q.shape[-1], dtype=q.dtype, device=q.device)
    return bool(flambeau.allclose(q.mH @ q, eye, atol=10.0 * q.shape[-2] * flambeau.finfo(q.dtype).eps))


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *,
               use_trivialization: bool = True) -> Module:
    """Keep a matrix (or batch of matrices) orthogonal. ``orthogonal_map``: ``"matrix_exp"``, ``"cayley"`` or ``"householder"``
    (None: the first for square and complex matrices, the last for others)."""
    weight = _tensor_of(module, name)
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}')
    made = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return parametrize.register_parametrization(module, name, made, unsafe=True)


# ---- length and direction -------------------------------------------------------------------------------------------


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        return normed(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        """Length and direction."""
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a parameter into length (``original0``) and direction (``original1``) along ``dim`` (None: one length)."""
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state_dict: Any, prefix: str, *_: Any) -> None:
        """The names of the hook ``torch.nn.utils.weight_norm`` in older checkpoints."""
        old = [f"{prefix}{name}_{end}" for end in "gv"]
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(rename)
    return module


# ---- spectral norm --------------------------------------------------------------------------------------------------


class _SpectralNorm(Module):
    """Division by the largest singular value, whose vectors ``_u`` and ``_v`` power iteration approaches in training."""

    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        n = weight.ndim
        if not -n <= dim < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{n}, {n - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim % n, eps
        if n > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight, self.dim)
            u, v = (F.normalize(matrix.new_empty((size,)).normal_(0, 1), dim=0, eps=eps) for size in matrix.shape)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)
            self._power_method(matrix, 15)

    def _power_method(self, matrix: Any, iterations: int) -> None:
        with GradMode(False):
            for _ in range(iterations):
                self._u.copy_(F.normalize(ops.mv(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(F.normalize(ops.mv(matrix.mH, self._u), dim=0, eps=self.eps))

    def forward(self, weight: Any) -> Any:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # a later call changes them, and this one's backward needs them
        return weight / ops.vdot(u, ops.mv(matrix, v))

    def right_inverse(self, value: Any) -> Any:
        """``value``: of what has the norm 1, division changes nothing."""
        return value


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Divide a parameter by its largest singular value, as a matrix of rows along ``dim`` (None: the outputs)."""
    weight = _tensor_of(module, name)
    made = _SpectralNorm(weight, n_power_iterations, default_dim(module) if dim is None else dim, eps)
    return parametrize.register_parametrization(module, name, made)


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
