// Matrix product: both operands are packed into panels by all threads, then every task computes one tile of c over
// the whole inner dimension, so that the tile can be finished by the epilogue while it is still in the cache.
#include "runtime.h"
#include "vector.h"
#include "gemm.h"

static const Runtime* host;

enum { KC = 256, MC = 96, NC = 128 };       // a tile of c, and the depth one packed panel is walked at a time
enum { ROWS_AT_ONCE = 8 };                  // rows of an operand walked across all columns before the next ones
enum { STREAM_DEPTH = 32 };                 // the same where b is read unpacked
enum { CHUNK_BYTES = 8 << 20 };             // packed operands are made in pieces of at most about this size

template <class S> struct Product {
  typedef typename Compute<S>::type T;
  typedef typename Simd<T>::V V;
  enum { W = Simd<T>::W, NR = Tile<T>::NR };
  const GemmArgs& g;
  const S *a, *b;
  S* c;
  i64 index;

  // An operand is packed in blocks of KC along the inner dimension, a block in panels of MR rows (NR columns), so that
  // what a tile reads at one depth lies together. How deep the block from p0 on is:
  i64 depth_at(i64 p0) const { return least(KC, g.k - p0); }

  // One panel at one block: to[p][row]; rows past the end are zero.
  void pack_a(i64 row0, i64 rows, i64 p0, T* to) const {
    const S* from = a + row0 * g.a_row + p0 * g.a_col;
    i64 depth = depth_at(p0), p = rows == MR && g.a_col == 1 ? pack_a_blocks(from, depth, to) : 0;
    for (; p < depth; p++)
      for (i64 i = 0; i < MR; i++) to[p * MR + i] = i < rows ? widen(from[i * g.a_row + p * g.a_col]) : T(0);
  }

  // Rows that are contiguous in memory: transposed eight columns at a time. What a store leaves behind its rows is
  // overwritten by the next one, so the last columns are left to the caller; returns how many were done.
  i64 pack_a_blocks(const S* from, i64 depth, T* to) const {
    i64 p = 0;
    for (; p + 8 < depth; p += 8)
      for (int i = (MR - 1) / 8 * 8; i >= 0; i -= 8)
        transpose8(least(8, MR - i), from + i * g.a_row + p, g.a_row, to + p * MR + i, MR);
    return p;
  }

  // Several whole panels of rows whose columns are contiguous, some of their columns at a time.
  void pack_a_panels(i64 row0, i64 panels, i64 p0, T* to) const {
    i64 depth = depth_at(p0);
    for (i64 from = 0; from < depth; from += ROWS_AT_ONCE)
      for (i64 panel = 0; panel < panels; panel++)
        for (i64 p = from; p < least(depth, from + ROWS_AT_ONCE); p++)
          copy<MR>(a + row0 + panel * MR + (p0 + p) * g.a_col, to + (panel * depth + p) * MR);
  }

  template <int N> INLINE void copy(const T* from, T* to) { __builtin_memcpy(to, from, N * sizeof(T)); }
  template <int N, class Narrow> INLINE void copy(const Narrow* from, T* to) {
    UNROLL for (int i = 0; i < N; i++) to[i] = widen(from[i]);
  }

  // One panel of NR columns at one block: to[p][column]; columns past the end are zero.
  void pack_b(i64 col0, i64 cols, i64 p0, T* to) const {
    const S* from = b + col0 * g.b_col + p0 * g.b_row;
    i64 depth = depth_at(p0);
    if (cols == NR && g.b_col == 1) {
      pack_rows(from, to, 0, depth);
    } else if (cols == NR && g.b_row == 1) {
      pack_columns(from, depth, to);
    } else {
      for (i64 p = 0; p < depth; p++) {
        for (i64 j = 0; j < cols; j++) to[p * NR + j] = widen(from[p * g.b_row + j * g.b_col]);
        for (i64 j = cols; j < NR; j++) to[p * NR + j] = 0;
      }
    }
  }

  // Rows [begin, end) of one panel of a matrix whose rows are contiguous in memory.
  void pack_rows(const S* from, T* to, i64 begin, i64 end) const {
    for (i64 p = begin; p < end; p++)
      UNROLL for (int j = 0; j < NR; j++) to[p * NR + j] = widen(from[p * g.b_row + j]);
  }

  // Several whole panels of such a matrix, some rows of all of them at a time: fewer pages are in use at once.
  void pack_panels(i64 col0, i64 panels, i64 p0, T* to) const {
    i64 depth = depth_at(p0);
    for (i64 p = 0; p < depth; p += ROWS_AT_ONCE)
      for (i64 panel = 0; panel < panels; panel++)
        pack_rows(b + p0 * g.b_row + col0 + panel * NR, to + panel * NR * depth, p, least(depth, p + ROWS_AT_ONCE));
  }

  // Columns that are contiguous in memory: transposed in blocks, reading short runs of each column.
  void pack_columns(const S* from, i64 depth, T* to) const {
    i64 p = 0;
    for (; p + 8 <= depth; p += 8)
      for (int j = 0; j < NR; j += 8) transpose8(8, from + p + j * g.b_col, g.b_col, to + p * NR + j, NR);
    for (; p < depth; p++)
      for (int j = 0; j < NR; j++) to[p * NR + j] = widen(from[p + j * g.b_col]);
  }

  typedef T V8 __attribute__((vector_size(8 * sizeof(T))));
  typedef T V8Unaligned __attribute__((vector_size(8 * sizeof(T)), aligned(sizeof(T)), may_alias));

  INLINE V8 load8(const T* from) { return *(const V8Unaligned*)from; }
  template <class Narrow> INLINE V8 load8(const Narrow* from) {
    V8 row;
    UNROLL for (int i = 0; i < 8; i++) row[i] = widen(from[i]);
    return row;
  }

  // to[j][i] = from[i][j] for j < 8 and i < rows; zeros follow up to i = 8.
  INLINE void transpose8(int rows, const S* from, i64 from_row, T* to, i64 to_row) {
    V8 r[8], s[8];
    UNROLL for (int i = 0; i < 8; i++) r[i] = i < rows ? load8(from + i * from_row) : V8{};
    UNROLL for (int i = 0; i < 8; i += 2) {
      s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
      s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    UNROLL for (int i = 0; i < 8; i += 4) UNROLL for (int h = 0; h < 2; h++) {
      r[i + h] = __builtin_shufflevector(s[i + h], s[i + h + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + h + 2] = __builtin_shufflevector(s[i + h], s[i + h + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    UNROLL for (int i = 0; i < 4; i++)
      *(V8Unaligned*)(to + i * to_row) = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    UNROLL for (int i = 0; i < 4; i++)
      *(V8Unaligned*)(to + (i + 4) * to_row) = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }

  // Hands a finished tile on: to c in its own type (unless it was computed in place), and to the epilogue.
  void finish(i64 m0, i64 m1, i64 n0, i64 n1, T* tile, i64 tile_row) const {
    if (c && (void*)tile != (void*)(c + m0 * g.c_row + n0)) {
      for (i64 i = m0; i < m1; i++) {
        S* to = c + i * g.c_row + n0;
        const T* from = tile + (i - m0) * tile_row;
        for (i64 j = 0; j < n1 - n0; j++)
          to[j] = g.accumulate ? narrow<S>(widen(to[j]) + from[j]) : narrow<S>(from[j]);
      }
    }
    if (g.epilogue) g.epilogue(g.context, index, m0, m1, n0, n1, tile, tile_row);
  }

  void run() const;
  void run_small() const;
  void dot_columns(i64 n0, i64 n1, T* tile) const;
  void stream_columns(i64 n0, i64 n1, T* tile) const;
};

template <class S> struct Packing {
  const Product<S>* product;
  i64 row0, row_panels, col0, col_panels;
  typename Compute<S>::type *packed_a, *packed_b;

  static void run(void* self, i64 begin, i64 end) {
    const Packing& t = *(Packing*)self;
    for (i64 p0 = 0; p0 < t.product->g.k; p0 += KC) {
      if (begin < t.row_panels) t.rows(begin, least(end, t.row_panels), p0);
      if (end > t.row_panels) t.cols(most(begin - t.row_panels, 0), end - t.row_panels, p0);
    }
  }

  void rows(i64 panel, i64 end, i64 p0) const {
    const GemmArgs& g = product->g;
    auto* to = packed_a + p0 * row_panels * MR;
    i64 size = product->depth_at(p0) * MR, whole = g.a_row == 1 ? least(end, (g.m - row0) / MR) - panel : 0;
    if (whole > 0) {
      product->pack_a_panels(row0 + panel * MR, whole, p0, to + panel * size);
      panel += whole;
    }
    for (; panel < end; panel++) {
      i64 row = row0 + panel * MR;
      product->pack_a(row, least(MR, g.m - row), p0, to + panel * size);
    }
  }

  void cols(i64 panel, i64 end, i64 p0) const {
    enum { NR = Product<S>::NR };
    const GemmArgs& g = product->g;
    auto* to = packed_b + p0 * col_panels * NR;
    i64 size = product->depth_at(p0) * NR, whole = g.b_col == 1 ? least(end, (g.n - col0) / NR) - panel : 0;
    if (whole > 0) {
      product->pack_panels(col0 + panel * NR, whole, p0, to + panel * size);
      panel += whole;
    }
    for (; panel < end; panel++) {
      i64 col = col0 + panel * NR;
      product->pack_b(col, least(NR, g.n - col), p0, to + panel * size);
    }
  }
};

template <class S> struct Computing {
  typedef typename Compute<S>::type T;
  const Product<S>* product;
  i64 row0, rows, col0, cols, tile_rows, tile_cols;
  const T *packed_a, *packed_b;
  i64 a_rows, b_cols;  // of the packed operands, panels filled up

  static void run(void* self, i64 begin, i64 end) {
    const Computing& t = *(Computing*)self;
    i64 down = (t.rows + t.tile_rows - 1) / t.tile_rows;
    for (i64 task = begin; task < end; task++) t.tile(task % down * t.tile_rows, task / down * t.tile_cols);
  }

  void tile(i64 row, i64 col) const {
    enum { NR = Product<S>::NR };
    const GemmArgs& g = product->g;
    i64 height = least(tile_rows, rows - row), width = least(tile_cols, cols - col);
    bool own = product->c && sizeof(S) == sizeof(T) && !g.epilogue && width % NR == 0 && !g.accumulate;
    i64 tile_row = own ? g.c_row : round_up(width, NR);
    T* out = own ? (T*)(product->c + (row0 + row) * g.c_row + col0 + col)
                 : (T*)host->scratch(SLOT_TILE, tile_rows * tile_row * sizeof(T));
    for (i64 p = 0; p == 0 || p < g.k; p += KC) {  // once even for k = 0: the product is then zero
      i64 depth = product->depth_at(p);
      for (i64 j = 0; j < width; j += NR) {
        const T* b = packed_b + p * b_cols + (col + j) * depth;
        for (i64 i = 0; i < height; i += MR)
          micro<T>(least(MR, height - i), depth, packed_a + p * a_rows + (row + i) * depth, 1, MR, b, NR,
                   out + i * tile_row + j, tile_row, p > 0);
      }
    }
    product->finish(row0 + row, row0 + row + height, col0 + col, col0 + col + width, out, tile_row);
  }
};

template <class S> void Product<S>::run() const {
  i64 threads = host->num_threads(), deep = most(1, g.k);
  i64 most_rows = most(CHUNK_BYTES / (deep * sizeof(T)) / MC * MC, MC);
  i64 most_cols = most(CHUNK_BYTES / (deep * sizeof(T)) / NR * NR, NR);
  for (i64 col0 = 0; col0 < g.n; col0 += most_cols) {
    i64 cols = least(most_cols, g.n - col0), col_panels = (cols + NR - 1) / NR;
    T* packed_b = (T*)host->scratch(SLOT_PACK_B, col_panels * NR * g.k * sizeof(T));
    for (i64 row0 = 0; row0 < g.m; row0 += most_rows) {
      i64 rows = least(most_rows, g.m - row0), row_panels = (rows + MR - 1) / MR;
      T* packed_a = (T*)host->scratch(SLOT_PACK_A, row_panels * MR * g.k * sizeof(T));
      Packing<S> packing = {this, row0, row_panels, col0, col_panels, packed_a, packed_b};
      host->parallel_for(Packing<S>::run, &packing, row_panels + (row0 ? 0 : col_panels),
                         most(1, 32768 / (deep * MR)));
      // Tiles of about equal size, small enough that every thread gets several, but no smaller than a few register tiles.
      i64 down = (rows + MC - 1) / MC, tile_rows = round_up((rows + down - 1) / down, MR);
      i64 across = threads > 1 ? (4 * threads + down - 1) / down : 1;
      i64 tile_cols = least(NC, most(4 * NR, round_up((cols + across - 1) / across, NR)));
      Computing<S> computing = {this,      row0,     rows,     col0,            cols,           tile_rows,
                                tile_cols, packed_a, packed_b, row_panels * MR, col_panels * NR};
      host->parallel_for(Computing<S>::run, &computing, down * ((cols + tile_cols - 1) / tile_cols), 1);
    }
  }
}

// At most MR rows: every element of b is used a few times only, so b is read where it lies.
template <class S> struct Thin {
  const Product<S>* product;

  static void run(void* self, i64 begin, i64 end) {
    typedef typename Compute<S>::type T;
    enum { NR = Product<S>::NR };
    const Product<S>& t = *((Thin*)self)->product;
    T tile[MR * NC];
    for (i64 n0 = begin; n0 < end; n0 += NC) {
      i64 n1 = least(end, n0 + NC);
      if (t.g.b_row == 1)
        t.dot_columns(n0, n1, tile);
      else
        t.stream_columns(n0, n1, tile);
      t.finish(0, t.g.m, n0, n1, tile, NC);
    }
  }
};

// b is contiguous along k: dot products, vectors along k.
template <class S> void Product<S>::dot_columns(i64 n0, i64 n1, T* tile) const {
  for (i64 n = n0; n < n1; n++) {
    const S* column = b + n * g.b_col;
    for (i64 m = 0; m < g.m; m++) {
      const S* row = a + m * g.a_row;
      V sums[4] = {};
      i64 p = 0;
      if constexpr (sizeof(S) == sizeof(T)) {
        for (; g.a_col == 1 && p + 4 * W <= g.k; p += 4 * W)
          UNROLL for (int i = 0; i < 4; i++) sums[i] += load((const T*)row + p + i * W) * load((const T*)column + p + i * W);
      }
      V total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      T sum = 0;
      for (; p < g.k; p++) sum += widen(row[p * g.a_col]) * widen(column[p]);
      for (int i = 0; i < W; i++) sum += total[i];
      tile[m * NC + n - n0] = sum;
    }
  }
}

// b is contiguous along n (or has any strides): the micro-kernel on b itself, with a copy for the ragged edge.
template <class S> void Product<S>::stream_columns(i64 n0, i64 n1, T* tile) const {
  T* packed_a = (T*)host->scratch(SLOT_PACK_A, MR * g.k * sizeof(T));
  for (i64 p0 = 0; p0 < g.k; p0 += KC) pack_a(0, g.m, p0, packed_a + p0 * MR);
  i64 direct = sizeof(S) == sizeof(T) && g.b_col == 1 ? (n1 - n0) / NR * NR : 0;
  for (i64 p = 0; direct && (p == 0 || p < g.k); p += STREAM_DEPTH)
    for (i64 n = 0; n < direct; n += NR)
      micro<T>(g.m, least(STREAM_DEPTH, g.k - p), packed_a + p * MR, 1, MR, (const T*)b + p * g.b_row + n0 + n, g.b_row,
               tile + n, NC, p > 0);
  for (i64 n = direct; n < n1 - n0; n += NR) {
    T* packed_b = (T*)host->scratch(SLOT_PACK_B, NR * g.k * sizeof(T));
    for (i64 p0 = 0; p0 < g.k; p0 += KC) pack_b(n0 + n, least(NR, n1 - n0 - n), p0, packed_b + p0 * NR);
    micro<T>(g.m, g.k, packed_a, 1, MR, packed_b, NR, tile + n, NC, false);
  }
}

template <class S> void Product<S>::run_small() const {
  Thin<S> thin = {this};
  host->parallel_for(Thin<S>::run, &thin, g.n, round_up(most(1, 65536 / most(1, g.k)), NR));
}

template <class S> struct Batch {
  static void run(void* arguments, i64 begin, i64 end) {
    const GemmArgs& g = *(const GemmArgs*)arguments;
    for (i64 index = begin; index < end; index++) {
      i64 at[3] = {index / (g.batch[1] * g.batch[2]), index / g.batch[2] % g.batch[1], index % g.batch[2]};
      Product<S> product = {g, (const S*)g.a, (const S*)g.b, (S*)g.c, index};
      for (int d = 0; d < 3; d++) {
        product.a += at[d] * g.a_batch[d];
        product.b += at[d] * g.b_batch[d];
        if (product.c) product.c += at[d] * g.c_batch[d];
      }
      if (g.m <= MR)
        product.run_small();
      else
        product.run();
    }
  }

  static void all(const GemmArgs& g) {
    i64 count = g.batch[0] * g.batch[1] * g.batch[2];
    if (count >= 2 * host->num_threads() || (count > 1 && g.m * g.n * g.k < 100000))
      host->parallel_for(run, (void*)&g, count, most(1, 50000 / (g.m * g.n * most(1, g.k) + 1)));
    else
      run((void*)&g, 0, count);
  }
};

// One library per element type, each built when first wanted: ELEMENT is the type, CODE its place in the table.
static void gemm(const GemmArgs* g) {
  if (g->m > 0 && g->n > 0) Batch<ELEMENT>::all(*g);
}

extern "C" void run(const GemmArgs* g) { gemm(g); }
extern "C" void attach(Runtime* table) {
  host = table;
  table->gemm[CODE] = gemm;
}
