"""Random tensors. Each op draws from a generator in PyTorch's order; half precisions draw in float32 and are rounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..device import as_device
from ..dtype import DType
from ..family import ops, primitive
from ..meta import TensorMeta, meta_of
from ..op import public
from ..randomness import generator as _generator
from ..samples import S, T

_TAGS = ("random", "extern")


def _float_dtype(dtype: DType | None, name: str) -> DType:
    dtype = dtype or _dtype.get_default_dtype()
    if not dtype.differentiable:
        raise RuntimeError(f'"{name}" not implemented for {dtype.name!r}; give a floating-point dtype')
    return dtype


def _count(size: Any) -> int:
    return math.prod(size)


def _uniform(xp: Any, size: Any, low: Any, high: Any, dtype: Any, device: Any, generator: Any) -> Any:
    dtype, g, n = _float_dtype(dtype, "uniform"), _generator(generator), _count(size)
    if dtype.is_complex:
        parts = _uniform(np, (*size, 2), low, high, dtype.to_real(), device, generator)
        return xp.asarray(parts.view(dtype.np)[..., 0])
    if dtype is _dtype.float64:
        draws = g.uniform64(n) * (high - low) + low
    else:
        draws = g.uniform32(n) * np.float32(high - low) + np.float32(low)
    return xp.asarray(draws.reshape(size).astype(dtype.np))


uniform = primitive(
    "uniform(int[] size, float low=0, float high=1, *, dtype? dtype=None, device? device=None, any generator=None) -> Tensor",
    "random", kernel=_uniform, api=(), tags=_TAGS,
    infer=lambda size, low, high, dtype, device, generator: TensorMeta(
        tuple(size), _float_dtype(dtype, "uniform"), as_device(device)),
    samples=lambda: [S((3, 4)), S((5,), -1.0, 2.0)])


def _normal(xp: Any, size: Any, mean: Any, std: Any, dtype: Any, device: Any, generator: Any) -> Any:
    dtype, g = _float_dtype(dtype, "normal"), _generator(generator)
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if dtype.is_complex:
        parts = _normal(np, (*size, 2), mean, std / math.sqrt(2), dtype.to_real(), device, generator)
        return xp.asarray(parts.view(dtype.np)[..., 0])
    draws = g.normal(_count(size), dtype is _dtype.float64)
    kind = draws.dtype.type
    return xp.asarray((draws * kind(std) + kind(mean)).reshape(size).astype(dtype.np))


normal_fill = primitive(
    "normal_fill(int[] size, float mean=0, float std=1, *, dtype? dtype=None, device? device=None, any generator=None) "
    "-> Tensor", "random", kernel=_normal, api=(), tags=_TAGS,
    infer=lambda size, mean, std, dtype, device, generator: TensorMeta(
        tuple(size), _float_dtype(dtype, "normal"), as_device(device)),
    samples=lambda: [S((3, 4)), S((40,), -1.0, 2.0)])


def _check_range(low: int, high: int) -> None:
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")


def _integers(xp: Any, size: Any, low: Any, high: Any, dtype: Any, device: Any, generator: Any) -> Any:
    _check_range(low, high)
    return xp.asarray(_generator(generator).integers(_count(size), low, high).reshape(size).astype(dtype.np))


integers = primitive(
    "integers(int[] size, int low, int high, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=_integers, api=(), tags=_TAGS,
    infer=lambda size, low, high, dtype, device, generator: TensorMeta(tuple(size), dtype, as_device(device)),
    samples=lambda: [S((3, 4), 0, 10, dtype=_dtype.int64)])


def _random_bits(xp: Any, size: Any, dtype: Any, device: Any, generator: Any) -> Any:
    g, n = _generator(generator), _count(size)
    if dtype in (_dtype.int64, _dtype.float64):
        top = (1 << 63) if dtype is _dtype.int64 else (1 << 53) + 1
        draws = g.bits64(n) % np.uint64(top)
    else:
        digits = {_dtype.float32: 24, _dtype.float16: 11, _dtype.bfloat16: 8}.get(dtype)
        top = (1 << digits) + 1 if digits else 2 if dtype is _dtype.bool_ else int(np.iinfo(dtype.np).max) + 1
        draws = g.bits32(n) % np.uint64(top)
    return xp.asarray(draws.reshape(size).astype(dtype.np))


random_bits = primitive(
    "random_bits(int[] size, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=_random_bits, api=(), tags=_TAGS,
    infer=lambda size, dtype, device, generator: TensorMeta(tuple(size), dtype, as_device(device)),
    samples=lambda: [S((3, 4), dtype=_dtype.int64)])


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")


def _bernoulli_fill(xp: Any, size: Any, p: Any, dtype: Any, device: Any, generator: Any) -> Any:
    _check_probability(p)
    return xp.asarray((_generator(generator).uniform64(_count(size)) < p).reshape(size).astype(dtype.np))


bernoulli_fill = primitive(
    "bernoulli_fill(int[] size, float p=0.5, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=_bernoulli_fill, api=(), tags=_TAGS,
    infer=lambda size, p, dtype, device, generator: TensorMeta(tuple(size), dtype, as_device(device)),
    samples=lambda: [S((3, 4), 0.3, dtype=_dtype.float32)])


def _bernoulli(xp: Any, p: Any, generator: Any) -> Any:
    host = p if xp is np else xp.asnumpy(p)
    if host.size and not (0 <= host.min() and host.max() <= 1):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false: probabilities outside [0, 1]")
    g = _generator(generator)
    draws = g.uniform64(host.size) if host.dtype == np.float64 else g.uniform32(host.size)
    return xp.asarray((draws.reshape(host.shape) < host).astype(host.dtype))


bernoulli = primitive(
    "bernoulli(Tensor self, *, any generator=None) -> Tensor", "random", kernel=_bernoulli, promote="keep", tags=_TAGS,
    infer=lambda p, generator: meta_of(p), api=(), samples=lambda: [S(T((3, 4), 0.0, 1.0, grad=False))])


def _exponential(xp: Any, size: Any, rate: Any, dtype: Any, device: Any, generator: Any) -> Any:
    if rate <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate}")
    draws = -np.log1p(-_generator(generator).uniform64(_count(size))) / rate
    return xp.asarray(draws.reshape(size).astype(dtype.np))


exponential = primitive(
    "exponential(int[] size, float rate=1, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=_exponential, api=(), tags=_TAGS,
    infer=lambda size, rate, dtype, device, generator: TensorMeta(tuple(size), dtype, as_device(device)),
    samples=lambda: [S((3, 4), 2.0, dtype=_dtype.float32)])

permutation = primitive(
    "permutation(int n, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=lambda xp, n, dtype, device, generator: xp.asarray(_generator(generator).permutation(n).astype(dtype.np)),
    infer=lambda n, dtype, device, generator: TensorMeta((n,), dtype, as_device(device)), api=(), tags=_TAGS,
    samples=lambda: [S(6, dtype=_dtype.int64)])


def _multinomial_meta(p: Any, num_samples: Any, replacement: Any, generator: Any) -> TensorMeta:
    if p.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not p.dtype.is_floating_point:
        raise RuntimeError("multinomial only supports floating-point dtypes for input, got: " + str(p.dtype))
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > p.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    return TensorMeta((*p.shape[:-1], num_samples), _dtype.int64, p.device)


def _multinomial(xp: Any, p: Any, num_samples: int, replacement: bool, generator: Any) -> Any:
    host = np.atleast_2d(p if xp is np else xp.asnumpy(p))
    if not np.isfinite(host).all() or (host < 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (host.sum(-1) <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    g = _generator(generator)
    if replacement:
        cumulative = np.cumsum(host, -1)
        cumulative = cumulative / cumulative[:, -1:]
        draws = g.uniform64(len(host) * num_samples).reshape(len(host), num_samples)
        found = np.stack([np.searchsorted(c, d, side="left") for c, d in zip(cumulative, draws)])
    else:
        waits = -np.log1p(-g.uniform64(host.size)).reshape(host.shape).astype(host.dtype)
        found = np.argsort(-(host / waits), -1, kind="stable")[:, :num_samples]
    return xp.asarray(found.astype(np.int64).reshape(*p.shape[:-1], num_samples))


multinomial = primitive(
    "multinomial(Tensor self, int num_samples, bool replacement=False, *, any generator=None) -> Tensor", "random",
    kernel=_multinomial, infer=_multinomial_meta, tags=(*_TAGS, "check"),
    samples=lambda: [S(T((5,), 0.1, 1.0, grad=False), 3), S(T((2, 5), 0.1, 1.0, grad=False), 7, True)])


# ---- public functions ---------------------------------------------------------------------------------------------


def sizes(size: tuple) -> tuple:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else tuple(size)


def _done(t: Any, requires_grad: bool, out: Any = None) -> Any:
    if out is not None:
        return out.resize_(tuple(t.shape)).copy_(t)
    return t.requires_grad_() if requires_grad else t


@public("torch.rand")
def rand(*size: Any, generator: Any = None, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Uniform numbers in [0, 1). Shape: ``size``."""
    return _done(ops.uniform(sizes(size), dtype=dtype, device=device, generator=generator), requires_grad, out)


