"""Accuracy of the vector maths of generated code: all magnitudes, all edge values, vectors and single numbers."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from flambeau.codegen import build, prelude

pytestmark = pytest.mark.skipif(build.find_compiler() is None, reason="no C++ compiler")


def by_math(function):
    """A reference in double precision from the standard library; its domain errors are NaN."""

    def one(x):
        try:
            return function(float(x))
        except (ValueError, OverflowError):
            return math.nan

    return lambda x: np.array([one(v) for v in x])


def gamma(x):
    if x == 0 or math.isinf(x):
        return math.copysign(math.inf, x) if x >= 0 or x == 0 else math.nan
    try:
        return math.gamma(x)
    except OverflowError:
        return math.inf


#: name -> (reference in double precision, tolerance in units of the last place)
ONE = {
    "abs": (np.abs, 0), "sign": (lambda x: np.nan_to_num(np.sign(x), nan=0), 0),
    "relu": (lambda x: np.where(x < 0, 0, x), 0), "sqrt": (np.sqrt, 0.51),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.6), "round": (np.rint, 0), "floor": (np.floor, 0), "ceil": (np.ceil, 0),
    "trunc": (np.trunc, 0), "frac": (lambda x: x - np.trunc(x), 0.51), "exp": (np.exp, 1.1), "exp2": (np.exp2, 1.2),
    "expm1": (np.expm1, 1.7), "tanh": (np.tanh, 2.7), "log": (np.log, 1), "log2": (np.log2, 1.3),
    "log10": (np.log10, 2.2), "log1p": (np.log1p, 1.7), "sin": (np.sin, 1.6), "cos": (np.cos, 1.6),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2.5), "silu": (lambda x: x / (1 + np.exp(-x)), 3),
    "erf": (by_math(math.erf), 1.3), "tan": (np.tan, 2), "asin": (np.arcsin, 1.5), "acos": (np.arccos, 1.5),
    "atan": (np.arctan, 1.5), "sinh": (np.sinh, 2.5), "cosh": (np.cosh, 2.5), "asinh": (np.arcsinh, 2.5),
    "acosh": (np.arccosh, 2.5), "atanh": (np.arctanh, 2.5), "cbrt": (np.cbrt, 1.5),
    "erfc": (by_math(math.erfc), 4),
}  # fmt: skip
TWO = {
    "maximum": np.maximum, "minimum": np.minimum, "fmax": np.fmax, "fmin": np.fmin, "copysign": np.copysign,
    "fmod": np.fmod, "remainder": np.remainder, "floor_divide": np.floor_divide, "atan2": np.arctan2, "pow": np.power,
    "hypot": np.hypot,
}  # fmt: skip
TYPES = {"f32": np.float32, "f64": np.float64}


@pytest.fixture(scope="module")
def library():
    parts = []
    for kind in TYPES:
        for name in ONE:
            parts.append(f"""
extern "C" void {name}_{kind}(const {kind}* x, const {kind}*, {kind}* out, i64 n) {{
  i64 i = 0;
  for (; i + V <= n; i += V) write(out + i, {name}(read<{kind}v>(x + i)));
  for (; i < n; i++) out[i] = {name}(x[i]);
}}""")
        for name in TWO:
            parts.append(f"""
