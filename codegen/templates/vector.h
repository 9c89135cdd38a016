// Vectors of the machine's width, and the one micro-kernel that the GEMM, attention and convolution templates share.
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

template <class T> struct Simd {
  enum { W = VECTOR_BYTES / sizeof(T) };
  typedef T V __attribute__((vector_size(VECTOR_BYTES)));
  typedef T Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> INLINE typename Simd<T>::V load(const T* p) { return *(const typename Simd<T>::Unaligned*)p; }
template <class T> INLINE void store(T* p, typename Simd<T>::V v) { *(typename Simd<T>::Unaligned*)p = v; }

// Rows x columns of the register tile: two vectors of columns, and as many rows as leave registers for operands.
#if defined(__AVX512F__) || defined(__aarch64__)
enum { MR = 12 };
#else
enum { MR = 6 };
#endif
template <class T> struct Tile { enum { NR = 2 * Simd<T>::W }; };

INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 most(i64 a, i64 b) { return a > b ? a : b; }
INLINE i64 round_up(i64 n, i64 to) { return (n + to - 1) / to * to; }

// c[R, NR] (+)= a[R, k] b[k, NR]: a is read one scalar at a time through two strides, b one row of NR at a time.
template <int R, class T>
INLINE void micro_rows(i64 k, const T* a, i64 a_row, i64 a_col, const T* b, i64 b_row, T* c, i64 c_row, bool add) {
  typedef typename Simd<T>::V V;
  enum { W = Simd<T>::W };
  V low[R], high[R];
  UNROLL for (int i = 0; i < R; i++) low[i] = high[i] = V{};
  for (i64 p = 0; p < k; p++) {
    V left = load(b), right = load(b + W);
    UNROLL for (int i = 0; i < R; i++) {
      T x = a[i * a_row];
      low[i] += x * left;
      high[i] += x * right;
    }
    a += a_col;
    b += b_row;
  }
  UNROLL for (int i = 0; i < R; i++) {
    T* row = c + i * c_row;
    store(row, add ? load(row) + low[i] : low[i]);
    store(row + W, add ? load(row + W) + high[i] : high[i]);
  }
}

// The same for any number of rows up to MR.
template <class T>
static void micro(i64 rows, i64 k, const T* a, i64 a_row, i64 a_col, const T* b, i64 b_row, T* c, i64 c_row, bool add) {
  switch (rows) {
#define CASE(R) case R: return micro_rows<R>(k, a, a_row, a_col, b, b_row, c, c_row, add);
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if defined(__AVX512F__) || defined(__aarch64__)
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#undef CASE
  }
}

// Storage types that are computed with as float.
struct bf16 {
  unsigned short bits;
};
INLINE float widen(float x) { return x; }
INLINE double widen(double x) { return x; }
INLINE float widen(bf16 x) { return __builtin_bit_cast(float, (unsigned)x.bits << 16); }
INLINE float widen(_Float16 x) { return x; }

template <class T> struct Compute { typedef T type; };
template <> struct Compute<bf16> { typedef float type; };
template <> struct Compute<_Float16> { typedef float type; };

template <class S> INLINE S narrow(typename Compute<S>::type x) { return (S)x; }
template <> inline bf16 narrow<bf16>(float x) {
  unsigned bits = __builtin_bit_cast(unsigned, x);
  if (x != x) return {(unsigned short)((bits >> 16) | 64)};
  return {(unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
