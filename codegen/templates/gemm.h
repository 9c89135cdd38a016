// The call of the matrix product: c[batch, m, n] = a[batch, m, k] b[batch, k, n], all strides in elements.
// bf16 and f16 are multiplied and summed as f32.
struct GemmArgs {
  const void *a, *b;
  void* c;  // null: the product goes to the epilogue only
  i64 m, n, k;
  i64 a_row, a_col, b_row, b_col, c_row;  // the columns of c are adjacent
  i64 accumulate;                         // c += instead of c =
  i64 batch[3];                           // outermost first, 1 where unused
  i64 a_batch[3], b_batch[3], c_batch[3];
  // Called for each finished tile [m0, m1) x [n0, n1) of matrix `index`; `tile` holds it in f32 (f64 for f64).
  void (*epilogue)(void* context, i64 index, i64 m0, i64 m1, i64 n0, i64 n1, const void* tile, i64 tile_row);
  void* context;
};
