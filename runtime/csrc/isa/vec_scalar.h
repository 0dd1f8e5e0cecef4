// Sixteen lanes as plain arrays: what every other vec_*.h must equal bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kRowsAtOnce = 1;

struct F32 {
  float v[16];
};
struct I32 {
  int32_t v[16];
};

#define BERT_RT_LANES for (int i = 0; i < 16; ++i)

inline F32 f_load(const float* p) {
  F32 r;
  BERT_RT_LANES r.v[i] = p[i];
  return r;
}
inline void f_store(float* p, const F32& a) { BERT_RT_LANES p[i] = a.v[i]; }
inline F32 f_set1(float x) {
  F32 r;
  BERT_RT_LANES r.v[i] = x;
  return r;
}
inline F32 f_add(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline F32 f_sub(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = a.v[i] - b.v[i];
  return r;
}
inline F32 f_mul(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = a.v[i] * b.v[i];
  return r;
}
inline F32 f_div(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = a.v[i] / b.v[i];
  return r;
}
// a * b + c, rounded once.
inline F32 f_fma(const F32& a, const F32& b, const F32& c) {
  F32 r;
  BERT_RT_LANES r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
// As minps and maxps: the second operand where either is not a number.
inline F32 f_min(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return r;
}
inline F32 f_max(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return r;
}
// Of the magnitudes; the other one where one is not a number.
inline F32 f_min_abs(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = __builtin_fminf(__builtin_fabsf(a.v[i]), __builtin_fabsf(b.v[i]));
  return r;
}
inline F32 f_max_abs(const F32& a, const F32& b) {
  F32 r;
  BERT_RT_LANES r.v[i] = __builtin_fmaxf(__builtin_fabsf(a.v[i]), __builtin_fabsf(b.v[i]));
  return r;
}
inline float f_sum(const F32& a) {
  F32 r = a;
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) r.v[i] += r.v[i + w];
  return r.v[0];
}
inline float f_hmax(const F32& a) {
  float r = a.v[0];
  BERT_RT_LANES r = r > a.v[i] ? r : a.v[i];
  return r;
}

// table[i mod 16], i being the last bits of every lane.
inline F32 f_lookup(const float* table, const F32& i) {
  F32 r;
  for (int lane = 0; lane < 16; ++lane) {
    uint32_t bits;
    __builtin_memcpy(&bits, &i.v[lane], 4);
    r.v[lane] = table[bits & 15u];
  }
  return r;
}

inline I32 i_load(const int32_t* p) {
  I32 r;
  BERT_RT_LANES r.v[i] = p[i];
  return r;
}
inline void i_store(int32_t* p, const I32& a) { BERT_RT_LANES p[i] = a.v[i]; }
inline I32 i_load_s8(const int8_t* p) {
  I32 r;
  BERT_RT_LANES r.v[i] = p[i];
  return r;
}
inline F32 f_from_i(const I32& a) {
  F32 r;
  BERT_RT_LANES r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
// Nearest even; out of range becomes INT32_MIN, as cvtps2dq.
inline I32 i_round(const F32& a) {
  I32 r;
  BERT_RT_LANES r.v[i] = (a.v[i] >= -2147483648.0f && a.v[i] < 2147483648.0f)
                             ? static_cast<int32_t>(__builtin_rintf(a.v[i]))
                             : INT32_MIN;
  return r;
}
// x * 2^n of normal numbers, the result being one, too.
inline F32 f_scale2(const F32& x, const I32& n) {
  F32 r;
  BERT_RT_LANES {
    uint32_t bits;
    __builtin_memcpy(&bits, &x.v[i], 4);
    bits += static_cast<uint32_t>(n.v[i]) << 23;
    __builtin_memcpy(&r.v[i], &bits, 4);
  }
  return r;
}
inline void i_store_u8(uint8_t* p, const I32& a) {
  BERT_RT_LANES p[i] = static_cast<uint8_t>(a.v[i] < 0 ? 0 : a.v[i] > 255 ? 255 : a.v[i]);
}
// Values must fit.
inline void i_store_s8(int8_t* p, const I32& a) {
  BERT_RT_LANES p[i] = static_cast<int8_t>(a.v[i]);
}
// nv vectors side by side, saturated to u8.
template <int nv>
inline void i_store_u8_row(uint8_t* p, const I32* a) {
  for (int j = 0; j < nv; ++j) i_store_u8(p + 16 * j, a[j]);
}
// Four rows of s8 values in lanes -> [16][4] bytes (one step of a packed panel).
inline void i_store_interleaved4(int8_t* p, const I32& r0, const I32& r1, const I32& r2,
                                 const I32& r3) {
  BERT_RT_LANES {
    p[4 * i] = static_cast<int8_t>(r0.v[i]);
    p[4 * i + 1] = static_cast<int8_t>(r1.v[i]);
    p[4 * i + 2] = static_cast<int8_t>(r2.v[i]);
    p[4 * i + 3] = static_cast<int8_t>(r3.v[i]);
  }
}
// Lane r of the result: the largest lane of rows[r].
inline F32 f_hmax16(const F32* rows) {
  F32 r;
  BERT_RT_LANES r.v[i] = f_hmax(rows[i]);
  return r;
}
// 16x16 dwords: out row j, lane i = in row i, dword j; out rows `ldo` bytes apart.
inline void transpose_dwords16(const uint8_t* in, ptrdiff_t ldi, int num_dwords, uint8_t* out,
                               ptrdiff_t ldo) {
  for (int j = 0; j < num_dwords; ++j)
    for (int i = 0; i < 16; ++i)
      for (int b = 0; b < 4; ++b) out[j * ldo + i * 4 + b] = in[i * ldi + j * 4 + b];
}
inline int32_t i_row_max(const int32_t* p, int n) {
  int32_t r = p[0];
  for (int i = 0; i < n; ++i) r = r > p[i] ? r : p[i];
  return r;
}

// Sum of the four bytes of every lane of a packed step.
inline I32 i_sum4_s8(const uint8_t* p) {
  I32 r;
  BERT_RT_LANES {
    r.v[i] = 0;
    for (int b = 0; b < 4; ++b) r.v[i] += static_cast<int8_t>(p[4 * i + b]);
  }
  return r;
}
inline I32 i_add(const I32& a, const I32& b) {
  I32 r;
  BERT_RT_LANES r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline I32 i_set1(int32_t x) {
  I32 r;
  BERT_RT_LANES r.v[i] = x;
  return r;
}

// Scores -> weights 2^(x / 2048) of 14 bits, x = score * c + b, by a quadratic in 16-bit integers
// (relative error 0.18 %), in the planes of SoftmaxArgs. s is a multiple of 32; both planes are
// zero beyond `valid`.
inline WeightSums exp_weights_row(const int32_t* scores, int s, int valid, float c, float b,
                                  uint8_t* high, uint8_t* low) {
  WeightSums sums{0, 0, 0};
  for (int i = 0; i < s; ++i) {
    const float x = __builtin_fmaf(static_cast<float>(scores[i]), c, b);
    int32_t t = (x >= -2147483648.0f && x < 2147483648.0f)
                    ? static_cast<int32_t>(__builtin_rintf(x))
                    : INT32_MIN;
    t = t < -32768 ? -32768 : t > 32767 ? 32767 : t;
    const uint32_t f = (static_cast<uint32_t>(t) << 5) & 0xffffu; // fraction, 16 bits
    const uint32_t u = ((f * 5524u) >> 16) + 10774u;
    const uint32_t v = ((f * u) >> 16) + 16412u;
    const int index = (t >> 11) & 15; // 15 for [-1, 0), 14 for [-2, -1), ...
    const uint32_t power = index > 0 ? 1u << (index - 1) : 0u;
    const uint32_t p = i < valid ? ((v * power + 16384u) >> 15) + kLowOffset : 0u;
    high[i] = static_cast<uint8_t>(p >> kLowBits);
    low[i] = static_cast<uint8_t>(p & ((1u << kLowBits) - 1u));
    sums.high += high[i];
    sums.low += low[i];
    if (i < valid) sums.moved += low[i] < kLowOffset ? kLowOffset - low[i] : low[i] - kLowOffset;
  }
  return sums;
}

#undef BERT_RT_LANES

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
