// Scalar and vector maths of generated kernels. Every function is a template over float, double and vectors of them
// (integers where that makes sense). A line `//# name: what it calls` starts a section; generated source contains the
// sections it uses, in this order. Polynomials are least-maximum fits of our own on the reduced ranges. Double
// precision goes lane by lane to the C library, unless the formula below holds for it as it stands.
// Tests: tests/kernels/test_maths.py sweeps every function, edge values included.

//# lanes:
// The element type of a vector or scalar, the signed integer type of the same shape, the number of lanes.
template <class V> using Element = Item<V>;
template <class V> struct Integer { typedef decltype(V{} < V{}) type; };
template <> struct Integer<f32> { typedef i32 type; };
template <> struct Integer<f64> { typedef i64 type; };
template <class V> using IntegerOf = typename Integer<V>::type;
template <class V, class F> INLINE V each(V x, F f) {
  if constexpr (is_vector<V>) {
    V r;
    for (unsigned i = 0; i < sizeof(V) / sizeof(Element<V>); i++) r[i] = f(x[i]);
    return r;
  } else
    return f(x);
}
template <class V, class F> INLINE V each(V x, V y, F f) {
  if constexpr (is_vector<V>) {
    V r;
    for (unsigned i = 0; i < sizeof(V) / sizeof(Element<V>); i++) r[i] = f(x[i], y[i]);
    return r;
  } else
    return f(x, y);
}
template <class V> constexpr bool is_double = sizeof(Element<V>) == 8;
template <class V> INLINE IntegerOf<V> bits_of(V x) { return __builtin_bit_cast(IntegerOf<V>, x); }
template <class V> INLINE V from_bits(IntegerOf<V> x) { return __builtin_bit_cast(V, x); }
template <class V> INLINE V all_lanes(Element<V> x) { return splat<V>(x); }

//# abs: lanes
template <class V> INLINE V abs(V x) {
  if constexpr (Element<V>(0.5) != 0) {
    constexpr auto sign = is_double<V> ? i64(1) << 63 : i64(i32(1u << 31));
    return from_bits<V>(bits_of(x) & ~(Element<IntegerOf<V>>)sign);
  } else
    return x < 0 ? -x : x;
}

//# copysign: lanes
template <class V> INLINE V copysign(V x, V from) {
  constexpr auto sign = (Element<IntegerOf<V>>)(is_double<V> ? i64(1) << 63 : i64(i32(1u << 31)));
  return from_bits<V>((bits_of(x) & ~sign) | (bits_of(from) & sign));
}

//# sign:
// Zero for both zeros and for NaN, as PyTorch has it.
template <class V> INLINE V sign(V x) {
  V zero{};
  if constexpr (is_vector<V>) return x > zero ? zero + 1 : x < zero ? zero - 1 : zero;
  else return x > 0 ? V(1) : x < 0 ? V(-1) : zero;
}

//# isnan:
template <class V> INLINE auto isnan(V x) { return x != x; }

//# isinf: abs
template <class V> INLINE auto isinf(V x) { return abs(x) == (Element<V>)__builtin_inf(); }

//# isfinite:
template <class V> INLINE auto isfinite(V x) { return x - x == x - x; }

//# signbit: lanes
template <class V> INLINE auto signbit(V x) {
  if constexpr (Element<V>(0.5) != 0) return bits_of(x) < 0; else return x < 0;
}

//# maximum:
// The larger; NaN if either is, as PyTorch has it.
template <class V> INLINE V maximum(V a, V b) { return (a > b) | (a != a) ? a : b; }

//# minimum:
template <class V> INLINE V minimum(V a, V b) { return (a < b) | (a != a) ? a : b; }

//# fmax:
// The larger; the other one if one is NaN.
template <class V> INLINE V fmax(V a, V b) { return (a > b) | (b != b) ? a : b; }

//# fmin:
template <class V> INLINE V fmin(V a, V b) { return (a < b) | (b != b) ? a : b; }

//# clamp: maximum minimum
template <class V> INLINE V clamp(V x, V low, V high) { return minimum(maximum(x, low), high); }

//# relu:
template <class V> INLINE V relu(V x) { V zero{}; return x < zero ? zero : x; }

