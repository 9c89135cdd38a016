"""Random numbers that are drawn one by one: Poisson, binomial, gamma and Dirichlet variates, in PyTorch's order of draws.

The methods are Marsaglia and Tsang's for the gamma distribution (2000), Hörmann's transformed rejection for Poisson and
binomial (1993), and waiting times for small binomials. Each variate takes as many numbers from the generator as it needs,
so they are drawn in sequence; where PyTorch computes in single precision, so does this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import composite, ops, primitive
from ..meta import TensorMeta, meta_of
from ..op import type_name
from ..randomness import generator as _generator
from ..samples import S, T

_TAGS = ("random", "extern")


class _Draws:
    """Single numbers of a generator, taken in blocks; :meth:`give_back` returns what was not used."""

    def __init__(self, generator: Any, block: int) -> None:
        self._generator, self._block = generator, 2 * block
        self._numbers: list[float] = []
        self._at = 0

    def uniform(self) -> float:
        """A double in [0, 1)."""
        if self._at == len(self._numbers):
            self._refill()
        found = self._numbers[self._at]
        self._at += 1
        return found

    def _refill(self) -> None:
        self._start = self._generator.get_state()
        self._numbers, self._at = self._generator.uniform64(self._block).tolist(), 0

    def normal(self) -> float:
        """A standard normal; every second one is kept in the generator."""
        kept = self._generator._kept
        if kept is not None:
            self._generator._kept = None
            return kept
        angle = 2.0 * math.pi * self.uniform()
        radius = math.sqrt(-2.0 * math.log1p(-self.uniform()))
        self._generator._kept = radius * math.sin(angle)
        return radius * math.cos(angle)

    def give_back(self) -> None:
        """Leave the generator where the last number that was used leaves it."""
        if self._at < len(self._numbers):
            kept = self._generator._kept
            self._generator.set_state(self._start)
            if self._at:
                self._generator.bits32(2 * self._at)
            self._generator._kept = kept


def _each(values: list[np.ndarray], out: np.dtype, draw: Callable[..., float], generator: Any) -> np.ndarray:
    """``draw(numbers, *values)`` for every element, in row-major order."""
    count = values[0].size
    draws = _Draws(_generator(generator), min(max(4 * count, 16), 65536))
    columns = [np.ascontiguousarray(v).reshape(-1).tolist() for v in values]
    try:
        found = [draw(draws, *row) for row in zip(*columns)]
    finally:
        draws.give_back()
    with np.errstate(over="ignore"):
        return np.array(found, np.float64).reshape(values[0].shape).astype(out)


# ---- gamma ----------------------------------------------------------------------------------------------------------


def _gamma_single(draws: _Draws, alpha: float) -> float:
    """A gamma variate whose parameter is rounded to single precision on the way, as PyTorch does for float32."""
    one = np.float32
    scale = 1.0
    if alpha < 1:
        if alpha == 0:
            return 0.0
        scale = (1 - draws.uniform()) ** float(one(1) / one(alpha))
        alpha = float(one(alpha) + one(1))
    return _gamma(draws, scale, float(one(alpha) - one(1) / one(3)))


def _gamma_double(draws: _Draws, alpha: float) -> float:
    scale = 1.0
    if alpha < 1:
        if alpha == 0:
            return 0.0
        scale = (1 - draws.uniform()) ** (1.0 / alpha)
        alpha += 1.0
    return _gamma(draws, scale, alpha - _THIRD)


_THIRD, _SQUEEZE = float(np.float32(1) / np.float32(3)), float(np.float32(0.0331))


def _gamma(draws: _Draws, scale: float, d: float) -> float:
    """Marsaglia and Tsang: the cube of a shifted normal, accepted against the gamma density."""
    if d != d:
        return d
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = draws.normal()
        y = 1.0 + c * x
        while y <= 0:
            x = draws.normal()
            y = 1.0 + c * x
        v = y * y * y
        u = 1 - draws.uniform()
        xx = x * x
        if u < 1.0 - _SQUEEZE * xx * xx or math.log(u) < 0.5 * xx + d * (1.0 - v + math.log(v)):
            return scale * d * v


def _check_floating(name: str, *tensors: Any) -> None:
    for t in tensors:
        if t.dtype.kind != "f" and not str(t.dtype).startswith("bfloat16"):
            raise NotImplementedError(f'"{name}" not implemented for \'{t.dtype}\': give floating-point tensors')


def _standard_gamma_kernel(xp: Any, alpha: Any, generator: Any) -> Any:
    _check_floating("gamma", alpha)
    draw = _gamma_double if alpha.dtype == np.float64 else _gamma_single
    found = _each([alpha.astype(np.float64)], np.dtype(np.float64), draw, generator)
    tiny = np.finfo(alpha.dtype).tiny if alpha.dtype.kind == "f" else np.finfo(np.float32).tiny
    return np.maximum(found.astype(alpha.dtype), alpha.dtype.type(tiny))


def _gamma_slope(xp: Any, alpha: Any, x: Any) -> Any:
    """d x / d alpha at fixed probability: by differences of the distribution function, on the side where it is small."""
    from scipy import special  # noqa: PLC0415 - loaded by who differentiates samples
    a, y = np.broadcast_arrays(alpha.astype(np.float64), x.astype(np.float64))
    lower = special.gammainc(a, y) < 0.5
    step = 0.01 * np.minimum(a, np.sqrt(a))

    def side(at: np.ndarray) -> np.ndarray:
        return np.where(lower, special.gammainc(at, y), -special.gammaincc(at, y))

    with np.errstate(all="ignore"):
        log_density = (a - 1) * np.log(y) - y - special.gammaln(a)
        found = -_difference(side, a, step) / np.exp(log_density)
    return found.astype(x.dtype)


def _difference(f: Callable[[np.ndarray], np.ndarray], at: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The derivative by the symmetric formula of sixth order."""
    return (45 * (f(at + step) - f(at - step)) - 9 * (f(at + 2 * step) - f(at - 2 * step))
            + f(at + 3 * step) - f(at - 3 * step)) / (60 * step)


