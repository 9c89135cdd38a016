"""Special functions that NumPy lacks, vectorised: ``f(xp, x)`` for float32 or float64 arrays.

The coefficients are least-maximum fits of our own: ``erf`` and ``erfc`` are good to a few units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# erf(x) = x P(x^2) / Q(x^2) on |x| <= 3.95, for float32
_ERF_P = (2.0221168644238797e-08, -1.9566032065895036e-06, 0.00013843132386641, 0.00353869089380318, 0.05004231143236243,
          0.19596997203768338, 1.128379121682848)
_ERF_Q = (0.0009182370633657314, 0.014015319118917586, 0.11335818135452941, 0.5070058466651365, 1.0)
# erf(x) = x P(x^2) on |x| <= 1, for float64
_ERF_SMALL = (-4.2320376764874594e-12, 8.709755232851789e-11, -1.2164764337224506e-09, 1.479243542696247e-08,
              -1.6364645854816389e-07, 1.6462045711013026e-06, -1.4925647581008593e-05, 0.00012055332903350668,
              -0.0008548327021945428, 0.005223977625423455, -0.026866170645129854, 0.1128379167095512, -0.37612638903183754,
              1.1283791670955126)
# log(erfc(z) / t) + z^2 as a Chebyshev series in 2 t - 1, where t = 2 / (2 + z), z >= 0
_ERFC = (-0.6513268598908547, 0.6419697923564902, 0.019476473204185836, -0.009561514786808632, -0.0009465953444820369,
         0.00036683949785276156, 4.2523324806907674e-05, -2.0278578112534144e-05, -1.6242900046471253e-06,
         1.3036558355806228e-06, 1.562644172196693e-08, -8.523809591482774e-08, 6.529054439000491e-09,
         5.059343495649347e-09, -9.913641565903914e-10, -2.2736512219638322e-10, 9.646791092395011e-11,
         2.3940381786120077e-12, -6.886027621401328e-12, 8.944880215071416e-13, 3.1309204647824745e-13,
         -1.1270813093567392e-13, 3.809986612992085e-16, 7.10618862863466e-15, -1.5231183322002122e-15)
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def _horner(coefficients: Sequence[float], x: Any) -> Any:
    result = x * coefficients[0]
    for c in coefficients[1:-1]:
        result += c
        result *= x
    return result + coefficients[-1]


def erf(xp: Any, x: Any) -> Any:
    """The error function."""
    if x.dtype.itemsize == 4:
        x = xp.clip(x, -3.95, 3.95)
        s = x * x
        return xp.clip(x * _horner(_ERF_P, s) / _horner(_ERF_Q, s), -1, 1)
    small = xp.abs(x) < 1
    inside = xp.where(small, x, 0.0)
    outside = xp.where(small, 2.0, xp.abs(x))
    return xp.where(small, inside * _horner(_ERF_SMALL, inside * inside), xp.copysign(1 - _erfc_positive(xp, outside), x))


def erfc(xp: Any, x: Any) -> Any:
    """``1 - erf(x)``, without cancellation for large x."""
    z = x.astype("f8")
    tail = _erfc_positive(xp, xp.abs(z))
    small = xp.abs(z) < 0.5
    near = 1 - z * _horner(_ERF_SMALL, xp.where(small, z * z, 0.0))
    return xp.where(small, near, xp.where(z >= 0, tail, 2 - tail)).astype(x.dtype)


def _erfc_positive(xp: Any, z: Any) -> Any:
    z = xp.asarray(z, "f8")
    t = 2 / (2 + z)
    u2 = 2 * (2 * t - 1)
    b0, b1 = xp.zeros_like(z), xp.zeros_like(z)
    for c in _ERFC[:0:-1]:
        b0, b1 = u2 * b0 - b1 + c, b0
    series = u2 / 2 * b0 - b1 + _ERFC[0]
    capped = xp.minimum(z, 30.0)
    return xp.where(z > 30, 0.0, t * xp.exp(-capped * capped + series)) + (z - z)


def erfinv(xp: Any, x: Any) -> Any:
    """The inverse of ``erf``: a starting value refined by Newton's method."""
    y = x.astype("f8")
    inside = xp.abs(y) < 1
    v = xp.where(inside, y, 0.0)
    w = xp.log1p(-v * v)
    a = 2 / (math.pi * 0.147) + w / 2
    z = xp.copysign(xp.sqrt(xp.sqrt(a * a - w / 0.147) - a), v)
    for _ in range(3):  # on the tail's own scale, where erf(z) - y would cancel
        error = xp.where(v >= 0, (1 - v) - erfc(xp, z), erfc(xp, -z) - (1 + v))
        step = error / (2 / math.sqrt(math.pi) * xp.exp(-z * z))
        z = z - step / (1 + z * step)
    edge = xp.where(xp.abs(y) == 1, xp.copysign(float("inf"), y), float("nan"))
    return xp.where(inside, z, edge).astype(x.dtype)