//# sqrt: lanes
template <class V> INLINE V sqrt(V x) {
#if defined(__clang__)
  return __builtin_elementwise_sqrt(x);
#else
#if defined(__AVX512F__)
  if constexpr (is_vector<V> && sizeof(V) == 64) {
    if constexpr (is_double<V>) return (V)__builtin_ia32_sqrtpd512_mask(x, x, -1, 4);
    else return (V)__builtin_ia32_sqrtps512_mask(x, x, -1, 4);
  }
#endif
#if defined(__AVX__)
  if constexpr (is_vector<V> && sizeof(V) == 32) {
    if constexpr (is_double<V>) return (V)__builtin_ia32_sqrtpd256(x);
    else return (V)__builtin_ia32_sqrtps256(x);
  }
#endif
#if defined(__SSE2__)
  if constexpr (is_vector<V> && sizeof(V) == 16) {
    if constexpr (is_double<V>) return (V)__builtin_ia32_sqrtpd(x);
    else return (V)__builtin_ia32_sqrtps(x);
  }
#endif
  return each(x, [](auto v) { return (decltype(v))__builtin_sqrt(v); });
#endif
}

//# rsqrt: sqrt
template <class V> INLINE V rsqrt(V x) { return 1 / sqrt(x); }

//# rounding: lanes
// One rounding instruction where there is one: 0 nearest even, 1 down, 2 up, 3 towards zero.
template <int mode, class V> INLINE V rounded(V x) {
#if defined(__AVX512F__) && !defined(__clang__)
  if constexpr (is_vector<V> && sizeof(V) == 64) {
    if constexpr (is_double<V>) return (V)__builtin_ia32_rndscalepd_mask(x, mode, x, -1, 4);
    else return (V)__builtin_ia32_rndscaleps_mask(x, mode, x, -1, 4);
  }
#endif
#if defined(__AVX__)
  if constexpr (is_vector<V> && sizeof(V) == 32) {
    if constexpr (is_double<V>) return (V)__builtin_ia32_roundpd256(x, mode);
    else return (V)__builtin_ia32_roundps256(x, mode);
  }
#endif
#if defined(__SSE4_1__)
  if constexpr (is_vector<V> && sizeof(V) == 16) {
    if constexpr (is_double<V>) return (V)__builtin_ia32_roundpd(x, mode);
    else return (V)__builtin_ia32_roundps(x, mode);
  }
#endif
  return each(x, [](auto v) {
    typedef decltype(v) T;
    return mode == 0 ? (T)__builtin_rint(v) : mode == 1 ? (T)__builtin_floor(v) : mode == 2 ? (T)__builtin_ceil(v)
                                                                             : (T)__builtin_trunc(v);
  });
}

//# round: rounding
template <class V> INLINE V round(V x) { if constexpr (Element<V>(0.5) != 0) return rounded<0>(x); else return x; }

//# floor: rounding
template <class V> INLINE V floor(V x) { if constexpr (Element<V>(0.5) != 0) return rounded<1>(x); else return x; }

//# ceil: rounding
template <class V> INLINE V ceil(V x) { if constexpr (Element<V>(0.5) != 0) return rounded<2>(x); else return x; }

//# trunc: rounding
template <class V> INLINE V trunc(V x) { if constexpr (Element<V>(0.5) != 0) return rounded<3>(x); else return x; }

//# frac: trunc
template <class V> INLINE V frac(V x) { return x - trunc(x); }

//# libm: lanes
// A function taken lane by lane from the C library; the compiler knows it without a header.
#define FROM_LIBM1(name)                                                                                         \
  INLINE f32 libm_##name(f32 x) { return __builtin_##name##f(x); }                                               \
  INLINE f64 libm_##name(f64 x) { return __builtin_##name(x); }
#define FROM_LIBM2(name)                                                                                         \
  INLINE f32 libm_##name(f32 x, f32 y) { return __builtin_##name##f(x, y); }                                     \
  INLINE f64 libm_##name(f64 x, f64 y) { return __builtin_##name(x, y); }
