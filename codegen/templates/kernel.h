// What every generated translation unit starts with: element types, vectors of a kernel's lanes, loads and stores.
typedef double f64;
typedef float f32;
typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned u32;
typedef unsigned long u64;
typedef _Float16 f16;
struct b8 { u8 byte; };  // a bool in memory

template <class V> constexpr bool is_vector = true;
template <> constexpr bool is_vector<f64> = false;
template <> constexpr bool is_vector<f32> = false;
template <> constexpr bool is_vector<i8> = false;
template <> constexpr bool is_vector<u8> = false;
template <> constexpr bool is_vector<i16> = false;
template <> constexpr bool is_vector<i32> = false;
template <> constexpr bool is_vector<i64> = false;
template <> constexpr bool is_vector<u32> = false;
template <> constexpr bool is_vector<u64> = false;
template <> constexpr bool is_vector<bool> = false;

template <class T, int lanes> struct Lanes {
  typedef T type __attribute__((vector_size(sizeof(T) * lanes)));
  typedef T loose __attribute__((vector_size(sizeof(T) * lanes), aligned(sizeof(T)), may_alias));  // at any address
};

// A vector loop has V lanes if all its values have at most 32 bits, and W if some have 64. A bool is a mask: an integer
// vector of the lanes' width, 0 or -1; outside vector loops it is a plain bool.
enum { V = VECTOR_BYTES / 4, W = VECTOR_BYTES / 8 };
#define VECTORS(T) typedef Lanes<T, V>::type T##v; typedef Lanes<T, W>::type T##w;
VECTORS(f64) VECTORS(f32) VECTORS(i64) VECTORS(i32) VECTORS(i16) VECTORS(i8) VECTORS(u8)
typedef i32v maskv;
typedef i64w maskw;

// How much of a vector takes part: all of it, or its first n lanes.
struct Whole {};
struct Part { i64 n; };
template <class X> INLINE auto item_of(X x) { if constexpr (is_vector<X>) return x[0]; else return x; }
template <class X> using Item = decltype(item_of(X{}));
template <class X> constexpr int lanes_of = sizeof(X) / sizeof(Item<X>);
template <class X> INLINE i64 count(Whole) { return lanes_of<X>; }
template <class X> INLINE i64 count(Part part) { return part.n; }

template <class X> INLINE X splat(Item<X> x) {
  if constexpr (is_vector<X>) return x - X{}; else return x;
}
template <class M> INLINE M splat_mask(bool x) { return M{} - x; }

// An integer vector made a mask of another lane width, or with `test` one of any number.
template <class M, class X> INLINE M as_mask(X x) {
  if constexpr (sizeof(M) == sizeof(X)) return (M)x;
  else return __builtin_convertvector(x, M);
}
template <class M, class X> INLINE M test(X x) { return as_mask<M>(x != X{}); }

// c ? a : b, where c may be a mask of another width.
template <class C, class X> INLINE X where(C c, X a, X b) {
  if constexpr (!is_vector<X>) return c ? a : b;
  else {
    typedef decltype(X{} == X{}) M;
    return as_mask<M>(c) ? a : b;
  }
}
template <class X> INLINE X keep(Whole, X, X now) { return now; }
template <class X> INLINE X keep(Part part, X before, X now) {
  typedef decltype(X{} == X{}) M;
  M lane;
  for (int i = 0; i < lanes_of<X>; i++) lane[i] = i;
  return lane < (Item<M>)part.n ? now : before;
}

