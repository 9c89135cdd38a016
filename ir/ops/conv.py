"""Convolutions. Three bilinear primitives, each the derivative of the others, so any order of derivative is at hand.

``conv`` contracts input and weight; ``conv_input_grad`` contracts output and weight (it also is the transposed
convolution); ``conv_weight_grad`` contracts input and output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..autocast import runs_in
from ..family import common_device, composite, conj_of, ops, primitive
from ..meta import TensorMeta
from ..op import public, type_name
from ..samples import S, T
from .windows import add_windows, take_windows

# ---- shapes --------------------------------------------------------------------------------------------------------


def _out_sizes(x: Sequence[Any], kernel: Sequence[Any], stride: Any, padding: Any, dilation: Any) -> tuple:
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(x, kernel, stride, padding, dilation))


def _conv_meta(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> TensorMeta:
    _check_conv(x, weight, bias, stride, padding, dilation, groups)
    sizes = _out_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return TensorMeta((x.shape[0], weight.shape[0], *sizes), x.dtype, common_device(conv, (x, weight, bias)))


def _check_conv(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    n, shown = weight.ndim - 2, f"weight of size {list(weight.shape)}"
    if x.ndim != weight.ndim or n < 1:
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to conv{n}d, but got input of size: "
                           f"{list(x.shape)}")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    _check_geometry(stride, padding, dilation)
    if isinstance(weight.shape[0], int) and weight.shape[0] < groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got {shown} "
                           "instead")
    if weight.shape[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got "
                           f"{shown} instead")
    if x.shape[1] != weight.shape[1] * groups:
        raise RuntimeError(f"Given groups={groups}, {shown}, expected input{list(x.shape)} to have "
                           f"{weight.shape[1] * groups} channels, but got {x.shape[1]} channels instead")
    _check_bias(bias, weight.shape[0], shown)
    _check_types(x, weight, bias)
    for size, k, p, d in zip(x.shape[2:], weight.shape[2:], padding, dilation):
        if size + 2 * p < d * (k - 1) + 1:
            padded = " x ".join(str(s + 2 * q) for s, q in zip(x.shape[2:], padding))
            kernel = " x ".join(str(e * (j - 1) + 1) for j, e in zip(weight.shape[2:], dilation))
            raise RuntimeError(f"Calculated padded input size per channel: ({padded}). Kernel size: ({kernel}). Kernel size "
                               "can't be greater than actual input size")


def _check_bias(bias: Any, channels: Any, shown: str) -> None:
    if bias is not None and tuple(bias.shape) != (channels,):
        raise RuntimeError(f"Given {shown}, expected bias to be 1-dimensional with {channels} elements, but got bias of size "
                           f"{list(bias.shape)} instead")


def _check_types(x: Any, weight: Any, bias: Any) -> None:
    for other, name in ((weight, "weight"), (bias, "bias")):
        if other is not None and other.dtype is not x.dtype:
            raise RuntimeError(f"Input type ({type_name(x.dtype)}) and {name} type ({type_name(other.dtype)}) should be the "
                               "same")


def _check_geometry(stride: Any, padding: Any, dilation: Any) -> None:
    if any(s <= 0 for s in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(p < 0 for p in padding):
        raise RuntimeError("negative padding is not supported")
    if any(d <= 0 for d in dilation):
        raise RuntimeError("dilation should be greater than zero")


# ---- kernels ------------------------------------------------------------------------------------------------------
# The NumPy form: gather the windows into a matrix and multiply once per sample and group.


def _columns(xp: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The windows of ``x`` as [N, groups, C/groups * kernel, positions]."""
    n, c = x.shape[:2]
    if any(padding):
        x = xp.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    windows = take_windows(xp, x, kernel, stride, dilation)
    m = len(kernel)
    places = windows.shape[2:2 + m]
    order = (0, 1, *range(2 + m, 2 + 2 * m), *range(2, 2 + m))
    return windows.transpose(order).reshape(n, groups, c // groups * math.prod(kernel), math.prod(places))


def _conv_kernel(xp: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    _check_conv(x, weight, bias, stride, padding, dilation, groups)
    kernel, filters = weight.shape[2:], weight.shape[0]
    sizes = _out_sizes(x.shape[2:], kernel, stride, padding, dilation)
    columns = _columns(xp, x, kernel, stride, padding, dilation, groups)
    out = xp.matmul(weight.reshape(groups, filters // groups, columns.shape[2]), columns)
    out = out.reshape(x.shape[0], filters, *sizes)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(kernel))
    return out


def _conv_input_grad_kernel(xp: Any, g: Any, weight: Any, size: Any, stride: Any, padding: Any, dilation: Any,
                            groups: int) -> Any:
    n, filters = g.shape[:2]
    kernel, m = weight.shape[2:], len(size)
    places = g.shape[2:]
    left = weight.reshape(groups, filters // groups, -1).transpose(0, 2, 1)
    columns = xp.matmul(left, g.reshape(n, groups, filters // groups, math.prod(places)))
    columns = columns.reshape(n, weight.shape[1] * groups, *kernel, *places)
    windows = columns.transpose(0, 1, *range(2 + m, 2 + 2 * m), *range(2, 2 + m))
    padded = [s + 2 * p for s, p in zip(size, padding)]
    whole = add_windows(xp, windows, padded, stride, dilation)
    inside = (..., *(slice(p, p + s) for p, s in zip(padding, size)))
    return whole[inside] if any(padding) else whole


def _conv_weight_grad_kernel(xp: Any, g: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
                             groups: int) -> Any:
    n, filters = g.shape[:2]
    columns = _columns(xp, x, kernel, stride, padding, dilation, groups)
    gs = g.reshape(n, groups, filters // groups, columns.shape[3])
    if n <= 4:
        out = xp.matmul(gs, columns.transpose(0, 1, 3, 2)).sum(0)
    else:  # one product over samples and positions together
        left = gs.transpose(1, 2, 0, 3).reshape(groups, filters // groups, -1)
        out = xp.matmul(left, columns.transpose(1, 0, 3, 2).reshape(groups, left.shape[2], -1))
    return out.reshape(filters, x.shape[1] // groups, *kernel)


# ---- the primitives -----------------------------------------------------------------------------------------------


def _bias_grad(g: Any) -> Any:
    return ops.sum(g, (0, *range(2, g.ndim)))


_GEOMETRIES = lambda n: [((1,) * n, (0,) * n, (1,) * n, 1), ((2,) * n, (1,) * n, (1,) * n, 1), ((1,) * n, (2,) * n, (2,) * n, 2)]


def _conv_samples() -> list:
    found = []
    for n in (1, 2, 3):
        for stride, padding, dilation, groups in _GEOMETRIES(n):
            x, w = T((2, 4, *(5, 6, 4)[:n])), T((4, 4 // groups, *(3, 2, 2)[:n]))
            found.append(S(x, w, T((4,)), stride, padding, dilation, groups))
    return [*found, S(T((2, 3, 4, 4)), T((5, 3, 1, 1)), None, (1, 1), (0, 0), (1, 1), 1)]


conv = primitive(
    "conv(Tensor self, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor",
    "conv", kernel=_conv_kernel, infer=_conv_meta, promote="same", api=(), samples=_conv_samples,
    vjp=(lambda g, out, x, w, b, stride, padding, dilation, groups:
         ops.conv_input_grad(g, conj_of(w), tuple(x.shape[2:]), stride, padding, dilation, groups),
         lambda g, out, x, w, b, stride, padding, dilation, groups:
         ops.conv_weight_grad(g, conj_of(x), tuple(w.shape[2:]), stride, padding, dilation, groups),
         lambda g, out, x, w, b, stride, padding, dilation, groups: _bias_grad(g)),
    doc="Windows of the input times the weight. Shapes: [N, C, *in], [F, C/groups, *kernel], [F] -> [N, F, *out].")


def _resized(x: Any, sizes: Any) -> Any:
    """``x`` cut or filled with zeros at the end of each dimension: a dilated window may fit once more than was asked for."""
    extra = [want - have for have, want in zip(x.shape[2:], sizes)]
    if all(isinstance(e, int) and e == 0 for e in extra):
        return x
    return ops.constant_pad_nd(x, tuple(p for e in reversed(extra) for p in (0, e)))


def _conv_input_grad_meta(g: Any, weight: Any, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> TensorMeta:
    return TensorMeta((g.shape[0], weight.shape[1] * groups, *size), g.dtype, common_device(conv_input_grad, (g, weight)))


conv_input_grad = primitive(
    "conv_input_grad(Tensor grad, Tensor weight, int[] size, int[] stride, int[] padding, int[] dilation, int groups)"
    " -> Tensor", "conv", kernel=_conv_input_grad_kernel, infer=_conv_input_grad_meta, promote="same", api=(),
    vjp=(lambda gg, out, g, w, size, stride, padding, dilation, groups:
         _resized(ops.conv(gg, conj_of(w), None, stride, padding, dilation, groups), g.shape[2:]),
         lambda gg, out, g, w, size, stride, padding, dilation, groups:
         ops.conv_weight_grad(_resized(conj_of(g), _out_sizes(gg.shape[2:], w.shape[2:], stride, padding, dilation)), gg,
                              tuple(w.shape[2:]), stride, padding, dilation, groups)),
    samples=lambda: [S(T((2, 4, 3)), T((4, 3, 3)), (5,), (1,), (0,), (1,), 1),
                     S(T((2, 4, 3, 3)), T((4, 2, 2, 2)), (5, 4), (2, 2), (1, 1), (1, 1), 2),
                     S(T((1, 2, 2, 2, 2)), T((2, 3, 2, 2, 2)), (3, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1), 1)],
    doc="The gradient of conv's input of sizes ``size``: [N, F, *out], [F, C/groups, *kernel] -> [N, C, *size].")


def _conv_weight_grad_meta(g: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> TensorMeta:
    return TensorMeta((g.shape[1], x.shape[1] // groups, *kernel), x.dtype, common_device(conv_weight_grad, (g, x)))


conv_weight_grad = primitive(
    "conv_weight_grad(Tensor grad, Tensor self, int[] kernel, int[] stride, int[] padding, int[] dilation, int groups)"
    " -> Tensor", "conv", kernel=_conv_weight_grad_kernel, infer=_conv_weight_grad_meta, promote="same", api=(),
    vjp=(lambda gg, out, g, x, kernel, stride, padding, dilation, groups:
         ops.conv(conj_of(x), gg, None, stride, padding, dilation, groups),
         lambda gg, out, g, x, kernel, stride, padding, dilation, groups:
         ops.conv_input_grad(conj_of(g), gg, tuple(x.shape[2:]), stride, padding, dilation, groups)),
    samples=lambda: [S(T((2, 4, 3)), T((2, 3, 5)), (3,), (1,), (0,), (1,), 1),
                     S(T((6, 4, 3, 3)), T((6, 4, 5, 5)), (3, 3), (2, 2), (1, 1), (1, 1), 2)],
    doc="The gradient of conv's weight with kernel sizes ``kernel``: [N, F, *out], [N, C, *in] -> [F, C/groups, *kernel].")

for _op, _template in ((conv, "conv"), (conv_input_grad, "conv_input"), (conv_weight_grad, "conv_weight")):
    _op.extra.update(template=_template, template_dtypes=("float32",), half=_template)

# ---- the public functions ------------------------------------------------------------------------------------------


def sizes_of(value: Any, n: int, name: str) -> tuple:
    """An int for every spatial dimension, or one for each. Raises ``RuntimeError`` for another number of them."""
    if not isinstance(value, (tuple, list)):
        return (value,) * n
    if len(value) == 1:
        return tuple(value) * n
    if len(value) != n:
        raise RuntimeError(f"expected {name} to be a single integer value or a list of {n} values to match the convolution "
                           f"dimensions, but got {name}={list(value)}")
    return tuple(value)


def _convolution(n: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    if weight.ndim != n + 2:
        asked = "weight should have at least three dimensions" if weight.ndim < 3 else (
            f"Expected {weight.ndim}-dimensional input for {weight.ndim}-dimensional weight, but conv{n}d needs {n + 2} of both")
        raise RuntimeError(f"{asked}; got weight of size {list(weight.shape)}")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to conv{n}d, but got input of size: "
                           f"{list(x.shape)}")
    stride, dilation = sizes_of(stride, n, "stride"), sizes_of(dilation, n, "dilation")
    if x.ndim == n + 1:
        return ops.squeeze(_convolution(n, ops.unsqueeze(x, 0), weight, bias, stride, padding, dilation, groups), 0)
    if isinstance(padding, str):
        x, padding = _named_padding(x, padding, weight.shape[2:], stride, dilation)
    return ops.conv(x, weight, bias, stride, sizes_of(padding, n, "padding"), dilation, groups)


def _named_padding(x: Any, padding: str, kernel: Sequence[int], stride: tuple, dilation: tuple) -> tuple[Any, tuple]:
    """``padding`` "valid" or "same" as numbers; what is odd goes to the end, by padding ``x`` itself."""
    n = len(stride)
    if padding == "valid":
        return x, (0,) * n
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for k, d in zip(kernel, dilation)]
    extra = [t % 2 for t in total]
    if any(extra):
        x = ops.constant_pad_nd(x, tuple(p for e in reversed(extra) for p in (0, e)))
    return x, tuple(t // 2 for t in total)


def _transposed(n: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int,
                dilation: Any) -> Any:
    if x.ndim not in (n + 1, n + 2) or weight.ndim != n + 2:
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to conv_transpose{n}d, but got input "
                           f"of size: {list(x.shape)}")
    if x.ndim == n + 1:
        return ops.squeeze(_transposed(n, ops.unsqueeze(x, 0), weight, bias, stride, padding, output_padding, groups,
                                       dilation), 0)
    stride, padding = sizes_of(stride, n, "stride"), sizes_of(padding, n, "padding")
    extra, dilation = sizes_of(output_padding, n, "output_padding"), sizes_of(dilation, n, "dilation")
    shown = f"transposed=1, weight of size {list(weight.shape)}"
    if x.shape[1] != weight.shape[0]:
        raise RuntimeError(f"Given {shown}, expected input{list(x.shape)} to have {weight.shape[0]} channels, but got "
                           f"{x.shape[1]} channels instead")
    _check_bias(bias, weight.shape[1] * groups, shown)
    _check_types(x, weight, bias)
    _check_geometry(stride, padding, dilation)
    for e, s, d in zip(extra, stride, dilation):
        if e >= s and e >= d:
            raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got output_padding: {e} "
                               f"stride: {s} dilation: {d}")
    size = tuple((i - 1) * s - 2 * p + d * (k - 1) + e + 1 for i, s, p, d, k, e in
                 zip(x.shape[2:], stride, padding, dilation, weight.shape[2:], extra))
    if any(s <= 0 for s in size):
        raise RuntimeError(f"Given input size per channel: {list(x.shape[2:])}. Calculated output size per channel: "
                           f"{list(size)}. Output size is too small")
    out = ops.conv_input_grad(x, weight, size, stride, padding, dilation, groups)
    return out if bias is None else out + ops.reshape(bias, (-1, *(1,) * n))


def _publish(n: int) -> None:
    """``conv{n}d`` and ``conv_transpose{n}d``."""
    def forward(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                groups: int = 1) -> Any:
        return _convolution(n, input, weight, bias, stride, padding, dilation, groups)

    def transposed(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                   groups: int = 1, dilation: Any = 1) -> Any:
        return _transposed(n, input, weight, bias, stride, padding, output_padding, groups, dilation)

    forward.__doc__ = (f"Convolution over {n} dimensions; padding also \"same\" or \"valid\". Shapes: [N, C, *in] (or [C, "
                       "*in]), [F, C/groups, *kernel], [F] -> [N, F, *out].")
    transposed.__doc__ = (f"Transposed convolution over {n} dimensions. Shapes: [N, C, *in] (or [C, *in]), [C, F/groups, "
                          "*kernel], [F] -> [N, F, *out].")
    for fn, name in ((forward, f"conv{n}d"), (transposed, f"conv_transpose{n}d")):
        fn.__name__ = fn.__qualname__ = name
        public(f"nn.functional.{name}", f"torch.{name}")(runs_in("lower")(fn))  # bias and padding included


for _n in (1, 2, 3):
    _publish(_n)


def _depth_to_space(x: Any, r: int) -> Any:
    c, h, w = x.shape[-3:]
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                           f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")
    lead = tuple(x.shape[:-3])
    n = len(lead)
    parts = ops.reshape(x, (*lead, c // (r * r), r, r, h, w))
    parts = ops.permute(parts, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return ops.reshape(parts, (*lead, c // (r * r), h * r, w * r))


def _space_to_depth(x: Any, r: int) -> Any:
    c, h, w = x.shape[-3:]
    if h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but got {h} x {w} "
                           f"and {r}")
    lead = tuple(x.shape[:-3])
    n = len(lead)
    parts = ops.reshape(x, (*lead, c, h // r, r, w // r, r))
    parts = ops.permute(parts, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return ops.reshape(parts, (*lead, c * r * r, h // r, w // r))


composite("pixel_shuffle(Tensor self, int upscale_factor) -> Tensor", _depth_to_space,
          api=("nn.functional.pixel_shuffle", "torch.pixel_shuffle"), samples=lambda: [S(T((1, 8, 2, 3)), 2), S(T((4, 2, 2)), 2)],
          doc="Channels moved into positions. Shapes: [*, C*r*r, H, W] -> [*, C, H*r, W*r].")
composite("pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor", _space_to_depth,
          api=("nn.functional.pixel_unshuffle", "torch.pixel_unshuffle"), samples=lambda: [S(T((1, 2, 4, 6)), 2)],
          doc="Positions moved into channels. Shapes: [*, C, H*r, W*r] -> [*, C*r*r, H, W].")
composite("channel_shuffle(Tensor self, int groups) -> Tensor",
          lambda x, groups: ops.reshape(ops.transpose(ops.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])),
                                                      1, 2), tuple(x.shape)),
          api=("nn.functional.channel_shuffle", "torch.channel_shuffle"), samples=lambda: [S(T((2, 6, 3)), 3)],
          doc="Channels of the groups interleaved. Shapes: [N, C, *] -> same.")
