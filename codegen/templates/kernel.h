// What every generated translation unit starts with: element types, vectors of a kernel's lanes, loads and stores.
typedef double f64;
typedef float f32;
typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef int i32;
typedef unsigned u32;
typedef unsigned long u64;

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

template <class T, int lanes> struct Lanes { typedef T type __attribute__((vector_size(sizeof(T) * lanes))); };
