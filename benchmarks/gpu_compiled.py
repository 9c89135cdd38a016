"""Functions that the GPU benchmark runs eagerly on CuPy and compiled to Triton, beside torch doing the same.

Each function is written once, for any module that offers PyTorch's names: flambeau and torch run the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Function:
    """``fn(module, *tensors)``; ``shapes`` of its inputs to time, ``check`` those to compare with the CPU.

    ``gradients``: the backward of the sum of its result is run too, to all inputs. ``amount`` is bytes or operations.
    """

    name: str
    fn: Callable[..., Any]
    check: list[tuple[int, ...]]
    shapes: list[tuple[int, ...]]
    amount: float
    unit: str
    dtype: str = "float32"
    tolerance: float = 1e-4
    gradients: bool = False


def pointwise(t: Any, x: Any, b: Any, y: Any) -> Any:
    return t.nn.functional.gelu(x + b) * y


def softmax(t: Any, x: Any) -> Any:
    return t.softmax(x * 0.5, -1)


def layer_norm(t: Any, x: Any, w: Any, b: Any) -> Any:
    return t.nn.functional.layer_norm(x, (x.shape[-1],), w, b)


def column_sum(t: Any, x: Any) -> Any:
    return t.exp(x).sum(0)


def mlp(t: Any, x: Any, w: Any, b: Any, v: Any) -> Any:
    return t.nn.functional.gelu(x @ w + b) @ v


def attention(t: Any, q: Any, k: Any, v: Any) -> Any:
    return t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def functions() -> Iterator[Function]:
    rows, columns = 16384, 4096
    wide = rows * columns * 4
    small, tall = [(37, 100)], [(rows, columns)]
    yield Function("gelu(x + b) * y", pointwise, [(37, 100), (100,), (37, 100)],
                   [(rows, columns), (columns,), (rows, columns)], 3 * wide, "GB/s")
    yield Function("softmax", softmax, small, tall, 2 * wide, "GB/s")
    yield Function("layer_norm", layer_norm, [(37, 100), (100,), (100,)], [(rows, columns), (columns,), (columns,)],
                   2 * wide, "GB/s")
    yield Function("layer_norm forward + backward", layer_norm, [(37, 100), (100,), (100,)],
                   [(rows, columns), (columns,), (columns,)], 5 * wide, "GB/s", gradients=True, tolerance=1e-3)
    yield Function("exp(x).sum(0)", column_sum, small, tall, wide, "GB/s", tolerance=1e-3)
    for dtype, size, tolerance in (("bfloat16", 4096, 5e-2), ("float32", 2048, 1e-3)):
        yield Function(f"mlp {dtype}", mlp, [(40, 48), (48, 64), (64,), (64, 48)],
                       [(size, size), (size, 2 * size), (2 * size,), (2 * size, size)], 8 * size**3, "TFLOP/s",
                       dtype, tolerance)
    heads = (4, 16, 2048, 64)
    yield Function("attention bfloat16", attention, [(2, 3, 40, 16)] * 3, [heads] * 3, 2 * math.prod(heads) * 2048,
                   "TFLOP/s", "bfloat16", 5e-2)


def arrays(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Standard normal inputs; weights of matrix products are scaled so that results stay near one."""
    rng = np.random.default_rng(0)
    found = []
    for place, shape in enumerate(shapes):
        block = rng.standard_normal(min(math.prod(shape), 1 << 22), np.float32)
        array = np.resize(block, math.prod(shape)).reshape(shape)
        found.append(array / np.float32(math.sqrt(shape[0])) if place and len(shape) == 2 and len(shapes) == 4 else array)
    return found


class Runner:
    """A function on tensors of one module: forward, or forward and backward."""

    def __init__(self, function: Function, module: Any, host: list[np.ndarray], device: str) -> None:
        self.function, self.module = function, module
        dtype = getattr(module, function.dtype)
        self.tensors = [module.from_numpy(np.ascontiguousarray(array)).to(device).to(dtype) for array in host]
        for tensor in self.tensors if function.gradients else ():
            tensor.requires_grad_()

    def __call__(self, call: Callable[..., Any] | None = None) -> list[Any]:
        """Results, then gradients."""
        result = (call or self.call)(*self.tensors)
        if not self.function.gradients:
            return [result]
        for tensor in self.tensors:
            tensor.grad = None
        result.sum().backward()
        return [result, *(tensor.grad for tensor in self.tensors)]

    def call(self, *tensors: Any) -> Any:
        return self.function.fn(self.module, *tensors)


def host(results: list[Any]) -> list[np.ndarray]:
    """Results as float64 on the host."""
    return [result.detach().to("cpu").double().numpy() for result in results]


def worst(got: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest error relative to max(1, |wanted|); NaN counts as infinite."""
    errors = [np.abs(a - b) / np.maximum(1, np.abs(b)) for a, b in zip(got, wanted, strict=True)]
    return max(float(np.nan_to_num(error, nan=np.inf).max(initial=0)) for error in errors)
