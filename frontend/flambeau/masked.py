"""Reductions and normalisations that leave masked-out elements aside (PyTorch: ``torch.masked``).

``mask`` (bool, of a shape that broadcasts to the input's) is True where an element counts; None: all count. Each
function puts in place of the others what changes nothing in its result, and calls the op of the same name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.family import wrap_dims
from flambeau.ir.op import PUBLIC, ops, public

_vector_norm = PUBLIC["linalg"]["vector_norm"]


def _mask_of(input: Any, mask: Any) -> Any:  # noqa: A002
    """``mask`` as bool of the input's shape. Raises ``IndexError`` where it has more dimensions."""
    if mask.ndim > input.ndim:
        raise IndexError("_input_mask expected broadcastable mask (got mask dimensionality higher than of the input)")
    mask = mask if mask.dtype is _dtype.bool_ else ops.cast(mask, _dtype.bool_)
    return mask if tuple(mask.shape) == tuple(input.shape) else ops.expand(mask, tuple(input.shape))


def _filled(input: Any, mask: Any, value: Any) -> Any:  # noqa: A002
    return input if mask is None else ops.where(_mask_of(input, mask), input, ops.full(
        (), value, dtype=input.dtype, device=input.device))


def _bound(input: Any, name: str, high: bool) -> Any:  # noqa: A002
    """The largest or smallest number of the input's dtype."""
    dtype = input.dtype
    if dtype.is_floating_point:
        return math.inf if high else -math.inf
    if dtype.is_complex and name == "logsumexp":
        return complex(-math.inf, 0)
    if dtype.is_complex or dtype is _dtype.bool_:
        raise NotImplementedError(f"identity of {name} on {dtype} input")
    info = np.iinfo(dtype.np)
    return int(info.max if high else info.min)


def _dims(input: Any, dim: Any) -> tuple[int, ...]:  # noqa: A002
    return wrap_dims(dim, input.ndim)


def _summed_dtype(input: Any, dtype: Any) -> Any:  # noqa: A002
    return dtype or (_dtype.int64 if input.dtype.is_integral else input.dtype)


def _cast(x: Any, dtype: Any) -> Any:
    return x if dtype is None or x.dtype is dtype else ops.cast(x, dtype)


# ---- reductions -----------------------------------------------------------------------------------------------------