#define EACH1(name) template <class V> INLINE V name(V x) { return each(x, [](auto v) { return libm_##name(v); }); }
#define EACH2(name)                                                                                              \
  template <class V> INLINE V name(V x, V y) { return each(x, y, [](auto a, auto b) { return libm_##name(a, b); }); }

//# scaled: lanes
// x times 2^n for whole n in [-300, 300], in two steps so that neither overflows before the result does.
template <class V> INLINE V times_power(V x, IntegerOf<V> n) {
  IntegerOf<V> half = n >> 1, rest = n - half;
  return x * from_bits<V>((half + 127) << 23) * from_bits<V>((rest + 127) << 23);
}
// x = n ln 2 + r with |r| <= ln 2 / 2; n comes out whole, for |x| < 2^21.
template <class V> INLINE V reduced_by_ln2(V x, IntegerOf<V>& n) {
  const f32 magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
  V shifted = x * 1.44269504f + magic;
  V whole = shifted - magic;
  n = bits_of(shifted) - 0x4b400000;
  return (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
}
// (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2
template <class V> INLINE V exp_tail(V r) {
  return (((r * 0.00139504764f + 0.00836888235f) * r + 0.041666206f) * r + 0.166665182f) * r + 0.5f;
}
// e^x for x in [-87, 88], where nothing over- or underflows.
template <class V> INLINE V exp_between(V x) {
  IntegerOf<V> n;
  V r = reduced_by_ln2(x, n);
  return (exp_tail(r) * (r * r) + r + 1.f) * from_bits<V>((n + 127) << 23);
}
// e^x - 1 for x in [-20, 89]; computed at half size, so that 2^128 is not met before the result overflows.
template <class V> INLINE V expm1_between(V x) {
  IntegerOf<V> n;
  V r = reduced_by_ln2(x, n), half = from_bits<V>((n + 126) << 23);
  return ((exp_tail(r) * (r * r) + r) * half + (half - 0.5f)) * 2.f;
}

//# exp: scaled libm
FROM_LIBM1(exp)
template <class V> INLINE V exp(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_exp(v); });
  else {
    IntegerOf<V> n;
    x = x < -105.f ? all_lanes<V>(-105.f) : x > 89.f ? all_lanes<V>(89.f) : x;
    V r = reduced_by_ln2(x, n);
    return times_power(exp_tail(r) * (r * r) + r + 1.f, n);
  }
}

//# exp2: exp libm
FROM_LIBM1(exp2)
template <class V> INLINE V exp2(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_exp2(v); });
  else {
    x = x < -152.f ? all_lanes<V>(-152.f) : x > 129.f ? all_lanes<V>(129.f) : x;
    const f32 magic = 12582912.f;
    V shifted = x + magic, r = (x - (shifted - magic)) * 0.693147181f;
    return times_power(exp_tail(r) * (r * r) + r + 1.f, bits_of(shifted) - 0x4b400000);
  }
}

//# expm1: scaled libm
FROM_LIBM1(expm1)
template <class V> INLINE V expm1(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_expm1(v); });
  else {
    V result = expm1_between(x < -20.f ? all_lanes<V>(-20.f) : x > 89.f ? all_lanes<V>(89.f) : x);
    return x == 0.f ? x : result;
  }
}

//# sigmoid: exp
template <class V> INLINE V sigmoid(V x) { return 1 / (1 + exp(-x)); }

//# silu: exp
template <class V> INLINE V silu(V x) { return x / (1 + exp(-x)); }

//# tanh: scaled abs copysign libm
FROM_LIBM1(tanh)
template <class V> INLINE V tanh(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_tanh(v); });
  else {
    V twice = 2 * abs(x);
    V e = expm1_between(twice > 20.f ? all_lanes<V>(20.f) : twice);
    return copysign(e / (e + 2.f), x);
  }
}

