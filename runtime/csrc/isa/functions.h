// The functions of one instruction set, in a namespace of its own that the build names. Each folder
// defines them in gemm.cc and rows.cc and lists them in the one constant of its table.cc.
#pragma once

#include "kernels.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {

// Of one row of attention weights: its two planes, and what the high plane alone would be off.
struct WeightSums {
  int32_t high, low, moved;
};

void gemm_s32(const GemmArgs& g, int32_t* c, ptrdiff_t ldc) noexcept;
void gemm_dequantize_panels(const GemmArgs& g, const Dequantize& d, float* out,
                            ptrdiff_t ld_panel) noexcept;
void gemm_dequantize_residual(const GemmArgs& g, const Dequantize& d, const float* residual,
                              float* out, ptrdiff_t ld) noexcept;
void gemm_dequantize_gelu_quantize(const GemmArgs& g, const Dequantize& d, const Quantize& q,
                                   uint8_t* out, ptrdiff_t ldo) noexcept;
double peak_loop(int64_t iterations) noexcept;

void gemm_f32(const GemmF32Args& g) noexcept;
void embed_row(const EmbedArgs& e) noexcept;
void layer_norm_rows(const LayerNormArgs& l) noexcept;
void quantize_rows(const float* x, ptrdiff_t ld, int m, int n, const Quantize& q, uint8_t* out,
                   ptrdiff_t ldo) noexcept;
void gelu_rows(float* x, ptrdiff_t ld, int m, int n) noexcept;
int softmax_rows(const SoftmaxArgs& a) noexcept;
void attention_head(const Kernels& kernels, const AttentionArgs& t) noexcept;
void pack_head(const Kernels& kernels, const PackHeadArgs& t) noexcept;
void attend(const Kernels& kernels, const AttendArgs& t) noexcept;
void store_cell(const StoreCellArgs& t) noexcept;
void cached_attention(const CachedAttentionArgs& t) noexcept;
ScoreSum sum_scores(const ScoreSumArgs& t) noexcept;

constexpr Kernels make_table(Isa isa, const char* name, GemmTile tile,
                             bool sums_in_16_bits = false) {
  return {isa,
          name,
          tile,
          sums_in_16_bits,
          gemm_s32,
          gemm_dequantize_panels,
          gemm_dequantize_residual,
          gemm_dequantize_gelu_quantize,
          gemm_f32,
          embed_row,
          layer_norm_rows,
          quantize_rows,
          gelu_rows,
          softmax_rows,
          attention_head,
          pack_head,
          attend,
          store_cell,
          cached_attention,
          sum_scores,
          peak_loop};
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
