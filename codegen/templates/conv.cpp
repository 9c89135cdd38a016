// Convolution as matrix products on the shared micro-kernel; the patch matrix is never stored whole. Each image is
// first copied with its padding, so that a patch element is always at `offset of tap` + `offset of pixel`.
//   forward      y[filter, pixel]   = weight[filter, tap] patches[tap, pixel]          pixels along the lanes
//   grad weight  weight[filter,tap] = sum over pixels y[filter, pixel] patches[tap, pixel]   taps along the lanes
//   grad input   patches[tap, pixel] = weight^T y, added into the padded image           pixels along the lanes;
//                where nothing is strided it is a forward convolution of y by the weight turned round (kind TURNED)
// Several small images are taken together, as one row of pixels, so that the lanes are filled.
// Groups with one channel take direct loops: there is no inner dimension to multiply over.
#include "runtime.h"
#include "vector.h"
#include "gemm.h"
#include "conv.h"

static const Runtime* host;

typedef Simd<float>::V V;
enum { W = Simd<float>::W, LANES = Tile<float>::NR, PIXELS = 8 * LANES, DEPTH = 256 };
enum { FORWARD, GRAD_INPUT, GRAD_WEIGHT, TURNED };  // ConvArgs::kind; the last is ours

// to += factor * from
INLINE void add_scaled(i64 n, float factor, const float* from, float* to) {
  i64 i = 0;
  for (; i + W <= n; i += W) store(to + i, load(to + i) + factor * load(from + i));
  for (; i < n; i++) to[i] += factor * from[i];
}

// to = from + start
INLINE void copy_plus(i64 n, float start, const float* from, float* to) {
  i64 i = 0;
  for (; i + W <= n; i += W) store(to + i, load(from + i) + start);
  for (; i < n; i++) to[i] = from[i] + start;
}

INLINE i64 product(const i64* n) { return n[0] * n[1] * n[2]; }

// The sizes that follow from the arguments, and the tables that turn taps and pixels into offsets.
struct Geometry {
  const ConvArgs& t;
  i64 padded[3], plane, taps, pixels, channels, filters;  // of one image and group; taps = channels * kernel
  i64 fold;       // images taken together
  int* tap_at;    // [taps]
  int* pixel_at;  // [fold * pixels rounded up to lanes]; past the end: offset 0

  Geometry(const ConvArgs& args, int* tables) : t(args) {
    sizes();
    tap_at = tables;
    pixel_at = tables + round_up(taps, LANES);
    i64 next = 0;
    for (i64 c = 0; c < channels; c++)
      for (i64 a = 0; a < t.kernel[0]; a++)
        for (i64 b = 0; b < t.kernel[1]; b++)
          for (i64 d = 0; d < t.kernel[2]; d++)
            tap_at[next++] = c * plane + at(a * t.dilation[0], b * t.dilation[1], d * t.dilation[2]);
    for (; next < round_up(taps, LANES); next++) tap_at[next] = 0;
    next = 0;
    for (i64 n = 0; n < fold; n++)
      for (i64 a = 0; a < t.out[0]; a++)
        for (i64 b = 0; b < t.out[1]; b++)
          for (i64 d = 0; d < t.out[2]; d++)
            pixel_at[next++] = n * t.groups * image_size() + at(a * t.stride[0], b * t.stride[1], d * t.stride[2]);
    for (; next < round_up(fold * pixels, LANES); next++) pixel_at[next] = 0;
  }

  static i64 table_size(const ConvArgs& t) {
    return round_up(t.channels / t.groups * product(t.kernel), LANES) + round_up(most(PIXELS, product(t.out)), LANES);
  }

  void sizes() {
    // Only what the taps reach: a strided convolution may leave the far edge of the image unread.
    for (int d = 0; d < 3; d++)
      padded[d] = most(t.in[d] + 2 * t.padding[d], (t.out[d] - 1) * t.stride[d] + (t.kernel[d] - 1) * t.dilation[d] + 1);
    plane = product(padded);
    channels = t.channels / t.groups;
    filters = t.filters / t.groups;
    taps = channels * product(t.kernel);
    pixels = product(t.out);
    fold = t.kind == GRAD_INPUT ? 1 : most(1, least(t.batch, PIXELS / pixels));
    while (fold > 1 && fold * t.groups * image_size() > 1 << 30) fold /= 2;  // offsets are ints
  }

