// What a decoder does one token at a time: the cache of self-attention and the sums of scores over
// its vocabulary. Included after a vec_*.h and epilogues.h; one source for every instruction set,
// so their results are equal.
//
// A cell is written once and never changed: its scales are those of its own token and head, so no
// later token changes an earlier one.
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr float kScoreLimit = 0x1p23f; // one step is no less than the distance of floats

// One head: bytes and their scale.
inline float store_head(const float* x, int h, int8_t* out) {
  F32 largest = f_set1(0.0f);
  for (int c = 0; c < h; c += 16) largest = f_max_abs(largest, f_load(x + c));
  const float magnitude = f_hmax(f_max(largest, f_set1(kTiny)));
  const F32 inverse = f_set1(127.0f / magnitude);
  for (int c = 0; c < h; c += 16) i_store_s8(out + c, i_round(f_mul(f_load(x + c), inverse)));
  return magnitude / 127.0f;
}

template <class T>
inline const T* in_cell(const uint8_t* cell, ptrdiff_t at) {
  return reinterpret_cast<const T*>(cell + at);
}

// Scores of one head in steps of softmax_rows, and masked ones up to a multiple of 32.
inline void score_cells(const CachedAttentionArgs& t, int head, int32_t* scores) {
  const F32 to_steps = f_set1(t.scale * (2048.0f * 1.44269504f));
  const float* q = t.q + ptrdiff_t{head} * t.h;
  for (int first = 0; first < t.s; first += 16) {
    const int count = t.s - first < 16 ? t.s - first : 16;
    float sums[16] = {}, scales[16] = {};
    for (int i = 0; i < count; ++i) {
      const uint8_t* cell = t.cells[first + i];
      const int8_t* k = in_cell<int8_t>(cell, t.layout.k) + ptrdiff_t{head} * t.h;
      F32 sum = f_mul(f_load(q), f_from_i(i_load_s8(k)));
      for (int c = 16; c < t.h; c += 16)
        sum = f_fma(f_load(q + c), f_from_i(i_load_s8(k + c)), sum);
      sums[i] = f_sum(sum);
      scales[i] = in_cell<float>(cell, t.layout.k_scale)[head];
    }
    const F32 x = f_mul(f_mul(f_load(sums), f_load(scales)), to_steps);
    const F32 limited = f_max(f_min(x, f_set1(kScoreLimit)), f_set1(-kScoreLimit));
    i_store(scores + first, i_round(limited));
  }
  for (int i = t.s; i < round_up(t.s, 32); ++i) scores[i] = INT32_MIN;
}

// weights[i]: what the values of one head are multiplied with.
inline void weigh_cells(const CachedAttentionArgs& t, int head, const uint8_t* high,
                        const uint8_t* low, float* weights) {
  for (int i = 0; i < t.s; ++i) {
    const int weight = (high[i] << kLowBits) + (low == nullptr ? 0 : low[i] - kLowOffset);
    weights[i] = static_cast<float>(weight) * in_cell<float>(t.cells[i], t.layout.v_scale)[head];
  }
}

// np panels of one head's values, from column c of all heads on.
template <int np>
inline void sum_cells(const CachedAttentionArgs& t, const float* weights, int c, F32 (&acc)[np]) {
  for (F32& x : acc) x = f_set1(0.0f);
  for (int i = 0; i < t.s; ++i) {
    const int8_t* v = in_cell<int8_t>(t.cells[i], t.layout.v) + c;
    const F32 weight = f_set1(weights[i]);
    for (int p = 0; p < np; ++p) acc[p] = f_fma(weight, f_from_i(i_load_s8(v + 16 * p)), acc[p]);
  }
}

template <int np>
inline void store_sums(const CachedAttentionArgs& t, const F32 (&acc)[np], float normalise, int c) {
  for (int p = 0; p < np; ++p) {
    const int column = c + 16 * p;
    const F32 value = f_mul(acc[p], f_set1(normalise));
    if (t.quantize.mult != nullptr)
      i_store_u8(t.out_u8 + column,
                 quantize(value, f_load(t.quantize.mult + column), f_set1(t.quantize.zero_point)));
    else
      f_store(t.out_f32 + column, value);
  }
}

