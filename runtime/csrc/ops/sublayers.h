// What a layer does with rows apart from one another: everything but attention. Rows are those of
// one thread.
#pragma once

#include "model/layers.h"

namespace bert_rt {

// Buffers of some rows, each beginning at the first of them.
struct Rows {
  int num = 0;
  int d = 0;
  float* x = nullptr;          // [num][D] hidden states and residual
  uint8_t* x_u8 = nullptr;     // [num][ldx] the same, quantized for the next layer
  uint8_t* hidden = nullptr;   // [num][ldf]
  float* hidden_f32 = nullptr; // [num][F], only where a layer is kept in float
  float* sum_f32 = nullptr;    // [num][D], likewise
  float* outliers = nullptr;   // [num][16], only where a layer has outlier channels
  ptrdiff_t ldx = 0, ldf = 0;
};

GemmArgs gemm_args(const Linear& linear, const uint8_t* a, ptrdiff_t lda, int rows);
GemmF32Args float_args(const Linear& linear, const float* a, ptrdiff_t lda, float* c, ptrdiff_t ldc,
                       int rows);

// One token, before its norm.
void embed_token(const Kernels& kernels, const Embeddings& embeddings, int32_t id, int32_t type,
                 int position, float* out);
// Quantizes x for the next linear layer, where that is in INT8.
void quantize(const Kernels& kernels, const Linear& next, const Rows& r);
// Normalises x in place and quantizes it for the next linear layer; null for none.
void normalise(const Kernels& kernels, const LayerNorm& norm, const Linear* next, const Rows& r);
// out = linear(x), all columns of a row side by side, [num][N].
void apply_linear(const Kernels& kernels, const Linear& linear, const Rows& r, float* out);
// Some columns of linear(x) as panels of 16, [columns / 16][ld_panel] of [num][16].
void apply_to_panels(const Kernels& kernels, const Linear& linear, int first, int end,
                     const Rows& r, float* out, ptrdiff_t ld_panel);
// x += linear(a); a is quantized, or float where the layer is.
void add_linear(const Kernels& kernels, const Linear& linear, const uint8_t* a, ptrdiff_t lda,
                const float* a_f32, ptrdiff_t lda_f32, const Rows& r);
// x += down(gelu(up(x))).
void add_feed_forward(const Kernels& kernels, const FeedForward& layer, const Rows& r);

} // namespace bert_rt
