"""Sliding windows over the last dimensions: the view that pooling and unfold read, and its transpose.

``windows`` is [..., *sizes] -> [..., *places, *kernel]; ``windows_sum`` adds every window element back to its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import index as ix
from .. import late
from ..family import ops, primitive, view
from ..meta import TensorMeta, meta_of
from ..op import public
from ..samples import S, T

if TYPE_CHECKING:
    from .. import loops
else:
    loops = late.Later("loops")


def places_of(sizes: Sequence[Any], kernel: Sequence[Any], stride: Sequence[Any], dilation: Sequence[Any]) -> tuple:
    """How many windows lie along each dimension."""
    return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(sizes, kernel, stride, dilation))


def take_windows(xp: Any, x: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """A view of all windows: [..., *sizes] -> [..., *places, *kernel]."""
    n = len(kernel)
    steps = x.strides[x.ndim - n:]
    shape = (*x.shape[:x.ndim - n], *places_of(x.shape[x.ndim - n:], kernel, stride, dilation), *kernel)
    strides = (*x.strides[:x.ndim - n], *(a * s for a, s in zip(steps, stride)), *(a * d for a, d in zip(steps, dilation)))
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


def add_windows(xp: Any, w: Any, size: Sequence[int], stride: Any, dilation: Any) -> Any:
    """Windows [..., *places, *kernel] added up where they overlap: [..., *size]."""
    n = len(size)
    lead, places, kernel = w.shape[:w.ndim - 2 * n], w.shape[w.ndim - 2 * n:w.ndim - n], w.shape[w.ndim - n:]
    out = xp.zeros((*lead, *size), w.dtype)
    if not out.size or not w.size:
        return out
    for offset in _offsets(kernel):
        where = tuple(slice(o * d, o * d + (p - 1) * s + 1, s) for o, d, p, s in zip(offset, dilation, places, stride))
        target, source = (..., *where), (..., *offset)
        out[target] += w[source]
    return out


def _offsets(kernel: Sequence[int]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for k in kernel:
        found = [(*o, i) for o in found for i in range(k)]
    return found


def _windows_meta(x: Any, kernel: Any, stride: Any, dilation: Any) -> TensorMeta:
    n = len(kernel)
    places = places_of(x.shape[x.ndim - n:], kernel, stride, dilation)
    return meta_of(x).with_shape((*x.shape[:x.ndim - n], *places, *kernel))


def _windows_index(index: Any, x: Any, kernel: Any, stride: Any, dilation: Any) -> tuple:
    n = len(kernel)
    lead, places, inner = index[:x.ndim - n], index[x.ndim - n:x.ndim], index[x.ndim:]
    return (*lead, *(ix.add(ix.mul(p, s), ix.mul(k, d)) for p, k, s, d in zip(places, inner, stride, dilation)))


windows = view(
    "windows(Tensor self, int[] kernel, int[] stride, int[] dilation) -> Tensor", kernel=take_windows, infer=_windows_meta,
    vjp=lambda g, out, x, kernel, stride, dilation:
    ops.windows_sum(g, tuple(x.shape[x.ndim - len(kernel):]), stride, dilation),
    lower=_windows_index, api=(),
    samples=lambda: [S(T((2, 7)), (3,), (2,), (1,)), S(T((2, 5, 6)), (2, 3), (1, 2), (2, 1)),
                     S(T((1, 4, 4)), (2, 2), (2, 2), (1, 1))],
    doc="All windows of the last dimensions: [..., *sizes] -> [..., *places, *kernel].")


def _windows_sum_element(index: Any, w: Any, size: Any, stride: Any, dilation: Any) -> Any:
    """Element ``i`` gets window elements (p, k) with ``p * stride + k * dilation == i``: a gated sum over the windows that
    can hold it where these are known, else over k."""
    n = len(size)
    lead, at = index[:len(index) - n], index[len(index) - n:]
    places, kernel = w.shape[w.ndim - 2 * n:w.ndim - n], w.shape[w.ndim - n:]
    near = [d == 1 and isinstance(k, int) and isinstance(s, int) for k, s, d in zip(kernel, stride, dilation)]
    terms = [-(-k // s) if known else k for k, s, known in zip(kernel, stride, near)]

    def element(*chosen: Any) -> Any:
        given = iter(chosen)
        mask, where, inside = None, [], []
        for i, k, s, d, p, known, count in zip(at, kernel, stride, dilation, places, near, terms):
            t = 0 if count == 1 else next(given)
            place, offset, held = _back(i, t, k, s) if known else _of_offset(i, t, s, d)
            for condition in (held, loops.compare("ge", place, 0), loops.compare("lt", place, p)):
                mask = loops.both(mask, condition)
            where.append(place)
            inside.append(offset)
        return w.at((*lead, *where, *inside), mask, 0)

    sizes = tuple(count for count in terms if not (isinstance(count, int) and count == 1))
    return loops.reduce("sum", sizes, element) if sizes else element()


def _back(i: Any, t: Any, kernel: int, stride: int) -> tuple:
    """The window that begins ``t`` before the last that can hold element ``i``: place, offset in it, whether it does."""
    offset = ix.add(ix.mod(i, stride), ix.mul(t, stride))
    return ix.add(ix.div(i, stride), ix.mul(t, -1)), offset, loops.compare("lt", offset, kernel)


def _of_offset(i: Any, k: Any, stride: Any, dilation: Any) -> tuple:
    """The window of which element ``i`` is number ``k``: place, offset in it, whether there is one."""
    rest = ix.add(i, ix.mul(k, ix.mul(dilation, -1)))  # = place * stride
    return ix.div(rest, stride), k, loops.compare("eq", ix.mod(rest, stride), 0)


def _windows_sum_parts(w: Any, size: Any, stride: Any, dilation: Any) -> Any:
    """Windows that tile the whole exactly need no sum: they are put side by side."""
    n = len(size)
    places, kernel = w.shape[w.ndim - 2 * n:w.ndim - n], w.shape[w.ndim - n:]
    tiled = all(k == s and d == 1 and p * k == m for k, s, d, p, m in zip(kernel, stride, dilation, places, size))
    if not tiled:
        return NotImplemented
    lead = w.ndim - 2 * n
    order = [*range(lead), *(axis for i in range(n) for axis in (lead + i, lead + n + i))]
    return ops.reshape(ops.permute(w, tuple(order)), (*w.shape[:lead], *size))


windows_sum = primitive(
    "windows_sum(Tensor self, int[] size, int[] stride, int[] dilation) -> Tensor", "index", promote="keep", api=(),
    kernel=add_windows, lower=_windows_sum_element, decompose=_windows_sum_parts, dtypes="ifc",
    infer=lambda w, size, stride, dilation: meta_of(w).with_shape((*w.shape[:w.ndim - 2 * len(size)], *size)),
    vjp=lambda g, out, w, size, stride, dilation:
    ops.windows(g, tuple(w.shape[w.ndim - len(size):]), stride, dilation),
    samples=lambda: [S(T((2, 3, 3)), (7,), (2,), (1,)), S(T((2, 3, 2, 2, 3)), (5, 6), (1, 2), (2, 1)),
                     S(T((1, 2, 2, 2, 2)), (4, 4), (2, 2), (1, 1))],
    doc="Windows added up where they overlap: [..., *places, *kernel] -> [..., *size].")


# ---- unfold and fold ----------------------------------------------------------------------------------------------


def _pair(value: Any) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


@public("nn.functional.unfold")
def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows as columns. Shapes: [N, C, H, W] -> [N, C * kernel, places]; without N as well."""
    if input.ndim == 3:
        return ops.squeeze(unfold(ops.unsqueeze(input, 0), kernel_size, dilation, padding, stride), 0)
    if input.ndim != 4:
        raise RuntimeError(f"Expected 3D or 4D (batch mode) tensor for input, but got {input.ndim}D")
    kernel, (ph, pw) = _pair(kernel_size), _pair(padding)
    x = ops.constant_pad_nd(input, (pw, pw, ph, ph)) if ph or pw else input
    found = ops.windows(x, kernel, _pair(stride), _pair(dilation))
    n, c, oh, ow = found.shape[:4]
    return ops.reshape(ops.permute(found, (0, 1, 4, 5, 2, 3)), (n, c * math.prod(kernel), oh * ow))