// 2^x of x <= 0: at most 3e-7 off relatively, and 2^-126 below that.
constexpr float kExp2[] = {0x1.62e42ap-1f, 0x1.ebf9bcp-3f, 0x1.c6b752p-5f, 0x1.3cea88p-7f,
                           0x1.5bba12p-10f};
inline F32 exp2_below(F32 x) {
  const F32 limited = f_max(x, f_set1(-126.0f));
  const I32 whole = i_round(limited);
  const F32 f = f_sub(limited, f_from_i(whole));
  F32 p = f_fma(f_set1(kExp2[4]), f, f_set1(kExp2[3]));
  for (int i = 2; i >= 0; --i) p = f_fma(p, f, f_set1(kExp2[i]));
  return f_scale2(f_fma(p, f, f_set1(1.0f)), whole);
}

} // namespace

void store_cell(const StoreCellArgs& t) noexcept {
  auto* k = reinterpret_cast<int8_t*>(t.cell + t.layout.k);
  auto* v = reinterpret_cast<int8_t*>(t.cell + t.layout.v);
  auto* k_scale = reinterpret_cast<float*>(t.cell + t.layout.k_scale);
  auto* v_scale = reinterpret_cast<float*>(t.cell + t.layout.v_scale);
  for (int head = 0; head < t.num_heads; ++head) {
    const ptrdiff_t c = ptrdiff_t{head} * t.h;
    k_scale[head] = store_head(t.k + c, t.h, k + c);
    v_scale[head] = store_head(t.v + c, t.h, v + c);
  }
}

void cached_attention(const CachedAttentionArgs& t) noexcept {
  const ptrdiff_t sp = round_up(t.s, 64);
  auto* scores = reinterpret_cast<int32_t*>(t.scratch);
  uint8_t* planes = t.scratch + kAttentionRows * sp * 4;
  auto* weights = reinterpret_cast<float*>(planes + 2 * kAttentionRows * sp);
  float scale[kAttentionRows];
  int32_t sum[kAttentionRows], low_row[kAttentionRows];
  for (float& x : scale) x = 1.0f;
  for (int first = 0; first < t.num_heads; first += kAttentionRows) {
    const int heads = t.num_heads - first < kAttentionRows ? t.num_heads - first : kAttentionRows;
    uint8_t* low = planes + heads * sp;
    for (int i = 0; i < heads; ++i) score_cells(t, first + i, scores + i * sp);
    softmax_rows({scores, sp, scale, planes, low, sp, sum, low_row, heads, t.s});
    for (int i = 0; i < heads; ++i) {
      const uint8_t* kept = low_row[i] < 0 ? nullptr : low + low_row[i] * sp;
      weigh_cells(t, first + i, planes + i * sp, kept, weights);
      const float normalise = 1.0f / static_cast<float>(sum[i]);
      int c = (first + i) * t.h;
      const int end = c + t.h;
      for (; c + 32 <= end; c += 32) {
        F32 acc[2];
        sum_cells(t, weights, c, acc);
        store_sums(t, acc, normalise, c);
      }
      if (c < end) {
        F32 acc[1];
        sum_cells(t, weights, c, acc);
        store_sums(t, acc, normalise, c);
      }
    }
  }
}

ScoreSum sum_scores(const ScoreSumArgs& t) noexcept {
  F32 all = f_load(t.x);
  for (int c = 0, block = 0; c < t.n; c += kScoreBlock, ++block) {
    const int end = t.n - c < kScoreBlock ? t.n : c + kScoreBlock;
    F32 largest = f_load(t.x + c);
    for (int i = c + 16; i < end; i += 16) largest = f_max(largest, f_load(t.x + i));
    t.largest[block] = f_hmax(largest);
    all = f_max(all, largest);
  }
  const float maximum = f_hmax(all);
  const F32 minus = f_set1(-maximum), to_binary = f_set1(1.44269504f);
  F32 even = f_set1(0.0f), odd = f_set1(0.0f);
  const auto power = [&](int c) {
    return exp2_below(f_mul(f_add(f_load(t.x + c), minus), to_binary));
  };
  for (int c = 0; c < t.n; c += 32) {
    even = f_add(even, power(c));
    if (c + 16 < t.n) odd = f_add(odd, power(c + 16));
  }
  return {maximum, f_sum(f_add(even, odd))};
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
