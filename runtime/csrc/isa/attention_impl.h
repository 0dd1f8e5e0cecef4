// One attention head of one sequence in INT8. Included after a vec_*.h and epilogues.h.
//
// Queries are quantized per token (u8 around 128), keys per head, values per channel: symmetric s8,
// scales from this sequence alone. Scores are exact integers, so their maximum is found before any
// float is made. The weights exp(score - max) have 14 bits in two byte planes, for with 8 bits a
// row that looks at one token may lose many small weights. Most rows do not, and go without the
// second plane. The weights that are kept are divided by their own sum.
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int32_t kMaskedScore = -(1 << 30); // below every possible score

struct AttendScratch {
  uint8_t* q;       // [kAttentionRows][hp], u8 around 128
  float* q_scale;   // [kAttentionRows]
  int32_t* scores;  // [kAttentionRows][sp]
  uint8_t* weights; // [2 * kAttentionRows][sp], high planes, then low ones
  int32_t* context; // [2 * kAttentionRows][H], likewise
};

inline AttendScratch carve(uint8_t* p, int s, int h) {
  const ptrdiff_t sp = round_up(s, 64), hp = padded_k(h);
  AttendScratch a;
  const auto take = [&p](ptrdiff_t bytes) {
    uint8_t* r = p;
    p += (bytes + 63) / 64 * 64;
    return r;
  };
  a.q = take(kAttentionRows * hp);
  a.q_scale = reinterpret_cast<float*>(take(kAttentionRows * 4));
  a.scores = reinterpret_cast<int32_t*>(take(kAttentionRows * sp * 4));
  a.weights = take(2 * kAttentionRows * sp);
  a.context = reinterpret_cast<int32_t*>(take(ptrdiff_t{2} * kAttentionRows * h * 4));
  return a;
}

// Sixteen tokens at a time: largest magnitude of each, then its scale and its bytes.
inline void quantize_queries(const AttendArgs& t, const AttendScratch& w, int first, int count) {
  const int hp = padded_k(t.h);
  const float to_steps = t.scale * (2048.0f * 1.44269504f / 127.0f);
  for (int m = 0; m < count; m += 16) {
    const int rows = count - m < 16 ? count - m : 16;
    const float* q = t.q + ptrdiff_t{first + m} * 16;
    F32 largest[16];
    for (int r = 0; r < 16; ++r) largest[r] = f_set1(0.0f);
    for (int p = 0; p < t.h / 16; ++p)
      for (int r = 0; r < rows; ++r)
        largest[r] = f_max_abs(largest[r], f_load(q + p * t.ld_panel + ptrdiff_t{r} * 16));
    const F32 magnitude = f_max(f_hmax16(largest), f_set1(kTiny));
    float inverse[16];
    f_store(inverse, f_div(f_set1(127.0f), magnitude));
    f_store(w.q_scale + m, f_mul(magnitude, f_set1(to_steps)));
    for (int r = 0; r < rows; ++r)
      store_u8_columns(w.q + ptrdiff_t{m + r} * hp, t.h, [&](int c) {
        const F32 x = f_load(q + c / 16 * t.ld_panel + ptrdiff_t{r} * 16);
        return i_add(i_round(f_mul(x, f_set1(inverse[r]))), i_set1(128));
      });
  }
}

// Largest magnitude of every column of a panel.
inline F32 column_max_abs(const float* panel, int rows) {
  F32 largest[4]; // one chain would wait for itself
  for (F32& x : largest) x = f_set1(0.0f);
  int m = 0;
  for (; m + 4 <= rows; m += 4)
    for (int i = 0; i < 4; ++i)
      largest[i] = f_max_abs(largest[i], f_load(panel + ptrdiff_t{m + i} * 16));
  for (; m < rows; ++m) largest[0] = f_max_abs(largest[0], f_load(panel + ptrdiff_t{m} * 16));
  return f_max(f_max(largest[0], largest[1]), f_max(largest[2], largest[3]));
}

inline void pack_keys(const PackHeadArgs& t) {
  const int hp = padded_k(t.h), columns = round_up(t.s, kPanel);
  F32 largest = f_set1(0.0f);
  for (int p = 0; p < t.h / 16; ++p)
    largest = f_max(largest, column_max_abs(t.k + p * t.ld_panel, t.s));
  const float magnitude = f_hmax(f_max(largest, f_set1(kTiny)));
  *t.to.k_scale = magnitude / 127.0f;
  const F32 inverse = f_set1(127.0f / magnitude);
  alignas(64) uint8_t rows[16 * kMaxHeadDim];
  for (int i = 0; i < 16 * hp; ++i) rows[i] = 0;
  for (int m = 0; m < columns; m += 16) {
    uint8_t* panel = t.to.k + ptrdiff_t{m} * hp;
    for (int p = 0; p < t.h / 16; ++p)
      for (int r = 0; r < 16; ++r) {
        int8_t* to = reinterpret_cast<int8_t*>(rows) + r * hp + p * 16;
        if (m + r < t.s) {
          const F32 x = f_load(t.k + p * t.ld_panel + ptrdiff_t{m + r} * 16);
          i_store_s8(to, i_round(f_mul(x, inverse)));
        } else {
          i_store_s8(to, i_set1(0));
        }
      }
    transpose_dwords16(rows, hp, hp / 4, panel, 64);
    I32 sum = i_set1(0);
    for (int k = 0; k < hp; k += 4) sum = i_add(sum, i_sum4_s8(panel + k * 16));
    alignas(64) int32_t sums[16];
    i_store(sums, sum);
    for (int r = 0; r < 16; ++r) t.to.k_init[m + r] = m + r < t.s ? -128 * sums[r] : kMaskedScore;
  }
}

