"""Random tensors. Each op draws from a generator in PyTorch's order; half precisions draw in float32 and are rounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..device import as_device
from ..dtype import DType
from ..family import ops, primitive
from ..meta import TensorMeta, meta_of
from ..op import public, state, type_name
from ..randomness import generator as _generator
from ..samples import S, T

_TAGS = ("random", "extern")


def _float_dtype(dtype: DType | None, name: str) -> DType:
    dtype = dtype or _dtype.get_default_dtype()
    if not dtype.differentiable:
        raise RuntimeError(f'"{name}" not implemented for {dtype.name!r}; give a floating-point dtype')
    return dtype


def _meta(size: Any, dtype: DType, device: Any, check: Callable[..., None], *numbers: Any) -> TensorMeta:
    """What is drawn, if the parameters of the distribution are right as far as they are known."""
    if all(isinstance(n, (int, float)) for n in numbers):
        check(*numbers)
    return TensorMeta(tuple(size), dtype, as_device(device))


def _count(size: Any) -> int:
    return math.prod(size)


def _uniform(xp: Any, size: Any, low: Any, high: Any, dtype: Any, device: Any, generator: Any) -> Any:
    dtype = _float_dtype(dtype, "uniform")
    if dtype.is_complex:
        parts = _uniform(np, (*size, 2), low, high, dtype.to_real(), device, generator)
        return xp.asarray(parts.view(dtype.np)[..., 0])
    return xp.asarray(_generator(generator).uniform(_count(size), low, high, dtype.np).reshape(size))


uniform = primitive(
    "uniform(int[] size, float low=0, float high=1, *, dtype? dtype=None, device? device=None, any generator=None) -> Tensor",
    "random", kernel=_uniform, api=(), tags=_TAGS,
    infer=lambda size, low, high, dtype, device, generator: TensorMeta(
        tuple(size), _float_dtype(dtype, "uniform"), as_device(device)),
    samples=lambda: [S((3, 4)), S((5,), -1.0, 2.0)])


def _check_std(std: Any) -> None:
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")


def _normal(xp: Any, size: Any, mean: Any, std: Any, dtype: Any, device: Any, generator: Any, serial: bool) -> Any:
    dtype = _float_dtype(dtype, "normal")
    _check_std(std)
    if dtype.is_complex:
        parts = _normal(np, (*size, 2), mean, std / math.sqrt(2), dtype.to_real(), device, generator, serial)
        return xp.asarray(parts.view(dtype.np)[..., 0])
    return xp.asarray(_generator(generator).normal(_count(size), mean, std, dtype.np, serial).reshape(size))


normal_fill = primitive(
    "normal_fill(int[] size, float mean=0, float std=1, *, dtype? dtype=None, device? device=None, any generator=None, "
    "bool serial=False) -> Tensor", "random", kernel=_normal, api=(), tags=_TAGS,
    infer=lambda size, mean, std, dtype, device, generator, serial: _meta(
        size, _float_dtype(dtype, "normal"), device, _check_std, std),
    samples=lambda: [S((3, 4)), S((40,), -1.0, 2.0)],
    doc="Normal numbers; ``serial``: drawn one by one, as for memory that is not contiguous.")


def _check_range(low: int, high: int) -> None:
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")


def _integers(xp: Any, size: Any, low: Any, high: Any, dtype: Any, device: Any, generator: Any) -> Any:
    _check_range(low, high)
    return xp.asarray(_generator(generator).integers(_count(size), low, high).reshape(size).astype(dtype.np))


integers = primitive(
    "integers(int[] size, int low, int high, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=_integers, api=(), tags=_TAGS,
    infer=lambda size, low, high, dtype, device, generator: _meta(size, dtype, device, _check_range, low, high),
    samples=lambda: [S((3, 4), 0, 10, dtype=_dtype.int64)])


def _random_bits(xp: Any, size: Any, dtype: Any, device: Any, generator: Any) -> Any:
    g, n = _generator(generator), _count(size)
    if dtype in (_dtype.int64, _dtype.float64):
        draws = g.bits64(n) % np.uint64(_beyond(dtype))
    else:
        draws = g.bits32(n) % np.uint64(_beyond(dtype))
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
    infer=lambda size, p, dtype, device, generator: _meta(size, dtype, device, _check_probability, p),
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


def _check_rate(rate: Any) -> None:
    if rate <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate}")


def _exponential(xp: Any, size: Any, rate: Any, dtype: Any, device: Any, generator: Any) -> Any:
    _check_rate(rate)
    return xp.asarray(_rounded(_generator(generator).exponential(_count(size), rate), dtype).reshape(size))


def _rounded(draws: Any, dtype: DType) -> Any:
    """float64 draws in another dtype; to a half through float32, as C++ converts them."""
    return (draws.astype(np.float32) if dtype.itemsize == 2 and dtype.kind == "f" else draws).astype(dtype.np, copy=False)


exponential = primitive(
    "exponential(int[] size, float rate=1, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random",
    kernel=_exponential, api=(), tags=_TAGS,
    infer=lambda size, rate, dtype, device, generator: _meta(size, dtype, device, _check_rate, rate),
    samples=lambda: [S((3, 4), 2.0, dtype=_dtype.float32)])

def _distribution(name: str, params: str, wrong: Any, dtypes: str, doc: str) -> Any:
    """An op that fills with float64 draws of the generator's method ``name``, rounded to a dtype."""
    def check(*numbers: Any) -> None:
        if wrong(*numbers):
            raise RuntimeError(f"{name}_ {wrong(*numbers)}")

    def kernel(xp: Any, size: Any, *rest: Any) -> Any:
        *numbers, dtype, device, generator = rest
        check(*numbers)
        if dtype.kind not in dtypes:
            raise NotImplementedError(f'"{name}" not implemented for {dtype.name!r}')
        drawn = getattr(_generator(generator), name)(_count(size), *numbers)
        return xp.asarray(_rounded(drawn, dtype).reshape(size))

    return primitive(f"{name}(int[] size, {params}, *, dtype dtype, device? device=None, any generator=None) -> Tensor",
                     "random", kernel=kernel, api=(), tags=_TAGS, doc=doc,
                     infer=lambda size, *rest: _meta(size, rest[-3], rest[-2], check, *rest[:-3]),
                     samples=lambda: [S((3, 4), dtype=_dtype.float32)])


