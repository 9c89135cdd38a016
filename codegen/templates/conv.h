// The call of a convolution: f32, three spatial axes (1 where unused), contiguous arrays.
//   x [batch, channels, in], weight [filters, channels / groups, kernel], y [batch, filters, out]
// kind 0: y = conv(x, weight) (+ bias); 1: x = its gradient from y (also the transposed convolution);
// 2: weight = its gradient from x and y.
struct ConvArgs {
  i64 kind;
  float *x, *weight, *y;
  const float* bias;  // null, or one value per filter (per channel of x for kind 1)
  i64 batch, channels, filters, groups;
  i64 in[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
};