@public("torch.randn")
def randn(*size: Any, generator: Any = None, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
          requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Standard normal numbers. Shape: ``size``."""
    return _done(ops.normal_fill(sizes(size), dtype=dtype, device=device, generator=generator), requires_grad, out)


@public("torch.randint")
def randint(low: int, high: Any = None, size: Any = None, *, generator: Any = None, out: Any = None, dtype: Any = None,
            layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Integers in [low, high), or in [0, low) when only one bound is given. Shape: ``size``."""
    if size is None:
        low, high, size = 0, low, high
    if size is None:
        raise TypeError("randint(): missing the argument 'size'")
    if high is None:
        low, high = 0, low
    t = ops.integers(tuple(size), low, high, dtype=dtype or _dtype.int64, device=device, generator=generator)
    return _done(t, requires_grad, out)


@public("torch.randperm")
def randperm(n: int, *, generator: Any = None, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A random order of 0..n-1. Shape: [n]."""
    t = ops.permutation(n, dtype=dtype or _dtype.int64, device=device, generator=generator)
    return _done(t, requires_grad, out)


@public("torch.rand_like")
def rand_like(input: Any, *, generator: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None) -> Any:
    """Uniform numbers of ``input``'s shape, dtype and device."""
    t = ops.uniform(tuple(input.shape), dtype=dtype or input.dtype, device=device or input.device, generator=generator)
    return _done(t, requires_grad)


@public("torch.randn_like")
def randn_like(input: Any, *, generator: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
               requires_grad: bool = False, memory_format: Any = None) -> Any:
    """Standard normal numbers of ``input``'s shape, dtype and device."""
    t = ops.normal_fill(tuple(input.shape), dtype=dtype or input.dtype, device=device or input.device, generator=generator)
    return _done(t, requires_grad)


@public("torch.randint_like")
def randint_like(input: Any, low: int, high: int | None = None, *, dtype: Any = None, layout: Any = None,
                 device: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Any:
    """Integers of ``input``'s shape, dtype and device."""
    low, high = (0, low) if high is None else (low, high)
    t = ops.integers(tuple(input.shape), low, high, dtype=dtype or input.dtype, device=device or input.device)
    return _done(t, requires_grad)


@public("torch.normal")
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, out: Any = None, dtype: Any = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """Normal numbers. Shape: ``size``, or that of ``mean`` and ``std`` broadcast."""
    if size is not None:
        t = ops.normal_fill(tuple(size), float(mean), float(std), dtype=dtype, device=device, generator=generator)
        return _done(t, requires_grad, out)
    like = mean + std * 0 if hasattr(std, "shape") else mean
    z = ops.normal_fill(tuple(like.shape), dtype=like.dtype, device=like.device, generator=generator)
    return _done(z * std + mean, requires_grad, out)


@public("torch.bernoulli", "Tensor.bernoulli")
def bernoulli_call(input: Any, p: float | None = None, *, generator: Any = None, out: Any = None) -> Any:
    """Ones with probability ``input`` (or ``p`` everywhere), else zeros. Shape: ``input``'s."""
    if p is None:
        return _done(ops.bernoulli(input, generator=generator), False, out)
    t = ops.bernoulli_fill(tuple(input.shape), p, dtype=input.dtype, device=input.device, generator=generator)
    return _done(t, False, out)


def _filled(self: Any, op: Any, *numbers: Any, generator: Any) -> Any:
    drawn = op(tuple(self.shape), *numbers, dtype=self.dtype, device=self.device, generator=generator)
    return self.copy_(drawn)


@public("Tensor.uniform_")
def uniform_(self: Any, a: float = 0, b: float = 1, *, generator: Any = None) -> Any:
    """Fill with uniform numbers in [a, b)."""
    if a > b:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}")
    return _filled(self, ops.uniform, a, b, generator=generator)


@public("Tensor.normal_")
def normal_(self: Any, mean: float = 0, std: float = 1, *, generator: Any = None) -> Any:
    """Fill with normal numbers."""
    return _filled(self, ops.normal_fill, mean, std, generator=generator)


@public("Tensor.exponential_")
def exponential_(self: Any, lambd: float = 1, *, generator: Any = None) -> Any:
    """Fill with exponentially distributed numbers of rate ``lambd``."""
    return _filled(self, ops.exponential, lambd, generator=generator)


@public("Tensor.bernoulli_")
def bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Any:
    """Fill with ones with probability ``p`` (a number, or a tensor of this shape), else zeros."""
    if hasattr(p, "shape"):
        return self.copy_(ops.bernoulli(p, generator=generator))
    return _filled(self, ops.bernoulli_fill, p, generator=generator)


@public("Tensor.random_")
def random_(self: Any, low: int | None = None, high: int | None = None, *, generator: Any = None) -> Any:
    """Fill with integers in [low, high), in [0, low), or over the dtype's non-negative range."""
    if low is None:
        return _filled(self, ops.random_bits, generator=generator)
    low, high = (0, low) if high is None else (low, high)
    return _filled(self, ops.integers, low, high, generator=generator)
