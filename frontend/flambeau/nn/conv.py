"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from . import functional as F
from . import init
from .dimensional import Dimensional
from .linear import new_parameter


class _ConvNd(Dimensional):
    """What convolutions share: settings, weight and bias, their initial values, and how they print."""

    function = "conv"
    transposed = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        n = self.dims
        self._check(in_channels, out_channels, groups, padding, stride, padding_mode)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = self.filled(kernel_size), self.filled(stride), self.filled(dilation)
        self.padding = padding if isinstance(padding, str) else self.filled(padding)
        self.output_padding, self.padding_mode = (0,) * n, padding_mode
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = new_parameter((first, second // groups, *self.kernel_size), device, dtype)
        if bias:
            self.bias = new_parameter((out_channels,), device, dtype)
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _check(self, in_channels: int, out_channels: int, groups: int, padding: Any, stride: Any, padding_mode: str) -> None:
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}")
            if padding == "same" and any(s != 1 for s in self.filled(stride)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        modes = {"zeros", "reflect", "replicate", "circular"}
        if padding_mode not in modes:
            raise ValueError(f"padding_mode must be one of {modes}, but got padding_mode='{padding_mode}'")
        if self.transposed and padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')

    def reset_parameters(self) -> None:
        """Uniform in ``1 / sqrt(fan_in)`` around 0."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def _padding_amounts(self) -> tuple[int, ...]:
        """Amounts for ``F.pad``, last dimension first."""
        if isinstance(self.padding, str):
            total = [0 if self.padding == "valid" else d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            pairs = [(t // 2, t - t // 2) for t in total]
        else:
            pairs = [(p, p) for p in self.padding]
        return tuple(p for pair in reversed(pairs) for p in pair)

    def forward(self, input: Any) -> Any:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._padding_amounts(), mode=self.padding_mode), 0
        return self.run(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        n = self.dims
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else text + f", padding_mode={self.padding_mode}"


class Conv1d(_ConvNd, dims=1):
    """Convolution. Shapes: [N, C_in, L] (or [C_in, L]) -> [N, C_out, L_out]."""


class Conv2d(_ConvNd, dims=2):
    """Convolution. Shapes: [N, C_in, H, W] (or [C_in, H, W]) -> [N, C_out, H_out, W_out]."""


class Conv3d(_ConvNd, dims=3):
    """Convolution. Shapes: [N, C_in, D, H, W] (or [C_in, D, H, W]) -> [N, C_out, D_out, H_out, W_out]."""


class _ConvTransposeNd(_ConvNd):
    """What transposed convolutions share."""

    function = "conv_transpose"
    transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device,
                         dtype)
        self.output_padding = self.filled(output_padding)

    def forward(self, input: Any, output_size: Any = None) -> Any:
        extra = self.output_padding if output_size is None else self._output_padding(input, output_size)
        return self.run(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _output_padding(self, input: Any, output_size: Any) -> tuple[int, ...]:
        """The output padding that makes the result ``output_size``. Raises ``ValueError`` when none does."""
        n = self.dims
        size = tuple(output_size)[-n:]
        if len(output_size) not in (n, input.ndim):
            raise ValueError(f"ConvTranspose{n}D: for {input.ndim}D input, output_size must have {n} or {input.ndim} elements "
                             f"(got {len(output_size)})")
        least = [(i - 1) * s - 2 * p + d * (k - 1) + 1 for i, s, p, d, k in
                 zip(input.shape[input.ndim - n:], self.stride, self.padding, self.dilation, self.kernel_size)]
        most = [m + s - 1 for m, s in zip(least, self.stride)]
        if any(not low <= have <= high for low, have, high in zip(least, size, most)):
            raise ValueError(f"requested an output size of {list(size)}, but valid sizes range from {least} to {most} (for an "
                             f"input of {list(input.shape[input.ndim - n:])})")
        return tuple(have - low for have, low in zip(size, least))


class ConvTranspose1d(_ConvTransposeNd, dims=1):
    """Transposed convolution. Shapes: [N, C_in, L] -> [N, C_out, L_out]."""


class ConvTranspose2d(_ConvTransposeNd, dims=2):
    """Transposed convolution. Shapes: [N, C_in, H, W] -> [N, C_out, H_out, W_out]."""


class ConvTranspose3d(_ConvTransposeNd, dims=3):
    """Transposed convolution. Shapes: [N, C_in, D, H, W] -> [N, C_out, D_out, H_out, W_out]."""


__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