  i64 at(i64 a, i64 b, i64 c) const { return (a * padded[1] + b) * padded[2] + c; }
  i64 image_size() const { return channels * plane + LANES; }  // whole vectors may be read past the last element
  const float* image(i64 n, i64 g) const { return t.x + (n * t.channels + g * channels) * product(t.in); }
  float* grad_image(i64 n, i64 g) const { return t.x + (n * t.channels + g * channels) * product(t.in); }
  float* result(i64 n, i64 g) const { return t.y + (n * t.filters + g * filters) * pixels; }
  float* weight(i64 g) const { return t.weight + g * filters * taps; }

  // Copies the image of a group into zeros.
  void pad_into(i64 n, i64 g, float* to) const {
    const float* from = image(n, g);
    __builtin_memset(to, 0, image_size() * sizeof(float));
    for (i64 c = 0; c < channels; c++)
      for (i64 a = 0; a < t.in[0]; a++)
        for (i64 b = 0; b < t.in[1]; b++, from += t.in[2])
          __builtin_memcpy(to + c * plane + at(a + t.padding[0], b + t.padding[1], t.padding[2]), from, t.in[2] * sizeof(float));
  }

  // Copies (or adds a bias while copying) the unpadded part back.
  void unpad_from(const float* from, i64 n, i64 g) const {
    float* to = grad_image(n, g);
    for (i64 c = 0; c < channels; c++) {
      float start = t.bias ? t.bias[g * channels + c] : 0;
      for (i64 a = 0; a < t.in[0]; a++)
        for (i64 b = 0; b < t.in[1]; b++, to += t.in[2]) {
          const float* row = from + c * plane + at(a + t.padding[0], b + t.padding[1], t.padding[2]);
          copy_plus(t.in[2], start, row, to);
        }
    }
  }

  // to[tap][lane] for one panel of pixels.
  void pack_pixels(const float* image, i64 pixel, i64 tap0, i64 tap1, float* to) const {
    const int* at = pixel_at + pixel;
    for (int half = 0; half < LANES; half += W) {
      bool run = at[half + W - 1] - at[half] == W - 1;
      for (int l = 1; l < W; l++) run &= at[half + l] == at[half] + l;
      float* out = to + half;
      if (run)
        for (i64 k = tap0; k < tap1; k++, out += LANES) store(out, load(image + tap_at[k] + at[half]));
      else
        for (i64 k = tap0; k < tap1; k++, out += LANES) {
          const float* from = image + tap_at[k];
          UNROLL for (int l = 0; l < W; l++) out[l] = from[at[half + l]];
        }
    }
  }

  // to[pixel][lane] for one panel of taps.
  void pack_taps(const float* image, i64 tap, i64 pixel0, i64 pixel1, float* to) const {
    const int* at = tap_at + tap;
    for (i64 p = pixel0; p < pixel1; p++, to += LANES) {
      const float* from = image + pixel_at[p];
      UNROLL for (int l = 0; l < LANES; l++) to[l] = from[at[l]];
    }
  }
};

// The work shared by all tasks of a call.
struct Work {
  const Geometry& g;
  float* images;         // padded copies: [batch, group]
  const float* weights;  // forward: packed in panels of MR filters, per group
  float* partial;        // grad weight: [part, group, filters, taps rounded up]
  i64 parts;
};

static void pad_range(void* self, i64 begin, i64 end) {
  const Work& w = *(Work*)self;
  for (i64 i = begin; i < end; i++) w.g.pad_into(i / w.g.t.groups, i % w.g.t.groups, w.images + i * w.g.image_size());
}

// packed[panel][k][row] of a matrix read through two strides; rows past the end are zero. A panel has room for `depth`.
static void pack_rows(const float* from, i64 row_step, i64 k_step, i64 rows, i64 k, i64 depth, float* to) {
  for (i64 i = 0; i < rows; i += MR)
    for (i64 p = 0; p < k; p++)
      for (i64 r = 0; r < MR; r++) to[i * depth + p * MR + r] = i + r < rows ? from[(i + r) * row_step + p * k_step] : 0;
}

// The same for the weight [channel, filter, tap] of a group, its first two axes exchanged and its taps backwards.
static void pack_turned(const float* from, i64 filters, i64 channels, i64 kernel, float* to) {
  for (i64 i = 0; i < filters; i += MR)
    for (i64 c = 0; c < channels; c++)
      for (i64 k = 0; k < kernel; k++)
        for (i64 r = 0; r < MR; r++) *to++ = i + r < filters ? from[(c * filters + i + r) * kernel + kernel - 1 - k] : 0;
}