// Tokens from S to depth are zeros.
inline void pack_values(const PackHeadArgs& t, int depth) {
  const int sp = round_up(t.s, 64);
  for (int p = 0; p < t.h / 16; ++p) {
    const float* v = t.v + p * t.ld_panel;
    const F32 largest = f_max(column_max_abs(v, t.s), f_set1(kTiny));
    const F32 inverse = f_div(f_set1(127.0f), largest);
    f_store(t.to.v_scale + p * 16, f_mul(largest, f_set1(1.0f / 127.0f)));
    int8_t* panel = t.to.v + ptrdiff_t{p} * sp * 16;
    I32 sum = i_set1(0);
    for (int m = 0; m < depth; m += 4) {
      I32 q[4];
      for (int r = 0; r < 4; ++r)
        q[r] = m + r < t.s ? i_round(f_mul(f_load(v + ptrdiff_t{m + r} * 16), inverse)) : i_set1(0);
      i_store_interleaved4(panel + ptrdiff_t{m} * 16, q[0], q[1], q[2], q[3]);
      sum = i_add(sum, i_add(i_add(q[0], q[1]), i_add(q[2], q[3])));
    }
    f_store(t.to.v_offset + p * 16, f_mul(f_from_i(sum), f_set1(-float{kLowOffset})));
  }
}

inline void store_context(const AttendArgs& t, const AttendScratch& w, int m, int rows,
                          const int32_t* sum, const int32_t* low_row) {
  for (int r = 0; r < rows; ++r) {
    const F32 normalise = f_set1(1.0f / static_cast<float>(sum[r]));
    const int32_t* high = w.context + ptrdiff_t{r} * t.h;
    const int32_t* low = low_row[r] < 0 ? nullptr : w.context + ptrdiff_t{rows + low_row[r]} * t.h;
    const auto value = [&](int c) {
      F32 acc = f_mul(f_from_i(i_load(high + c)), f_set1(1 << kLowBits));
      if (low != nullptr)
        acc = f_add(acc, f_add(f_from_i(i_load(low + c)), f_load(t.from.v_offset + c)));
      return f_mul(f_mul(acc, f_load(t.from.v_scale + c)), normalise);
    };
    if (t.quantize.mult != nullptr)
      store_u8_columns(t.out_u8 + (m + r) * t.ldo, t.h, [&](int c) {
        return quantize(value(c), f_load(t.quantize.mult + c), f_set1(t.quantize.zero_point));
      });
    else
      for (int c = 0; c < t.h; c += 16) f_store(t.out_f32 + (m + r) * t.ldo + c, value(c));
  }
}

} // namespace

void pack_head(const Kernels& kernels, const PackHeadArgs& t) noexcept {
  pack_keys(t);
  // Values are zeros up to here; weights, which softmax may not write as far, can be anything.
  pack_values(t, round_up(t.s, kernels.tile.kr));
}

void attend(const Kernels& kernels, const AttendArgs& t) noexcept {
  const AttendScratch w = carve(t.scratch, t.s, t.h);
  const int hp = padded_k(t.h), sp = round_up(t.s, 64), columns = round_up(t.s, kPanel);
  const int depth = round_up(t.s, kernels.tile.kr);
  // Whole register tiles.
  const int block = kAttentionRows / kernels.tile.mr * kernels.tile.mr;
  const int32_t no_init[kMaxHeadDim] = {};
  // Softmax reads panels two by two.
  if (columns % 32 != 0)
    for (int r = 0; r < block; ++r)
      i_store(w.scores + ptrdiff_t{r} * sp + columns, i_set1(kMaskedScore));
  for (int m = 0; m < t.m; m += block) {
    const int rows = t.m - m < block ? t.m - m : block;
    quantize_queries(t, w, m, rows);
    const GemmArgs scores{w.q,
                          hp,
                          reinterpret_cast<const int8_t*>(t.from.k),
                          ptrdiff_t{hp} * 16,
                          t.from.k_init,
                          rows,
                          columns,
                          t.h};
    kernels.gemm_s32(scores, w.scores, sp);
    float scale[kAttentionRows];
    int32_t sum[kAttentionRows], low_row[kAttentionRows];
    for (int r = 0; r < rows; ++r) scale[r] = w.q_scale[r] * *t.from.k_scale;
    const int num_low =
        softmax_rows({w.scores, sp, scale, w.weights, w.weights + ptrdiff_t{rows} * sp, sp, sum,
                      low_row, rows, t.s});
    const GemmArgs context{w.weights,      sp,  t.from.v, ptrdiff_t{sp} * 16, no_init,
                           rows + num_low, t.h, depth};
    kernels.gemm_s32(context, w.context, t.h);
    store_context(t, w, m, rows, sum, low_row);
  }
}

void attention_head(const Kernels& kernels, const AttentionArgs& t) noexcept {
  const PackedHead packed = packed_head(t.scratch, t.s, t.h);
  pack_head(kernels, {t.k, t.v, t.ld_panel, t.s, t.h, packed});
  attend(kernels, {t.q, t.ld_panel, t.m, t.s, t.h, t.scale, packed, t.quantize, t.out_u8, t.out_f32,
                   t.ldo, t.scratch + packed_head_bytes(t.s, t.h)});
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
