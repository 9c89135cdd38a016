"""Pooling: reductions over windows. The decompositions read ``windows``; the kernels add or compare shifted slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import composite, ops
from ..meta import TensorMeta, meta_of
from ..op import public
from ..samples import S, T
from .windows import places_of

# ---- geometry ------------------------------------------------------------------------------------------------------


def _numbers(value: Any, n: int, name: str, where: str) -> tuple:
    if not isinstance(value, (tuple, list)):
        return (value,) * n
    if len(value) not in (1, n):
        raise RuntimeError(f"{where}: {name} must either be a single int, or a tuple of {n} ints")
    return tuple(value) if len(value) == n else tuple(value) * n


def _out_size(size: Any, k: int, s: int, p: int, d: int, ceil_mode: bool) -> Any:
    """How many windows: with ``ceil_mode`` a last one may hang over the end, but must start inside (or in the left pad)."""
    span = size + 2 * p - d * (k - 1) - 1
    out = (span + (s - 1 if ceil_mode else 0)) // s + 1
    if ceil_mode and (out - 1) * s >= size + p:
        out = out - 1
    return out


def _window_numbers(name: str, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple:
    """Kernel size, stride (None: the kernel's), padding and dilation of each dimension. Raises PyTorch's errors."""
    kernel = _numbers(kernel, n, "kernel_size", name)
    given = stride is not None and not (isinstance(stride, (tuple, list)) and not stride)
    stride = _numbers(stride, n, "stride", name) if given else kernel
    padding, dilation = _numbers(padding, n, "padding", name), _numbers(dilation, n, "dilation", name)
    for k, s, p, d in zip(kernel, stride, padding, dilation):
        for what, value in (("kernel_size", k), ("stride", s), ("dilation", d)):
            if value <= 0:
                raise RuntimeError(f"{name}: {what} must be greater than zero, but got {value} (kernel size, stride and "
                                   f"dilation should be greater than zero, but got kernel size {k}, stride {s}, dilation {d})")
        if p < 0:
            raise RuntimeError(f"{name}: pad must be non-negative, but got pad: {p}")
        if 2 * p > d * (k - 1) + 1:
            raise RuntimeError(f"{name}: pad should be at most half of effective kernel size, but got pad={p}, "
                               f"kernel_size={k} and dilation={d}")
    return kernel, stride, padding, dilation


def window_geometry(name: str, x: Any, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> tuple:
    """Numbers per dimension, and the padding (before, after) that the windows need. Raises PyTorch's errors."""
    kernel, stride, padding, dilation = _window_numbers(name, n, kernel, stride, padding, dilation)
    sizes = x.shape[x.ndim - n:]
    out = tuple(_out_size(m, k, s, p, d, ceil_mode) for m, k, s, p, d in zip(sizes, kernel, stride, padding, dilation))
    if any(o <= 0 for o in out):
        raise RuntimeError(f"{name}: Invalid computed output size: {min(out)}. Given input size: "
                           f"({'x'.join(str(s) for s in x.shape[-n - 1:])}). Calculated output size: "
                           f"({'x'.join(str(s) for s in (x.shape[-n - 1], *out))}). Output size is too small")
    after = tuple(max((o - 1) * s + d * (k - 1) + 1 - m - p, 0) for o, m, k, s, p, d in
                  zip(out, sizes, kernel, stride, padding, dilation))
    return kernel, stride, dilation, tuple(zip(padding, after))


def _check_input(name: str, x: Any, n: int) -> None:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor as input, but got {x.ndim}-D input of "
                           f"size {list(x.shape)}")


def _flat_pads(pads: Sequence[tuple]) -> tuple:
    """(before, after) per dimension in the order that ``pad`` takes: last dimension first."""
    return tuple(p for pair in reversed(pads) for p in pair)


def _padded_array(xp: Any, x: Any, pads: Any, value: Any) -> Any:
    if not any(p for pair in pads for p in pair):
        return x
    return xp.pad(x, [(0, 0)] * (x.ndim - len(pads)) + [tuple(p) for p in pads], constant_values=value)


