"""Resizing and sampling of images: products with small matrices where the grid is regular, gathers where it is not."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import ops
from ..op import public
from .norm import upcast
from .pool import adaptive_average

_DIMS = {"nearest": (3, 4, 5), "nearest-exact": (3, 4, 5), "area": (3, 4, 5), "linear": (3,), "bilinear": (4,), "bicubic": (4,),
         "trilinear": (5,)}


@public("nn.functional.interpolate")
@runs_in("whole", "float32@cuda")
def interpolate(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False) -> Any:
    """Resize the spatial dimensions to ``size`` or by ``scale_factor``. Shapes: [N, C, *in] -> [N, C, *out].

    Modes: nearest, nearest-exact, area, and linear, bilinear, trilinear, bicubic for 3-, 4-, 5- and 4-D input.
    """
    n = input.ndim - 2
    _check_mode(input, mode, align_corners, antialias)
    sizes, scales = _sizes(input, n, size, scale_factor)
    if recompute_scale_factor or scale_factor is None:
        scales = (None,) * n
    if mode == "area":
        return adaptive_average(n, input, sizes)
    if mode in ("nearest", "nearest-exact"):
        for i, (out, scale) in enumerate(zip(sizes, scales)):
            input = ops.index_select(input, 2 + i, _nearest(input, 2 + i, out, scale, mode == "nearest-exact"))
        return input
    if antialias:
        return antialiased(input, sizes, scales, mode, bool(align_corners))
    kind, input = input.dtype, upcast(input)  # noqa: A001
    for i, (out, scale) in enumerate(zip(sizes, scales)):
        axis = 2 + i
        if input.shape[axis] != out or scale not in (None, 1.0):
            weights = _cubic if mode == "bicubic" else _linear
            input = _along(input, axis, weights(input, input.shape[axis], out, scale, bool(align_corners)))
    return input if input.dtype is kind else ops.cast(input, kind)


@public("nn.functional.upsample")
def upsample(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Any:
    """The old name of ``interpolate``."""
    return interpolate(input, size, scale_factor, mode, align_corners)


@public("nn.functional.upsample_nearest")
def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` by the nearest positions, under its old name."""
    return interpolate(input, size, scale_factor)