cauchy = _distribution(
    "cauchy", "float median=0, float sigma=1", lambda median, sigma: sigma <= 0 and
    f"expects sigma > 0.0, but found sigma={sigma}", "f", "Numbers of Cauchy's distribution.")
log_normal = _distribution(
    "log_normal", "float mean=1, float std=2", lambda mean, std: std <= 0 and f"expects std > 0.0, but found std={std}", "f",
    "Exponentials of normal numbers.")
geometric = _distribution(
    "geometric", "float p=0.5", lambda p: not 0 < p < 1 and f"expects p to be in (0, 1), but got p={p}", "uif",
    "The number of trials of probability ``p`` until one succeeds.")

def _permutation(xp: Any, n: int, dtype: Any, device: Any, generator: Any) -> Any:
    if dtype is _dtype.bool_ or dtype.is_complex:
        raise NotImplementedError(f'"randperm" not implemented for {type_name(dtype)!r}')
    return xp.asarray(_generator(generator).permutation(n).astype(dtype.np))


permutation = primitive(
    "permutation(int n, *, dtype dtype, device? device=None, any generator=None) -> Tensor", "random", kernel=_permutation,
    infer=lambda n, dtype, device, generator: TensorMeta((n,), dtype, as_device(device)), api=(), tags=_TAGS,
    samples=lambda: [S(6, dtype=_dtype.int64)])


def _slopes(xp: Any, x: Any, lower: Any, upper: Any, generator: Any) -> Any:
    host = x if xp is np else xp.asnumpy(x)
    slopes, drawn = np.ones(host.shape, host.dtype), host <= 0
    kind = host.dtype.type if host.dtype.itemsize > 2 else np.float32
    lower, upper = float(kind(lower)), float(kind(upper))
    slopes[drawn] = (_generator(generator).uniform64(int(drawn.sum())) * (upper - lower) + lower).astype(kind)
    return xp.asarray(slopes)


rrelu_slopes = primitive(
    "rrelu_slopes(Tensor self, float lower, float upper, *, any generator=None) -> Tensor", "random", kernel=_slopes, api=(),
    infer=lambda x, lower, upper, generator: meta_of(x), promote="keep", tags=_TAGS,
    samples=lambda: [S(T((3, 4), grad=False), 0.1, 0.3)],
    doc="A slope from [lower, upper) for each element that is not positive, 1 for the others.")


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
    if replacement and num_samples != 1:
        cumulative = np.cumsum(host.astype(np.float32) if host.dtype.itemsize == 2 else host, -1)
        cumulative = cumulative / cumulative[:, -1:]
        draws = g.uniform64(len(host) * num_samples).reshape(len(host), num_samples)
        found = np.stack([np.searchsorted(c, d, side="left") for c, d in zip(cumulative, draws)])
    else:
        waits = g.exponential(host.size, 1.0).reshape(host.shape).astype(host.dtype)
        found = np.argsort(-(host / waits), -1, kind="stable")[:, :num_samples]
    return xp.asarray(found.astype(np.int64).reshape(*p.shape[:-1], num_samples))