def _slices(x: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """The windows' elements, one kernel offset at a time: arrays [..., *places]."""
    n = len(kernel)
    places = places_of(x.shape[x.ndim - n:], kernel, stride, dilation)
    for offset in np.ndindex(*kernel):
        where = tuple(slice(o * d, o * d + (p - 1) * s + 1, s) for o, d, p, s in zip(offset, dilation, places, stride))
        at = (..., *where)
        yield offset, x[at]


# ---- average ------------------------------------------------------------------------------------------------------


def _sum_pool_kernel(xp: Any, x: Any, kernel: Any, stride: Any, pads: Any) -> Any:
    x = _padded_array(xp, x, pads, 0)
    out = None
    for _, part in _slices(x, kernel, stride, (1,) * len(kernel)):
        if out is None:
            out = part.copy()
        else:
            out += part
    return out


def _pool_meta(x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any = None) -> TensorMeta:
    n = len(kernel)
    sizes = [s + sum(p) for s, p in zip(x.shape[x.ndim - n:], pads)]
    return meta_of(x).with_shape((*x.shape[:x.ndim - n], *places_of(sizes, kernel, stride, dilation or (1,) * n)))


def _sum_pool_parts(x: Any, kernel: Any, stride: Any, pads: Any) -> Any:
    n = len(kernel)
    if any(p for pair in pads for p in pair):
        x = ops.constant_pad_nd(x, _flat_pads(pads))
    found = ops.windows(x, kernel, stride, (1,) * n)
    return ops.sum(found, tuple(range(found.ndim - n, found.ndim)))


def _sum_pool_grad(g: Any, out: Any, x: Any, kernel: Any, stride: Any, pads: Any) -> Any:
    n = len(kernel)
    spread = g
    for _ in range(n):
        spread = ops.unsqueeze(spread, -1)
    spread = ops.expand(spread, (*g.shape, *kernel))
    padded = tuple(s + sum(p) for s, p in zip(x.shape[x.ndim - n:], pads))
    whole = ops.windows_sum(spread, padded, stride, (1,) * n)
    if any(p for pair in pads for p in pair):
        whole = ops.constant_pad_nd(whole, tuple(-p for p in _flat_pads(pads)))
    return whole


sum_pool = composite(
    "sum_pool(Tensor self, int[] kernel, int[] stride, any pads) -> Tensor", _sum_pool_parts, kernel=_sum_pool_kernel,
    infer=_pool_meta, vjp=_sum_pool_grad, promote="keep", collapse="static", api=(),
    samples=lambda: [S(T((2, 6)), (2,), (2,), ((0, 0),)), S(T((1, 2, 5, 6)), (3, 2), (2, 1), ((1, 1), (0, 1)))],
    doc="Sums of windows of the last dimensions, zeros around: [..., *sizes] -> [..., *places].")


def _avg_pool(n: int, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
              divisor: Any) -> Any:
    name = f"avg_pool{n}d"
    _check_input(name, x, n)
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    kernel, stride, _, pads = window_geometry(name, x, n, kernel, stride, padding, 1, ceil_mode)
    total = ops.sum_pool(x, kernel, stride, pads)
    share = ops.trunc_divide if x.dtype.is_integral else ops.div
    if divisor is not None:
        return share(total, divisor)
    inside = all(after <= before for before, after in pads) if count_include_pad else not any(map(any, pads))
    if inside:
        return share(total, math.prod(kernel))
    return share(total, _window_counts(x, kernel, stride, pads, count_include_pad))


def _window_counts(x: Any, kernel: Any, stride: Any, pads: Any, include_pad: bool) -> Any:
    """How many elements of each window count in an average: the sum of ones. Never the part hanging over the end."""
    sizes = x.shape[x.ndim - len(kernel):]
    if include_pad:
        sizes = tuple(s + 2 * before for s, (before, _) in zip(sizes, pads))
        pads = tuple((0, max(after - before, 0)) for before, after in pads)
    return ops.sum_pool(ops.full(tuple(sizes), 1, dtype=x.dtype, device=x.device), kernel, stride, pads)


# ---- maximum ------------------------------------------------------------------------------------------------------


def _lowest(dtype: Any) -> Any:
    return -math.inf if dtype.is_floating_point else int(np.iinfo(dtype.np).min)


def _plane_positions(x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> Any:
    """The index in the flattened input of every window element: int64 [*places, *kernel]."""
    n = len(kernel)
    sizes = x.shape[x.ndim - n:]
    places = _pool_meta(x, kernel, stride, pads, dilation).shape[x.ndim - n:]
    flat: Any = 0
    for i in range(n):
        along = ops.reshape(ops.arange(0, places[i], 1, device=x.device) * stride[i] - pads[i][0],
                            (*(1,) * i, places[i], *(1,) * (2 * n - 1 - i)))
        inner = ops.reshape(ops.arange(0, kernel[i], 1, device=x.device) * dilation[i],
                            (*(1,) * (n + i), kernel[i], *(1,) * (n - 1 - i)))
        flat = flat * sizes[i] + along + inner
    return flat


def _max_windows(x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> Any:
    if any(map(any, pads)):
        x = ops.constant_pad_nd(x, _flat_pads(pads), _lowest(x.dtype))
    return ops.windows(x, kernel, stride, dilation)


def _max_pool_parts(x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> tuple:
    n = len(kernel)
    found = _max_windows(x, kernel, stride, pads, dilation)
    lead, count = tuple(found.shape[:found.ndim - n]), math.prod(kernel)
    local = ops.unsqueeze(ops.argmax(ops.reshape(found, (*lead, count)), -1), -1)
    places = lead[len(lead) - n:]
    positions = ops.reshape(_plane_positions(x, kernel, stride, pads, dilation), (*places, count))
    index = ops.squeeze(ops.gather(ops.expand(positions, (*lead, count)), -1, local), -1)
    return ops.amax(found, tuple(range(found.ndim - n, found.ndim))), index


def _max_pool_kernel(xp: Any, x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> tuple:
    """The best so far and which window element it is, one shifted slice after the other; NaN wins."""
    n, exact = len(kernel), x.dtype.kind in "iu"
    lowest = np.iinfo(x.dtype).min if exact else -math.inf
    best: Any = None
    local: Any = None
    for k, (_, part) in enumerate(_slices(_padded_array(xp, x, pads, lowest), kernel, stride, dilation)):
        if best is None:
            best, local = part.copy(), xp.zeros(part.shape, np.int16 if math.prod(kernel) < 2 ** 15 else np.int64)
            continue
        better = part > best if exact else ~(part <= best)
        if not exact:
            better &= best == best
        xp.copyto(best, part, where=better)
        xp.copyto(local, k, where=better)
    sizes = x.shape[x.ndim - n:]
    steps = [math.prod(sizes[i + 1:]) for i in range(n)]
    inside = [sum(o * d * s for o, d, s in zip(offset, dilation, steps)) for offset in np.ndindex(*kernel)]
    index = xp.asarray(inside)[local]
    for i, step in enumerate(steps):
        start = (xp.arange(best.shape[best.ndim - n + i]) * stride[i] - pads[i][0]) * step
        index += start.reshape(-1, *(1,) * (n - 1 - i))
    return best, index


def _max_pool_grad(g: Any, out: Any, x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> Any:
    return ops.max_pool_backward(g[0], out[1], tuple(x.shape[x.ndim - len(kernel):]), kernel, stride, pads, dilation)


def _max_pool_metas(x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> tuple:
    values = _pool_meta(x, kernel, stride, pads, dilation)
    return values, values.with_dtype(_dtype.int64)


max_pool = composite(
    "max_pool(Tensor self, int[] kernel, int[] stride, any pads, int[] dilation) -> (Tensor, Tensor)", _max_pool_parts,
    kernel=_max_pool_kernel, infer=_max_pool_metas, vjp=_max_pool_grad, promote="keep", collapse="static", api=(),
    samples=lambda: [S(T((2, 6), distinct=True), (2,), (2,), ((0, 0),), (1,)),
                     S(T((1, 2, 5, 6), distinct=True), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2))],
    doc="Maxima of windows of the last dimensions, and where they are in the flattened input.")


def _max_pool_backward_parts(g: Any, index: Any, size: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> Any:
    """Each element takes the gradients of the windows that chose it: no two writes meet."""
    n = len(kernel)
    like = meta_of(g).with_shape((*g.shape[:g.ndim - n], *size))
    positions = _plane_positions(like, kernel, stride, pads, dilation)
    wide = (*g.shape, *(1,) * n)
    chosen = ops.where(ops.reshape(index, wide) == positions, ops.reshape(g, wide), 0)
    whole = ops.windows_sum(chosen, tuple(s + sum(p) for s, p in zip(size, pads)), stride, dilation)
    return ops.constant_pad_nd(whole, tuple(-p for p in _flat_pads(pads))) if any(map(any, pads)) else whole


def _max_pool_backward_kernel(xp: Any, g: Any, index: Any, size: Any, kernel: Any, stride: Any, pads: Any,
                              dilation: Any) -> Any:
    n, plane = len(size), math.prod(size)
    lead = g.shape[:g.ndim - n]
    out = xp.zeros((math.prod(lead), plane), g.dtype)
    flat = index.reshape(out.shape[0], -1) + (xp.arange(out.shape[0]) * plane)[:, None]
    if all(s >= d * (k - 1) + 1 for k, s, d in zip(kernel, stride, dilation)):
        out.reshape(-1)[flat] = g.reshape(flat.shape)
    elif g.dtype.kind == "f":
        out = xp.bincount(flat.reshape(-1), g.reshape(-1), out.size).astype(g.dtype)
    else:
        xp.add.at(out.reshape(-1), flat.reshape(-1), g.reshape(-1))
    return out.reshape(*lead, *size)


def _flat_gather(gg: Any, index: Any, n: int) -> Any:
    lead = tuple(gg.shape[:gg.ndim - n])
    flat = ops.reshape(gg, (*lead, math.prod(gg.shape[gg.ndim - n:])))
    places = index.shape[index.ndim - n:]
    return ops.reshape(ops.gather(flat, -1, ops.reshape(index, (*lead, math.prod(places)))), tuple(index.shape))


max_pool_backward = composite(
    "max_pool_backward(Tensor grad, Tensor index, int[] size, int[] kernel, int[] stride, any pads, int[] dilation) -> Tensor",
    _max_pool_backward_parts, tags=("raises",), kernel=_max_pool_backward_kernel, api=(),
    infer=lambda g, index, size, *geometry: meta_of(g).with_shape((*g.shape[:g.ndim - len(size)], *size)),
    vjp=(lambda gg, out, g, index, size, kernel, stride, pads, dilation: _flat_gather(gg, index, len(size)), None),
    samples=lambda: [S(T((1, 3)), T((1, 3), dtype=_dtype.int64, values=[[1, 2, 5]]), (6,), (2,), (2,), ((0, 0),), (1,))],
    doc="The gradient of max_pool's input of sizes ``size``: that of each maximum, where it was found.")


def _max_pool(n: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              return_indices: bool) -> Any:
    name = f"max_pool{n}d"
    _window_numbers(name, n, kernel, stride, padding, dilation)
    if x.ndim not in (n + 1, n + 2) or any(isinstance(s, int) and s == 0 for s in x.shape[x.ndim - n - 1:]):
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for input, "
                           f"but got: {list(x.shape)} (Expected input's non-batch dimensions to have positive length)")
    kernel, stride, dilation, pads = window_geometry(name, x, n, kernel, stride, padding, dilation, ceil_mode)
    values, index = ops.max_pool(x, kernel, stride, pads, dilation)
    return (values, index) if return_indices else values


# ---- adaptive -----------------------------------------------------------------------------------------------------


def _adaptive_sizes(name: str, x: Any, n: int, size: Any) -> tuple:
    if n > 1 and x.ndim <= n:
        raise ValueError(f"Input dimension should be at least {n + 1}; {name} got an input of size {list(x.shape)}")
    _check_input(name, x, n)
    wanted = _numbers(size, n, "output_size", name)
    if any(w is not None and w < 0 for w in wanted):
        raise RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0 but received {list(wanted)}")
    if any(isinstance(s, int) and s == 0 for s in x.shape[x.ndim - n - 1:]) and all(w is None or w > 0 for w in wanted):
        raise RuntimeError(f"{name}: Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                           f"{list(x.shape)}")
    return tuple(have if want is None else want for have, want in zip(x.shape[x.ndim - n:], wanted))


def _adaptive_bounds(n: Any, out: Any, device: Any) -> tuple[Any, Any]:
    """First (inclusive) and last (exclusive) element of each of ``out`` windows that cover ``n`` elements."""
    i = ops.arange(0, out, 1, device=device)
    return (i * n) // out, ((i + 1) * n + (out - 1)) // out


def _averages(x: Any, axis: int, out: Any) -> Any:
    """``x`` averaged over ``out`` uneven windows along ``axis``: a product with the matrix of their weights."""
    n = x.shape[axis]
    start, stop = _adaptive_bounds(n, out, x.device)
    at = ops.unsqueeze(ops.arange(0, n, 1, device=x.device), 1)
    inside = ops.cast((at >= start) & (at < stop), x.dtype)
    weights = inside / ops.cast(stop - start, x.dtype)
    moved = ops.transpose(x, axis, x.ndim - 1)
    return ops.transpose(ops.matmul(moved, weights), axis, x.ndim - 1)


def adaptive_average(n: int, x: Any, size: Any) -> Any:
    """Averages over windows that cover the last ``n`` dimensions evenly, ``size`` of them."""
    sizes = _adaptive_sizes(f"adaptive_avg_pool{n}d", x, n, size)
    have = x.shape[x.ndim - n:]
    if all(o and m % o == 0 for m, o in zip(have, sizes)):
        if all(o == 1 for o in sizes):
            return ops.mean(x, tuple(range(x.ndim - n, x.ndim)), True)
        kernel = tuple(m // o for m, o in zip(have, sizes))
        return ops.sum_pool(x, kernel, kernel, ((0, 0),) * n) / math.prod(kernel)
    for i, out in enumerate(sizes):
        x = _averages(x, x.ndim - n + i, out)
    return x


def _adaptive_max(n: int, x: Any, size: Any) -> tuple:
    """Uneven windows are made even by repeating their last element, which changes no maximum."""
    sizes = _adaptive_sizes(f"adaptive_max_pool{n}d", x, n, size)
    have, lead = tuple(x.shape[x.ndim - n:]), tuple(x.shape[:x.ndim - n])
    if all(o and m % o == 0 for m, o in zip(have, sizes)):
        kernel = tuple(m // o for m, o in zip(have, sizes))
        return ops.max_pool(x, kernel, kernel, ((0, 0),) * n, (1,) * n)
    flat: Any = 0
    for i, (m, out) in enumerate(zip(have, sizes)):
        start, stop = _adaptive_bounds(m, out, x.device)
        widest = max(-(-(j + 1) * m // out) - j * m // out for j in range(out))
        members = ops.minimum(ops.unsqueeze(start, 1) + ops.arange(0, widest, 1, device=x.device), ops.unsqueeze(stop, 1) - 1)
        x = ops.index_select(x, len(lead) + i, ops.reshape(members, (out * widest,)))
        flat = flat * m + ops.reshape(members, (*(1,) * i, out * widest, *(1,) * (n - 1 - i)))
    kernel = tuple(s // o for s, o in zip(x.shape[len(lead):], sizes))
    values, index = ops.max_pool(x, kernel, kernel, ((0, 0),) * n, (1,) * n)
    plane = ops.reshape(flat, (flat.numel(),))
    return values, ops.reshape(ops.index_select(plane, 0, ops.reshape(index, (index.numel(),))), tuple(index.shape))


# ---- powers -------------------------------------------------------------------------------------------------------


def _lp_pool(n: int, x: Any, norm_type: float, kernel: Any, stride: Any, ceil_mode: bool) -> Any:
    kernel = _numbers(kernel, n, "kernel_size", f"lp_pool{n}d")
    mean = _avg_pool(n, x ** norm_type, kernel, stride, 0, ceil_mode, True, None)
    return (ops.sign(mean) * ops.relu(abs(mean)) * math.prod(kernel)) ** (1.0 / norm_type)


# ---- inverse ------------------------------------------------------------------------------------------------------


def _max_unpool(n: int, x: Any, indices: Any, kernel: Any, stride: Any, padding: Any, output_size: Any) -> Any:
    kernel = _numbers(kernel, n, "kernel_size", f"max_unpool{n}d")
    stride = kernel if stride is None else _numbers(stride, n, "stride", f"max_unpool{n}d")
    padding = _numbers(padding, n, "padding", f"max_unpool{n}d")
    if tuple(x.shape) != tuple(indices.shape):
        raise RuntimeError(f"Expected shape of indices to be same as that of the input tensor ({list(x.shape)}) but got indices "
                           f"tensor with shape: {list(indices.shape)}")
    lead, places = tuple(x.shape[:x.ndim - n]), x.shape[x.ndim - n:]
    size = tuple((p - 1) * s - 2 * q + k for p, s, q, k in zip(places, stride, padding, kernel))
    if output_size is not None:
        size = tuple(output_size)[-n:]
    flat = (*lead, math.prod(places))
    whole = ops.full((*lead, math.prod(size)), 0, dtype=x.dtype, device=x.device)
    return ops.reshape(ops.scatter(whole, -1, ops.reshape(indices, flat), ops.reshape(x, flat)), (*lead, *size))


# ---- the public functions -----------------------------------------------------------------------------------------


def _publish(n: int) -> None:
    def avg_pool(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: Any = None) -> Any:
        return _avg_pool(n, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    def max_pool_(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                  ceil_mode: bool = False, return_indices: bool = False) -> Any:
        return _max_pool(n, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)

    def max_pool_with_indices(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                              ceil_mode: bool = False, return_indices: bool = False) -> Any:
        return _max_pool(n, input, kernel_size, stride, padding, dilation, ceil_mode, True)

    def adaptive_avg_pool(input: Any, output_size: Any) -> Any:
        return adaptive_average(n, input, output_size)

    def adaptive_max_pool(input: Any, output_size: Any, return_indices: bool = False) -> Any:
        values, index = _adaptive_max(n, input, output_size)
        return (values, index) if return_indices else values

    def adaptive_max_pool_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
        return _adaptive_max(n, input, output_size)

    def lp_pool(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
        return _lp_pool(n, input, norm_type, kernel_size, stride, ceil_mode)

    def max_unpool(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
                   output_size: Any = None) -> Any:
        return _max_unpool(n, input, indices, kernel_size, stride, padding, output_size)

    shapes = "Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *out]."
    names = {avg_pool: ("avg_pool", "Averages of windows."), max_pool_: ("max_pool", "Maxima of windows."),
             max_pool_with_indices: ("max_pool{}_with_indices", "Maxima of windows and their flat indices."),
             adaptive_avg_pool: ("adaptive_avg_pool", "Averages of as many windows as asked for."),
             adaptive_max_pool: ("adaptive_max_pool", "Maxima of as many windows as asked for."),
             adaptive_max_pool_with_indices: ("adaptive_max_pool{}_with_indices", "Maxima and their flat indices."),
             lp_pool: ("lp_pool", "Power means of windows."), max_unpool: ("max_unpool", "Maxima put back, zeros elsewhere.")}
    for fn, (name, text) in names.items():
        full = name.format(f"{n}d") if "{}" in name else f"{name}{n}d"
        fn.__name__ = fn.__qualname__ = full
        fn.__doc__ = f"{text} {shapes}"
        also = (f"torch.{full}",) if full in _IN_TORCH else ()
        wide = name == "max_unpool" or (n == 3 and name.startswith(("max_pool", "adaptive")))
        public(f"nn.functional.{full}", *also)(runs_in("whole", "float32@cpu")(fn) if wide else runs_in("whole")(fn))


_IN_TORCH = {"avg_pool1d", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "adaptive_avg_pool1d",
             "adaptive_max_pool1d"}

for _n in (1, 2, 3):
    _publish(_n)
