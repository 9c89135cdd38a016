"""Views: results that share their input's storage. ``lower`` maps an index of the result to one of the input."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..family import ops, view, wrap_dim
from ..meta import TensorMeta, meta_of
from ..samples import S, T


def _expanded(x: Any, size: Any) -> tuple:
    lead = len(size) - x.ndim
    if lead < 0:
        raise RuntimeError(f"expand(tensor of shape {list(x.shape)}, size={list(size)}): the number of sizes provided "
                           f"({len(size)}) must be greater or equal to the number of dimensions in the tensor ({x.ndim})")
    shape = []
    for i, n in enumerate(size):
        have = x.shape[i - lead] if i >= lead else 1
        if isinstance(n, int) and n == -1:
            if i < lead:
                raise RuntimeError(f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing "
                                   f"dimension {i}")
            n = have
        if have != 1 and have != n:
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({have}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(size)}.  Tensor sizes: {list(x.shape)}")
        shape.append(n)
    return tuple(shape)


def _expand(xp: Any, x: Any, size: Any) -> Any:
    lead = len(size) - x.ndim
    shape = tuple(x.shape[i - lead] if n == -1 else n for i, n in enumerate(size))
    xp.broadcast_to(x, shape)  # checks
    strides = (0,) * lead + tuple(0 if n != have else s for n, have, s in zip(shape[lead:], x.shape, x.strides))
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


expand = view(
    "expand(Tensor self, int[] size) -> Tensor", kernel=_expand, api=(),
    infer=lambda x, size: TensorMeta(_expanded(x, size), x.dtype, x.device),
    vjp=lambda g, out, x, size: ops.sum_to_size(g, tuple(x.shape)),
    lower=lambda index, x, size: tuple(0 if x.shape[i] == 1 else index[len(index) - x.ndim + i] for i in range(x.ndim)),
    samples=lambda: [S(T((3, 1)), (3, 4)), S(T((1, 4)), (2, 3, 4)), S(T(()), (2, 2)), S(T((3, 1)), (-1, 5))])

unsqueeze = view(
    "unsqueeze(Tensor self, int dim) -> Tensor",
    kernel=lambda xp, x, dim: np.expand_dims(x, wrap_dim(dim, x.ndim + 1)) if xp is np else xp.expand_dims(x, dim),
    infer=lambda x, dim: meta_of(x).with_shape(_inserted(tuple(x.shape), wrap_dim(dim, x.ndim + 1))),
    vjp=lambda g, out, x, dim: ops.reshape(g, tuple(x.shape)),
    lower=lambda index, x, dim: _removed(index, wrap_dim(dim, x.ndim + 1)),
    samples=lambda: [S(T((3, 4)), 0), S(T((3, 4)), -1), S(T((3, 4)), 1), S(T(()), 0)])


def _inserted(shape: tuple, dim: int) -> tuple:
    return (*shape[:dim], 1, *shape[dim:])


def _removed(index: tuple, dim: int) -> tuple:
    return (*index[:dim], *index[dim + 1:])


t = view(
    "t(Tensor self) -> Tensor", kernel=lambda xp, x: x.T,
    infer=lambda x: meta_of(x).with_shape(tuple(reversed(x.shape))), vjp=lambda g, out, x: ops.t(g),
    lower=lambda index, x: tuple(reversed(index)), samples=lambda: [S(T((3, 4))), S(T((3,)))])