//# log: lanes libm
FROM_LIBM1(log)
// x = 2^n (1 + f) with 1 + f in [sqrt 1/2, sqrt 2]; log(1 + f) = f - f^2/2 + f^3 p(f). Positive normal x.
template <class V> INLINE V log_parts(V x, V& f, V& n) {
  IntegerOf<V> bits = bits_of(x), shift = (bits - 0x3f3504f3) >> 23;
  if constexpr (is_vector<V>) n = __builtin_convertvector(shift, V); else n = shift;
  f = from_bits<V>(bits - (shift << 23)) - 1.f;
  V high = ((f * 0.0691536814f - 0.117898077f) * f + 0.118729763f) * f - 0.123843484f;
  return ((((high * f + 0.142186582f) * f - 0.16669251f) * f + 0.200022265f) * f - 0.249999866f) * f + 0.333333105f;
}
template <class V> INLINE V log(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_log(v); });
  else {
    V f, n, scaled = x < 1.17549435e-38f ? x * 8388608.f : x;
    V p = log_parts(scaled, f, n);
    n = x < 1.17549435e-38f ? n - 23.f : n;
    V square = f * f;
    V result = (f * square * p + n * -2.12194440e-4f) - 0.5f * square + f + n * 0.693359375f;
    result = x == 0.f ? all_lanes<V>(-__builtin_inff()) : result;
    result = x < 0.f ? all_lanes<V>(__builtin_nanf("")) : result;
    return x - x == 0.f ? result : x > 0.f ? x : all_lanes<V>(__builtin_nanf(""));
  }
}

//# log2: log libm
FROM_LIBM1(log2)
template <class V> INLINE V log2(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_log2(v); });
  else {
    // The whole part stays exact; the rest is the logarithm of the significand.
    V f, n, scaled = x < 1.17549435e-38f ? x * 8388608.f : x;
    V p = log_parts(scaled, f, n), square = f * f;
    n = x < 1.17549435e-38f ? n - 23.f : n;
    V tail = f * square * p - 0.5f * square;
    V result = tail * 1.44269504f + f * 0.44269504f + f + n;
    return x - x == 0.f && x > 0.f ? result : log(x);
  }
}

//# log10: log libm
FROM_LIBM1(log10)
template <class V> INLINE V log10(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_log10(v); });
  else return log(x) * 0.434294482f;
}

//# log1p: log libm
FROM_LIBM1(log1p)
template <class V> INLINE V log1p(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_log1p(v); });
  else {
    // What 1 + x lost in rounding is given back as a first-order term.
    V u = 1.f + x, lost = x - (u - 1.f);
    V result = log(u) + lost / u;
    return u == 1.f ? x : x - x == 0.f && u > 0.f ? result : log(u);
  }
}

//# softplus: exp log1p abs
template <class V> INLINE V softplus(V x) { return (x > 0 ? x : V{}) + log1p(exp(-abs(x))); }

//# trigonometry: lanes abs
// x = q pi/2 + r for |x| <= 8192; the three parts of pi/2 are short enough for q times the first two to be exact.
template <class V> INLINE V reduced_by_quarter(V x, IntegerOf<V>& q) {
  const f32 magic = 12582912.f;
  V shifted = x * 0.636619772f + magic, whole = shifted - magic;
  q = bits_of(shifted) - 0x4b400000;
  return ((x - whole * 1.5703125f) - whole * 4.83751297e-4f) - whole * 7.54978942e-8f;
}
template <class V> INLINE V sin_near_zero(V r) {
  V z = r * r;
  return ((2.71756812e-6f * z - 1.98392576e-4f) * z + 8.33332911e-3f) * z * (r * z) - 0.166666672f * z * r + r;
}
template <class V> INLINE V cos_near_zero(V r) {
  V z = r * r;
  return (((-2.7203339e-7f * z + 2.47994388e-5f) * z - 1.38888834e-3f) * z + 4.16666679e-2f) * (z * z) - 0.5f * z + 1.f;
}
template <class V> INLINE bool any_large(V x) {
  if constexpr (is_vector<V>) {
    bool large = false;
    for (unsigned i = 0; i < sizeof(V) / sizeof(Element<V>); i++) large |= !(x[i] <= 8192.f && x[i] >= -8192.f);
    return large;
  } else
    return !(x <= 8192.f && x >= -8192.f);
}