static void forward_range(void* self, i64 begin, i64 end) {
  const Work& w = *(Work*)self;
  const Geometry& g = w.g;
  i64 blocks = (g.fold * g.pixels + PIXELS - 1) / PIXELS;
  float* panels = (float*)host->scratch(SLOT_CONV_PACK, PIXELS * DEPTH * sizeof(float));
  float* tile = (float*)host->scratch(SLOT_CONV_TILE, round_up(g.filters, MR) * PIXELS * sizeof(float));
  for (i64 task = begin; task < end; task++) {
    i64 index = task / blocks, group = index % g.t.groups, pixel0 = task % blocks * PIXELS;
    i64 image0 = index / g.t.groups * g.fold, all = least(g.fold, g.t.batch - image0) * g.pixels;
    i64 width = least(PIXELS, all - pixel0), padded_width = round_up(width, LANES);
    if (width <= 0) continue;
    const float* image = w.images + (image0 * g.t.groups + group) * g.image_size();
    const float* weights = w.weights + group * round_up(g.filters, MR) * g.taps;
    for (i64 k = 0; k < g.taps; k += DEPTH) {
      i64 depth = least(DEPTH, g.taps - k);
      for (i64 j = 0; j < padded_width; j += LANES)
        g.pack_pixels(image, pixel0 + j, k, k + depth, panels + j * DEPTH);
      for (i64 j = 0; j < padded_width; j += LANES)
        for (i64 i = 0; i < g.filters; i += MR)
          micro<float>(least(MR, g.filters - i), depth, weights + i * g.taps + k * MR, 1, MR, panels + j * DEPTH, LANES,
                       tile + i * PIXELS + j, PIXELS, k > 0);
    }
    for (i64 p = pixel0, run; p < pixel0 + width; p += run) {  // image by image
      run = least(g.pixels - p % g.pixels, pixel0 + width - p);
      float* out = g.result(image0 + p / g.pixels, group) + p % g.pixels;
      for (i64 i = 0; i < g.filters; i++) {
        float start = g.t.bias ? g.t.bias[group * g.filters + i] : 0;
        copy_plus(run, start, tile + i * PIXELS + p - pixel0, out + i * g.pixels);
      }
    }
  }
}

// One image: all its patches' gradients in blocks of pixels, added into the padded image.
static void grad_input_range(void* self, i64 begin, i64 end) {
  const Work& w = *(Work*)self;
  const Geometry& g = w.g;
  float* image = (float*)host->scratch(SLOT_CONV_PACK, g.image_size() * sizeof(float));
  float* tile = (float*)host->scratch(SLOT_CONV_TILE, (round_up(g.taps, MR) + g.filters) * LANES * sizeof(float));
  float* edge = tile + round_up(g.taps, MR) * LANES;
  for (i64 index = begin; index < end; index++) {
    i64 group = index % g.t.groups;
    const float* weights = w.weights + group * round_up(g.taps, MR) * g.filters;
    const float* grads = g.result(index / g.t.groups, group);
    __builtin_memset(image, 0, g.image_size() * sizeof(float));
    for (i64 pixel = 0; pixel < g.pixels; pixel += LANES) {
      i64 lanes = least(LANES, g.pixels - pixel), row = g.pixels;
      const float* right = grads + pixel;
      if (lanes < LANES) {
        for (i64 f = 0; f < g.filters; f++)
          for (i64 l = 0; l < LANES; l++) edge[f * LANES + l] = l < lanes ? right[f * g.pixels + l] : 0;
        right = edge, row = LANES;
      }
      for (i64 i = 0; i < g.taps; i += MR)
        micro<float>(least(MR, g.taps - i), g.filters, weights + i * g.filters, 1, MR, right, row, tile + i * LANES, LANES, false);
      const int* at = g.pixel_at + pixel;
      for (int half = 0; half < LANES && half < lanes; half += W) {
        bool run = lanes - half >= W;
        for (int l = 1; l < W; l++) run = run && at[half + l] == at[half] + l;
        for (i64 k = 0; k < g.taps; k++) {
          float* to = image + g.tap_at[k] + at[half];
          const float* from = tile + k * LANES + half;
          if (run)
            store(to, load(to) + load(from));
          else
            for (i64 l = 0; l < least(W, lanes - half); l++) image[g.tap_at[k] + at[half + l]] += from[l];
        }
      }
    }
    g.unpad_from(image, index / g.t.groups, group);
  }
}

