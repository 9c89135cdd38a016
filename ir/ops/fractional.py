"""Pooling over windows whose places are drawn at random (Graham, "Fractional max-pooling", 2014)."""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import ops
from ..op import public


def _several(value: Any, n: int) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def _starts(sample: Any, size: int, out: int, kernel: int) -> Any:
    """The first element of each window: [*planes, out], from one number in [0, 1) per plane. The last one ends at the end."""
    last = ops.full((*sample.shape, 1), size - kernel, dtype=_dtype.int64, device=sample.device)
    if out == 1:
        return last
    step = (size - kernel) / (out - 1)
    step = ops.full((), step, dtype=sample.dtype, device=sample.device)
    wide = ops.unsqueeze(sample, -1)
    i = ops.cast(ops.arange(0, out - 1, 1, device=sample.device), sample.dtype)
    drawn = ops.cast((i + wide) * step, _dtype.int64) - ops.cast(wide * step, _dtype.int64)
    return ops.cat([drawn, last], -1)


def _plane_indices(samples: Any, sizes: tuple, outs: tuple, kernel: tuple) -> Any:
    """The flat position of every window element: [N, C, prod(outs), prod(kernel)]."""
    n = len(sizes)
    flat: Any = 0
    for d, (size, out, k) in enumerate(zip(sizes, outs, kernel)):
        first = _starts(ops.select(samples, -1, d if n == 3 else n - 1 - d), size, out, k)
        within = ops.unsqueeze(first, -1) + ops.arange(0, k, 1, device=samples.device)  # [N, C, out, k]
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = out, k
        flat = flat * size + ops.reshape(within, (*samples.shape[:2], *shape))
    return ops.reshape(flat, (*samples.shape[:2], math.prod(outs), math.prod(kernel)))


def _output_sizes(name: str, n: int, x: Any, output_size: Any, output_ratio: Any) -> tuple:
    if output_size is not None:
        return _several(output_size, n)
    if output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if isinstance(output_ratio, (tuple, list)) and len(output_ratio) > n:
        raise ValueError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
    return tuple(int(s * r) for s, r in zip(x.shape[x.ndim - n:], _several(output_ratio, n)))


def _pooled(n: int, x: Any, kernel_size: Any, output_size: Any, output_ratio: Any, samples: Any) -> tuple[Any, Any]:
    name = f"fractional_max_pool{n}d"
    outs, kernel = _output_sizes(name, n, x, output_size, output_ratio), _several(kernel_size, n)
    if x.ndim not in (n + 1, n + 2) or not all(x.shape[-n - 1:]):
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor of non-empty dimensions as input, but got "
                           f"{list(x.shape)}")
    if len(outs) != n or len(kernel) != n:
        raise RuntimeError(f"{name}: kernel_size and output_size must be a single Int or tuple of {n} Ints")
    for d, (size, out, k) in enumerate(zip(x.shape[x.ndim - n:], outs, kernel)):
        if out < 1 or k < 1 or out + k - 1 > size:
            raise RuntimeError(f"{name}(): pool size {k} with {out} windows does not fit into dimension {d} of size {size}")
    lead, sizes = tuple(x.shape[:x.ndim - n]), tuple(x.shape[x.ndim - n:])
    planes = lead if len(lead) == 2 else (1, *lead)
    if samples is None:
        samples = ops.uniform((*planes, n), dtype=x.dtype, device=x.device)
    elif samples.ndim != 3 or samples.shape[0] < planes[0] or tuple(samples.shape[1:]) != (planes[1], n) \
            or samples.dtype is not x.dtype:
        raise RuntimeError(f"{name}: Expected _random_samples of shape {[*planes, n]} and of the input's dtype, but got "
                           f"{list(samples.shape)} of {samples.dtype}")
    places = _plane_indices(ops.slice(samples, 0, 0, planes[0]), sizes, outs, kernel)
    count = math.prod(outs) * math.prod(kernel)
    windows = ops.gather(ops.reshape(x, (*planes, math.prod(sizes))), 2, ops.reshape(places, (*planes, count)))
    best = ops.argmax(ops.detach(ops.reshape(windows, tuple(places.shape))), -1, True)
    index = ops.squeeze(ops.gather(places, -1, best), (-1,))
    values = ops.gather(ops.reshape(x, (*planes, math.prod(sizes))), 2, index)
    return ops.reshape(values, (*lead, *outs)), ops.reshape(index, (*lead, *outs))


def _publish(n: int) -> None:
    def pool(input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,  # noqa: A002
             return_indices: bool = False, _random_samples: Any = None) -> Any:
        found = _pooled(n, input, kernel_size, output_size, output_ratio, _random_samples)
        return found if return_indices else found[0]

    def pool_with_indices(input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,  # noqa: A002
                          return_indices: bool = False, _random_samples: Any = None) -> Any:
        return _pooled(n, input, kernel_size, output_size, output_ratio, _random_samples)

    for fn, name in ((pool, f"fractional_max_pool{n}d"), (pool_with_indices, f"fractional_max_pool{n}d_with_indices")):
        fn.__name__ = fn.__qualname__ = name
        fn.__doc__ = f"Maxima of windows at random places ({n} dimensions). Shapes: [N, C, *in] -> [N, C, *output_size]."
        public(f"nn.functional.{name}")(runs_in("float32@cpu")(fn))


_publish(2)
_publish(3)
