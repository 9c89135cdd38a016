"""Quantiles, histograms and numerical gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import ops, primitive, wrap_dim
from ..meta import TensorMeta
from ..op import get_op, public
from ..samples import S, T
from . import returns

# ---- quantiles ------------------------------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _check_quantile(name: str, x: Any, q: Any, interpolation: str) -> Any:
    """``q`` as a tensor. Raises PyTorch's errors."""
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                           f"{interpolation}")
    if not hasattr(q, "dtype"):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        return ops.full((), float(q), dtype=x.dtype, device=x.device)
    if q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if q.dtype is not x.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    if q.device != x.device:
        raise RuntimeError(f"{name}() q tensor must be on the same device as the input tensor")
    return q


def _ranks(ranked: Any, q: Any, ignore_nan: bool) -> Any:
    """The place of each quantile in each sorted row, as a real number: [..., rows, quantiles]."""
    missing = ops.isnan(ranked)
    last = ranked.shape[-1] - 1
    if ignore_nan:
        present = ops.sum(ops.logical_not(missing), (-1,), True)
        return ops.clamp(ops.reshape(q, (-1,)) * ops.cast(present - 1, ranked.dtype), 0)
    places = ops.reshape(q, (-1,)) * last
    return ops.where(ops.any(missing, -1, True), float(last), places)  # NaN, sorted last, is the answer


def _quantile(name: str, x: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool) -> Any:
    q = _check_quantile(name, x, q, interpolation)
    at = None if dim is None else wrap_dim(dim, x.ndim)
    if not (x.numel() if at is None or not x.ndim else x.shape[at]):
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    rows = ops.reshape(x, (1, -1)) if at is None or not x.ndim else ops.unsqueeze(ops.transpose(x, at, -1), -2)
    ranked = ops.squeeze(ops.sort(rows, -1)[0], (-2,))
    places = _ranks(ranked, q, ignore_nan)
    if interpolation in ("lower", "higher", "nearest"):
        places = {"lower": ops.floor, "higher": ops.ceil, "nearest": ops.round}[interpolation](places)
    low = ops.floor(places)
    a, b = (ops.gather(ranked, -1, ops.cast(p, _dtype.int64)) for p in (low, ops.ceil(places)))
    found = a if interpolation in ("lower", "higher", "nearest") else ops.lerp(
        a, b, 0.5 if interpolation == "midpoint" else places - low)
    found = ops.movedim(found, -1, 0)  # [quantiles, *rest], the last of which stood at dim's place
    if at is None or not x.ndim:
        found = ops.reshape(found, (-1, *((1,) * x.ndim if keepdim else ())))
    else:
        found = ops.transpose(ops.unsqueeze(found, -1), at + 1, -1)
        found = found if keepdim else ops.squeeze(found, (at + 1,))
    return found if q.ndim else ops.select(found, 0, 0)


def _quantile_function(name: str, text: str, ignore_nan: bool) -> None:
    def quantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear",  # noqa: A002
                 out: Any = None) -> Any:
        found = _quantile(name, input, q, dim, keepdim, interpolation, ignore_nan)
        return found if out is None else out.resize_(tuple(found.shape)).copy_(found)

    quantile.__name__ = quantile.__qualname__ = name
    quantile.__doc__ = text
    public(f"torch.{name}", f"Tensor.{name}")(quantile)


_quantile_function("quantile", "The ``q``-th quantiles along ``dim`` (None: of all elements), NaN where one is NaN.", False)
_quantile_function("nanquantile", "The ``q``-th quantiles of the elements that are not NaN, along ``dim`` (None: all).", True)

# ---- histograms -----------------------------------------------------------------------------------------------------


def _edges(x: Any, bins: Sequence[int], limits: Any) -> list[Any]:
    """Evenly spaced edges for each column of ``x`` [n, d]."""
    edges = []
    for d, n in enumerate(bins):
        column = x[:, d]
        if limits is not None:
            low, high = limits[2 * d], limits[2 * d + 1]
        else:
            low, high = (float(column.min()), float(column.max())) if len(column) else (0.0, 1.0)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise RuntimeError(f"torch.histogramdd: dimension {d}'s range [{low}, {high}] is not finite")
        if low > high:
            raise RuntimeError(f"torch.histogramdd: min should not exceed max, but got min {low} max {high} for dimension {d}")
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges.append(get_op("linspace").kernel(np, low, high, n + 1, _dtype.from_numpy(x.dtype), None))  # type: ignore[misc]
    return edges