@public("nn.functional.upsample_bilinear")
def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` bilinearly, corners aligned, under its old name."""
    return interpolate(input, size, scale_factor, "bilinear", True)


def _check_mode(x: Any, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _DIMS:
        raise NotImplementedError(f"Got unknown interpolation mode {mode!r}; there are {', '.join(_DIMS)}")
    if x.ndim not in _DIMS[mode]:
        raise NotImplementedError(f"Got {x.ndim}D input, but {mode} mode needs {' or '.join(f'{d}D' for d in _DIMS[mode])} input")
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | "
                         "trilinear")
    if antialias and (mode not in ("bilinear", "bicubic") or x.ndim != 4):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input")


def _sizes(x: Any, n: int, size: Any, scale_factor: Any) -> tuple[tuple, tuple]:
    if (size is None) == (scale_factor is None):
        raise ValueError("only one of size or scale_factor should be defined" if size is not None else
                         "either size or scale_factor should be defined")
    if size is not None:
        sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,) * n
        if len(sizes) != n:
            raise ValueError(f"Input and output must have the same number of spatial dimensions, but got input with spatial "
                             f"dimensions of {list(x.shape[2:])} and output size of {size}.")
        return sizes, (None,) * n
    scales = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
    if len(scales) != n:
        raise ValueError(f"Input and scale_factor must have the same number of spatial dimensions, but got input with spatial "
                         f"dimensions of {list(x.shape[2:])} and scale_factor of shape {scale_factor}.")
    return tuple(_scaled(s, f) for s, f in zip(x.shape[2:], scales)), scales


def _scaled(size: Any, factor: float) -> Any:
    """``floor(size * factor)``; a symbolic size stays one where the factor is a simple fraction, so that nothing is rounded."""
    exact = Fraction(factor) if hasattr(size, "__flambeau_symint__") else None
    if exact is not None and exact.denominator < 2**20 and exact.numerator < 2**20:
        return size * exact.numerator // exact.denominator
    return int(math.floor(size * factor))


def _ratio(x: Any, a: Any, b: Any) -> Any:
    """``a / b`` of sizes: a number, or where one is symbolic a float64 tensor without dimensions, on the device of ``x``."""
    if not any(hasattr(v, "__flambeau_symint__") for v in (a, b)):
        return a / b
    return ops.cast(ops.full((), a, device=x.device), _dtype.float64) / b


def _arange(x: Any, n: Any) -> Any:
    return ops.cast(ops.arange(0, n, 1, device=x.device), x.dtype)


def _int(values: Any, n: Any) -> Any:
    return ops.clamp(ops.cast(ops.floor(values), _dtype.int64), 0, n - 1)


def _nearest(x: Any, axis: int, out: Any, scale: Any, exact: bool) -> Any:
    """The input position of each output position."""
    n = x.shape[axis]
    step = 1.0 / scale if scale else _ratio(x, n, out)
    return _int((_arange(x, out) + (0.5 if exact else 0.0)) * step, n)


def _positions(x: Any, n: Any, out: Any, scale: Any, align: bool) -> Any:
    """Where each output position lies in the input, as a real number."""
    if align:
        return _arange(x, out) * (_ratio(x, n - 1, out - 1) if out > 1 else 0.0)
    return (_arange(x, out) + 0.5) * (1.0 / scale if scale else _ratio(x, n, out)) - 0.5


def _linear(x: Any, n: Any, out: Any, scale: Any, align: bool) -> Any:
    """The matrix [n, out] of linear interpolation: a tent around each position."""
    at = ops.clamp(_positions(x, n, out, scale, align), 0, n - 1)
    return ops.clamp(1 - abs(ops.unsqueeze(_arange(x, n), 1) - at), 0, None)


def _cubic(x: Any, n: Any, out: Any, scale: Any, align: bool) -> Any:
    """The matrix [n, out] of cubic interpolation (a = -0.75), positions outside taken at the edge."""
    at = _positions(x, n, out, scale, align)
    low = ops.floor(at)
    rows = ops.unsqueeze(_arange(x, n), 1)
    total: Any = 0
    for k in (-1, 0, 1, 2):
        weight = _cubic_weight(at - (low + k))
        total = total + ops.where(rows == ops.clamp(low + k, 0, n - 1), weight, 0)
    return total


def antialiased(x: Any, sizes: Any, scales: Any, mode: str, align: bool) -> Any:
    """Images resized with a filter that widens as they shrink (mode bilinear or bicubic)."""
    kind, x = x.dtype, upcast(x)
    for i, (out, scale) in enumerate(zip(sizes, scales)):
        x = _along(x, 2 + i, _smooth(x, 2 + i, out, scale, align, mode == "bicubic"))
    return x if x.dtype is kind else ops.cast(x, kind)


def _smooth(x: Any, axis: int, out: Any, scale: Any, align: bool, cubic: bool) -> Any:
    """The matrix [n, out] of a filter as wide as one output element (at least as one of the input), rows adding up to 1."""
    n = x.shape[axis]
    step = ((n - 1) / (out - 1) if out > 1 else 0.0) if align else (1.0 / scale if scale else n / out)
    width = max(step, 1.0)
    reach = (2.0 if cubic else 1.0) * width
    centre = (_arange(x, out) + 0.5) * step
    rows = ops.unsqueeze(_arange(x, n), 1)
    first, last = (ops.floor(ops.clamp(centre + side * reach + 0.5, 0, n)) for side in (-1, 1))
    t = (rows - centre + 0.5) / width
    weight = _cubic_weight(t, -0.5) if cubic else ops.clamp(1 - abs(t), 0, None)
    weight = ops.where((rows >= first) & (rows < last), weight, 0)
    return weight / ops.sum(weight, (0,), True)


def _cubic_weight(t: Any, a: float = -0.75) -> Any:
    t = abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * a - 4 * a
    return ops.where(t <= 1, near, ops.where(t < 2, far, 0))


def _along(x: Any, axis: int, weights: Any) -> Any:
    """``x`` times the matrix ``weights`` [n, out] along ``axis``."""
    last = x.ndim - 1
    if axis == last:
        return ops.matmul(x, weights)
    return ops.transpose(ops.matmul(ops.transpose(x, axis, last), weights), axis, last)


# ---- sampling at given places -------------------------------------------------------------------------------------


@public("nn.functional.affine_grid")
def affine_grid(theta: Any, size: Any, align_corners: bool | None = None) -> Any:
    """Places to sample for affine maps. Shapes: theta [N, 2, 3] (or [N, 3, 4]), size [N, C, *out] -> [N, *out, 2 (or 3)]."""
    sizes = tuple(size)[2:]
    n = len(sizes)
    lines = []
    for s in sizes:
        i = _arange(theta, s)
        lines.append((i * (2.0 / (s - 1)) - 1 if s > 1 else i * 0) if align_corners else (i * 2 + 1) / s - 1)
    axes = [ops.expand(ops.reshape(line, (*(1,) * d, sizes[d], *(1,) * (n - 1 - d))), sizes) for d, line in enumerate(lines)]
    base = ops.stack([*reversed(axes), ops.ones_like(axes[0])], -1)
    flat = ops.reshape(base, (1, math.prod(sizes), n + 1))
    return ops.reshape(ops.matmul(flat, ops.transpose(theta, 1, 2)), (theta.shape[0], *sizes, n))


@public("nn.functional.grid_sample")
@runs_in("promote@cuda", "float32@cpu")
def grid_sample(input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Any:
    """Sample at the places of ``grid`` (in [-1, 1], x first). Shapes: [N, C, *in], [N, *out, dims] -> [N, C, *out]."""
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError("nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: "
                         f"'{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
                         f"'{padding_mode}'")
    if mode != "bicubic" or input.dtype.itemsize > 2:
        return _sampled(input, grid, mode, padding_mode, bool(align_corners))
    return ops.cast(_sampled(upcast(input), upcast(grid), mode, padding_mode, bool(align_corners)), input.dtype)


def _sampled(input: Any, grid: Any, mode: str, padding_mode: str, align: bool) -> Any:  # noqa: A002
    n = input.ndim - 2
    if grid.ndim != input.ndim or grid.shape[-1] != n:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {n} in last dimension, but got grid with sizes "
                           f"{list(grid.shape)}")
    sizes = input.shape[2:]
    places = [_pixels(ops.select(grid, -1, n - 1 - d), sizes[d], align) for d in range(n)]
    if mode == "bicubic":
        if n != 2:
            raise RuntimeError(f"grid_sampler(): bicubic interpolation only supports 4D input, but got input with sizes "
                               f"{list(input.shape)}")
        return _bicubic(input, places, padding_mode, align)
    places = [_inside(p, size, padding_mode, align) for p, size in zip(places, sizes)]
    if mode == "nearest":
        return _gathered(input, [ops.round(p) for p in places], padding_mode)
    total: Any = 0
    low = [ops.floor(p) for p in places]
    for corner in range(2 ** n):
        ups = [(corner >> d) & 1 for d in range(n)]
        weight: Any = 1
        for p, base, up in zip(places, low, ups):
            weight = weight * ((p - base) if up else (base + 1 - p))
        total = total + _gathered(input, [base + up for base, up in zip(low, ups)], padding_mode) * ops.unsqueeze(weight, 1)
    return total


def _bicubic(x: Any, places: list[Any], padding_mode: str, align: bool) -> Any:
    """The 16 pixels around each place, weighted; each brought inside by itself."""
    sizes, low = x.shape[2:], [ops.floor(p) for p in places]
    total: Any = 0
    for i in (-1, 0, 1, 2):
        for j in (-1, 0, 1, 2):
            weight = _cubic_weight(places[0] - (low[0] + i)) * _cubic_weight(places[1] - (low[1] + j))
            at = [_inside(base + k, n, padding_mode, align) for base, k, n in zip(low, (i, j), sizes)]
            total = total + _gathered(x, at, padding_mode) * ops.unsqueeze(weight, 1)
    return total


def _pixels(at: Any, n: Any, align: bool) -> Any:
    """A coordinate in [-1, 1] as a position in pixels."""
    return (at + 1) * ((n - 1) / 2) if align else ((at + 1) * n - 1) / 2


def _inside(p: Any, n: Any, padding_mode: str, align: bool) -> Any:
    """A position brought inside as the padding mode says."""
    if padding_mode == "border":
        return ops.clamp(p, 0, n - 1)
    if padding_mode == "reflection":
        low, high = (0.0, n - 1.0) if align else (-0.5, n - 0.5)
        span = high - low
        if span == 0:
            return p * 0
        offset = abs(p - low)
        folds = ops.floor(offset / span)
        rest = offset - folds * span
        even = ops.remainder(folds, 2) == 0
        p = ops.clamp(ops.where(even, rest + low, span - rest + low), 0, n - 1)
    return p


def _gathered(x: Any, places: list[Any], padding_mode: str) -> Any:
    """``x`` at whole positions [N, *out] of each dimension; zeros outside."""
    sizes = x.shape[2:]
    inside: Any = None
    flat: Any = None
    for p, n in zip(places, sizes):
        fits = (p >= 0) & (p <= n - 1)
        inside = fits if inside is None else inside & fits
        step = _int(ops.detach(p), n)
        flat = step if flat is None else flat * n + step
    count, out = math.prod(flat.shape[1:]), tuple(flat.shape[1:])
    index = ops.expand(ops.reshape(flat, (x.shape[0], 1, count)), (x.shape[0], x.shape[1], count))
    found = ops.reshape(ops.gather(ops.reshape(x, (*x.shape[:2], math.prod(sizes))), 2, index), (*x.shape[:2], *out))
    return found if padding_mode != "zeros" else ops.where(ops.unsqueeze(inside, 1), found, 0)
