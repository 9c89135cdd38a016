// One step of Adam, AdamW or AMSGrad for all parameters of a group: each element is read and written once.
#include "runtime.h"

static const Runtime* host;

// One f32 parameter. Options come as f64 and are used as f32, as the ops of the rule would use them.
struct Parameter {
  float *values;
  const float* gradient;
  float *mean, *square, *largest;  // largest: AMSGrad's running maximum of `square`, else null
  i64 count;
  double sign;          // -1 to maximize
  double keep, decay;   // decoupled decay: values *= keep; the other kind: gradient += decay * values
  double towards;       // 1 - beta1
  double beta2, fresh;  // fresh: 1 - beta2
  double root_scale;    // sqrt(1 - beta2^step)
  double eps, rate;     // rate: lr / (1 - beta1^step)
};

struct AdamArgs {
  i64 count;
  Parameter parameters[];
};

enum { GRAIN = 16384 };

template <bool amsgrad> static void update(const Parameter& t, i64 begin, i64 end) {
  float* __restrict values = t.values;
  const float* __restrict gradient = t.gradient;
  float *__restrict mean = t.mean, *__restrict square = t.square, *__restrict largest = t.largest;
  const float sign = t.sign, keep = t.keep, decay = t.decay, towards = t.towards, beta2 = t.beta2, fresh = t.fresh;
  const float root_scale = t.root_scale, eps = t.eps, rate = t.rate;
  const bool near = t.towards < 0.5;  // from which end lerp starts
  for (i64 i = begin; i < end; i++) {
    float x = values[i] * keep, g = gradient[i] * sign + decay * x;
    float m = near ? mean[i] + towards * (g - mean[i]) : g - (g - mean[i]) * (1 - towards);
    float v = square[i] * beta2 + fresh * g * g;
    mean[i] = m;
    square[i] = v;
    if (amsgrad) {
      v = largest[i] > v || largest[i] != largest[i] ? largest[i] : v;
      largest[i] = v;
    }
    values[i] = x - rate * m / (__builtin_sqrtf(v) / root_scale + eps);
  }
}

static void range(void* self, i64 begin, i64 end) {
  const Parameter& t = *(const Parameter*)self;
  t.largest ? update<true>(t, begin, end) : update<false>(t, begin, end);
}

extern "C" void run(AdamArgs* args) {
  for (i64 i = 0; i < args->count; i++) {
    Parameter& t = args->parameters[i];
    host->parallel_for(range, &t, t.count, GRAIN);
  }
}

extern "C" void attach(Runtime* table) { host = table; }
