#include "ops/sublayers.h"

namespace bert_rt {

GemmArgs gemm_args(const Linear& linear, const uint8_t* a, ptrdiff_t lda, int rows) {
  return {a,        lda,      linear.weights_s8.data(), linear.ldb(), linear.init.data(), rows,
          linear.n, linear.k, linear.rest.view()};
}

GemmF32Args float_args(const Linear& linear, const float* a, ptrdiff_t lda, float* c, ptrdiff_t ldc,
                       int rows) {
  return {a,        lda,     linear.weights_f32.data(), linear.bias.data(), 0, c, ldc, rows,
          linear.n, linear.k};
}

void embed_token(const Kernels& kernels, const Embeddings& embeddings, int32_t id, int32_t type,
                 int position, float* out) {
  const ptrdiff_t e = embeddings.size;
  const bool is_int8 = embeddings.word_s8.size() > 0;
  kernels.embed_row({is_int8 ? embeddings.word_s8.data() + id * e : nullptr,
                     is_int8 ? nullptr : embeddings.word_f32.data() + id * e,
                     is_int8 ? embeddings.word_scale[static_cast<size_t>(id)] : 1.0f,
                     embeddings.type.data() + type * e, embeddings.position.data() + position * e,
                     out, embeddings.size});
}

void quantize(const Kernels& kernels, const Linear& next, const Rows& r) {
  if (next.is_int8)
    kernels.quantize_rows(r.x, r.d, r.num, r.d, {next.mult.data(), next.zero_point}, r.x_u8, r.ldx);
}

void normalise(const Kernels& kernels, const LayerNorm& norm, const Linear* next, const Rows& r) {
  const bool quantizes = next != nullptr && next->is_int8;
  kernels.layer_norm_rows({r.x, r.d, norm.gamma.data(), norm.beta.data(), norm.eps, r.num, r.d,
                           quantizes ? next->mult.data() : nullptr,
                           quantizes ? next->zero_point : 0.0f, r.x_u8, r.ldx});
}

void apply_linear(const Kernels& kernels, const Linear& linear, const Rows& r, float* out) {
  if (linear.is_int8)
    kernels.gemm_dequantize_residual(gemm_args(linear, r.x_u8, r.ldx, r.num),
                                     {linear.scale.data(), linear.bias.data()}, nullptr, out,
                                     linear.n);
  else
    kernels.gemm_f32(float_args(linear, r.x, r.d, out, linear.n, r.num));
}

void apply_to_panels(const Kernels& kernels, const Linear& linear, int first, int end,
                     const Rows& r, float* out, ptrdiff_t ld_panel) {
  if (linear.is_int8) {
    const GemmArgs args = columns_of(gemm_args(linear, r.x_u8, r.ldx, r.num), first, end - first);
    kernels.gemm_dequantize_panels(args, {linear.scale.data() + first, linear.bias.data() + first},
                                   out, ld_panel);
    return;
  }
  for (int n = first; n < end; n += kPanel) { // a float layer, a panel at a time
    GemmF32Args args =
        float_args(linear, r.x, r.d, out + (n - first) / kPanel * ld_panel, kPanel, r.num);
    args.b += ptrdiff_t{n} * linear.k;
    args.bias += n;
    args.n = kPanel;
    kernels.gemm_f32(args);
  }
}

void add_linear(const Kernels& kernels, const Linear& linear, const uint8_t* a, ptrdiff_t lda,
                const float* a_f32, ptrdiff_t lda_f32, const Rows& r) {
  if (linear.is_int8) {
    kernels.gemm_dequantize_residual(gemm_args(linear, a, lda, r.num),
                                     {linear.scale.data(), linear.bias.data()}, r.x, r.x, r.d);
    return;
  }
  kernels.gemm_f32(float_args(linear, a_f32, lda_f32, r.sum_f32, r.d, r.num));
  for (ptrdiff_t i = 0; i < ptrdiff_t{r.num} * r.d; ++i) r.x[i] += r.sum_f32[i];
}

namespace {

// x += gelu(outlier columns of up) times their rows of down, in float.
void add_outliers(const Kernels& kernels, const FeedForward& layer, const Rows& r) {
  apply_linear(kernels, layer.outliers_up, r, r.outliers);
  kernels.gelu_rows(r.outliers, kPanel, r.num, kPanel);
  GemmF32Args down = float_args(layer.outliers_down, r.outliers, kPanel, r.x, r.d, r.num);
  down.bias = r.x;
  down.ld_bias = r.d;
  kernels.gemm_f32(down);
}

} // namespace

void add_feed_forward(const Kernels& kernels, const FeedForward& layer, const Rows& r) {
  const Linear &up = layer.up, &down = layer.down;
  const Quantize quantize{down.mult.data(), down.zero_point};
  if (up.is_int8 && down.is_int8) {
    kernels.gemm_dequantize_gelu_quantize(gemm_args(up, r.x_u8, r.ldx, r.num),
                                          {up.scale.data(), up.bias.data()}, quantize, r.hidden,
                                          r.ldf);
  } else {
    apply_linear(kernels, up, r, r.hidden_f32);
    kernels.gelu_rows(r.hidden_f32, up.n, r.num, up.n);
    if (down.is_int8)
      kernels.quantize_rows(r.hidden_f32, up.n, r.num, up.n, quantize, r.hidden, r.ldf);
  }
  if (layer.outliers_up.n > 0) add_outliers(kernels, layer, r);
  add_linear(kernels, down, r.hidden, r.ldf, r.hidden_f32, up.n, r);
}

} // namespace bert_rt