def _counted(xp: Any, x: Any, edges: Any, weight: Any, density: bool) -> Any:
    """How much of ``weight`` (1 each) falls between the edges of each dimension; the last bins hold their right edge."""
    shape = tuple(len(e) - 1 for e in edges)
    inside = xp.ones(len(x), bool)
    flat = xp.zeros(len(x), "i8")
    for d, e in enumerate(edges):
        column = x[:, d]
        inside &= (column >= e[0]) & (column <= e[-1])
        place = xp.minimum(xp.searchsorted(e, column, "right") - 1, shape[d] - 1)
        flat = flat * shape[d] + place
    kept = None if weight is None else weight[inside]
    found = xp.bincount(flat[inside], kept, math.prod(shape)).astype(x.dtype).reshape(shape)
    if density:
        found = found / found.sum()
        for d, e in enumerate(edges):
            found = found / xp.diff(e).reshape([-1 if i == d else 1 for i in range(len(shape))])
    return found.astype(x.dtype, copy=False)


histogram_counts = primitive(
    "histogram_counts(Tensor self, Tensor[] edges, Tensor? weight=None, bool density=False) -> Tensor", "sort",
    kernel=lambda xp, x, edges, weight, density: _counted(xp, x, edges, weight, density), tags=("extern",), api=(),
    infer=lambda x, edges, weight, density: TensorMeta(tuple(e.shape[0] - 1 for e in edges), x.dtype, x.device),
    samples=lambda: [S(T((9, 1), grad=False), [T((4,), values=[-2, -1, 0, 2], grad=False)]),
                     S(T((9, 2), grad=False), [T((3,), values=[-2, 0, 2], grad=False), T((3,), values=[-1, 0, 1], grad=False)],
                       T((9,), 0.5, 2.0, grad=False), True)],
    doc="Points [n, d] counted in boxes between the edges of each dimension: [*(edges - 1)].")


histogram_edges = primitive(
    "histogram_edges(Tensor self, int[] bins, any range=None) -> Tensor", "sort", tags=("extern", "raises"), api=(),
    kernel=lambda xp, x, bins, limits: xp.asarray(np.concatenate(_edges(x, bins, limits))),
    infer=lambda x, bins, limits: TensorMeta((sum(bins) + len(bins),), x.dtype, x.device),
    samples=lambda: [S(T((9, 2), grad=False), (3, 2)), S(T((9, 1), grad=False), (3,), (-1.0, 1.0))],
    doc="Evenly spaced edges of histograms of points [n, d] over ``range``, or all of each column, one column's after another.")


def _binned(name: str, points: Any, bins: Any, limits: Any, weight: Any, density: bool) -> tuple[Any, list[Any]]:
    if not points.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" not implemented for {points.dtype.name!r}')
    d = points.shape[-1]
    given = [bins] * d if isinstance(bins, int) else list(bins)
    if len(given) != d:
        raise RuntimeError(f"torch.{name}(): expected {d} sequences of bin edges for a {d}-dimensional histogram but got "
                           f"{len(given)}")
    if limits is not None and len(limits) != 2 * d:
        raise RuntimeError(f"torch.{name}: for a {d}-dimensional histogram range should have {2 * d} elements, but got "
                           f"{len(limits)}")
    flat = ops.reshape(points, (math.prod(points.shape[:-1]), d))
    if weight is not None:
        if tuple(weight.shape) != tuple(points.shape[:-1]):
            raise RuntimeError(f"torch.{name}(): if weight tensor is provided it should have the same shape as the input "
                               f"tensor excluding its innermost dimension, but got weight with shape {list(weight.shape)}")
        weight = ops.reshape(weight, (-1,))
    edges = list(given) if hasattr(given[0], "dtype") else list(
        ops.split(ops.histogram_edges(flat, tuple(given), limits), [n + 1 for n in given]))
    return ops.histogram_counts(flat, edges, weight, density), edges


@public("torch.histogram", "Tensor.histogram")
def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False,  # noqa: A002
              out: Any = None) -> Any:
    """How many elements fall between ``bins`` (edges, or their number over ``range``): the counts, and the edges."""
    points = ops.reshape(input, (-1, 1))
    one = bins if isinstance(bins, int) else [bins]
    if weight is not None and tuple(weight.shape) != tuple(input.shape):
        raise RuntimeError(f"torch.histogramdd(): if weight tensor is provided it should have the same shape as the input "
                           f"tensor excluding its innermost dimension, but got input with shape {[*input.shape, 1]} and weight "
                           f"with shape {list(weight.shape)}")
    counts, edges = _binned("histogram", points, one, range, None if weight is None else ops.reshape(weight, (-1,)), density)
    found = returns.histogram(counts, edges[0])
    if out is None:
        return found
    return returns.histogram(*(o.resize_(tuple(f.shape)).copy_(f) for o, f in zip(out, found)))


