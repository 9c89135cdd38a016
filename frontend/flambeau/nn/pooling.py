"""Pooling layers."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .dimensional import Dimensional


class _MaxPoolNd(Dimensional):
    """Maxima of windows. Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *out]."""

    function = "max_pool"

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
                 ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride if stride is not None else kernel_size
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        return self.run(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPoolNd, dims=1):
    """Maxima of windows. Shapes: [N, C, L] -> [N, C, L_out]."""


class MaxPool2d(_MaxPoolNd, dims=2):
    """Maxima of windows. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class MaxPool3d(_MaxPoolNd, dims=3):
    """Maxima of windows. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


class _MaxUnpoolNd(Dimensional):
    """Maxima put back where they were found, zeros elsewhere. Shapes: [N, C, *in] -> [N, C, *out]."""

    function = "max_unpool"

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = self.filled(kernel_size)
        self.stride = self.filled(stride if stride is not None else kernel_size)
        self.padding = self.filled(padding)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        return self.run(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd, dims=1):
    """Maxima put back where they were found, zeros elsewhere. Shapes: [N, C, L] -> [N, C, L_out]."""


class MaxUnpool2d(_MaxUnpoolNd, dims=2):
    """Maxima put back where they were found, zeros elsewhere. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class MaxUnpool3d(_MaxUnpoolNd, dims=3):
    """Maxima put back where they were found, zeros elsewhere. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


class _AvgPoolNd(Dimensional):
    """Averages of windows. Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *out]."""

    function = "avg_pool"

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride if stride is not None else kernel_size
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        return self.run(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                        self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd, dims=1):
    """Averages of windows. Shapes: [N, C, L] -> [N, C, L_out]."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        windows = self.filled(kernel_size), self.filled(stride if stride is not None else kernel_size), self.filled(padding)
        super().__init__(*windows, ceil_mode, count_include_pad)

    def forward(self, input: Any) -> Any:
        return self.run(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_AvgPoolNd, dims=2):
    """Averages of windows. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class AvgPool3d(_AvgPoolNd, dims=3):
    """Averages of windows. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


class _LPPoolNd(Dimensional):
    """Power means of windows. Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *out]."""

    function = "lp_pool"

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Any) -> Any:
        return self.run(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"ceil_mode={self.ceil_mode}")


class LPPool1d(_LPPoolNd, dims=1):
    """Power means of windows. Shapes: [N, C, L] -> [N, C, L_out]."""


class LPPool2d(_LPPoolNd, dims=2):
    """Power means of windows. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class LPPool3d(_LPPoolNd, dims=3):
    """Power means of windows. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


class _AdaptiveAvgPoolNd(Dimensional):
    """Averages of as many windows as asked for. Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *output_size]."""

    function = "adaptive_avg_pool"

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        return self.run(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd, dims=1):
    """Averages of as many windows as asked for. Shapes: [N, C, L] -> [N, C, L_out]."""


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd, dims=2):
    """Averages of as many windows as asked for. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd, dims=3):
    """Averages of as many windows as asked for. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


class _AdaptiveMaxPoolNd(Dimensional):
    """Maxima of as many windows as asked for. Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *output_size]."""

    function = "adaptive_max_pool"

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Any) -> Any:
        return self.run(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd, dims=1):
    """Maxima of as many windows as asked for. Shapes: [N, C, L] -> [N, C, L_out]."""


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd, dims=2):
    """Maxima of as many windows as asked for. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd, dims=3):
    """Maxima of as many windows as asked for. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


class _FractionalMaxPool(Dimensional):
    """Maxima of windows at random places. Shapes: [N, C, *in] (or [C, *in]) -> [N, C, *out]."""

    function = "fractional_max_pool"

    def __init__(self, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
                 _random_samples: Any = None) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size, self.return_indices = self.filled(kernel_size), return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else self.filled(output_size)
        ratio = (output_ratio,) * self.dims if isinstance(output_ratio, float) else output_ratio
        self.output_ratio = ratio
        if output_size is None and ratio is None:
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio")
        if output_size is not None and ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        if ratio is not None and not all(0 < r < 1 for r in ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Any) -> Any:
        pool = F.fractional_max_pool2d if self.dims == 2 else F.fractional_max_pool3d  # loaded late
        return pool(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPool, dims=2):
    """Maxima of windows at random places. Shapes: [N, C, H, W] -> [N, C, H_out, W_out]."""


class FractionalMaxPool3d(_FractionalMaxPool, dims=3):
    """Maxima of windows at random places. Shapes: [N, C, D, H, W] -> [N, C, D_out, H_out, W_out]."""


__all__ = ["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
           "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d",
           "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d",
           "MaxUnpool3d"]