multinomial = primitive(
    "multinomial(Tensor self, int num_samples, bool replacement=False, *, any generator=None) -> Tensor", "random",
    kernel=_multinomial, infer=_multinomial_meta, tags=(*_TAGS, "check"), api=(),
    samples=lambda: [S(T((5,), 0.1, 1.0, grad=False), 3), S(T((2, 5), 0.1, 1.0, grad=False), 7, True)])


# ---- public functions ---------------------------------------------------------------------------------------------


def sizes(size: tuple) -> tuple:
    """``f(2, 3)`` and ``f((2, 3))`` alike. Raises PyTorch's error for a negative size."""
    return _not_negative(size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size)


def _not_negative(size: Any) -> tuple:
    found = tuple(size)
    for n in found:
        if isinstance(n, int) and n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(found)}")
    return found


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
    t = ops.integers(_not_negative(size), low, high, dtype=dtype or _dtype.int64, device=device, generator=generator)
    return _done(t, requires_grad, out)


@public("torch.randperm")
def randperm(n: int, *, generator: Any = None, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A random order of 0..n-1. Shape: [n]."""
    t = ops.permutation(*_not_negative((n,)), dtype=dtype or _dtype.int64, device=device, generator=generator)
    return _done(t, requires_grad, out)


@public("torch.rand_like")
def rand_like(input: Any, *, generator: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None) -> Any:
    """Uniform numbers of ``input``'s shape, dtype and device."""
    t = drawn_like(input, ops.uniform, dtype=dtype or input.dtype, device=device or input.device, generator=generator)
    return _done(t, requires_grad)


@public("torch.randn_like")
def randn_like(input: Any, *, generator: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
               requires_grad: bool = False, memory_format: Any = None) -> Any:
    """Standard normal numbers of ``input``'s shape, dtype and device."""
    t = drawn_like(input, ops.normal_fill, dtype=dtype or input.dtype, device=device or input.device, generator=generator,
                   serial=_has_gaps(input))
    return _done(t, requires_grad)


@public("torch.randint_like")
def randint_like(input: Any, low: int, high: int | None = None, *, dtype: Any = None, layout: Any = None,
                 device: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Any:
    """Integers of ``input``'s shape, dtype and device."""
    low, high = (0, low) if high is None else (low, high)
    t = drawn_like(input, ops.integers, low, high, dtype=dtype or input.dtype, device=device or input.device)
    return _done(t, requires_grad)


@public("torch.normal")
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, out: Any = None, dtype: Any = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """Normal numbers. Shape: ``size``, or that of ``mean`` and ``std`` broadcast."""
    if size is not None:
        t = ops.normal_fill(_not_negative(size), float(mean), float(std), dtype=dtype, device=device, generator=generator)
        return _done(t, requires_grad, out)
    at, spread = (ops.detach(x) if hasattr(x, "shape") else x for x in (mean, std))
    like = at + spread * 0 if hasattr(std, "shape") else at
    z = ops.normal_fill(tuple(like.shape), dtype=like.dtype, device=like.device, generator=generator)
    return _done(_beside(z * spread + at, mean, std), requires_grad, out)


def _beside(drawn: Any, *sources: Any) -> Any:
    """``drawn``, on the tape if one of ``sources`` is, with a gradient of zero for them: PyTorch's rule for what is drawn."""
    for x in sources:
        if getattr(x, "requires_grad", False):
            drawn = ops.where(ops.full((), False, dtype=_dtype.bool_, device=x.device), x, drawn)
    return drawn


@public("torch.multinomial", "Tensor.multinomial")
def multinomial_call(input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None, out: Any = None) -> Any:
    """Indices drawn with probabilities in proportion to each row of ``input``. Shapes: [(m,) n] -> [(m,) num_samples]."""
    if out is not None and out.dtype is not _dtype.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {type_name(out.dtype)}")
    return _done(ops.multinomial(ops.detach(input), num_samples, replacement, generator=generator), False, out)


@public("torch.bernoulli", "Tensor.bernoulli")
def bernoulli_call(input: Any, p: float | None = None, *, generator: Any = None, out: Any = None) -> Any:
    """Ones with probability ``input`` (or ``p`` everywhere), else zeros. Shape: ``input``'s."""
    if p is None:
        return _done(_beside(_in_order_of(ops.detach(input), ops.detach(input), generator), input), False, out)
    t = drawn_like(input, ops.bernoulli_fill, p, dtype=input.dtype, device=input.device, generator=generator)
    return _done(t, False, out)


def _laid_out(x: Any) -> Any:
    """Something with the strides of ``x``, which a trace may know of its symbols; None where they are not known."""
    if hasattr(x, "stride"):
        return x
    handler = getattr(state.handler, "inner", state.handler)
    return handler.laid_out(x) if hasattr(handler, "laid_out") else None


def _memory_order(x: Any) -> tuple[int, ...] | None:
    """The dimensions as they lie in memory, the widest stride first: None for rows first, and where strides are not known."""
    lies = _laid_out(x) if x.ndim > 1 else None
    if lies is None or lies.is_contiguous():
        return None
    found, x = lies.stride(), lies
    fixed = [x.shape[d] == 1 or found[d] == 0 for d in range(x.ndim)]  # their place in memory says nothing: they stay
    moved = iter(sorted((d for d in range(x.ndim) if not fixed[d]), key=lambda d: -found[d]))
    order = tuple(d if fixed[d] else next(moved) for d in range(x.ndim))
    return None if order == tuple(range(x.ndim)) else order


def drawn_like(x: Any, op: Any, *numbers: Any, **options: Any) -> Any:
    """Random numbers of the shape of ``x``, drawn in the order of its memory."""
    order = _memory_order(x)
    if order is None:
        return op(tuple(x.shape), *numbers, **options)
    found = op(tuple(x.shape[d] for d in order), *numbers, **options)
    return ops.permute(found, tuple(order.index(d) for d in range(x.ndim)))


def _in_order_of(x: Any, p: Any, generator: Any) -> Any:
    """Ones with probability ``p``, drawn in the order of the memory of ``x``."""
    order = _memory_order(x)
    if order is None:
        return ops.bernoulli(p, generator=generator)
    return ops.permute(ops.bernoulli(ops.permute(p, order), generator=generator), tuple(order.index(d) for d in range(x.ndim)))


def _has_gaps(x: Any) -> bool:
    """Whether the elements do not follow each other in memory, rows first (False where strides are not known)."""
    lies = _laid_out(x)
    return lies is not None and not lies.is_contiguous()


def _filled(self: Any, op: Any, *numbers: Any, generator: Any, **options: Any) -> Any:
    return self.copy_(drawn_like(self, op, *numbers, dtype=self.dtype, device=self.device, generator=generator, **options))


@public("Tensor.uniform_")
def uniform_(self: Any, a: float = 0, b: float = 1, *, generator: Any = None) -> Any:
    """Fill with uniform numbers in [a, b)."""
    if a > b:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}")
    return _filled(self, ops.uniform, a, b, generator=generator)


@public("Tensor.normal_")
def normal_(self: Any, mean: float = 0, std: float = 1, *, generator: Any = None) -> Any:
    """Fill with normal numbers."""
    return _filled(self, ops.normal_fill, mean, std, generator=generator, serial=_has_gaps(self))


@public("Tensor.exponential_")
def exponential_(self: Any, lambd: float = 1, *, generator: Any = None) -> Any:
    """Fill with exponentially distributed numbers of rate ``lambd``."""
    return _filled(self, ops.exponential, lambd, generator=generator)


@public("Tensor.cauchy_")
def cauchy_(self: Any, median: float = 0, sigma: float = 1, *, generator: Any = None) -> Any:
    """Fill with numbers of Cauchy's distribution."""
    return _filled(self, ops.cauchy, median, sigma, generator=generator)


@public("Tensor.log_normal_")
def log_normal_(self: Any, mean: float = 1, std: float = 2, *, generator: Any = None) -> Any:
    """Fill with exponentials of normal numbers of this mean and deviation."""
    return _filled(self, ops.log_normal, mean, std, generator=generator)


@public("Tensor.geometric_")
def geometric_(self: Any, p: float, *, generator: Any = None) -> Any:
    """Fill with the number of trials of probability ``p`` until one succeeds."""
    return _filled(self, ops.geometric, p, generator=generator)


@public("Tensor.bernoulli_")
def bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Any:
    """Fill with ones with probability ``p`` (a number, or a tensor of this shape), else zeros."""
    if hasattr(p, "shape"):
        return self.copy_(_in_order_of(self, ops.expand(p, tuple(self.shape)), generator))
    return _filled(self, ops.bernoulli_fill, p, generator=generator)


_LEFT_OUT: Any = type("left out", (), {"__repr__": lambda self: "..."})()
_DIGITS = {_dtype.float64: 53, _dtype.float32: 24, _dtype.float16: 11, _dtype.bfloat16: 8}


def _beyond(dtype: DType) -> int:
    """One more than the largest number up to which a dtype has all whole numbers."""
    return (1 << _DIGITS[dtype]) + 1 if dtype in _DIGITS else 2 if dtype is _dtype.bool_ else int(np.iinfo(dtype.np).max) + 1


@public("Tensor.random_")
def random_(self: Any, low: int | None = None, high: Any = _LEFT_OUT, *, generator: Any = None) -> Any:
    """Fill with integers in [low, high), in [0, low), from ``low`` on (``high`` None), or over the non-negative range."""
    if low is None:
        return _filled(self, ops.random_bits, generator=generator)
    low, high = (0, low) if high is _LEFT_OUT else (low, _beyond(self.dtype) if high is None else high)
    return _filled(self, ops.integers, low, high, generator=generator)