extern "C" void {name}_{kind}(const {kind}* x, const {kind}* y, {kind}* out, i64 n) {{
  i64 i = 0;
  for (; i + V <= n; i += V) write(out + i, {name}(read<{kind}v>(x + i), read<{kind}v>(y + i)));
  for (; i < n; i++) out[i] = {name}(x[i], y[i]);
}}""")
    return ctypes.CDLL(str(build.build([prelude.unit("\n".join(parts))])))


def call(library, name, kind, x, y=None):
    out = np.empty_like(x)
    y = x if y is None else y
    addresses = [ctypes.c_void_p(a.ctypes.data) for a in (x, y, out)]
    getattr(library, f"{name}_{kind}")(*addresses, ctypes.c_int64(x.size))
    return out


def edges(dtype):
    info = np.finfo(dtype)
    tiny = [info.tiny, info.smallest_subnormal, info.tiny * 0.3]
    plain = [0.0, 1.0, 0.5, 1.5, 2.5, 3.0, 8.0, 88.7, 89.0, 103.9, 1e5, 1e7, info.max, info.max / 3, info.eps, np.inf]
    values = np.array([*tiny, *plain], dtype)
    return np.concatenate([values, -values, np.array([np.nan], dtype)])


def sweep(dtype):
    """Every magnitude, the usual range closely, and the edge values; a size that is no multiple of a vector."""
    rng = np.random.default_rng(0)
    integer = np.uint32 if dtype is np.float32 else np.uint64
    anything = rng.integers(0, np.iinfo(integer).max, 6000, dtype=integer).view(dtype)
    usual = rng.standard_normal(5000).astype(dtype)
    wide = rng.uniform(-110, 110, 5000).astype(dtype)
    return np.concatenate([anything, usual, wide, edges(dtype)])


def assert_close(found, expected, dtype, ulps, x):
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
        # Results next to nothing may vanish: silu(-89) is of the order of 1e-37 and comes out as 0.
        gap = np.abs(found.astype(np.float64) - expected)
        unit = np.maximum(np.spacing(np.abs(rounded)).astype(np.float64), np.finfo(dtype).tiny * 1e-3)
        near = np.isfinite(found) & np.isfinite(rounded) & ((gap <= ulps * unit) | (gap < 100 * np.finfo(dtype).tiny))
        bad = ~(same | near)
    assert not bad.any(), [(x[i], found[i], rounded[i]) for i in np.nonzero(bad)[0][:5]]


@pytest.mark.parametrize("name", ONE)
def test_single_precision(library, name):
    reference, ulps = ONE[name]
    x = sweep(np.float32)
    with np.errstate(all="ignore"):
        expected = reference(x.astype(np.float64))
    assert_close(call(library, name, "f32", x), expected, np.float32, ulps, x)


@pytest.mark.parametrize("name", ONE)
def test_double_precision(library, name):
    reference, ulps = ONE[name]
    x = sweep(np.float64)
    with np.errstate(all="ignore"):
        expected = reference(x)
    assert_close(call(library, name, "f64", x), expected, np.float64, ulps + 2, x)


@pytest.mark.parametrize("name", ["exp", "tanh", "log", "erf", "sin", "sqrt", "expm1"])
def test_zero_keeps_its_sign_and_nan_stays(library, name):
    x = np.array([-0.0] * 9 + [np.nan] * 9, np.float32)
    found = call(library, name, "f32", x)
    assert np.isnan(found[9:]).all()
    if name in ("tanh", "erf", "sin", "sqrt", "expm1"):
        assert np.signbit(found[:9]).all()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", TWO)
def test_two_operands(library, name, kind):
    dtype = TYPES[kind]
    rng = np.random.default_rng(1)
    values = edges(dtype)
    x = np.concatenate([np.repeat(values, len(values)), rng.uniform(-9, 9, 4001).astype(dtype)])
    y = np.concatenate([np.tile(values, len(values)), rng.uniform(-4, 4, 4001).astype(dtype)])
    with np.errstate(all="ignore"):
        expected = TWO[name](x, y)
    exact = name not in ("atan2", "pow", "hypot")
    assert_close(call(library, name, kind, x, y), expected, dtype, 0 if exact else 2, list(zip(x, y, strict=True)))


def test_only_what_is_used_is_emitted():
    text = prelude.maths_for("write(out, tanh(read<f32v>(x)));")
    assert "V tanh(V x)" in text and "V expm1_between" in text
    assert "V sin(V x)" not in text and "V erf(V x)" not in text
