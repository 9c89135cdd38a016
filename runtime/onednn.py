"""oneDNN as one more provider of eager kernels, where the wheel `onednn-cpu-gomp` is installed.

Every provider returns None for what it does not take; the caller then goes the way it would go without oneDNN:

- products and convolutions in bfloat16 and float16, which NumPy and the templates compute in float32, wherever oneDNN
  has a kernel for this processor (it wants AVX-512, AVX-512-FP16 for float16; with less, nothing changes);
- convolutions in float32 and gradients of their inputs with windows of more than one place, all strides 1: there it
  takes 0.4 to 1.0 of the template's time (one thread, AVX2, the copies into its own layouts counted). Windows of one
  place, strides and gradients of weights were as often slower as faster; those are the template's.

Nothing below a million multiply-adds comes here: to make a primitive costs 0.2 to 3 ms once, a call some 20 us.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from flambeau.runtime import onednn_api as api

_MIN_WORK = 1 << 20  # multiply-adds
_FLOAT32 = np.dtype(np.float32)
_HALF = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16))
_TRAINING, _INFERENCE, _DIRECT = 64, 96, 1  # numbers of the C API: kinds of propagation, the algorithm
Geometry = tuple[Sequence[int], Sequence[int], Sequence[int]]  # stride, padding, dilation


# ---- products -----------------------------------------------------------------------------------------------------


def matmul(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray | None:
    """Multiply `a [..., m, k]` and `b [..., k, n]`, batch axes broadcast, of one dtype; `bias [n]` added before rounding."""
    if a.dtype not in api.TYPES or a.dtype != b.dtype or min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
        return None
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    if math.prod(shape) * a.shape[-1] < _MIN_WORK or len(shape) > 6 or api.library() is None:
        return None
    out = np.empty(shape, a.dtype)
    arrays = [api.plain(x.reshape((1,) * (len(shape) - x.ndim) + x.shape)) for x in (a, b)] + [out]
    if bias is not None:
        arrays.append(np.ascontiguousarray(bias).reshape((1,) * (len(shape) - 1) + bias.shape))

    def build(program: api.Program, temporary: contextlib.ExitStack) -> None:
        layouts = [program.layout(x, temporary) for x in arrays]
        left, right, result = layouts[:3]
        added = layouts[3] if bias is not None else None
        description = program.describe(temporary, "dnnl_matmul_primitive_desc_create", left, right, added, result,
                                       program.lib.attributes)
        if "ref" in program.kernel_of(description):
            raise api.Unsupported
        roles = (api.SRC, api.WEIGHTS, api.DST, api.BIAS)
        program.add(description, {role: program.operand(x) for role, x in zip(roles, layouts, strict=False)})

    return out if api.perform(("matmul",), arrays, build) else None


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray | None:
    """Return `x @ weight.T + bias`: [..., in], [out, in], [out] -> [..., out], all of one dtype."""
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        return None
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype):
        return None
    rows = math.prod(x.shape[:-1])
    if rows * weight.size < _MIN_WORK:
        return None
    out = matmul(x.reshape(rows, x.shape[-1]), weight.T, bias)
    return None if out is None else out.reshape(*x.shape[:-1], weight.shape[0])


# ---- convolutions -------------------------------------------------------------------------------------------------


def _convolve(result: int, x: np.ndarray, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, geometry: Geometry,
              groups: int) -> bool:
    """Compute that one of `x`, `weight` and `y` whose role is `result` from the other two."""
    stride, padding, dilation = geometry
    weight = weight if groups == 1 else weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    forward = result == api.DST
    roles = (api.DIFF_SRC if result == api.DIFF_SRC else api.SRC, api.DIFF_WEIGHTS if result == api.DIFF_WEIGHTS else api.WEIGHTS,
             api.DST if forward else api.DIFF_DST)
    arrays = [api.plain(a) for a in (x, weight, y)] + ([] if bias is None else [np.ascontiguousarray(bias)])

    def build(program: api.Program, temporary: contextlib.ExitStack) -> None:
        free = [program.layout(a, temporary, free=True) for a in arrays[:3]]
        added = program.layout(arrays[3], temporary) if bias is not None else None
        places = [api.dims(stride), api.dims([d - 1 for d in dilation]), api.dims(padding), api.dims(padding)]
        attributes = program.lib.attributes
        kind = _INFERENCE if forward else _TRAINING  # a gradient's description wants the forward one as a hint
        description = program.describe(temporary, "dnnl_convolution_forward_primitive_desc_create", kind, _DIRECT,
                                       free[0], free[1], added, free[2], *places, attributes)
        if result == api.DIFF_SRC:
            description = program.describe(temporary, "dnnl_convolution_backward_data_primitive_desc_create", _DIRECT,
                                           *free, *places, description, attributes)
        elif result == api.DIFF_WEIGHTS:
            description = program.describe(temporary, "dnnl_convolution_backward_weights_primitive_desc_create", _DIRECT,
                                           free[0], free[1], None, free[2], *places, description, attributes)
        kernel = program.kernel_of(description)
        if "ref" in kernel or ("gemm" in kernel and x.dtype == _FLOAT32):
            raise api.Unsupported
        _with_copies(program, temporary, description, arrays, roles, result, added)

    return api.perform(("conv", result, groups, *map(tuple, geometry)), arrays, build)


def _with_copies(program: api.Program, temporary: contextlib.ExitStack, description: api.Pointer, arrays: Sequence[np.ndarray],
                 roles: Sequence[int], result: int, added: api.Pointer | None) -> None:
    """Append the convolution between copies into, and out of, the layouts that it wants."""
    arguments, last = {}, None
    for role, a in zip(roles, arrays, strict=False):
        mine, its = program.layout(a, temporary), program.wanted(description, role)
        memory = arguments[role] = program.operand(mine)
        if not program.lib.c.dnnl_memory_desc_equal(mine, its):
            arguments[role] = program.block(its)
            outer, inner = (mine, memory), (its, arguments[role])
            if role == result:
                last = inner, outer
            else:
                program.copy(temporary, outer, inner)
    if added is not None:
        arguments[api.BIAS] = program.operand(added)
    program.add(description, arguments)
    if last is not None:
        program.copy(temporary, *last)


def _takes(result: int, dtypes: Sequence[np.dtype], work: int, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    """Say whether a convolution comes here: the rule in this file's head."""
    if work < _MIN_WORK or len(set(dtypes)) != 1 or not 1 <= len(kernel) <= 3 or api.library() is None:
        return False
    window = math.prod(kernel) > 1 and all(s == 1 for s in stride)
    return dtypes[0] in _HALF or (dtypes[0] == _FLOAT32 and result != api.DIFF_WEIGHTS and window)