@public("masked.sum")
def sum(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A001, A002
    """The sum of the elements that count; 0 where none does."""
    return ops.sum(_filled(input, mask, 0), _dims(input, dim), bool(keepdim), dtype=_summed_dtype(input, dtype))


@public("masked.prod")
def prod(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
    """The product of the elements that count; 1 where none does."""
    result = _cast(_filled(input, mask, 1), _summed_dtype(input, dtype))
    for d in reversed(_dims(input, dim)):
        result = ops.prod(result, d, bool(keepdim))
    return result


def _extreme(name: str, high: bool) -> Any:
    def reduce(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
        filled = input if mask is None else _filled(input, mask, _bound(input, name, not high))
        return _cast(getattr(ops, name)(filled, _dims(input, dim), bool(keepdim)), dtype or input.dtype)

    def position(input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None,  # noqa: A002
                 mask: Any = None) -> Any:
        filled = input if mask is None else _filled(input, mask, _bound(input, f"arg{name[1:]}", not high))
        return _cast(getattr(ops, f"arg{name[1:]}")(filled, dim, bool(keepdim)), dtype or input.dtype)

    what = "largest" if high else "smallest"
    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"The {what} of the elements that count; without any, the dtype's {'least' if high else 'greatest'}."
    position.__name__ = position.__qualname__ = f"arg{name[1:]}"
    position.__doc__ = f"Where the {what} of the elements that count is, in the input's dtype unless another is asked for."
    return public(f"masked.{name}")(reduce), public(f"masked.arg{name[1:]}")(position)


amax, argmax = _extreme("amax", True)
amin, argmin = _extreme("amin", False)


def _counted(input: Any, dim: Any, keepdim: bool, mask: Any) -> Any:  # noqa: A002
    """How many elements count."""
    kept = ops.full(tuple(input.shape), True, dtype=_dtype.bool_, device=input.device) if mask is None \
        else _mask_of(input, mask)
    return ops.sum(kept, _dims(input, dim), keepdim)


@public("masked.mean")
def mean(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
    """The mean of the elements that count; NaN where none does."""
    kind = dtype or input.dtype
    if kind.is_integral:
        raise ValueError(f"mean(): Could not infer output dtype. {'Input' if dtype is None else 'Optional'} dtype must be "
                         f"either a floating point or complex dtype. Got: {kind}")
    return sum(input, dim, keepdim=keepdim, dtype=kind, mask=mask) / _counted(input, dim, bool(keepdim), mask)


@public("masked.median")
def median(input: Any, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
    """The lower median of the elements that count along ``dim``; NaN where none does."""
    dtype, exact = dtype or input.dtype, not input.dtype.is_floating_point
    values = ops.cast(input, _dtype.float32) if exact else input
    found = ops.nanmedian(_filled(values, mask, math.nan), _dims(input, dim)[0] if input.ndim else 0, keepdim)[0]
    if not exact:
        return found
    if bool(ops.any(ops.isnan(found))):
        raise ValueError("masked median expects no fully masked out rows if dtype is not floating point")
    return ops.cast(found, dtype)


@public("masked.logsumexp")
def logsumexp(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
    """The logarithm of the sum of the exponentials of the elements that count."""
    filled = input if mask is None else _filled(input, mask, _bound(input, "logsumexp", False))
    return _cast(ops.logsumexp(filled, _dims(input, dim), keepdim), dtype or input.dtype)


@public("masked.logaddexp")
def logaddexp(input: Any, other: Any, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None) -> Any:  # noqa: A002
    """``log(exp(input) + exp(other))``, each of them only where its own mask says so."""
    one, two = (x if m is None else _filled(x, m, _bound(x, "logaddexp", False))
                for x, m in ((input, input_mask), (other, other_mask)))
    return _cast(ops.logaddexp(one, two), dtype or input.dtype)


@public("masked.norm")
def norm(input: Any, ord: float | None = 2.0, dim: Any = None, *, keepdim: bool = False, dtype: Any = None,  # noqa: A002
         mask: Any = None) -> Any:
    """The ``ord``-norm of the elements that count."""
    filled = _filled(input, mask, math.inf if ord == -math.inf else 0)
    return _vector_norm(filled, ord, _dims(input, dim), bool(keepdim), dtype=dtype or input.dtype)


def _spread(input: Any, dim: Any, unbiased: bool | None, correction: Any, keepdim: bool, dtype: Any, mask: Any) -> Any:  # noqa: A002
    if unbiased is not None and correction is not None:
        raise AssertionError("Only one of unbiased and correction may be given")
    taken = float(correction) if correction is not None else 1.0 if unbiased is None or unbiased else 0.0
    kind = dtype or (_dtype.float32 if input.dtype.is_integral else input.dtype)
    count = _counted(input, dim, True, mask)
    away = input - sum(input, dim, keepdim=True, dtype=kind, mask=mask) / count
    square = away * (ops.conj(away) if away.dtype.is_complex else away)
    total = sum(square, dim, keepdim=keepdim, dtype=kind if not kind.is_integral else _dtype.float32, mask=mask)
    count = ops.reshape(count, tuple(total.shape))
    if taken:
        count = ops.clamp(ops.cast(count, total.dtype.to_real()) - taken, 0)
    return _cast(total / count, kind)


@public("masked.var")
def var(input: Any, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None, keepdim: bool = False,  # noqa: A002
        dtype: Any = None, mask: Any = None) -> Any:
    """The variance of the elements that count; NaN where none does."""
    return _spread(input, dim, unbiased, correction, bool(keepdim), dtype, mask)


@public("masked.std")
def std(input: Any, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None, keepdim: bool = False,  # noqa: A002
        dtype: Any = None, mask: Any = None) -> Any:
    """The standard deviation of the elements that count; NaN where none does."""
    return ops.sqrt(_spread(input, dim, unbiased, correction, bool(keepdim), dtype, mask))


# ---- normalisations -------------------------------------------------------------------------------------------------


def _along(name: str, fill: Any, text: str) -> Any:
    def normalise(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
        value = fill if not isinstance(fill, bool) or mask is None else _bound(input, name, fill)
        filled = _filled(input, mask, value)
        at, kind = _dims(input, dim)[0] if input.ndim else 0, dtype or input.dtype
        if name == "softmin":
            return ops.softmax(-filled, at, dtype=kind)
        return _cast(getattr(ops, name)(filled, at, dtype=kind), kind)

    normalise.__name__ = normalise.__qualname__ = name
    normalise.__doc__ = text
    return public(f"masked.{name}")(normalise)


softmax = _along("softmax", False, "Softmax over the elements that count; 0 for the others, NaN where none counts.")
log_softmax = _along("log_softmax", False, "The logarithm of softmax over the elements that count.")
softmin = _along("softmin", True, "Softmax of the negated elements that count.")
cumsum = _along("cumsum", 0, "The running sum of the elements that count.")
cumprod = _along("cumprod", 1, "The running product of the elements that count.")


@public("masked.normalize")
def normalize(input: Any, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None) -> Any:  # noqa: A002
    """The elements that count over their ``ord``-norm along ``dim`` (at least ``eps``); 0 for the others."""
    size = norm(input, ord, dim, keepdim=True, dtype=dtype or input.dtype, mask=mask)
    return _filled(input, mask, 0) / ops.maximum(size, ops.full((), eps, dtype=size.dtype, device=size.device))


__all__ = ["amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean", "median",
           "norm", "normalize", "prod", "softmax", "softmin", "std", "sum", "var"]
