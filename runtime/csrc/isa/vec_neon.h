// Sixteen lanes in four 128-bit registers. Equal to vec_scalar.h bit for bit.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kRowsAtOnce = 2; // chains enough to hide an addition's latency

struct F32 {
  float32x4_t v[4];
};
struct I32 {
  int32x4_t v[4];
};

// Loads stay behind it: g++ moves so many to the front of a register tile's step that accumulators
// go to memory.
inline void keep_loads_here() { asm volatile("" ::: "memory"); }

template <class Vector, class Make>
inline Vector each(const Make& make) {
  return {{make(0), make(1), make(2), make(3)}};
}

inline F32 f_load(const float* p) {
  return each<F32>([&](int i) { return vld1q_f32(p + 4 * i); });
}
inline void f_store(float* p, const F32& x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
inline F32 f_set1(float x) {
  return each<F32>([&](int) { return vdupq_n_f32(x); });
}
inline F32 f_add(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return vaddq_f32(x.v[i], y.v[i]); });
}
inline F32 f_sub(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return vsubq_f32(x.v[i], y.v[i]); });
}
inline F32 f_mul(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return vmulq_f32(x.v[i], y.v[i]); });
}
inline F32 f_div(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return vdivq_f32(x.v[i], y.v[i]); });
}
inline F32 f_fma(const F32& x, const F32& y, const F32& z) {
  return each<F32>([&](int i) { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); });
}
// The second operand where either is not a number, as on x86; fmin and fmax are otherwise.
inline float32x4_t min4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
inline float32x4_t max4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
inline F32 f_min(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return min4(x.v[i], y.v[i]); });
}
inline F32 f_max(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return max4(x.v[i], y.v[i]); });
}
inline F32 f_min_abs(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return vminnmq_f32(vabsq_f32(x.v[i]), vabsq_f32(y.v[i])); });
}
inline F32 f_max_abs(const F32& x, const F32& y) {
  return each<F32>([&](int i) { return vmaxnmq_f32(vabsq_f32(x.v[i]), vabsq_f32(y.v[i])); });
}
inline float f_sum(const F32& x) {
  const float32x4_t x4 = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
  const float32x2_t x2 = vadd_f32(vget_low_f32(x4), vget_high_f32(x4));
  return vget_lane_f32(x2, 0) + vget_lane_f32(x2, 1);
}
inline float f_hmax(const F32& x) {
  const float32x4_t x4 = max4(max4(x.v[0], x.v[2]), max4(x.v[1], x.v[3]));
  const float32x4_t x2 = max4(x4, vextq_f32(x4, x4, 2));
  return vgetq_lane_f32(max4(x2, vextq_f32(x2, x2, 1)), 0);
}