// One part of the images; parts are added up afterwards, in order, so the result depends only on their number.
static void grad_weight_range(void* self, i64 begin, i64 end) {
  const Work& w = *(Work*)self;
  const Geometry& g = w.g;
  i64 row = round_up(g.taps, LANES), batch = g.t.batch;
  float* panel = (float*)host->scratch(SLOT_CONV_PACK, (DEPTH * LANES + round_up(g.filters, MR) * DEPTH) * sizeof(float));
  float* left = panel + DEPTH * LANES;
  for (i64 task = begin; task < end; task++) {
    i64 part = task / g.t.groups, group = task % g.t.groups;
    float* sums = w.partial + task * g.filters * row;
    __builtin_memset(sums, 0, g.filters * row * sizeof(float));
    i64 end_n = (part + 1) * batch / w.parts;
    for (i64 n = part * batch / w.parts; n < end_n; n += g.fold) {
      const float* image = w.images + (n * g.t.groups + group) * g.image_size();
      i64 all = least(g.fold, end_n - n) * g.pixels;
      for (i64 p = 0; p < all; p += DEPTH) {
        i64 depth = least(DEPTH, all - p);
        for (i64 q = p, run; q < p + depth; q += run) {  // image by image
          run = least(g.pixels - q % g.pixels, p + depth - q);
          pack_rows(g.result(n + q / g.pixels, group) + q % g.pixels, g.pixels, 1, g.filters, run, depth, left + (q - p) * MR);
        }
        for (i64 k = 0; k < row; k += LANES) {
          g.pack_taps(image, k, p, p + depth, panel);
          for (i64 i = 0; i < g.filters; i += MR)
            micro<float>(least(MR, g.filters - i), depth, left + i * depth, 1, MR, panel, LANES, sums + i * row + k, row, true);
        }
      }
    }
  }
}

static void add_parts(const Work& w) {
  const Geometry& g = w.g;
  i64 row = round_up(g.taps, LANES);
  for (i64 group = 0; group < g.t.groups; group++)
    for (i64 f = 0; f < g.filters; f++)
      for (i64 k = 0; k < g.taps; k++) {
        float sum = 0;
        for (i64 part = 0; part < w.parts; part++) sum += w.partial[((part * g.t.groups + group) * g.filters + f) * row + k];
        g.weight(group)[f * g.taps + k] = sum;
      }
}

// Groups of one channel (depthwise): rows of pixels, tap by tap.
static void depthwise_range(void* self, i64 begin, i64 end) {
  const Work& w = *(Work*)self;
  const Geometry& g = w.g;
  i64 step = g.t.stride[2], row = g.t.out[2];
  float* image = g.t.kind == GRAD_INPUT ? (float*)host->scratch(SLOT_CONV_PACK, g.image_size() * sizeof(float)) : 0;
  for (i64 index = begin; index < end; index++) {
    i64 n = index / g.t.groups, group = index % g.t.groups;
    if (g.t.kind == GRAD_INPUT) __builtin_memset(image, 0, g.image_size() * sizeof(float));
    else image = w.images + index * g.image_size();
    for (i64 f = 0; f < g.filters; f++) {
      const float* weight = g.weight(group) + f * g.taps;
      float start = g.t.bias && g.t.kind == FORWARD ? g.t.bias[group * g.filters + f] : 0;
      for (i64 line = 0; line < g.pixels; line += row) {
        float *y = g.result(n, group) + f * g.pixels + line, *x = image + g.pixel_at[line];
        if (g.t.kind == FORWARD)
          for (i64 i = 0; i < row; i++) y[i] = start;
        for (i64 k = 0; k < g.taps; k++) {
          float factor = weight[k];
          float* from = x + g.tap_at[k];
          if (g.t.kind == FORWARD && step == 1)
            add_scaled(row, factor, from, y);
          else if (step == 1)
            add_scaled(row, factor, y, from);
          else if (g.t.kind == FORWARD)
            for (i64 i = 0; i < row; i++) y[i] += factor * from[i * step];
          else
            for (i64 i = 0; i < row; i++) from[i * step] += factor * y[i];
        }
      }
    }
    if (g.t.kind == GRAD_INPUT) g.unpad_from(image, n, group);
  }
}

// One channel per task: every tap's product with the gradient, summed over images and pixels.
static void depthwise_weight_range(void* self, i64 begin, i64 end) {
  const Work& w = *(Work*)self;
  const Geometry& g = w.g;
  i64 step = g.t.stride[2], row = g.t.out[2];
  for (i64 group = begin; group < end; group++)
    for (i64 f = 0; f < g.filters; f++)
      for (i64 k = 0; k < g.taps; k++) {
        double total = 0;
        for (i64 n = 0; n < g.t.batch; n++) {
          const float* image = w.images + (n * g.t.groups + group) * g.image_size() + g.tap_at[k];
          const float* y = g.result(n, group) + f * g.pixels;
          for (i64 line = 0; line < g.pixels; line += row) {
            const float* from = image + g.pixel_at[line];
            V sums{};
            i64 i = 0;
            float rest = 0;
            for (; step == 1 && i + W <= row; i += W) sums += load(y + line + i) * load(from + i);
            for (; i < row; i++) rest += y[line + i] * from[i * step];
            for (int l = 0; l < W; l++) rest += sums[l];
            total += rest;
          }
        }
        g.weight(group)[f * g.taps + k] = (float)total;
      }
}