// Conversions to the C++ type of a result. Stored<S, X> rounds to storage type S and computes on in X.
template <class S, class X> struct Stored {};
template <class To, class From> struct Cast {
  INLINE To run(From x) {
    if constexpr (!is_vector<To>) return (To)x;
    else return __builtin_convertvector(x, To);
  }
};
template <class X> struct Cast<X, X> { INLINE X run(X x) { return x; } };
template <class From> struct Cast<bool, From> { INLINE bool run(From x) { return x != 0; } };
template <> struct Cast<bool, bool> { INLINE bool run(bool x) { return x; } };
// Floats become narrow integers by way of 64-bit ones, which is what PyTorch and NumPy do on this hardware.
template <class To> INLINE To narrow_integer(f32 x) { return (To)(i64)x; }
template <> struct Cast<u8, f32> { INLINE u8 run(f32 x) { return narrow_integer<u8>(x); } };
template <> struct Cast<i8, f32> { INLINE i8 run(f32 x) { return narrow_integer<i8>(x); } };
template <> struct Cast<i16, f32> { INLINE i16 run(f32 x) { return narrow_integer<i16>(x); } };
template <class S, class X, class From> struct Cast<Stored<S, X>, From> {
  INLINE X run(From x) {
    X wide = Cast<X, From>::run(x);
    if constexpr (!is_vector<X>) return widen(narrow<S>(wide));
    else {
      X r;
      for (int i = 0; i < lanes_of<X>; i++) r[i] = widen(narrow<S>(wide[i]));
      return r;
    }
  }
};
template <class To, class From> INLINE auto fl_cast(From x) { return Cast<To, From>::run(x); }
template <class M> INLINE M number(M mask) {
  if constexpr (is_vector<M>) return mask & 1; else return mask;
}
INLINE i32 number(bool x) { return x; }

// One element between memory and its computing type.
template <class S> INLINE S get(const S& x) { return x; }
INLINE bool get(const b8& x) { return x.byte; }
INLINE f32 get(const bf16& x) { return widen(x); }
INLINE f32 get(const f16& x) { return x; }
template <class S, class X> INLINE void put(S& to, X x) { to = x; }
template <class X> INLINE void put(b8& to, X x) { to.byte = x ? 1 : 0; }
INLINE void put(bf16& to, f32 x) { to = narrow<bf16>(x); }
INLINE void put(f16& to, f32 x) { to = (f16)x; }

// Adjacent elements as a vector; lanes past a part are zero.
template <class X, class S> INLINE X read(const S* p) {
  constexpr int n = lanes_of<X>;
  if constexpr (__is_same(S, b8)) {
    typename Lanes<u8, n>::type bytes = *(const typename Lanes<u8, n>::loose*)p;
    typename Lanes<i8, n>::type mask = bytes != 0;
    return __builtin_convertvector(mask, X);
  } else if constexpr (__is_same(S, bf16)) {
    typename Lanes<u16, n>::type halves = *(const typename Lanes<u16, n>::loose*)p;
    typename Lanes<u32, n>::type words = __builtin_convertvector(halves, typename Lanes<u32, n>::type) << 16;
    return (X)words;
  } else if constexpr (__is_same(S, f16)) {
    X r;
    UNROLL for (int i = 0; i < n; i++) r[i] = p[i];
    return r;
  } else
    return *(const typename Lanes<S, n>::loose*)p;
}
template <class X, class S> INLINE X read(const S* p, Whole) { return read<X>(p); }
template <class X, class S> INLINE X read(const S* p, Part part) {
  S held[lanes_of<X>] = {};
  for (i64 i = 0; i < part.n; i++) held[i] = p[i];
  return read<X>(held);
}
// Adjacent elements where `mask` holds, zero elsewhere: vectors that lie on one side of an edge are loaded or not at all.
template <class X, class M, class S> INLINE X read_where(const S* p, M mask) {
  typedef typename Lanes<i64, sizeof(M) / sizeof(i64)>::type Words;
  Words words = (Words)mask;
  i64 all = words[0], any = words[0];
  UNROLL for (unsigned i = 1; i < sizeof(M) / sizeof(i64); i++) all &= words[i], any |= words[i];
  if (all == -1) return read<X>(p);
  if (any == 0) return X{};
  S held[lanes_of<X>] = {};
  for (int l = 0; l < lanes_of<X>; l++)
    if (mask[l]) held[l] = p[l];
  return read<X>(held);
}
template <class X, class M, class S> INLINE X read_where(const S* p, M mask, Whole) { return read_where<X>(p, mask); }
template <class X, class M, class S> INLINE X read_where(const S* p, M mask, Part part) {
  return read_where<X>(p, keep(part, M{}, mask));
}
template <class S, class X> INLINE void write(S* p, X x) {
  constexpr int n = lanes_of<X>;
  if constexpr (__is_same(S, b8)) {
    typename Lanes<u8, n>::type bytes = __builtin_convertvector(x, typename Lanes<u8, n>::type);
    *(typename Lanes<u8, n>::loose*)p = bytes & 1;
  } else if constexpr (__is_same(S, bf16)) {
    typename Lanes<u32, n>::type bits = (typename Lanes<u32, n>::type)x;
    typename Lanes<u32, n>::type rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    rounded = x != x ? (bits >> 16) | 64 : rounded;
    *(typename Lanes<u16, n>::loose*)p = __builtin_convertvector(rounded, typename Lanes<u16, n>::type);
  } else if constexpr (__is_same(S, f16)) {
    UNROLL for (int i = 0; i < n; i++) p[i] = (f16)x[i];
  } else
    *(typename Lanes<S, n>::loose*)p = x;
}
template <class S, class X> INLINE void write(S* p, X x, Whole) { write(p, x); }
template <class S, class X> INLINE void write(S* p, X x, Part part) {
  S held[lanes_of<X>];
  write(held, x);
  for (i64 i = 0; i < part.n; i++) p[i] = held[i];
}

