// Sixteen lanes in two 256-bit registers. Equal to vec_scalar.h bit for bit.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kRowsAtOnce = 2; // chains enough to hide an addition's latency

struct F32 {
  __m256 a, b;
};
struct I32 {
  __m256i a, b;
};

inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store256(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
inline __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void store128(void* p, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(p), x); }

inline F32 f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void f_store(float* p, F32 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline F32 f_set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32 f_add(F32 x, F32 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F32 f_sub(F32 x, F32 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F32 f_mul(F32 x, F32 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F32 f_div(F32 x, F32 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F32 f_fma(F32 x, F32 y, F32 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline F32 f_min(F32 x, F32 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F32 f_max(F32 x, F32 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F32 f_abs(F32 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline F32 f_min_abs(F32 x, F32 y) { return f_min(f_abs(x), f_abs(y)); }
inline F32 f_max_abs(F32 x, F32 y) { return f_max(f_abs(x), f_abs(y)); }
inline float f_sum(F32 x) {
  const __m256 x8 = _mm256_add_ps(x.a, x.b);
  const __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_add_ss(x2, _mm_movehdup_ps(x2)));
}
inline float f_hmax(F32 x) {
  const __m256 x8 = _mm256_max_ps(x.a, x.b);
  const __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_max_ss(x2, _mm_movehdup_ps(x2)));
}

inline __m256 lookup8(const float* table, __m256 i) {
  const __m256i bits = _mm256_castps_si256(i);
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), bits),
                          _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), bits),
                          _mm256_castsi256_ps(_mm256_slli_epi32(bits, 28)));
}
inline F32 f_lookup(const float* table, F32 i) {
  return {lookup8(table, i.a), lookup8(table, i.b)};
}

inline I32 i_load(const int32_t* p) { return {load256(p), load256(p + 8)}; }
inline void i_store(int32_t* p, I32 x) {
  store256(p, x.a);
  store256(p + 8, x.b);
}
inline I32 i_load_s8(const int8_t* p) {
  const __m128i x = load128(p);
  return {_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))};
}
inline F32 f_from_i(I32 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline I32 i_round(F32 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline I32 i_add(I32 x, I32 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I32 i_set1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
// x * 2^n of normal numbers, the result being one, too.
inline __m256 scale8(__m256 x, __m256i n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(n, 23)));
}
inline F32 f_scale2(F32 x, I32 n) { return {scale8(x.a, n.a), scale8(x.b, n.b)}; }
// 16 lanes saturated to 16 bits, in order.
inline __m256i pack16(I32 x) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
}
inline void i_store_u8(uint8_t* p, I32 x) {
  const __m256i w = pack16(x);
  store128(p, _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
inline void i_store_s8(int8_t* p, I32 x) {
  const __m256i w = pack16(x);
  store128(p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
template <int nv>
inline void i_store_u8_row(uint8_t* p, const I32* x) {
  for (int j = 0; j < nv; ++j) i_store_u8(p + 16 * j, x[j]);
}
inline __m256i interleave4(__m256i r0, __m256i r1, __m256i r2, __m256i r3) {
  const __m256i byte = _mm256_set1_epi32(0xff);
  const __m256i low =
      _mm256_or_si256(_mm256_and_si256(r0, byte), _mm256_slli_epi32(_mm256_and_si256(r1, byte), 8));
  const __m256i high =
      _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(r2, byte), 16), _mm256_slli_epi32(r3, 24));
  return _mm256_or_si256(low, high);
}
inline void i_store_interleaved4(int8_t* p, I32 r0, I32 r1, I32 r2, I32 r3) {
  store256(p, interleave4(r0.a, r1.a, r2.a, r3.a));
  store256(p + 32, interleave4(r0.b, r1.b, r2.b, r3.b));
}
inline F32 f_hmax16(const F32* rows) {
  float r[16];
  for (int i = 0; i < 16; ++i) r[i] = f_hmax(rows[i]);
  return f_load(r);
}
inline void transpose_dwords16(const uint8_t* in, ptrdiff_t ldi, int num_dwords, uint8_t* out,
                               ptrdiff_t ldo) {
  for (int j = 0; j < num_dwords; ++j)
    for (int i = 0; i < 16; ++i) __builtin_memcpy(out + j * ldo + i * 4, in + i * ldi + j * 4, 4);
}
inline int32_t i_row_max(const int32_t* p, int n) {
  __m256i m = load256(p);
  for (int i = 8; i < n; i += 8) m = _mm256_max_epi32(m, load256(p + i));
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

// 16 weights of 14 bits plus kLowOffset, in order.
inline __m256i exp_weights16(const int32_t* scores, __m256 c, __m256 b) {
  const I32 i = i_load(scores);
  const __m256i t = pack16({_mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_cvtepi32_ps(i.a), c, b)),
                            _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_cvtepi32_ps(i.b), c, b))});
  const __m256i f = _mm256_slli_epi16(t, 5);
  const __m256i u =
      _mm256_add_epi16(_mm256_mulhi_epu16(f, _mm256_set1_epi16(5524)), _mm256_set1_epi16(10774));
  const __m256i v = _mm256_add_epi16(_mm256_mulhi_epu16(f, u), _mm256_set1_epi16(16412));
  // 1 << (index - 1), index in 1..15, as two byte tables: low byte for 1..8, high for 9..15.
  const __m256i low_table = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0));
  const __m256i high_table =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64));
  const __m256i index = _mm256_and_si256(_mm256_srai_epi16(t, 11), _mm256_set1_epi16(15));
  const __m256i low = _mm256_shuffle_epi8(low_table, index); // the high byte reads entry 0: none
  const __m256i high = _mm256_shuffle_epi8(high_table, _mm256_slli_epi16(index, 8));
  return _mm256_add_epi16(_mm256_mulhrs_epi16(v, _mm256_or_si256(low, high)),
                          _mm256_set1_epi16(kLowOffset));
}
inline int32_t sum_qwords(__m256i x) {
  const __m128i y = _mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  return _mm_cvtsi128_si32(_mm_add_epi64(y, _mm_unpackhi_epi64(y, y)));
}
inline __m256i pack_bytes(__m256i x, __m256i y) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(x, y), 0xd8);
}
inline WeightSums exp_weights_row(const int32_t* scores, int s, int valid, float c, float b,
                                  uint8_t* high, uint8_t* low) {
  const __m256 vc = _mm256_set1_ps(c), vb = _mm256_set1_ps(b);
  const __m256i low_bits = _mm256_set1_epi16((1 << kLowBits) - 1), none = _mm256_setzero_si256();
  const __m256i index = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m256i offset = _mm256_set1_epi8(kLowOffset);
  __m256i high_sum = none, low_sum = none, moved = none; // in 64 bits
  for (int i = 0; i < s; i += 32) {
    __m256i w[2];
    for (int j = 0; j < 2; ++j) {
      w[j] = exp_weights16(scores + i + 16 * j, vc, vb);
      const __m256i left = _mm256_set1_epi16(static_cast<int16_t>(valid - i - 16 * j));
      w[j] = _mm256_and_si256(w[j], _mm256_cmpgt_epi16(left, index));
    }
    const __m256i h =
        pack_bytes(_mm256_srli_epi16(w[0], kLowBits), _mm256_srli_epi16(w[1], kLowBits));
    const __m256i l =
        pack_bytes(_mm256_and_si256(w[0], low_bits), _mm256_and_si256(w[1], low_bits));
    store256(high + i, h);
    store256(low + i, l);
    high_sum = _mm256_add_epi64(high_sum, _mm256_sad_epu8(h, none));
    low_sum = _mm256_add_epi64(low_sum, _mm256_sad_epu8(l, none));
    moved = _mm256_add_epi64(moved, _mm256_sad_epu8(l, offset));
  }
  // The padding's zeros count as moved by the offset.
  return {sum_qwords(high_sum), sum_qwords(low_sum), sum_qwords(moved) - kLowOffset * (s - valid)};
}
inline I32 i_sum4_s8(const uint8_t* p) {
  const __m256i ones8 = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(_mm256_maddubs_epi16(ones8, load256(p)), ones16),
          _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, load256(p + 32)), ones16)};
}

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