standard_gamma = primitive(
    "_standard_gamma(Tensor self, any generator=None) -> Tensor", "random", kernel=_standard_gamma_kernel, promote="keep",
    infer=lambda alpha, generator: meta_of(alpha), tags=_TAGS, api=("torch._standard_gamma",),
    vjp=lambda g, out, alpha, generator: g * ops._standard_gamma_grad(alpha, out),
    samples=lambda: [S(T((3, 4), 0.2, 3.0, grad=False)), S(T((2,), 8.0, 30.0, grad=False))],
    doc="A gamma variate of rate 1 for each shape parameter; differentiable in it.")
standard_gamma_grad = primitive(
    "_standard_gamma_grad(Tensor self, Tensor output) -> Tensor", "special", kernel=_gamma_slope, promote="same",
    infer=lambda alpha, x: meta_of(x), tags=("extern", "nograd"), api=("torch._standard_gamma_grad",),
    samples=lambda: [S(T((3, 4), 0.5, 3.0, grad=False), T((3, 4), 0.5, 3.0, grad=False))],
    doc="How a gamma variate changes with its parameter, its probability held fixed.")


# ---- Dirichlet ------------------------------------------------------------------------------------------------------


def _dirichlet_kernel(xp: Any, alpha: Any, generator: Any) -> Any:
    _check_floating("dirichlet", alpha)
    gammas = _each([alpha.astype(np.float64)], np.dtype(np.float64), _gamma_double, generator)
    with np.errstate(all="ignore"):
        share = (gammas / gammas.sum(-1, keepdims=True)).astype(alpha.dtype)
    tiny = np.finfo(alpha.dtype).tiny if alpha.dtype.kind == "f" else np.finfo(np.float32).tiny
    below_one = np.nextafter(alpha.dtype.type(1), alpha.dtype.type(0)) if alpha.dtype.kind == "f" else 1
    return np.clip(share, alpha.dtype.type(tiny), below_one)


def _dirichlet_rule(g: Any, out: Any, alpha: Any, generator: Any) -> Any:
    slope = ops._dirichlet_grad(out, alpha, ops.expand(ops.sum(alpha, -1, True), tuple(alpha.shape)))
    return slope * (g - ops.sum(out * g, -1, True))


