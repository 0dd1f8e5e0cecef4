// Sixteen lanes in one 512-bit register. Equal to vec_scalar.h bit for bit.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kRowsAtOnce = 4; // chains enough to hide an addition's latency

using F32 = __m512;
using I32 = __m512i;

inline F32 f_load(const float* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F32 a) { _mm512_storeu_ps(p, a); }
inline F32 f_set1(float x) { return _mm512_set1_ps(x); }
inline F32 f_add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 f_sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 f_mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 f_div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 f_fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 f_min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 f_max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
// Operations of vrangeps: the smaller or the larger magnitude, without its sign.
inline F32 f_min_abs(F32 a, F32 b) { return _mm512_range_ps(a, b, 0b1010); }
inline F32 f_max_abs(F32 a, F32 b) { return _mm512_range_ps(a, b, 0b1011); }
inline float f_sum(F32 a) {
  const __m256 x8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_add_ss(x2, _mm_movehdup_ps(x2)));
}
inline float f_hmax(F32 a) {
  const __m256 x8 = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_max_ss(x2, _mm_movehdup_ps(x2)));
}

inline F32 f_lookup(const float* table, F32 i) {
  return _mm512_permutexvar_ps(_mm512_castps_si512(i), _mm512_loadu_ps(table));
}

inline I32 i_load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline void i_store(int32_t* p, I32 a) { _mm512_storeu_si512(p, a); }
inline I32 i_load_s8(const int8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F32 f_from_i(I32 a) { return _mm512_cvtepi32_ps(a); }
inline I32 i_round(F32 a) { return _mm512_cvtps_epi32(a); }
// x * 2^n of normal numbers, the result being one, too.
inline F32 f_scale2(F32 x, I32 n) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(n, 23)));
}
inline void i_store_u8(uint8_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_cvtusepi32_epi8(_mm512_max_epi32(a, _mm512_setzero_si512())));
}
inline void i_store_s8(int8_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
// In-lane packing leaves dword 4 j + i where dword 4 i + j belongs.
inline __m512i transpose4x4_dwords() {
  return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
template <int nv>
inline void i_store_u8_row(uint8_t* p, const I32* a) {
  if constexpr (nv == 4) {
    const __m512i x = _mm512_packs_epi32(a[0], a[1]);
    const __m512i y = _mm512_packs_epi32(a[2], a[3]);
    _mm512_storeu_si512(p,
                        _mm512_permutexvar_epi32(transpose4x4_dwords(), _mm512_packus_epi16(x, y)));
  } else if constexpr (nv == 2) {
    const __m512i x = _mm512_packs_epi32(a[0], a[1]);
    const __m512i y = _mm512_permutexvar_epi32(transpose4x4_dwords(), _mm512_packus_epi16(x, x));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(y));
  } else {
    for (int j = 0; j < nv; ++j) i_store_u8(p + 16 * j, a[j]);
  }
}
inline void i_store_interleaved4(int8_t* p, I32 r0, I32 r1, I32 r2, I32 r3) {
  const __m512i byte = _mm512_set1_epi32(0xff);
  const __m512i low =
      _mm512_or_si512(_mm512_and_si512(r0, byte), _mm512_slli_epi32(_mm512_and_si512(r1, byte), 8));
  const __m512i high =
      _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(r2, byte), 16), _mm512_slli_epi32(r3, 24));
  _mm512_storeu_si512(p, _mm512_or_si512(low, high));
}
inline void transpose16(__m512i* r) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}
inline F32 f_hmax16(const F32* rows) {
  __m512i r[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_castps_si512(rows[i]);
  transpose16(r);
  F32 m[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    m[i] = _mm512_max_ps(_mm512_castsi512_ps(r[2 * i]), _mm512_castsi512_ps(r[2 * i + 1]));
  return _mm512_max_ps(_mm512_max_ps(_mm512_max_ps(m[0], m[1]), _mm512_max_ps(m[2], m[3])),
                       _mm512_max_ps(_mm512_max_ps(m[4], m[5]), _mm512_max_ps(m[6], m[7])));
}
inline void transpose_dwords16(const uint8_t* in, ptrdiff_t ldi, int num_dwords, uint8_t* out,
                               ptrdiff_t ldo) {
  for (int j = 0; j < num_dwords; j += 16) {
    const int left = num_dwords - j;
    const __mmask16 mask = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
    __m512i r[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = _mm512_maskz_loadu_epi32(mask, in + i * ldi + j * 4);
    transpose16(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      if (i < left) _mm512_storeu_si512(out + (j + i) * ldo, r[i]);
  }
}
// n is a multiple of 32.
inline int32_t i_row_max(const int32_t* p, int n) {
  __m512i m0 = i_load(p), m1 = i_load(p + 16);
  for (int i = 32; i < n; i += 32) {
    m0 = _mm512_max_epi32(m0, i_load(p + i));
    m1 = _mm512_max_epi32(m1, i_load(p + i + 16));
  }
  return _mm512_reduce_max_epi32(_mm512_max_epi32(m0, m1));
}

// 32 weights of 14 bits plus kLowOffset, in the order of _mm512_packs_epi32.
inline __m512i exp_weights32(const int32_t* scores, __m512 c, __m512 b) {
  const __m512i t0 = _mm512_cvtps_epi32(_mm512_fmadd_ps(f_from_i(i_load(scores)), c, b));
  const __m512i t1 = _mm512_cvtps_epi32(_mm512_fmadd_ps(f_from_i(i_load(scores + 16)), c, b));
  const __m512i t = _mm512_packs_epi32(t0, t1);
  const __m512i f = _mm512_slli_epi16(t, 5);
  const __m512i u =
      _mm512_add_epi16(_mm512_mulhi_epu16(f, _mm512_set1_epi16(5524)), _mm512_set1_epi16(10774));
  const __m512i v = _mm512_add_epi16(_mm512_mulhi_epu16(f, u), _mm512_set1_epi16(16412));
  // Powers of two by (t >> 11) & 15: entry 15 (t >> 11 == -1) is 2^14, entry 1 is 2^0, 0 is none.
  const __m512i powers =
      _mm512_set_epi16(16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 0,
                       16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 0);
  return _mm512_add_epi16(
      _mm512_mulhrs_epi16(v, _mm512_permutexvar_epi16(_mm512_srai_epi16(t, 11), powers)),
      _mm512_set1_epi16(kLowOffset));
}
// Adds every four bytes to the 32-bit lane they stand in.
inline __m512i add_bytes(__m512i sums, __m512i bytes) {
  const __m512i one = _mm512_set1_epi8(1);
#if defined(__AVX512VNNI__)
  return _mm512_dpbusd_epi32(sums, bytes, one);
#else
  const __m512i pairs = _mm512_maddubs_epi16(bytes, one);
  return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
}
// 64 bytes in order, of 16-bit lanes in the order above.
inline __m512i pack_bytes64(__m512i x, __m512i y) {
  return _mm512_permutexvar_epi32(transpose4x4_dwords(), _mm512_packus_epi16(x, y));
}
inline WeightSums exp_weights_row(const int32_t* scores, int s, int valid, float c, float b,
                                  uint8_t* high, uint8_t* low) {
  const __m512 vc = _mm512_set1_ps(c), vb = _mm512_set1_ps(b);
  const __m512i low_bits = _mm512_set1_epi16((1 << kLowBits) - 1);
  const __m512i offset = _mm512_set1_epi8(kLowOffset);
  __m512i high_sum = _mm512_setzero_si512(), low_sum = high_sum, moved = high_sum;
  for (int i = 0; i < s; i += 64) {
    const __m512i x = exp_weights32(scores + i, vc, vb);
    const __m512i y = exp_weights32(scores + i + 32, vc, vb);
    __m512i h = pack_bytes64(_mm512_srli_epi16(x, kLowBits), _mm512_srli_epi16(y, kLowBits));
    __m512i l = pack_bytes64(_mm512_and_si512(x, low_bits), _mm512_and_si512(y, low_bits));
    if (valid - i < 64) {
      const __mmask64 mask = (uint64_t{1} << (valid - i)) - 1;
      h = _mm512_maskz_mov_epi8(mask, h);
      l = _mm512_maskz_mov_epi8(mask, l);
    }
    _mm512_storeu_si512(high + i, h);
    _mm512_storeu_si512(low + i, l);
    high_sum = add_bytes(high_sum, h);
    low_sum = add_bytes(low_sum, l);
    moved = _mm512_add_epi64(moved, _mm512_sad_epu8(l, offset));
  }
  // All sums in one go, side by side in every four lanes: high, low, moved, 0.
  const __m512i pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(high_sum, low_sum),
                                         _mm512_unpackhi_epi32(high_sum, low_sum));
  const __m512i fours =
      _mm512_add_epi32(_mm512_unpacklo_epi64(pairs, moved), _mm512_unpackhi_epi64(pairs, moved));
  const __m256i x8 =
      _mm256_add_epi32(_mm512_castsi512_si256(fours), _mm512_extracti64x4_epi64(fours, 1));
  const __m128i x4 = _mm_add_epi32(_mm256_castsi256_si128(x8), _mm256_extracti128_si256(x8, 1));
  // The padding's zeros count as moved by the offset.
  return {_mm_cvtsi128_si32(x4), _mm_extract_epi32(x4, 1),
          _mm_extract_epi32(x4, 2) - kLowOffset * (round_up(s, 64) - valid)};
}
inline I32 i_sum4_s8(const uint8_t* p) {
  return _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_set1_epi8(1), _mm512_loadu_si512(p)),
                           _mm512_set1_epi16(1));
}
inline I32 i_add(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
inline I32 i_set1(int32_t x) { return _mm512_set1_epi32(x); }

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
