// The call of scaled dot-product attention, forward and backward, f32. Strides in elements, order batch, head,
// position; the elements of a head (d of q and k, dv of v and out) are adjacent. With `groups` > 1 each head of k and v
// serves that many heads of q.
struct AttentionArgs {
  const float *q, *k, *v;
  float *out, *lse;        // lse[batch, head, position]: log of the sum of exponentials, for the backward; may be null
  i64 batch, heads, groups, rows, cols, d, dv;  // rows of q, rows of k and v
  i64 q_at[3], k_at[3], v_at[3], out_at[3], lse_at[2];
  const void* mask;        // null, or broadcast by zero strides: batch, head, row, column
  i64 mask_kind;           // 0 added f32, 1 kept where nonzero (bytes)
  i64 mask_at[4];
  i64 causal;              // row i sees columns <= i
  double scale;
  // Backward only, when grad_out is given: out and lse are inputs then.
  const float* grad_out;
  float *grad_q, *grad_k, *grad_v;
  i64 grad_out_at[3], grad_q_at[3], grad_k_at[3], grad_v_at[3];
  const float* grad_lse;  // gradient of lse, laid out as lse; may be null
};
