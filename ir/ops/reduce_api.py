"""Public functions over the reductions: those with several signatures, and those that return several tensors."""

from __future__ import annotations

from typing import Any

from ..family import ops, wrap_dim
from ..op import public, write_out
from . import returns
from .reduce import amax


def _extreme(name: str, whole: str, along: str, pairwise: str, result: Any) -> None:
    @public(f"torch.{name}", f"Tensor.{name}")
    def extreme(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None) -> Any:  # noqa: A002
        """Over all elements; along ``dim``, with indices; or elementwise with another tensor."""
        if not hasattr(input, "dtype"):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        if dim is not None and hasattr(dim, "dtype"):
            other = dim
        if other is not None:
            found = getattr(ops, pairwise)(input, other)
            return found if out is None else write_out(amax, found, out)
        if dim is None:
            found = getattr(ops, whole)(input)
            return found if out is None else write_out(amax, found, out)
        found = result(*getattr(ops, along)(input, dim, keepdim))
        return found if out is None else result(*write_out(amax, tuple(found), out))
    extreme.__name__ = name


_extreme("max", "amax", "max_dim", "maximum", returns.max)
_extreme("min", "amin", "min_dim", "minimum", returns.min)


@public("torch.aminmax", "Tensor.aminmax")
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:  # noqa: A002
    """Smallest and largest element."""
    return returns.aminmax(*ops.aminmax(input, dim=dim, keepdim=keepdim))


def _correction(unbiased: Any, correction: Any) -> Any:
    if correction is not None:
        return correction
    return 1 if unbiased is None or unbiased else 0


def _arguments(dim: Any, unbiased: Any, keepdim: bool) -> tuple[Any, Any]:
    """PyTorch's older form ``var(x, unbiased)`` told from ``var(x, dim)``."""
    return (None, dim) if isinstance(dim, bool) else (dim, unbiased)


def _spread(name: str) -> None:
    @public(f"torch.{name}", f"Tensor.{name}")
    def spread(input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None,  # noqa: A002
               out: Any = None) -> Any:
        """The variance or its root, with Bessel's correction unless told otherwise."""
        dim, unbiased = _arguments(dim, unbiased, keepdim)
        found = getattr(ops, name)(input, dim, keepdim, correction=_correction(unbiased, correction))
        return found if out is None else write_out(amax, found, out)
    spread.__name__ = name

    @public(f"torch.{name}_mean")
    def spread_and_mean(input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,  # noqa: A002
                        correction: Any = None) -> tuple:
        """The variance or its root, and the mean."""
        dim, unbiased = _arguments(dim, unbiased, keepdim)
        return (getattr(ops, name)(input, dim, keepdim, correction=_correction(unbiased, correction)),
                ops.mean(input, dim, keepdim))
    spread_and_mean.__name__ = f"{name}_mean"


_spread("var")
_spread("std")


@public("torch.norm", "Tensor.norm")
def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None, out: Any = None) -> Any:  # noqa: A002
    """The vector norm of order ``p`` (``"fro"``: 2) over ``dim``."""
    if isinstance(p, str) and p != "fro":
        found = ops.linalg_matrix_norm(input, p, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    else:
        found = ops.vector_norm(input, 2.0 if p == "fro" or p is None else float(p), dim, keepdim, dtype=dtype)
    return found if out is None else write_out(amax, found, out)


@public("torch.dist", "Tensor.dist")
def dist(input: Any, other: Any, p: float = 2) -> Any:  # noqa: A002
    """The norm of ``input - other``."""
    return ops.vector_norm(input - other, float(p))


@public("torch.renorm", "Tensor.renorm")
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:  # noqa: A002
    """``input`` with the slices along ``dim`` scaled down to norm ``maxnorm``."""
    if isinstance(p, complex) or p <= 0:
        raise RuntimeError(f"renorm: {'p must be real-valued' if isinstance(p, complex) else 'non-positive-norm not supported'}")
    if isinstance(maxnorm, complex) or maxnorm < 0:
        raise RuntimeError("renorm: maxnorm must be real-valued" if isinstance(maxnorm, complex) else
                           f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    wrap_dim(dim, input.ndim)
    dims = tuple(d for d in range(input.ndim) if d != dim % input.ndim)
    size = ops.vector_norm(input, float(p), dims, True)
    return input * ops.where(ops.gt(size, maxnorm), maxnorm / (size + 1e-7), 1.0)


@public("Tensor.renorm_")
def renorm_(self: Any, p: float, dim: int, maxnorm: float) -> Any:
    """In-place :func:`renorm`."""
    return ops.copy_(self, renorm(self, p, dim, maxnorm))


@public("torch.is_nonzero", "Tensor.is_nonzero")
def is_nonzero(input: Any) -> bool:  # noqa: A002
    """Whether a tensor of one element is not zero."""
    return bool(input)