def _sizes(sizes: Sequence[int], kernel: Sequence[int], geometry: Geometry) -> list[int]:
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(sizes, kernel, *geometry, strict=True)]


def _agree(x: Sequence[int], weight: Sequence[int], y: Sequence[int], geometry: Geometry, groups: int) -> bool:
    """Say whether the shapes of input, weight and output belong together; if not, the reference reports why."""
    spatial = len(weight) - 2
    return (
        len(x) == len(weight) == len(y)
        and all(len(values) == spatial for values in geometry)
        and min(*geometry[0], *geometry[2], groups) >= 1
        and min(geometry[1]) >= 0
        and min(*x, *weight, *y) >= 1
        and (x[0], x[1], y[1]) == (y[0], weight[1] * groups, weight[0])
        and weight[0] % groups == 0
        and list(y[2:]) == _sizes(x[2:], weight[2:], geometry)
    )


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: Sequence[int], padding: Sequence[int],
         dilation: Sequence[int], groups: int = 1) -> np.ndarray | None:
    """Convolve `x [n, c, *in]` with `weight [f, c / groups, *kernel]`; `bias [f]` of the same dtype."""
    geometry = (stride, padding, dilation)
    if x.ndim != weight.ndim or any(len(values) != x.ndim - 2 for values in geometry) or min(stride, default=0) < 1:
        return None
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        return None
    shape = (x.shape[0], weight.shape[0], *_sizes(x.shape[2:], weight.shape[2:], geometry))
    work = math.prod(shape) * math.prod(weight.shape[1:])
    if not _takes(api.DST, (x.dtype, weight.dtype), work, weight.shape[2:], stride) or not _agree(
            x.shape, weight.shape, shape, geometry, groups):
        return None
    out = np.empty(shape, x.dtype)
    return out if _convolve(api.DST, x, weight, out, bias, geometry, groups) else None


def conv_input_grad(grad: np.ndarray, weight: np.ndarray, size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
                    dilation: Sequence[int], groups: int = 1) -> np.ndarray | None:
    """Return the gradient of `conv`'s input of spatial sizes `size`; also the transposed convolution."""
    shape, geometry = (*grad.shape[:1], weight.shape[1] * groups, *size), (stride, padding, dilation)
    work = grad.size * math.prod(weight.shape[1:])
    if not _takes(api.DIFF_SRC, (grad.dtype, weight.dtype), work, weight.shape[2:], stride) or not _agree(
            shape, weight.shape, grad.shape, geometry, groups):
        return None
    out = np.empty(shape, grad.dtype)
    return out if _convolve(api.DIFF_SRC, out, weight, grad, None, geometry, groups) else None


def conv_weight_grad(grad: np.ndarray, x: np.ndarray, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
                     dilation: Sequence[int], groups: int = 1) -> np.ndarray | None:
    """Return the gradient of `conv`'s weight with kernel sizes `kernel`."""
    if min(grad.ndim, x.ndim) < 3 or groups < 1:
        return None
    shape, geometry = (grad.shape[1], x.shape[1] // groups, *kernel), (stride, padding, dilation)
    if not _takes(api.DIFF_WEIGHTS, (grad.dtype, x.dtype), grad.size * math.prod(shape[1:]), kernel, stride) or not _agree(
            x.shape, shape, grad.shape, geometry, groups):
        return None
    out = np.empty(shape, x.dtype)
    return out if _convolve(api.DIFF_WEIGHTS, x, out, grad, None, geometry, groups) else None