//# sin: trigonometry libm
FROM_LIBM1(sin)
template <class V> INLINE V sin(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_sin(v); });
  else {
    if (__builtin_expect(any_large(x), 0)) return each(x, [](auto v) { return libm_sin(v); });
    IntegerOf<V> q;
    V r = reduced_by_quarter(x, q);
    V value = (q & 1) != 0 ? cos_near_zero(r) : sin_near_zero(r);
    value = (q & 2) != 0 ? -value : value;
    return x == 0.f ? x : value;
  }
}

//# cos: trigonometry libm
FROM_LIBM1(cos)
template <class V> INLINE V cos(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_cos(v); });
  else {
    if (__builtin_expect(any_large(x), 0)) return each(x, [](auto v) { return libm_cos(v); });
    IntegerOf<V> q;
    V r = reduced_by_quarter(x, q);
    V value = (q & 1) != 0 ? sin_near_zero(r) : cos_near_zero(r);
    return ((q + 1) & 2) != 0 ? -value : value;
  }
}

//# erf: scaled abs copysign libm
FROM_LIBM1(erf)
template <class V> INLINE V erf(V x) {
  if constexpr (is_double<V>) return each(x, [](auto v) { return libm_erf(v); });
  else {
    V t = abs(x), z = x * x;
    V near = ((((7.88911930e-5f * z - 8.02084105e-4f) * z + 5.18953521e-3f) * z - 2.68544443e-2f) * z + 0.112836003f) * z;
    near = ((near - 0.37612626f) * z + 0.128379166f) * x + x;
    // log erfc(t) on [1, 4]; beyond, erf is 1 to the last bit.
    V far = t > 4.f ? all_lanes<V>(4.f) : t;
    V g = (((-2.16868134e-5f * far + 4.41335898e-4f) * far - 4.20455914e-3f) * far + 2.52082478e-2f) * far;
    g = (((g - 0.108418562f) * far - 0.633219898f) * far - 1.12957847f) * far + 1.88038175e-4f;
    V tail = copysign(1.f - exp_between(g), x);
    return t < 1.f ? near : t >= 1.f ? tail : x;
  }
}

//# erfc: libm
FROM_LIBM1(erfc)
EACH1(erfc)
//# tan: libm
FROM_LIBM1(tan)
EACH1(tan)
//# asin: libm
FROM_LIBM1(asin)
EACH1(asin)
//# acos: libm
FROM_LIBM1(acos)
EACH1(acos)
//# atan: libm
FROM_LIBM1(atan)
EACH1(atan)
//# sinh: libm
FROM_LIBM1(sinh)
EACH1(sinh)
//# cosh: libm
FROM_LIBM1(cosh)
EACH1(cosh)
//# asinh: libm
FROM_LIBM1(asinh)
EACH1(asinh)
//# acosh: libm
FROM_LIBM1(acosh)
EACH1(acosh)
//# atanh: libm
FROM_LIBM1(atanh)
EACH1(atanh)
//# lgamma: libm
FROM_LIBM1(lgamma)
EACH1(lgamma)
//# tgamma: libm
FROM_LIBM1(tgamma)
EACH1(tgamma)
//# cbrt: libm
FROM_LIBM1(cbrt)
EACH1(cbrt)
//# atan2: libm
FROM_LIBM2(atan2)
EACH2(atan2)
//# hypot: libm
FROM_LIBM2(hypot)
EACH2(hypot)
//# nextafter: libm
FROM_LIBM2(nextafter)
EACH2(nextafter)
//# ldexp: exp2
template <class V> INLINE V ldexp(V x, V power) { return x * exp2(power); }

//# fmod: libm
FROM_LIBM2(fmod)
template <class V> INLINE V fmod(V x, V y) {
  return each(x, y, [](auto a, auto b) {
    typedef decltype(a) T;
    if constexpr (T(0.5) != 0) return libm_fmod(a, b);
    else return (T)(b == 0 || b == T(-1) ? T(0) : T(a % b));
  });
}

//# remainder: fmod
// The remainder with the sign of the divisor, as Python's %.
template <class V> INLINE V remainder(V x, V y) {
  V r = fmod(x, y);
  return r != 0 && ((r < 0) != (y < 0)) ? r + y : r;
}

