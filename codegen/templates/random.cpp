// Float32 uniforms to normals as PyTorch's AVX2 kernel does it: runtime/draws.py says the same in NumPy, and why.
// Every fused product stands as such: this file is built without contraction.
#include "runtime.h"

static const Runtime* host;

enum { LANES = 8, GRAIN = 1024 };

struct NormalArgs {
  float* data;  // blocks of 16: eight radii's uniforms, then eight angles'
  i64 blocks;
  double mean, std;
};

static inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline int bits(float x) { return __builtin_bit_cast(int, x); }
static inline float number(int x) { return __builtin_bit_cast(float, x); }

// The logarithm of a positive number: exponent and mantissa, the latter brought around 1.
static inline float logarithm(float x) {
  x = x > 1.17549435e-38f ? x : 1.17549435e-38f;
  float e = (float)((bits(x) >> 23) - 126);
  x = number((bits(x) & 0x007FFFFF) | 0x3F000000);
  const bool small = x < 0.707106781186547524f;
  const float kept = small ? x : 0.0f;
  x = (x - 1.0f) + kept;
  e -= small ? 1.0f : 0.0f;
  const float z = x * x;
  float y = fused(7.0376836292E-2f, x, -1.1514610310E-1f);
  y = fused(y, x, 1.1676998740E-1f);
  y = fused(y, x, -1.2420140846E-1f);
  y = fused(y, x, 1.4249322787E-1f);
  y = fused(y, x, -1.6668057665E-1f);
  y = fused(y, x, 2.0000714765E-1f);
  y = fused(y, x, -2.4999993993E-1f);
  y = fused(y, x, 3.3333331174E-1f);
  y = fused(y * x, z, e * -2.12194440e-4f) - z * 0.5f;
  return fused(e, 0.693359375f, x + y);
}

// Sine and cosine of a number >= 0: reduced to an eighth of a turn, where a polynomial gives each.
static inline void turn(float x, float& sine, float& cosine) {
  const int turns = ((int)(x * 1.27323954473516f) + 1) & ~1;
  const float y = (float)turns;
  x = fused(y, -0.78515625f, x);
  x = fused(y, -2.4187564849853515625e-4f, x);
  x = fused(y, -3.77489497744594108e-8f, x);
  const float z = x * x;
  float c = fused(2.443315711809948E-5f, z, -1.388731625493765E-3f);
  c = fused(c, z, 4.166664568298827E-2f) * z;
  c = fused(c, z, -(z * 0.5f)) + 1.0f;
  float s = fused(-1.9515295891E-4f, z, 8.3321608736E-3f);
  s = fused(s, z, -1.6666654611E-1f) * z;
  s = fused(s, x, x);
  const bool straight = (turns & 2) == 0;
  sine = number(bits(straight ? s : c) ^ ((turns & 4) << 29));
  cosine = number(bits(straight ? c : s) ^ (((turns + 2) & 4) << 29));
}

static void normals(void* self, i64 begin, i64 end) {
  const NormalArgs& args = *(const NormalArgs*)self;
  const float mean = args.mean, std = args.std;
  for (i64 b = begin; b < end; b++) {
    float* data = args.data + b * 2 * LANES;
    float first[LANES], second[LANES];
    for (int i = 0; i < LANES; i++) {
      const float radius = __builtin_sqrtf(-2.0f * logarithm(1.0f - data[i]));
      float sine, cosine;
      turn(6.283185307179586f * data[LANES + i], sine, cosine);
      first[i] = fused(radius * cosine, std, mean);
      second[i] = fused(radius * sine, std, mean);
    }
    for (int i = 0; i < LANES; i++) data[i] = first[i], data[LANES + i] = second[i];
  }
}

extern "C" void run(NormalArgs* args) { host->parallel_for(normals, args, args->blocks, GRAIN); }

extern "C" void attach(Runtime* table) { host = table; }