def lgamma(xp: Any, x: Any) -> Any:
    """The logarithm of the absolute value of the gamma function."""
    y = x.astype("f8")
    reflected = y < 0.5
    z = xp.where(reflected, 1 - y, y)
    result = _lgamma_right(xp, z)
    # sin(pi y) from the distance to the nearest whole number, exact at the poles
    sine = xp.abs(xp.sin(math.pi * (y - xp.round(y))))
    mirrored = math.log(math.pi) - xp.log(sine) - result
    result = xp.where(reflected, mirrored, result)
    return xp.where(xp.isinf(y), float("inf"), result).astype(x.dtype)


def _lgamma_right(xp: Any, z: Any) -> Any:
    """For z >= 0.5: Stirling's series from 9.5 up, reached by the recurrence."""
    product = xp.ones_like(z)
    for _ in range(9):
        low = z < 9.5
        product = xp.where(low, product * z, product)
        z = xp.where(low, z + 1, z)
    inverse = 1 / (z * z)
    series = xp.zeros_like(z)
    for k in range(len(_BERNOULLI), 0, -1):
        series = series * inverse + _BERNOULLI[k - 1] / (2 * k * (2 * k - 1))
    return (z - 0.5) * xp.log(z) - z + 0.5 * math.log(2 * math.pi) + series / z - xp.log(product)


def digamma(xp: Any, x: Any) -> Any:
    """The derivative of ``lgamma``."""
    y = x.astype("f8")
    reflected = y < 0.5
    z = xp.where(reflected, 1 - y, y)
    total = xp.zeros_like(z)
    for _ in range(9):
        low = z < 9.5
        total = xp.where(low, total - 1 / z, total)
        z = xp.where(low, z + 1, z)
    inverse = 1 / (z * z)
    series = xp.zeros_like(z)
    for k in range(len(_BERNOULLI), 0, -1):
        series = series * inverse + _BERNOULLI[k - 1] / (2 * k)
    right = xp.log(z) - 0.5 / z - series * inverse + total
    whole = y == xp.round(y)
    tangent = xp.tan(math.pi * (y - xp.round(y)))
    left = right - math.pi / xp.where(whole, 1.0, tangent)
    pole = xp.where(y == 0, xp.copysign(float("inf"), -y), float("nan"))
    result = xp.where(reflected, xp.where(whole & (y <= 0), pole, left), right)
    return xp.where(y == float("inf"), y, result).astype(x.dtype)


def polygamma(xp: Any, n: int, x: Any) -> Any:
    """The derivative number ``n`` of ``digamma``, for n >= 1 as (-1)^(n+1) n! zeta(n + 1, x)."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0:
        return digamma(xp, x)
    sign = 1 if n % 2 else -1
    y = x.astype("f8")
    if n == 1:
        reflected = y < 0.5
        right = _zeta(xp, 2, xp.where(reflected, 1 - y, y))
        sine = xp.sin(math.pi * (y - xp.round(y)))
        return xp.where(reflected, (math.pi / sine) ** 2 - right, right).astype(x.dtype)
    return (sign * math.factorial(n) * _zeta_everywhere(xp, n + 1, y)).astype(x.dtype)


def _zeta_everywhere(xp: Any, s: int, q: Any) -> Any:
    """The Hurwitz zeta function of an integer ``s``: below zero the first terms are added one by one; poles are infinite."""
    pole = (q <= 0) & (q == xp.floor(q))
    at, head = xp.where(pole, 1.0, q), xp.zeros_like(q)
    while (below := at <= 0).any():
        head = xp.where(below, head + xp.where(below, at, 1.0) ** -s, head)
        at = xp.where(below, at + 1, at)
    return xp.where(pole, float("inf"), head + _zeta(xp, s, at))


def _zeta(xp: Any, s: int, q: Any) -> Any:
    """The Hurwitz zeta function for q > 0 by Euler and Maclaurin's formula."""
    terms = 12
    total = sum((q + k) ** -float(s) for k in range(terms))
    a = q + terms
    total = total + a ** (1.0 - s) / (s - 1) + 0.5 * a ** -float(s)
    factor, power = float(s), a ** -float(s + 1)
    for k, b in enumerate(_BERNOULLI, 1):
        total = total + b / math.factorial(2 * k) * factor * power
        factor *= (s + 2 * k - 1) * (s + 2 * k)
        power = power / (a * a)
    return total


def i1(xp: Any, x: Any) -> Any:
    """The modified Bessel function of order 1: its power series, and beyond 18 its asymptotic one."""
    y = xp.abs(x.astype("f8"))
    small = xp.minimum(y, 18.0)
    quarter = small * small / 4
    term = small / 2
    total = term
    for k in range(1, 60):
        term = term * quarter / (k * (k + 1))
        total = total + term
    large = xp.maximum(y, 18.0)
    term = xp.ones_like(large)
    series = term
    for k in range(1, 16):
        term = -term * (4.0 - (2 * k - 1) ** 2) / (k * 8 * large)
        series = series + term
    far = xp.exp(large) / xp.sqrt(2 * math.pi * large) * series
    return xp.copysign(xp.where(y <= 18, total, far), x).astype(x.dtype)