def _beta_slope(xp: Any, x: Any, alpha: Any, total: Any) -> Any:
    """d x / d alpha at fixed probability of a beta variate with parameters alpha and total - alpha, over 1 - x."""
    from scipy import special  # noqa: PLC0415 - loaded by who differentiates samples
    y, a, t = np.broadcast_arrays(*(v.astype(np.float64) for v in (x, alpha, total)))
    b = t - a
    lower = special.betainc(a, b, y) < 0.5
    step = 0.01 * np.minimum(a, np.sqrt(a))

    def side(at: np.ndarray) -> np.ndarray:
        return np.where(lower, special.betainc(at, b, y), -special.betaincc(at, b, y))

    with np.errstate(all="ignore"):
        log_density = (a - 1) * np.log(y) + (b - 1) * np.log1p(-y) - special.betaln(a, b)
        found = -_difference(side, a, step) / np.exp(log_density) / (1 - y)
    return found.astype(x.dtype)


sample_dirichlet = primitive(
    "_sample_dirichlet(Tensor self, any generator=None) -> Tensor", "random", kernel=_dirichlet_kernel, promote="keep",
    infer=lambda alpha, generator: meta_of(alpha), tags=_TAGS, api=("torch._sample_dirichlet",), vjp=_dirichlet_rule,
    samples=lambda: [S(T((3, 4), 0.2, 3.0, grad=False))],
    doc="Shares that sum to 1 along the last dimension; differentiable in their concentrations.")
dirichlet_grad = primitive(
    "_dirichlet_grad(Tensor x, Tensor alpha, Tensor total) -> Tensor", "special", kernel=_beta_slope, promote="same",
    infer=lambda x, alpha, total: meta_of(x), tags=("extern", "nograd"), api=("torch._dirichlet_grad",),
    samples=lambda: [S(T((3, 4), 0.1, 0.9, grad=False), T((3, 4), 0.5, 2.0, grad=False), T((3, 4), 3.0, 4.0, grad=False))],
    doc="How a beta variate changes with its first parameter, its probability held fixed, over one minus it.")


# ---- Poisson --------------------------------------------------------------------------------------------------------


def _poisson(draws: _Draws, rate: float) -> float:
    if not rate >= 0:
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    if rate < 10:
        return _poisson_by_products(draws, rate)
    root = math.sqrt(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha, v_r = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= v_r:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        if (_log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b)
                <= -rate + k * math.log(rate) - math.lgamma(k + 1.0)):
            return k


def _poisson_by_products(draws: _Draws, rate: float) -> float:
    """How many uniforms can be multiplied before their product falls below exp(-rate)."""
    if rate == 0:
        return 0
    limit, product, count = math.exp(-rate), 1.0, 0
    while True:
        product *= draws.uniform()
        if product <= limit:
            return count
        count += 1


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _poisson_kernel(xp: Any, rate: Any, generator: Any) -> Any:
    _check_floating("poisson", rate)
    return _each([rate.astype(np.float64)], rate.dtype, _poisson, generator)


poisson = primitive(
    "poisson(Tensor self, any generator=None) -> Tensor", "random", kernel=_poisson_kernel, promote="keep",
    infer=lambda rate, generator: meta_of(rate), tags=_TAGS, api=("torch.poisson",),
    vjp=lambda g, out, rate, generator: ops.zeros_like(g),
    samples=lambda: [S(T((3, 4), 0.2, 30.0, grad=False))], doc="A Poisson variate for each rate, as a float.")


# ---- binomial -------------------------------------------------------------------------------------------------------

_TAILS = tuple(math.lgamma(k + 1) - (k + 0.5) * math.log(k + 1) + (k + 1) - 0.5 * math.log(2 * math.pi) for k in range(10))


def _stirling_tail(k: float) -> float:
    """What Stirling's formula for ``log(k!)`` leaves out."""
    if k < len(_TAILS):
        return _TAILS[int(k)]
    square = (k + 1) * (k + 1)
    return (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1)


