"""Where the GPU benchmark runs: a real GPU through CuPy and our own launcher, or paper (NumPy and the interpreter).

Both offer the same few methods, so that every case can be rehearsed, with tiny sizes, on a machine without a GPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.codegen.triton_build import TritonSource, lower
from flambeau.codegen.triton_interp import interpret
from flambeau.runtime import cuda

Launch = Callable[[], None]


class Gpu:
    """The first GPU. Arrays are CuPy's; types that CuPy lacks travel as integers of the same width."""

    timed = True

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.device = cuda.device(0)
        cupy.empty(1)                      # creates CuPy's context, which is the primary one that we share
        self.device.activate()
        self.target = self.device.target

    def upload(self, array: np.ndarray) -> Any:
        known = array.dtype.kind in "fiub" and array.dtype.type.__module__ == "numpy"
        return self.cupy.asarray(array if known else array.view(f"u{array.itemsize}"))

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> Any:
        return self.upload(np.zeros(shape, dtype))

    def download(self, array: Any, dtype: np.dtype) -> np.ndarray:
        return array.get().view(dtype)

    def prepare(self, source: TritonSource, grid: Sequence[int], args: Sequence[Any]) -> Launch:
        """Compile, load and bind; the result launches once."""
        lowered = lower(source, self.target)
        function = self.device.load(lowered.binary).function(
            lowered.name, lowered.params, threads=lowered.num_warps * lowered.warp_size, shared=lowered.shared)
        values = [arg.data.ptr if hasattr(arg, "data") else arg for arg in args]
        return lambda: function.launch(grid, values)

    def synchronize(self) -> None:
        self.device.synchronize()

    def milliseconds(self, run: Callable[[], Any], repeats: int = 20) -> float:
        """Median time of one call on the device's clock, after a warm-up that also settles the clocks."""
        for _ in range(3):
            run()
        self.device.synchronize()
        marks = [(self.device.event(), self.device.event()) for _ in range(repeats)]
        for start, end in marks:
            start.record()
            run()
            end.record()
        self.device.synchronize()
        return statistics.median(end.milliseconds_since(start) for start, end in marks)


class Paper:
    """No GPU: NumPy arrays, Triton's interpreter, no times."""

    timed = False
    target = "cuda:90"

    def upload(self, array: np.ndarray) -> np.ndarray:
        return array

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    def download(self, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
        return array

    def prepare(self, source: TritonSource, grid: Sequence[int], args: Sequence[Any]) -> Launch:
        return lambda: interpret(source, tuple(grid), args)

    def synchronize(self) -> None:
        """Everything has already happened."""