@public("torch.histogramdd")
def histogramdd(input: Any, bins: Any, range: Any = None, weight: Any = None, density: bool = False) -> Any:  # noqa: A002
    """Points [..., d] counted in boxes: the counts [*bins], and the edges of each dimension."""
    if input.ndim < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions, but got "
                           f"{input.ndim}")
    counts, edges = _binned("histogramdd", input, bins, range, weight, density)
    return returns.histogramdd(counts, tuple(edges))


# ---- numerical gradients --------------------------------------------------------------------------------------------


def _slope_even(x: Any, dim: int, step: Any, edge_order: int) -> Any:
    """Central differences, and one-sided ones at the ends."""
    def part(start: Any, stop: Any) -> Any:
        return ops.slice(x, dim, start, stop)
    middle = (part(2, None) - part(None, -2)) / (2 * step)
    if edge_order == 1:
        first, last = (part(1, 2) - part(0, 1)) / step, (part(-1, None) - part(-2, -1)) / step
    else:
        first = (-3 * part(0, 1) + 4 * part(1, 2) - part(2, 3)) / (2 * step)
        last = (3 * part(-1, None) - 4 * part(-2, -1) + part(-3, -2)) / (2 * step)
    return ops.cat([first, middle, last], dim)


def _slope_uneven(x: Any, dim: int, at: Any, edge_order: int) -> Any:
    """Differences weighted by the distances to the neighbours, exact for parabolas."""
    def part(start: Any, stop: Any) -> Any:
        return ops.slice(x, dim, start, stop)
    gaps = ops.reshape(ops.slice(at, 0, 1, None) - ops.slice(at, 0, None, -1), (-1,) + (1,) * (x.ndim - 1 - dim))
    h, k = ops.slice(gaps, 0, None, -1), ops.slice(gaps, 0, 1, None)
    middle = (-k / (h * (h + k))) * part(None, -2) + ((k - h) / (h * k)) * part(1, -1) + (h / (k * (h + k))) * part(2, None)
    h, k = ops.slice(gaps, 0, 0, 1), ops.slice(gaps, 0, -1, None)
    if edge_order == 1:
        first, last = (part(1, 2) - part(0, 1)) / h, (part(-1, None) - part(-2, -1)) / k
    else:
        g = ops.slice(gaps, 0, 1, 2)
        first = (-(2 * h + g) / (h * (h + g))) * part(0, 1) + ((h + g) / (h * g)) * part(1, 2) - (h / (g * (h + g))) * part(2, 3)
        g = ops.slice(gaps, 0, -2, -1)
        last = (k / (g * (g + k))) * part(-3, -2) - ((k + g) / (g * k)) * part(-2, -1) + (
            (2 * k + g) / (k * (g + k))) * part(-1, None)
    return ops.cat([first, middle, last], dim)


@public("torch.gradient")
def gradient(input: Any, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> list:  # noqa: A002
    """Estimated derivatives along each of ``dim`` (all), from samples ``spacing`` apart or at given coordinates."""
    if edge_order not in (1, 2):
        raise RuntimeError(f"torch.gradient only supports edge_order=1 and edge_order=2, but got {edge_order}")
    listed = isinstance(spacing, (tuple, list))
    if dim is None:
        dims = list(range(len(spacing) if listed and len(spacing) < input.ndim else input.ndim))
    else:
        dims = [wrap_dim(d, input.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        raise RuntimeError("dim appears multiple times in the list of dims")
    steps: list[Any] = list(spacing) if listed else [1 if spacing is None else spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to "
                           f"{len(dims)}, but got {len(steps)}")
    found = []
    for d, step in zip(dims, steps):
        if input.shape[d] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
        uneven = bool(getattr(step, "ndim", 0))
        if uneven and len(step) != input.shape[d]:
            raise RuntimeError(f"torch.gradient expected the coordinates of dimension {d} to be as many as its size, "
                               f"{input.shape[d]}, but got {len(step)}")
        found.append((_slope_uneven if uneven else _slope_even)(input, d, step, edge_order))
    return found


