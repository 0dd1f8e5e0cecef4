// Row kernels: embeddings, LayerNorm, quantization, GELU, softmax, the float GEMM. Included after a
// vec_*.h and epilogues.h; one source for every instruction set, so their results are equal.
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

inline float square_root(float x) { return __builtin_sqrtf(x); }

// Two sums per lane (even and odd vectors), joined before the tree over lanes.
struct RowSum {
  F32 even = f_set1(0.0f), odd = f_set1(0.0f);
  float total() const { return f_sum(f_add(even, odd)); }
};

// Of several rows side by side: the additions of one wait for each other.
template <int rows>
inline void layer_norm(const LayerNormArgs& l, float* x, uint8_t* out) {
  F32 mean[rows], inverse[rows];
  RowSum sums[rows], squares[rows];
  for (int c = 0; c < l.d; c += 32)
    for (int r = 0; r < rows; ++r) {
      const float* row = x + r * l.ld + c;
      sums[r].even = f_add(sums[r].even, f_load(row));
      if (c + 16 < l.d) sums[r].odd = f_add(sums[r].odd, f_load(row + 16));
    }
  for (int r = 0; r < rows; ++r) mean[r] = f_set1(sums[r].total() / static_cast<float>(l.d));
  for (int c = 0; c < l.d; c += 32)
    for (int r = 0; r < rows; ++r) {
      const float* row = x + r * l.ld + c;
      const F32 a = f_sub(f_load(row), mean[r]);
      squares[r].even = f_fma(a, a, squares[r].even);
      if (c + 16 < l.d) {
        const F32 b = f_sub(f_load(row + 16), mean[r]);
        squares[r].odd = f_fma(b, b, squares[r].odd);
      }
    }
  for (int r = 0; r < rows; ++r) {
    const float variance = squares[r].total() / static_cast<float>(l.d);
    inverse[r] = f_set1(1.0f / square_root(variance + l.eps));
  }
  for (int r = 0; r < rows; ++r) {
    float* row = x + r * l.ld;
    const auto normalised = [&](int c) {
      const F32 y = f_fma(f_mul(f_sub(f_load(row + c), mean[r]), inverse[r]), f_load(l.gamma + c),
                          f_load(l.beta + c));
      f_store(row + c, y);
      return y;
    };
    if (l.mult != nullptr)
      store_u8_columns(out + r * l.ldo, l.d, [&](int c) {
        return quantize(normalised(c), f_load(l.mult + c), f_set1(l.zero_point));
      });
    else
      for (int c = 0; c < l.d; c += 16) normalised(c);
  }
}

template <int mr>
inline void gemm_f32_tile(const GemmF32Args& g, int m, int n) {
  const float* a = g.a + m * g.lda;
  const float* b = g.b + ptrdiff_t{n} * g.k;
  F32 acc[mr];
  for (int r = 0; r < mr; ++r) acc[r] = f_load(g.bias + (m + r) * g.ld_bias + n);
  for (int k = 0; k < g.k; ++k) {
    const F32 bv = f_load(b + ptrdiff_t{k} * 16);
    for (int r = 0; r < mr; ++r) acc[r] = f_fma(f_set1(a[r * g.lda + k]), bv, acc[r]);
  }
  for (int r = 0; r < mr; ++r) f_store(g.c + (m + r) * g.ldc + n, acc[r]);
}

} // namespace

void embed_row(const EmbedArgs& e) noexcept {
  for (int c = 0; c < e.d; c += 16) {
    const F32 word = e.word_s8 != nullptr
                         ? f_mul(f_from_i(i_load_s8(e.word_s8 + c)), f_set1(e.word_scale))
                         : f_load(e.word_f32 + c);
    f_store(e.out + c, f_add(f_add(word, f_load(e.type + c)), f_load(e.position + c)));
  }
}

void layer_norm_rows(const LayerNormArgs& l) noexcept {
  int m = 0;
  for (; m + kRowsAtOnce <= l.m; m += kRowsAtOnce)
    layer_norm<kRowsAtOnce>(l, l.x + m * l.ld, l.out + m * l.ldo);
  for (; m < l.m; ++m) layer_norm<1>(l, l.x + m * l.ld, l.out + m * l.ldo);
}

void quantize_rows(const float* x, ptrdiff_t ld, int m, int n, const Quantize& q, uint8_t* out,
                   ptrdiff_t ldo) noexcept {
  for (int r = 0; r < m; ++r)
    store_u8_columns(out + r * ldo, n, [&](int c) {
      return quantize(f_load(x + r * ld + c), f_load(q.mult + c), f_set1(q.zero_point));
    });
}

void gelu_rows(float* x, ptrdiff_t ld, int m, int n) noexcept {
  for (int r = 0; r < m; ++r)
    for (int c = 0; c < n; c += 16) f_store(x + r * ld + c, gelu(f_load(x + r * ld + c)));
}

int softmax_rows(const SoftmaxArgs& a) noexcept {
  const int padded = round_up(a.s, 32);
  // All maxima first: a row's weights wait for its own, and the next row's need not.
  float bias[kAttentionRows];
  for (int m = 0; m < a.m; ++m) {
    const int32_t largest = i_row_max(a.scores + m * a.ld_scores, padded);
    // The largest score lands one step of 1 / 2048 below zero, where the weights' range ends.
    bias[m] = -(static_cast<float>(largest) * a.scale[m]) - 1.0f;
  }
  int num_low = 0;
  for (int m = 0; m < a.m; ++m) {
    const WeightSums sums = exp_weights_row(a.scores + m * a.ld_scores, padded, a.s, a.scale[m],
                                            bias[m], a.high + m * a.ldp, a.low + num_low * a.ldp);
    const int32_t high = sums.high << kLowBits;
    const int32_t low = sums.low - kLowOffset * a.s;
    const bool keeps_low = sums.moved * kLowPlaneShare > high + low;
    a.sum[m] = keeps_low ? high + low : high;
    a.low_row[m] = keeps_low ? num_low : -1;
    num_low += keeps_low ? 1 : 0;
  }
  return num_low;
}

void gemm_f32(const GemmF32Args& g) noexcept {
  for (int n = 0; n < g.n; n += 16) {
    int m = 0;
    for (; m + 6 <= g.m; m += 6) gemm_f32_tile<6>(g, m, n);
    for (; m < g.m; ++m) gemm_f32_tile<1>(g, m, n);
  }
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