def _binomial(real: Any) -> Callable[[_Draws, float, float], float]:
    """The drawing function for parameters of the type ``real``."""
    one = real(1)

    def draw(draws: _Draws, count: float, prob: float) -> float:
        if not (count > 0 and prob > 0):
            return math.nan if prob != prob else 0.0
        if prob >= 1:
            return count
        n, p = real(count), real(prob)
        if p > 0.5:
            return count - few_or_many(draws, n, one - p)
        return few_or_many(draws, n, p)

    def few_or_many(draws: _Draws, n: Any, p: Any) -> float:
        return _by_rejection(draws, n, p, one) if n * p >= 10 else _by_waiting(draws, float(n), float(np.log1p(-p)))

    return draw


def _by_waiting(draws: _Draws, count: float, log_failure: float) -> float:
    """The successes in ``count`` trials, from the geometric waits between them."""
    total, successes = 0.0, 0
    while True:
        u = draws.uniform()
        total += math.ceil(math.log(u) / log_failure) if u > 0 else math.inf
        if total > count:
            return successes
        successes += 1


def _by_rejection(draws: _Draws, n: Any, p: Any, one: Any) -> float:
    """Hörmann's method with the table mountain hat."""
    spread = float(np.sqrt(n * p * (one - p)))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * float(p)
    c, v_r, ratio = float(n * p) + 0.5, 0.92 - 4.2 / b, float(p / (one - p))
    alpha, mode = (2.83 + 5.1 / b) * spread, float(np.floor((n + one) * p))
    count = float(n)
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        us = 0.5 - abs(u)
        k = float(math.floor((2 * a / us + b) * u + c)) if us > 0 else -1.0
        if k < 0 or k > count:
            continue
        if us >= 0.07 and v <= v_r:
            return k
        bound = ((mode + 0.5) * math.log((mode + 1) / (ratio * (count - mode + 1)))
                 + (count + 1) * math.log((count - mode + 1) / (count - k + 1))
                 + (k + 0.5) * math.log(ratio * (count - k + 1) / (k + 1))
                 + _stirling_tail(mode) + _stirling_tail(count - mode) - _stirling_tail(k) - _stirling_tail(count - k))
        if _log(v * alpha / (a / (us * us) + b)) <= bound:
            return k


def _binomial_kernel(xp: Any, count: Any, prob: Any, generator: Any) -> Any:
    _check_floating("binomial", count, prob)
    real = np.float64 if count.dtype == np.float64 else np.float32
    return _each([count.astype(np.float64), prob.astype(np.float64)], count.dtype, _binomial(real), generator)


def _binomial_meta(count: Any, prob: Any, generator: Any) -> TensorMeta:
    if count.dtype is not prob.dtype:
        raise RuntimeError(f"binomial: Found dtype {type_name(prob.dtype)} but expected {type_name(count.dtype)}: count and prob "
                           "must have one dtype")
    if tuple(count.shape) != tuple(prob.shape):
        raise RuntimeError(f"binomial: count and prob must have one shape, got {list(count.shape)} and {list(prob.shape)}")
    return meta_of(count)


draw_binomial = primitive(
    "draw_binomial(Tensor count, Tensor prob, any generator=None) -> Tensor", "random", kernel=_binomial_kernel, promote="same",
    infer=_binomial_meta, tags=(*_TAGS, "check"), api=(), vjp=(lambda g, out, count, prob, generator: ops.zeros_like(g),) * 2,
    samples=lambda: [S(T((3, 4), 40.0, 50.0, grad=False), T((3, 4), 0.1, 0.9, grad=False)),
                     S(T((3, 4), 1.0, 5.0, grad=False), T((3, 4), 0.1, 0.9, grad=False))],
    doc="A binomial variate for each number of trials and probability, of one shape.")


def _binomial_parts(count: Any, prob: Any, generator: Any) -> Any:
    count, prob = ops.broadcast_tensors(count, prob)
    return ops.draw_binomial(count, prob, generator)


binomial = composite(
    "binomial(Tensor count, Tensor prob, any generator=None) -> Tensor", _binomial_parts, api=("torch.binomial",),
    tags=("random",), samples=lambda: [S(T((3, 4), 5.0, 50.0, dtype=_dtype.float32, grad=False),
                                         T((4,), 0.1, 0.9, dtype=_dtype.float32, grad=False))],
    doc="A binomial variate for each number of trials and probability, broadcast, as a float.")