// Elements `step` apart; lanes past a part are zero.
template <class X, class S> INLINE X read_apart(const S* p, i64 step, Whole) {
  S held[lanes_of<X>];
  UNROLL for (int l = 0; l < lanes_of<X>; l++) held[l] = p[l * step];
  return read<X>(held);
}
template <class X, class S> INLINE X read_apart(const S* p, i64 step, Part part) {
  S held[lanes_of<X>] = {};
  for (i64 l = 0; l < part.n; l++) held[l] = p[l * step];
  return read<X>(held);
}
template <class S, class X> INLINE void write_apart(S* p, i64 step, X x, Whole) {
  S held[lanes_of<X>];
  write(held, x);
  UNROLL for (int l = 0; l < lanes_of<X>; l++) p[l * step] = held[l];
}
template <class S, class X> INLINE void write_apart(S* p, i64 step, X x, Part part) {
  S held[lanes_of<X>];
  write(held, x);
  for (i64 l = 0; l < part.n; l++) p[l * step] = held[l];
}

// A vector made lane by lane: `element(l)` is a number, or a bool for a mask.
template <class X> INLINE Item<X> lane_of(bool x) { return -(Item<X>)x; }
template <class X, class T> INLINE Item<X> lane_of(T x) { return x; }
template <class X, class F> INLINE X gather(Whole, F element) {
  X r;
  UNROLL for (i64 l = 0; l < lanes_of<X>; l++) r[l] = lane_of<X>(element(l));
  return r;
}
template <class X, class F> INLINE X gather(Part part, F element) {
  X r{};
  for (i64 l = 0; l < part.n; l++) r[l] = lane_of<X>(element(l));
  return r;
}
template <class X> INLINE X counting(Item<X> first, Item<X> step) {
  X r;
  for (int i = 0; i < lanes_of<X>; i++) r[i] = i;
  return r * step + first;
}

INLINE i64 floor_div(i64 a, i64 b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
INLINE i64 floor_mod(i64 a, i64 b) { return a - floor_div(a, b) * b; }

// to += x while other threads do the same.
template <class S, class X> INLINE void add_atomically(S& to, X x) {
  typedef typename Lanes<u8, sizeof(S)>::type Bytes;
  if constexpr (sizeof(S) >= 4 && S(0.5) == 0) __atomic_fetch_add(&to, (S)x, __ATOMIC_RELAXED);
  else {
    S seen = to, next;
    do put(next, get(seen) + x);
    while (!__atomic_compare_exchange(&to, &seen, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  }
}

template <class F> INLINE void parallel(const Runtime* host, i64 n, i64 grain, F body) {
  host->parallel_for([](void* context, i64 begin, i64 end) {
    F local = *(F*)context;  // a copy nothing else can change, so its pointers stay in registers
    local(begin, end);
  }, &body, n, grain);
}