@public("nn.functional.fold")
def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Columns added up to an image. Shapes: [N, C * kernel, places] -> [N, C, *output_size]; without N as well."""
    if input.ndim == 2:
        return ops.squeeze(fold(ops.unsqueeze(input, 0), output_size, kernel_size, dilation, padding, stride), 0)
    kernel, stride, dilation, (h, w) = _pair(kernel_size), _pair(stride), _pair(dilation), _pair(output_size)
    ph, pw = _pair(padding)
    padded = (h + 2 * ph, w + 2 * pw)
    oh, ow = places_of(padded, kernel, stride, dilation)
    n, rows, columns = input.shape
    if rows % math.prod(kernel):
        raise RuntimeError(f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
                           f"input.size(1)={rows} and kernel_size={kernel}.")
    if columns != oh * ow:
        raise RuntimeError(f"Given output_size={(h, w)}, kernel_size={kernel}, dilation={dilation}, padding={(ph, pw)}, "
                           f"stride={stride}, expected size of input's dimension 2 to match the calculated number of sliding "
                           f"blocks {oh} * {ow} = {oh * ow}, but got input.size(2)={columns}.")
    parts = ops.reshape(input, (n, rows // math.prod(kernel), *kernel, oh, ow))
    whole = ops.windows_sum(ops.permute(parts, (0, 1, 4, 5, 2, 3)), padded, stride, dilation)
    return ops.narrow(ops.narrow(whole, 2, ph, h), 3, pw, w) if ph or pw else whole
