"""The template library for eager NumPy arrays: each function fills one block of 64-bit words and makes one call.

Every function returns None where no compiler is at hand or the arguments are outside what the template covers; the
caller then takes its NumPy form.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.runtime import native, onednn
from flambeau.runtime.memory import address

#: The element types that the matrix template is built for.
ELEMENTS = {
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(ml_dtypes.bfloat16): "bf16",
    np.dtype(np.float16): "f16",
}


def _call(template: native.Library, words: Sequence[int]) -> None:
    block = np.array(words, np.int64)
    template["run"](block.ctypes.data)


def _steps(array: np.ndarray) -> list[int]:
    """Return the array's strides in elements."""
    return [stride // array.itemsize for stride in array.strides]


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Multiply matrices `a [..., m, k]` and `b [..., k, n]` (batch axes broadcast); all of one floating dtype."""
    element = ELEMENTS.get(a.dtype)
    if element is None or a.dtype != b.dtype or a.ndim < 2 or b.ndim < 2:
        return None
    library = native.template(f"gemm_{element}")
    if library is None:
        return None
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if len(batch) > 3:
        return None
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    full = (1,) * (3 - len(batch)) + batch
    (m, k), n = a.shape[-2:], b.shape[-1]
    a_steps = _steps(np.broadcast_to(a, (*full, m, k)))
    b_steps = _steps(np.broadcast_to(b, (*full, k, n)))
    c_steps = _steps(out.reshape(*full, m, n))
    pointers = (a.ctypes.data, b.ctypes.data, out.ctypes.data)
    _call(
        library,
        (*pointers, m, n, k, *a_steps[3:], *b_steps[3:], c_steps[3], 0, *full)
        + (*a_steps[:3], *b_steps[:3], *c_steps[:3], 0, 0),
    )
    return out


def _attention_words(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    causal: bool,
    scale: float,
    out: np.ndarray,
    lse: np.ndarray,
) -> list[int]:
    """Return the head of the attention template's block: operands, sizes, strides, mask."""
    batch, heads, rows, d = q.shape
    words = [array.ctypes.data for array in (q, k, v, out, lse)]
    words += [batch, heads, heads // k.shape[1], rows, k.shape[2], d, v.shape[3]]
    for array in (q, k, v, out):
        words += _steps(array)[:3]
    words += _steps(lse)[:2]
    if mask is None:
        words += [0] * 6
    else:
        full = np.broadcast_to(mask, (batch, heads, rows, k.shape[2]))
        words += [full.ctypes.data, int(mask.dtype == np.bool_), *_steps(full)]
    return [*words, int(causal), int(np.float64(scale).view(np.int64))]


def _rows_adjacent(array: np.ndarray) -> np.ndarray:
    """Return the array, copied unless the elements of its last axis are adjacent."""
    return array if array.strides[-1] == array.itemsize or array.shape[-1] == 1 else np.ascontiguousarray(array)


def _attention_fits(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> bool:
    """Say whether the template covers these operands: f32, four axes, at least one key, a byte or f32 mask."""
    float32 = np.dtype(np.float32)
    shaped = all(x.ndim == 4 and x.dtype == float32 for x in (q, k, v)) and k.shape[2] > 0 and q.shape[3] > 0
    return (
        shaped
        and k.shape[1] == v.shape[1]
        and k.shape[1] > 0
        and q.shape[1] % k.shape[1] == 0
        and q.shape[0] == k.shape[0] == v.shape[0]
        and q.shape[3] == k.shape[3]
        and k.shape[2] == v.shape[2]
        and (mask is None or mask.dtype in (float32, np.dtype(np.bool_)))
        and (mask is None or _broadcasts(mask.shape, (*q.shape[:3], k.shape[2])))
    )


def _broadcasts(shape: Sequence[int], full: Sequence[int]) -> bool:
    """Say whether an array of `shape` can be broadcast to `full`."""
    return len(shape) <= len(full) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(full), strict=False))


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Attend: `q [b, h, n, d]`, `k [b, g, m, d]`, `v [b, g, m, e]`, h a multiple of g, mask broadcast to [b, h, n, m].

    Returns the output [b, h, n, e] and the log-sum-exp [b, h, n] that `attention_backward` wants. A row that sees no
    key gives zeros, and minus infinity.
    """
    library = native.template("attention")
    if library is None or not _attention_fits(q, k, v, mask):
        return None
    q, k, v = _rows_adjacent(q), _rows_adjacent(k), _rows_adjacent(v)
    out = np.empty((*q.shape[:3], v.shape[3]), np.float32)
    lse = np.empty(q.shape[:3], np.float32)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    _call(library, [*_attention_words(q, k, v, mask, causal, scale, out, lse), *[0] * 17])
    return out, lse


def attention_backward(
    grad: np.ndarray,
    grad_lse: np.ndarray | None,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    lse: np.ndarray,
    mask: np.ndarray | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the gradients of q, k and v, given those of the two results of `attention` and these results."""
    library = native.template("attention")
    if library is None or not _attention_fits(q, k, v, mask) or grad.dtype != np.float32:
        return None
    q, k, v, out, grad = (_rows_adjacent(x) for x in (q, k, v, out, grad))
    lse = np.ascontiguousarray(lse)
    grad_lse = None if grad_lse is None else np.ascontiguousarray(grad_lse)
    grads = np.empty(q.shape, np.float32), np.empty(k.shape, np.float32), np.empty(v.shape, np.float32)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    words = _attention_words(q, k, v, mask, causal, scale, out, lse)
    words += [array.ctypes.data for array in (grad, *grads)]
    for array in (grad, *grads):
        words += _steps(array)[:3]
    _call(library, [*words, 0 if grad_lse is None else grad_lse.ctypes.data])
    return grads


def _conv(
    kind: int,
    x: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None,
    geometry: Sequence[Sequence[int]],
    groups: int,
) -> bool:
    """Run the convolution template on contiguous arrays; `geometry` is stride, padding, dilation. False: not covered."""
    library = native.template("conv")
    float32 = np.dtype(np.float32)
    spatial = x.ndim - 2
    if library is None or not 1 <= spatial <= 3 or any(a.dtype != float32 for a in (x, weight, y)):
        return False
    if bias is not None and bias.dtype != float32:
        return False

    def three(values: Sequence[int], fill: int) -> list[int]:
        return [fill] * (3 - spatial) + list(values)

    words = [kind, x.ctypes.data, weight.ctypes.data, y.ctypes.data, 0 if bias is None else bias.ctypes.data]
    words += [x.shape[0], x.shape[1], y.shape[1], groups]
    for sizes in (x.shape[2:], y.shape[2:], weight.shape[2:]):
        words += three(sizes, 1)
    stride, padding, dilation = geometry
    _call(library, words + three(stride, 1) + three(padding, 0) + three(dilation, 1))
    return True


def _conv_fits(x_channels: int, filters: int, weight: np.ndarray, geometry: Sequence[Sequence[int]], groups: int) -> bool:
    """Say whether channels, groups and the lengths of the geometry agree; if not, the NumPy form reports why."""
    spatial = weight.ndim - 2
    return (
        spatial >= 1
        and all(len(values) == spatial for values in geometry)
        and all(n >= 1 for values in (geometry[0], geometry[2]) for n in values)
        and all(n >= 0 for n in geometry[1])
        and groups >= 1
        and x_channels == weight.shape[1] * groups
        and filters == weight.shape[0]
        and filters % groups == 0
    )


def _out_sizes(sizes: Sequence[int], kernel: Sequence[int], geometry: Sequence[Sequence[int]]) -> list[int]:
    return [
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(sizes, kernel, *geometry, strict=True)
    ]


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray | None:
    """Convolve `x [n, c, *in]` with `weight [f, c / groups, *kernel]`: f32, one to three spatial axes."""
    geometry = (stride, padding, dilation)
    if x.ndim != weight.ndim or not _conv_fits(x.shape[1], weight.shape[0], weight, geometry, groups):
        return None
    sizes = _out_sizes(x.shape[2:], weight.shape[2:], geometry)
    if min(sizes) < 1 or not x.size or not weight.size or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    y = np.empty((x.shape[0], weight.shape[0], *sizes), x.dtype)
    bias = None if bias is None else np.ascontiguousarray(bias)
    done = _conv(0, np.ascontiguousarray(x), np.ascontiguousarray(weight), y, bias, geometry, groups)
    return y if done else None


def conv_input_grad(
    grad: np.ndarray,
    weight: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray | None:
    """Return the gradient of `conv`'s input of spatial sizes `size`; also the transposed convolution."""
    geometry = (stride, padding, dilation)
    if grad.ndim != weight.ndim or len(size) != grad.ndim - 2 or not grad.size or not weight.size:
        return None
    channels = weight.shape[1] * groups
    if not _conv_fits(channels, grad.shape[1], weight, geometry, groups):
        return None
    if list(grad.shape[2:]) != _out_sizes(size, weight.shape[2:], geometry):
        return None
    x = np.empty((grad.shape[0], channels, *size), grad.dtype)
    done = _conv(1, x, np.ascontiguousarray(weight), np.ascontiguousarray(grad), None, geometry, groups)
    return x if done else None


def conv_weight_grad(
    grad: np.ndarray,
    x: np.ndarray,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray | None:
    """Return the gradient of `conv`'s weight with kernel sizes `kernel`."""
    geometry = (stride, padding, dilation)
    if grad.ndim != x.ndim or len(kernel) != x.ndim - 2 or not grad.size or not x.size or x.shape[1] % groups:
        return None
    weight = np.empty((grad.shape[1], x.shape[1] // groups, *kernel), x.dtype)
    if not _conv_fits(x.shape[1], grad.shape[1], weight, geometry, groups):
        return None
    if list(grad.shape[2:]) != _out_sizes(x.shape[2:], kernel, geometry):
        return None
    done = _conv(2, np.ascontiguousarray(x), weight, np.ascontiguousarray(grad), None, geometry, groups)
    return weight if done else None


#: One parameter in the adam template's block: values, gradient, mean, square, largest or 0, count; then the options.
_ADAM_PARAMETER = struct.Struct("6q9d")


def adam(parameters: Sequence[tuple[Sequence[np.ndarray | None], Sequence[float]]]) -> bool:
    """Step f32 parameters in place by the adam template; False (and nothing done) where it does not cover them.

    Each parameter is its arrays (values, gradient, mean, square, largest square or None), all row-major and of one
    shape, and the template's nine options.
    """
    library = native.template("adam")
    if library is None:
        return False
    words = bytearray(8 + _ADAM_PARAMETER.size * len(parameters))
    words[:8] = len(parameters).to_bytes(8, sys.byteorder)
    for number, (arrays, options) in enumerate(parameters):
        pointers = []
        for array in arrays:
            if array is None:
                pointers.append(0)
                continue
            if array.dtype != np.float32 or not array.flags.c_contiguous:
                return False
            pointers.append(address(array))
        if not all(array.flags.writeable for array in (arrays[0], *arrays[2:]) if array is not None):
            return False
        size = arrays[0].size  # type: ignore[union-attr]
        _ADAM_PARAMETER.pack_into(words, 8 + _ADAM_PARAMETER.size * number, *pointers, size, *options)
    block = np.frombuffer(words, np.uint8)
    library["run"](block.ctypes.data)
    return True


def _first(*providers: Callable[..., Any]) -> Callable[..., Any]:
    """Return a provider that asks these in turn."""
    def provide(*args: Any) -> Any:
        for provider in providers:
            found = provider(*args)
            if found is not None:
                return found
        return None
    return provide


#: Template name (`Op.extra["template"]`) -> the function that takes that op's arguments as arrays.
EAGER: dict[str, Callable[..., Any]] = {
    "attention": attention,
    "attention_backward": attention_backward,
    "conv": _first(onednn.conv, conv),
    "conv_input": _first(onednn.conv_input_grad, conv_input_grad),
    "conv_weight": conv_weight_grad,
}

#: `Op.extra["half"]` -> the function asked first with operands in bfloat16 or float16, before they become float32.
HALF: dict[str, Callable[..., Any]] = {
    "matmul": onednn.matmul,
    "linear": onednn.linear,
    "conv": onednn.conv,
    "conv_input": onednn.conv_input_grad,
    "conv_weight": onednn.conv_weight_grad,
}