// The table's 64 bytes in four registers; a lane's index times four, plus 0 to 3.
inline F32 f_lookup(const float* table, const F32& index) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(table);
  const uint8x16x4_t t = {
      {vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
  return each<F32>([&](int i) {
    const uint32x4_t bits = vandq_u32(vreinterpretq_u32_f32(index.v[i]), vdupq_n_u32(15));
    const uint32x4_t places = vmlaq_n_u32(vdupq_n_u32(0x03020100u), bits, 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl4q_u8(t, vreinterpretq_u8_u32(places)));
  });
}

inline I32 i_load(const int32_t* p) {
  return each<I32>([&](int i) { return vld1q_s32(p + 4 * i); });
}
inline void i_store(int32_t* p, const I32& x) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, x.v[i]);
}
inline I32 i_load_s8(const int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_high_s8(x);
  return {{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)),
           vmovl_high_s16(high)}};
}
inline F32 f_from_i(const I32& x) {
  return each<F32>([&](int i) { return vcvtq_f32_s32(x.v[i]); });
}
// The conversion saturates: above the range, and for what is not a number, INT32_MIN is put in.
inline int32x4_t round4(float32x4_t x) {
  const uint32x4_t is_below = vcltq_f32(x, vdupq_n_f32(2147483648.0f));
  return vbslq_s32(is_below, vcvtnq_s32_f32(x), vdupq_n_s32(INT32_MIN));
}
inline I32 i_round(const F32& x) {
  return each<I32>([&](int i) { return round4(x.v[i]); });
}
// x * 2^n of normal numbers, the result being one, too.
inline F32 f_scale2(const F32& x, const I32& n) {
  return each<F32>([&](int i) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x.v[i]), vshlq_n_s32(n.v[i], 23)));
  });
}
inline I32 i_add(const I32& x, const I32& y) {
  return each<I32>([&](int i) { return vaddq_s32(x.v[i], y.v[i]); });
}
inline I32 i_set1(int32_t x) {
  return each<I32>([&](int) { return vdupq_n_s32(x); });
}
inline void i_store_u8(uint8_t* p, const I32& x) {
  const uint16x8_t low = vqmovun_high_s32(vqmovun_s32(x.v[0]), x.v[1]);
  const uint16x8_t high = vqmovun_high_s32(vqmovun_s32(x.v[2]), x.v[3]);
  vst1q_u8(p, vqmovn_high_u16(vqmovn_u16(low), high));
}
// Values must fit.
inline int8x16_t narrow(const I32& x) {
  const int16x8_t low = vmovn_high_s32(vmovn_s32(x.v[0]), x.v[1]);
  const int16x8_t high = vmovn_high_s32(vmovn_s32(x.v[2]), x.v[3]);
  return vmovn_high_s16(vmovn_s16(low), high);
}
inline void i_store_s8(int8_t* p, const I32& x) { vst1q_s8(p, narrow(x)); }
template <int nv>
inline void i_store_u8_row(uint8_t* p, const I32* x) {
  for (int j = 0; j < nv; ++j) i_store_u8(p + 16 * j, x[j]);
}
inline void i_store_interleaved4(int8_t* p, const I32& r0, const I32& r1, const I32& r2,
                                 const I32& r3) {
  const int8x16x4_t rows = {{narrow(r0), narrow(r1), narrow(r2), narrow(r3)}};
  vst4q_s8(p, rows);
}
inline F32 f_hmax16(const F32* rows) {
  float r[16];
  for (int i = 0; i < 16; ++i) r[i] = f_hmax(rows[i]);
  return f_load(r);
}
// num_dwords is a multiple of 4, since heads are multiples of 16 bytes: blocks of 4 x 4.
inline void transpose_dwords16(const uint8_t* in, ptrdiff_t ldi, int num_dwords, uint8_t* out,
                               ptrdiff_t ldo) {
  const auto load = [&](int i, int j) {
    return vreinterpretq_u32_u8(vld1q_u8(in + i * ldi + j * 4));
  };
  const auto store = [&](int i, int j, uint64x2_t x) {
    vst1q_u8(out + j * ldo + i * 4, vreinterpretq_u8_u64(x));
  };
  for (int j = 0; j < num_dwords; j += 4)
    for (int i = 0; i < 16; i += 4) {
      const uint32x4_t r0 = load(i, j), r1 = load(i + 1, j);
      const uint32x4_t r2 = load(i + 2, j), r3 = load(i + 3, j);
      const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(r0, r1));
      const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(r0, r1));
      const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(r2, r3));
      const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(r2, r3));
      store(i, j, vtrn1q_u64(even01, even23));
      store(i, j + 1, vtrn1q_u64(odd01, odd23));
      store(i, j + 2, vtrn2q_u64(even01, even23));
      store(i, j + 3, vtrn2q_u64(odd01, odd23));
    }
}
inline int32_t i_row_max(const int32_t* p, int n) {
  int32x4_t m = vld1q_s32(p);
  for (int i = 4; i < n; i += 4) m = vmaxq_s32(m, vld1q_s32(p + i));
  return vmaxvq_s32(m);
}

