// Attention without the matrix of scores. Scores are computed transposed: keys are rows and a block of queries lies
// along the vector lanes, so maximum and sum over keys are lane-wise and need no horizontal step, and k and v are read
// where they lie. The backward recomputes the probabilities from the saved log-sum-exp.
#include "runtime.h"
#include "vector.h"
#include "gemm.h"
#include "attention.h"
namespace flambeau_kernels {
#include "kernel.h"
#undef VECTORS
#include "maths.h"

static const Runtime* host;

typedef Simd<float>::V Floats;
enum { WIDTH = Simd<float>::W, LANES = Tile<float>::NR, KEYS = 96 };  // queries of a block; keys of a block
const float INFINITE = __builtin_inff();

// c[rows, LANES] (+)= a[rows, k] b[k, LANES] for any number of rows.
INLINE void multiply(i64 rows, i64 k, const float* a, i64 a_row, i64 a_col, const float* b, i64 b_row, float* c,
                     i64 c_row, bool add) {
  for (i64 i = 0; i < rows; i += MR)
    micro<float>(least(MR, rows - i), k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
}

// to[column][lane] = factor * from[row lane][column]: a block of queries, transposed; lanes past the end are zero.
static void transpose_in(const float* from, i64 stride, i64 lanes, i64 width, float factor, float* to) {
  for (i64 j = 0; j < width; j++) {
    for (i64 l = 0; l < lanes; l++) to[j * LANES + l] = factor * from[l * stride + j];
    for (i64 l = lanes; l < LANES; l++) to[j * LANES + l] = 0;
  }
}

// One head of one batch entry.
struct Head {
  const AttentionArgs& t;
  const float *q, *k, *v;
  i64 batch, head;

  Head(const AttentionArgs& args, i64 b, i64 h) : t(args), batch(b), head(h) {
    i64 shared = h / t.groups;
    q = t.q + b * t.q_at[0] + h * t.q_at[1];
    k = t.k + b * t.k_at[0] + shared * t.k_at[1];
    v = t.v + b * t.v_at[0] + shared * t.v_at[1];
  }

  i64 columns_for(i64 row0, i64 lanes) const { return t.causal ? least(t.cols, row0 + lanes) : t.cols; }

  // Adds the mask to scores[key, lane], or replaces hidden ones by -inf.
  void apply_mask(float* scores, i64 row0, i64 lanes, i64 col0, i64 cols) const {
    if (t.mask) {
      i64 start = batch * t.mask_at[0] + head * t.mask_at[1] + row0 * t.mask_at[2] + col0 * t.mask_at[3];
      for (i64 l = 0; l < lanes; l++)
        for (i64 c = 0; c < cols; c++) {
          i64 at = start + l * t.mask_at[2] + c * t.mask_at[3];
          float& score = scores[c * LANES + l];
          if (t.mask_kind == 0) score += ((const float*)t.mask)[at];
          else if (!((const u8*)t.mask)[at]) score = -INFINITE;
        }
    }
    if (t.causal && col0 + cols > row0 + 1)
      for (i64 c = most(0, row0 + 1 - col0); c < cols; c++)
        for (i64 l = 0; l < least(LANES, col0 + c - row0); l++) scores[c * LANES + l] = -INFINITE;
  }
};

// The running maximum and sum of a block of queries, two vectors wide.
struct Running {
  Floats top[2], sum[2];
};

// Turns scores[keys, lanes] into exponentials, and scales what was accumulated under an older maximum.
static void online_softmax(float* scores, i64 keys, Running& state, float* sums, i64 dv, bool first) {
  for (int half = 0; half < 2; half++) {
    float* column = scores + half * WIDTH;
    Floats top = state.top[half];
    for (i64 c = 0; c < keys; c++) {
      Floats x = load(column + c * LANES);
      top = x > top ? x : top;
    }
    // A row that has seen only -inf keeps a finite reference, so that its exponentials are zero and not NaN.
    Floats reference = top == -INFINITE ? Floats{} : top, total{};
    for (i64 c = 0; c < keys; c++) {
      Floats p = exp(load(column + c * LANES) - reference);
      store(column + c * LANES, p);
      total += p;
    }
    Floats fade = exp(state.top[half] - reference);
    state.sum[half] = first ? total : state.sum[half] * fade + total;
    state.top[half] = top;
    if (!first)
      for (i64 j = 0; j < dv; j++) store(sums + j * LANES + half * WIDTH, load(sums + j * LANES + half * WIDTH) * fade);
  }
}

static void forward_block(const Head& head, i64 row0, float* space) {
  const AttentionArgs& t = head.t;
  i64 lanes = least(LANES, t.rows - row0), cols = head.columns_for(row0, lanes);
  float *queries = space, *sums = queries + t.d * LANES, *scores = sums + t.dv * LANES;
  transpose_in(head.q + row0 * t.q_at[2], t.q_at[2], lanes, t.d, (float)t.scale, queries);
  Running state;
  for (int half = 0; half < 2; half++) state.top[half] = Floats{} - INFINITE, state.sum[half] = Floats{};
  for (i64 j = 0; j < t.dv * LANES; j++) sums[j] = 0;
  for (i64 c = 0; c < cols; c += KEYS) {
    i64 keys = least(KEYS, cols - c);
    multiply(keys, t.d, head.k + c * t.k_at[2], t.k_at[2], 1, queries, LANES, scores, LANES, false);
    head.apply_mask(scores, row0, lanes, c, keys);
    online_softmax(scores, keys, state, sums, t.dv, c == 0);
    multiply(t.dv, keys, head.v + c * t.v_at[2], 1, t.v_at[2], scores, LANES, sums, LANES, c > 0);
  }
  float* out = t.out + head.batch * t.out_at[0] + head.head * t.out_at[1] + row0 * t.out_at[2];
  for (i64 l = 0; l < lanes; l++) {
    float sum = state.sum[l / WIDTH][l % WIDTH], top = state.top[l / WIDTH][l % WIDTH];
    float inverse = sum == 0 ? 0 : 1 / sum;  // a row that sees nothing gives zeros
    for (i64 j = 0; j < t.dv; j++) out[l * t.out_at[2] + j] = sums[j * LANES + l] * inverse;
    if (t.lse) t.lse[head.batch * t.lse_at[0] + head.head * t.lse_at[1] + row0 + l] = sum == 0 ? -INFINITE : log(sum) + top;
  }
}

static void forward_range(void* arguments, i64 begin, i64 end) {
  const AttentionArgs& t = *(const AttentionArgs*)arguments;
  i64 blocks = (t.rows + LANES - 1) / LANES;
  float* space = (float*)host->scratch(SLOT_ATTENTION, (t.d + t.dv + KEYS) * LANES * sizeof(float));
  for (i64 task = begin; task < end; task++) {
    Head head(t, task / blocks / t.heads, task / blocks % t.heads);
    forward_block(head, task % blocks * LANES, space);
  }
}

// Scratch of a backward task: gradients of a whole head of k and v, padded to whole tiles, and blocks of queries.
struct BackwardSpace {
  i64 d, dv;  // padded
  float *grad_k, *grad_v, *queries, *rows_q, *rows_g, *grads, *scores, *slopes, *grad_q;

  explicit BackwardSpace(const AttentionArgs& t) : d(round_up(t.d, LANES)), dv(round_up(t.dv, LANES)) {
    i64 parts[] = {t.cols * d, t.cols * dv, d * LANES, d * LANES, dv * LANES, dv * LANES, KEYS * LANES, KEYS * LANES, d * LANES};
    float** names[] = {&grad_k, &grad_v, &queries, &rows_q, &rows_g, &grads, &scores, &slopes, &grad_q};
    i64 total = 0;
    for (i64 part : parts) total += part;
    float* next = (float*)host->scratch(SLOT_ATTENTION, total * sizeof(float));
    for (int i = 0; i < 9; i++) *names[i] = next, next += parts[i];
  }
};

// Rows of a block copied to a padded width; rows past the end are zero.
static void copy_rows(const float* from, i64 stride, i64 lanes, i64 width, i64 padded, float factor, float* to) {
  for (i64 l = 0; l < LANES; l++)
    for (i64 j = 0; j < padded; j++) to[l * padded + j] = l < lanes && j < width ? factor * from[l * stride + j] : 0;
}

static void backward_block(const Head& head, i64 row0, const BackwardSpace& s) {
  const AttentionArgs& t = head.t;
  i64 lanes = least(LANES, t.rows - row0), cols = head.columns_for(row0, lanes);
  const float* q = head.q + row0 * t.q_at[2];
  const float* g = t.grad_out + head.batch * t.grad_out_at[0] + head.head * t.grad_out_at[1] + row0 * t.grad_out_at[2];
  const float* out = t.out + head.batch * t.out_at[0] + head.head * t.out_at[1] + row0 * t.out_at[2];
  i64 stat = head.batch * t.lse_at[0] + head.head * t.lse_at[1] + row0;
  const float *lse = t.lse + stat, *grad_lse = t.grad_lse ? t.grad_lse + stat : 0;
  float scale = (float)t.scale;
  transpose_in(q, t.q_at[2], lanes, t.d, scale, s.queries);
  transpose_in(g, t.grad_out_at[2], lanes, t.dv, 1, s.grads);
  copy_rows(q, t.q_at[2], lanes, t.d, s.d, scale, s.rows_q);
  copy_rows(g, t.grad_out_at[2], lanes, t.dv, s.dv, 1, s.rows_g);
  float norm[LANES], mean[LANES];  // per query: lse, and the sum of out * grad_out less the gradient of lse
  for (i64 l = 0; l < LANES; l++) {
    norm[l] = l < lanes && lse[l] != -INFINITE ? lse[l] : INFINITE;  // who sees nothing has only zero weights
    mean[l] = l < lanes && grad_lse ? -grad_lse[l] : 0;
    for (i64 j = 0; l < lanes && j < t.dv; j++) mean[l] += out[l * t.out_at[2] + j] * g[l * t.grad_out_at[2] + j];
  }
  for (i64 c = 0; c < cols; c += KEYS) {
    i64 keys = least(KEYS, cols - c);
    multiply(keys, t.d, head.k + c * t.k_at[2], t.k_at[2], 1, s.queries, LANES, s.scores, LANES, false);
    head.apply_mask(s.scores, row0, lanes, c, keys);
    multiply(keys, t.dv, head.v + c * t.v_at[2], t.v_at[2], 1, s.grads, LANES, s.slopes, LANES, false);
    for (i64 i = 0; i < keys * LANES; i += WIDTH) {
      Floats p = exp(load(s.scores + i) - load(norm + i % LANES));
      store(s.scores + i, p);
      store(s.slopes + i, p * (load(s.slopes + i) - load(mean + i % LANES)));
    }
    for (i64 j = 0; j < s.dv; j += LANES)
      multiply(keys, LANES, s.scores, LANES, 1, s.rows_g + j, s.dv, s.grad_v + c * s.dv + j, s.dv, true);
    for (i64 j = 0; j < s.d; j += LANES)
      multiply(keys, LANES, s.slopes, LANES, 1, s.rows_q + j, s.d, s.grad_k + c * s.d + j, s.d, true);
    multiply(t.d, keys, head.k + c * t.k_at[2], 1, t.k_at[2], s.slopes, LANES, s.grad_q, LANES, c > 0);
  }
  float* grad_q = t.grad_q + head.batch * t.grad_q_at[0] + head.head * t.grad_q_at[1] + row0 * t.grad_q_at[2];
  for (i64 l = 0; l < lanes; l++)
    for (i64 j = 0; j < t.d; j++) grad_q[l * t.grad_q_at[2] + j] = cols ? scale * s.grad_q[j * LANES + l] : 0;
}

// One head of k and v with all the heads of q that share it, so that no two threads add to the same place.
static void backward_range(void* arguments, i64 begin, i64 end) {
  const AttentionArgs& t = *(const AttentionArgs*)arguments;
  BackwardSpace s(t);
  i64 shared_heads = t.heads / t.groups;
  for (i64 task = begin; task < end; task++) {
    i64 b = task / shared_heads, shared = task % shared_heads;
    for (i64 i = 0; i < t.cols * s.d; i++) s.grad_k[i] = 0;
    for (i64 i = 0; i < t.cols * s.dv; i++) s.grad_v[i] = 0;
    for (i64 h = shared * t.groups; h < (shared + 1) * t.groups; h++) {
      Head head(t, b, h);
      for (i64 row0 = 0; row0 < t.rows; row0 += LANES) backward_block(head, row0, s);
    }
    float* grad_k = t.grad_k + b * t.grad_k_at[0] + shared * t.grad_k_at[1];
    float* grad_v = t.grad_v + b * t.grad_v_at[0] + shared * t.grad_v_at[1];
    for (i64 c = 0; c < t.cols; c++) {
      for (i64 j = 0; j < t.d; j++) grad_k[c * t.grad_k_at[2] + j] = s.grad_k[c * s.d + j];
      for (i64 j = 0; j < t.dv; j++) grad_v[c * t.grad_v_at[2] + j] = s.grad_v[c * s.dv + j];
    }
  }
}

static void attention(const AttentionArgs* t) {
  if (t->grad_out)
    host->parallel_for(backward_range, (void*)t, t->batch * (t->heads / t->groups), 1);
  else
    host->parallel_for(forward_range, (void*)t, t->batch * t->heads * ((t->rows + LANES - 1) / LANES), 1);
}

}  // namespace flambeau_kernels

extern "C" void run(const AttentionArgs* t) { flambeau_kernels::attention(t); }
extern "C" void attach(Runtime* table) {
  flambeau_kernels::host = table;
  table->attention = flambeau_kernels::attention;
}