//# checked_index: lanes
// An index into a dimension. The first one outside is noted for the caller, who raises; in its place stands 0.
static __attribute__((noinline, cold)) void note_fault(i64* failed, i64 fault, i64 index, i64 size, i64 dim) {
  i64 none = 0;
  if (!__atomic_compare_exchange_n(failed, &none, fault + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
  failed[1] = index;
  failed[2] = size;
  failed[3] = dim;
}
template <class X, class P> INLINE X checked_index(X x, X size, X fault, X dim, P part, i64* failed) {
  if constexpr (!is_vector<X>) {
    if (__builtin_expect((u64)(i64)x < (u64)(i64)size, 1)) return x;
    note_fault(failed, fault, x, size, dim);
    return 0;
  } else {
    auto outside = (x < 0) | (x >= size);
    Item<decltype(outside)> any = 0;
    for (int l = 0; l < lanes_of<X>; l++) any |= outside[l];
    if (__builtin_expect(any != 0, 0))
      for (i64 l = 0; l < count<X>(part); l++)
        if (outside[l]) {
          note_fault(failed, fault[l], x[l], size[l], dim[l]);
          x[l] = 0;
        }
    return x;
  }
}

//# trunc_divide: trunc lanes
// Whole division towards zero; an integer divided by zero gives zero instead of a trap.
template <class V> INLINE V trunc_divide(V x, V y) {
  if constexpr (Element<V>(0.5) != 0) return trunc(x / y);
  else return each(x, y, [](auto a, auto b) {
    typedef decltype(a) T;
    return b == 0 ? T(0) : b == T(-1) && T(-1) < 0 ? T(0 - (u64)a) : T(a / b);
  });
}

//# floor_divide: floor trunc_divide fmod lanes
// Whole division downwards. For floats from the exact remainder, as Python does it, so that 1 // 0.1 is 9.
template <class V> INLINE V floor_divide(V x, V y) {
  return each(x, y, [](auto a, auto b) {
    typedef decltype(a) T;
    if constexpr (T(0.5) != 0) {
      if (b == 0) return T(a / b);
      T rest = libm_fmod(a, b), quotient = (a - rest) / b;
      if (rest != 0 && ((b < 0) != (rest < 0))) quotient -= 1;
      if (quotient == 0) return (T)__builtin_copysign(T(0), T(a / b));
      T whole = (T)__builtin_floor(quotient);
      return quotient - whole > T(0.5) ? T(whole + 1) : whole;
    } else {
      T quotient = trunc_divide(a, b);
      return (T)(b != 0 && quotient * b != a && ((a < 0) != (b < 0)) ? quotient - 1 : quotient);
    }
  });
}

//# pow: libm
FROM_LIBM2(pow)
template <class V> INLINE V pow(V x, V y) {
  return each(x, y, [](auto a, auto b) {
    typedef decltype(a) T;
    if constexpr (T(0.5) != 0) return libm_pow(a, b);
    else {
      if (b < 0) return T(a == 1 ? 1 : a == T(-1) ? (b & 1 ? -1 : 1) : 0);
      u64 result = 1, base = (u64)a;
      for (u64 left = (u64)b; left; left >>= 1, base *= base)
        if (left & 1) result *= base;
      return (T)result;
    }
  });
}

//# shifts: lanes
template <class V> INLINE V shift_left(V x, V by) {
  return each(x, by, [](auto a, auto b) { return (decltype(a))(b < 0 || u64(b) >= 8 * sizeof a ? 0 : (u64)a << b); });
}
template <class V> INLINE V shift_right(V x, V by) {
  return each(x, by, [](auto a, auto b) {
    return (decltype(a))(b < 0 || u64(b) >= 8 * sizeof a ? (a < 0 ? -1 : 0) : a >> b);
  });
}

//# across: lanes maximum minimum
// Combining the lanes of an accumulator.
template <class V, class F> INLINE Element<V> across(V x, F combine) {
  Element<V> part[lanes_of<V>];
  for (int i = 0; i < lanes_of<V>; i++) part[i] = x[i];
  for (int n = lanes_of<V> / 2; n; n /= 2)
    for (int i = 0; i < n; i++) part[i] = combine(part[i], part[i + n]);
  return part[0];
}