// The upper halves of u16 products.
inline uint16x8_t multiply_high(uint16x8_t x, uint16x8_t y) {
  const uint32x4_t low = vmull_u16(vget_low_u16(x), vget_low_u16(y)), high = vmull_high_u16(x, y);
  return vshrn_high_n_u32(vshrn_n_u32(low, 16), high, 16);
}
// 8 weights of 14 bits plus kLowOffset, in order.
inline uint16x8_t exp_weights8(const int32_t* scores, float32x4_t c, float32x4_t b) {
  const auto exponent = [&](const int32_t* p) {
    return round4(vfmaq_f32(b, vcvtq_f32_s32(vld1q_s32(p)), c));
  };
  const int16x8_t t = vqmovn_high_s32(vqmovn_s32(exponent(scores)), exponent(scores + 4));
  const uint16x8_t f = vreinterpretq_u16_s16(vshlq_n_s16(t, 5));
  const uint16x8_t u = vaddq_u16(multiply_high(f, vdupq_n_u16(5524)), vdupq_n_u16(10774));
  const uint16x8_t v = vaddq_u16(multiply_high(f, u), vdupq_n_u16(16412));
  // 1 << (index - 1); index 0 shifts to the right, so that nothing is left.
  const int16x8_t index = vandq_s16(vshrq_n_s16(t, 11), vdupq_n_s16(15));
  const int16x8_t power = vshlq_s16(vdupq_n_s16(1), vsubq_s16(index, vdupq_n_s16(1)));
  const int16x8_t weights = vqrdmulhq_s16(vreinterpretq_s16_u16(v), power);
  return vaddq_u16(vreinterpretq_u16_s16(weights), vdupq_n_u16(kLowOffset));
}
inline WeightSums exp_weights_row(const int32_t* scores, int s, int valid, float c, float b,
                                  uint8_t* high, uint8_t* low) {
  static constexpr uint16_t kIndex[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  const float32x4_t vc = vdupq_n_f32(c), vb = vdupq_n_f32(b);
  const uint16x8_t index = vld1q_u16(kIndex);
  uint32x4_t high_sum = vdupq_n_u32(0), low_sum = high_sum, moved = high_sum;
  for (int i = 0; i < s; i += 16) {
    uint16x8_t w[2];
    for (int j = 0; j < 2; ++j) {
      const int left = valid - i - 8 * j;
      const uint16x8_t count = vdupq_n_u16(static_cast<uint16_t>(left < 0 ? 0 : left));
      w[j] = vandq_u16(exp_weights8(scores + i + 8 * j, vc, vb), vcltq_u16(index, count));
    }
    const uint8x16_t h = vshrn_high_n_u16(vshrn_n_u16(w[0], kLowBits), w[1], kLowBits);
    const uint8x16_t l =
        vandq_u8(vmovn_high_u16(vmovn_u16(w[0]), w[1]), vdupq_n_u8((1 << kLowBits) - 1));
    vst1q_u8(high + i, h);
    vst1q_u8(low + i, l);
    high_sum = vpadalq_u16(high_sum, vpaddlq_u8(h));
    low_sum = vpadalq_u16(low_sum, vpaddlq_u8(l));
    moved = vpadalq_u16(moved, vpaddlq_u8(vabdq_u8(l, vdupq_n_u8(kLowOffset))));
  }
  const auto sum = [](uint32x4_t x) { return static_cast<int32_t>(vaddvq_u32(x)); };
  // The padding's zeros count as moved by the offset.
  return {sum(high_sum), sum(low_sum), sum(moved) - kLowOffset * (s - valid)};
}
inline I32 i_sum4_s8(const uint8_t* p) {
  return each<I32>(
      [&](int i) { return vpaddlq_s16(vpaddlq_s8(vreinterpretq_s8_u8(vld1q_u8(p + 16 * i)))); });
}

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
