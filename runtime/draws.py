"""From random bits to numbers, in the arithmetic of PyTorch's CPU kernels, so that they agree to the last bit.

PyTorch's compiler fuses multiplications with additions, and its AVX2 kernel for float32 normals has a logarithm, sine and
cosine of its own: polynomials, whose coefficients and order of operations are repeated here (those of Moshier's Cephes
library for single precision). float32 sums are formed in float64 and rounded once more, which differs from a fused
operation for about one number in 2^29.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from . import native
from .memory import address

F4, F8, I4 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32)
_WORTH_COMPILING = 1 << 16  # numbers after which the compiled form is used: it takes a third of a second to build
_by_numpy = 0  # normals made so far without it
_CHUNK = 1 << 14  # numbers computed at once: the temporaries stay in the cache


def scaled(x: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """``x * factor + shift`` rounded once, in the dtype of ``x`` (float32 or float64), to which the numbers are rounded too."""
    if factor == 1 and shift == 0:
        return x
    factor, shift = x.dtype.type(factor), x.dtype.type(shift)
    if shift == 0:
        return x if factor == 1 else x * factor
    if factor == 1:
        return x + shift
    return (x * F8.type(factor) + F8.type(shift)).astype(F4) if x.dtype == F4 else _fma64(x, factor, shift)


def _fma64(a: np.ndarray, b: Any, c: Any) -> np.ndarray:
    """``a * b + c`` in float64, rounded once: exact product and sum, and a last addition of a value rounded to odd.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums" (2008).
    """
    high, low = _product(a, np.full_like(a, b))
    s, t = _sum(np.full_like(a, c), low)
    u, v = _sum(high, s)
    odd, rest = _sum(t, v)
    away = (rest != 0) & (odd.view(np.int64) & 1 == 0)
    odd = np.where(away, np.nextafter(odd, np.where(rest > 0, np.inf, -np.inf)), odd)
    return u + odd


def _sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = a * b
    a1, b1 = a * 134217729.0, b * 134217729.0
    a1, b1 = a1 - (a1 - a), b1 - (b1 - b)
    a2, b2 = a - a1, b - b1
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def rounded(x: np.ndarray, kind: np.dtype) -> np.ndarray:
    """float64 numbers in another dtype; to a half through float32, as C++ converts them."""
    return (x.astype(F4) if kind.itemsize == 2 and kind.kind not in "iu" else x).astype(kind, copy=False)


def bounded(x: np.ndarray, kind: np.dtype, low: float, high: float) -> np.ndarray:
    """Uniforms of [low, high) in a narrower dtype: what rounds up to ``high`` becomes ``low``."""
    if x.dtype == kind:
        return x
    found = x.astype(kind)
    found[found == kind.type(high)] = low
    return found


# ---- the functions of float64 ----------------------------------------------------------------------------------------


def _of_libm(name: str, numpy_name: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function as the C library computes it. NumPy calls that too, unless it has AVX-512 loops of its own."""
    vector, scalar = getattr(np, numpy_name), getattr(math, name)

    def function(x: np.ndarray) -> np.ndarray:
        if not _own_loops():
            return vector(x)
        return np.fromiter(map(scalar, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)
    return function


def _own_loops() -> bool:
    from numpy._core._multiarray_umath import __cpu_features__  # noqa: PLC0415 - NumPy 2; NumPy 1 is not supported
    return bool(__cpu_features__.get("AVX512_SKX"))


log, log1p, sin, cos, tan, exp = (_of_libm(name, name) for name in ("log", "log1p", "sin", "cos", "tan", "exp"))


def normal_pairs(u1: np.ndarray, u2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two standard normals from two uniforms each, one pair at a time (float64)."""
    with np.errstate(divide="ignore"):
        radius, angle = np.sqrt(-2.0 * log1p(-u2)), 2.0 * math.pi * u1
    return radius * cos(angle), radius * sin(angle)


# ---- normals in blocks of 16 -----------------------------------------------------------------------------------------


def normal_blocks(data: np.ndarray, mean: float, std: float) -> None:
    """Turn uniforms (float32 or float64, a multiple of 16) into normals in place: eight radii, then eight angles."""
    global _by_numpy
    if data.dtype == F4:
        if _by_numpy + data.size >= _WORTH_COMPILING and _compiled_blocks(data, mean, std):
            return
        _by_numpy += data.size
    step = _CHUNK if data.dtype == F4 else data.size or 1
    for start in range(0, data.size, step):
        part = data[start:start + step]
        blocks = part.reshape(-1, 2, 8)
        u1, u2 = data.dtype.type(1) - blocks[:, 0], np.ascontiguousarray(blocks[:, 1])
        if data.dtype == F4:
            radius = np.sqrt(F4.type(-2) * _log32(u1))
            s, c = _sincos32(F4.type(2.0 * math.pi) * u2)
        else:
            angle = 2.0 * math.pi * u2
            radius, s, c = np.sqrt(-2.0 * log(u1)), sin(angle), cos(angle)
        blocks[:, 0], blocks[:, 1] = scaled(radius * c, std, mean), scaled(radius * s, std, mean)


def _compiled_blocks(data: np.ndarray, mean: float, std: float) -> bool:
    """The same by the template library; False where it is not at hand, or the machine does not fuse products."""
    run = _template()
    if run is None:
        return False
    run(_BLOCK.pack(address(data), data.size // 16, mean, std))
    return True


_BLOCK = struct.Struct("qqdd")  # NormalArgs of codegen/templates/random.cpp


@functools.cache
def _template() -> Any:
    library = native.template("random") if _fuses() else None
    return None if library is None else library["run"]


@functools.cache
def _fuses() -> bool:
    from numpy._core._multiarray_umath import __cpu_features__  # noqa: PLC0415 - NumPy 2; NumPy 1 is not supported
    return bool(__cpu_features__.get("FMA3") or __cpu_features__.get("ASIMDHP"))


def _fused(a: np.ndarray, b: Any, c: Any) -> np.ndarray:
    """``a * b + c`` in float32, rounded once."""
    product = np.multiply(a, b, dtype=F8)
    return np.add(product, c, out=product).astype(F4)


_LOG = [F4.type(c) for c in (7.0376836292E-2, -1.1514610310E-1, 1.1676998740E-1, -1.2420140846E-1, 1.4249322787E-1,
                             -1.6668057665E-1, 2.0000714765E-1, -2.4999993993E-1, 3.3333331174E-1)]
_COS = [F4.type(c) for c in (2.443315711809948E-5, -1.388731625493765E-3, 4.166664568298827E-2)]
_SIN = [F4.type(c) for c in (-1.9515295891E-4, 8.3321608736E-3, -1.6666654611E-1)]
_ROOT_HALF, _HALF = F4.type(0.707106781186547524), F4.type(0.5)
_QUARTER_TURNS = F4.type(1.27323954473516)
_LOG2_HIGH, _LOG2_LOW = F4.type(0.693359375), F4.type(-2.12194440e-4)
_PI_PARTS = [F4.type(-c) for c in (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)]


def _horner(coefficients: list, x: np.ndarray) -> np.ndarray:
    y = _fused(x, coefficients[0], coefficients[1])
    for c in coefficients[2:]:
        y = _fused(y, x, c)
    return y


def _log32(x: np.ndarray) -> np.ndarray:
    """The logarithm of positive float32 numbers: exponent and mantissa, the latter brought around 1."""
    bits = np.maximum(x, np.finfo(F4).tiny).view(I4)
    e = ((bits >> 23) - 126).astype(F4)
    x = ((bits & 0x007FFFFF) | 0x3F000000).view(F4)
    small = x < _ROOT_HALF
    x = np.where(small, (x - F4.type(1)) + x, x - F4.type(1))
    e -= small
    z = x * x
    y = _horner(_LOG, x) * x
    y = _fused(y, z, e * _LOG2_LOW)
    y -= z * _HALF
    return _fused(e, _LOG2_HIGH, x + y)


def _sincos32(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of float32 numbers >= 0: reduced to an eighth of a turn, where a polynomial gives each."""
    turns = ((x * _QUARTER_TURNS).astype(I4) + 1) & ~1
    y = turns.astype(F4)
    for part in _PI_PARTS:
        x = _fused(y, part, x)
    z = x * x
    c = _horner(_COS, z) * z
    c = _fused(c, z, -(z * _HALF)) + F4.type(1)
    s = _horner(_SIN, z) * z
    s = _fused(s, x, x)
    straight = turns & 2 == 0
    sine, cosine = np.where(straight, s, c), np.where(straight, c, s)
    np.negative(sine, out=sine, where=turns & 4 != 0)
    np.negative(cosine, out=cosine, where=(turns + 2) & 4 != 0)
    return sine, cosine