static void forward(Work& w) {
  const Geometry& g = w.g;
  i64 rows = round_up(g.filters, MR), blocks = (g.fold * g.pixels + PIXELS - 1) / PIXELS;
  float* packed = (float*)host->scratch(SLOT_PACK_A, g.t.groups * rows * g.taps * sizeof(float));
  for (i64 i = 0; i < g.t.groups; i++) {
    float* to = packed + i * rows * g.taps;
    if (g.t.kind == TURNED) pack_turned(g.weight(i), g.filters, g.channels, product(g.t.kernel), to);
    else pack_rows(g.weight(i), g.taps, 1, g.filters, g.taps, g.taps, to);
  }
  w.weights = packed;
  host->parallel_for(forward_range, &w, (g.t.batch + g.fold - 1) / g.fold * g.t.groups * blocks, 1);
}

static void grad_input(Work& w, i64 images) {
  const Geometry& g = w.g;
  i64 rows = round_up(g.taps, MR);
  float* packed = (float*)host->scratch(SLOT_PACK_A, g.t.groups * rows * g.filters * sizeof(float));
  for (i64 i = 0; i < g.t.groups; i++) pack_rows(g.weight(i), 1, g.taps, g.taps, g.filters, g.filters, packed + i * rows * g.filters);
  w.weights = packed;
  host->parallel_for(grad_input_range, &w, images, 1);
}

static void grad_weight(Work& w) {
  const Geometry& g = w.g;
  w.parts = most(1, least(g.t.batch, (2 * host->num_threads() + g.t.groups - 1) / g.t.groups));
  i64 tasks = w.parts * g.t.groups;
  w.partial = (float*)host->scratch(SLOT_PACK_A, tasks * g.filters * round_up(g.taps, LANES) * sizeof(float));
  host->parallel_for(grad_weight_range, &w, tasks, 1);
  add_parts(w);
}

static bool direct(const ConvArgs& t) { return t.channels == t.groups && t.filters / t.groups <= 4; }

// Whether the gradient of the input is a forward convolution (one without gaps or cut edges), which is then put in `f`.
static bool turned(const ConvArgs& t, ConvArgs& f) {
  f = t;
  f.kind = TURNED, f.x = t.y, f.y = t.x, f.channels = t.filters, f.filters = t.channels;
  bool fits = !direct(t);
  for (int d = 0; d < 3; d++) {
    f.in[d] = t.out[d], f.out[d] = t.in[d], f.padding[d] = t.dilation[d] * (t.kernel[d] - 1) - t.padding[d];
    fits &= t.stride[d] == 1 && f.padding[d] >= 0;
  }
  return fits;
}

static void conv(const ConvArgs* t) {
  ConvArgs forwards;
  if (t->kind == GRAD_INPUT && turned(*t, forwards)) t = &forwards;
  int* tables = (int*)host->scratch(SLOT_PACK_B, Geometry::table_size(*t) * sizeof(int));
  Geometry g(*t, tables);
  i64 images = t->batch * t->groups;
  Work w = {g, 0, 0, 0, 1};
  if (t->kind != GRAD_INPUT) {
    i64 room = round_up(t->batch, g.fold) * t->groups;  // the last images' company is read too, in lanes that are dropped
    w.images = (float*)host->scratch(SLOT_CONV, room * g.image_size() * sizeof(float));
    host->parallel_for(pad_range, &w, images, most(1, 8192 / g.image_size()));
  }
  if (t->kind != TURNED && direct(*t)) {
    if (t->kind == GRAD_WEIGHT) host->parallel_for(depthwise_weight_range, &w, t->groups, 1);
    else host->parallel_for(depthwise_range, &w, images, 1);
  } else if (t->kind == GRAD_WEIGHT) {
    grad_weight(w);
  } else if (t->kind == GRAD_INPUT) {
    grad_input(w, images);
  } else {
    forward(w);
  }
}

extern "C" void run(const ConvArgs* t) { conv(t); }
extern "C" void attach(Runtime* table) {
  host = table;
  table->conv = conv;
}
