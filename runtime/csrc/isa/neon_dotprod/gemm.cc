// 4 x 16 register tile. sdot multiplies s8 by s8, so A is shifted: a = (a - 128) + 128, and the
// second part, 128 times a column's sum, goes into what the accumulators start from.
#include "isa/vec_neon.h"
// The lanes come first.
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

// One step of K: a lane of every row of A times four columns of each of the four registers of B.
template <int mr, int lane>
inline void step(I32 (&c)[mr], const int8x16_t (&a)[mr], const int8_t* b) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    keep_loads_here();
    const int8x16_t columns = vld1q_s8(b + 16 * v);
#pragma GCC unroll 4
    for (int r = 0; r < mr; ++r) c[r].v[v] = vdotq_laneq_s32(c[r].v[v], columns, a[r], lane);
  }
}

inline int8x16_t shifted(uint8x16_t x) { return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(128))); }

template <int mr, class Epilogue>
inline void tile(const GemmArgs& g, const I32& start, const int8_t* b, int m, int n,
                 const Epilogue& epilogue) {
  const uint8_t* a = g.a + m * g.lda;
  I32 c[mr];
  int8x16_t x[mr];
#pragma GCC unroll 4
  for (int r = 0; r < mr; ++r) c[r] = start;
  int k = 0;
  for (; k + 16 <= g.k; k += 16, b += 256) {
#pragma GCC unroll 4
    for (int r = 0; r < mr; ++r) x[r] = shifted(vld1q_u8(a + r * g.lda + k));
    step<mr, 0>(c, x, b);
    step<mr, 1>(c, x, b + 64);
    step<mr, 2>(c, x, b + 128);
    step<mr, 3>(c, x, b + 192);
  }
  for (; k < g.k; k += 4, b += 64) {
#pragma GCC unroll 4
    for (int r = 0; r < mr; ++r) {
      uint32_t four;
      __builtin_memcpy(&four, a + r * g.lda + k, 4);
      x[r] = shifted(vreinterpretq_u8_u32(vdupq_n_u32(four)));
    }
    step<mr, 0>(c, x, b);
  }
#pragma GCC unroll 4
  for (int r = 0; r < mr; ++r) epilogue.row({c[r]}, m + r, n);
}

// init + 128 * sum of each column.
inline I32 shifted_start(const GemmArgs& g, const int8_t* b, int n) {
  I32 sum = i_set1(0);
  for (int k = 0; k < g.k; k += 4)
    for (int v = 0; v < 4; ++v)
      sum.v[v] = vdotq_s32(sum.v[v], vld1q_s8(b + k * 16 + 16 * v), vdupq_n_s8(-128));
  const I32 init = i_load(g.init + n);
  return each<I32>([&](int v) { return vsubq_s32(init.v[v], sum.v[v]); });
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  if (g.m <= 0) return;
  for (int n = 0; n < g.n; n += 16) {
    const int8_t* b = g.b + (n / 16) * g.ldb;
    const I32 start = shifted_start(g, b, n);
    int m = 0;
    for (; m + 4 <= g.m; m += 4) tile<4>(g, start, b, m, n, epilogue);
    switch (g.m - m) {
    case 1: tile<1>(g, start, b, m, n, epilogue); break;
    case 2: tile<2>(g, start, b, m, n, epilogue); break;
    case 3: tile<3>(g, start, b, m, n, epilogue); break;
    default: break;
    }
  }
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  int32x4_t c[16];
  for (auto& x : c) x = vdupq_n_s32(0);
  int8x16_t a = vdupq_n_s8(3);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+w"(a));
#pragma GCC unroll 16
    for (auto& x : c) x = vdotq_s32(x, a, a);
  }
  for (auto& x : c) asm volatile("" ::"w"(x));
  return static_cast<double>(iterations) * 16 * 32; // 16 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_impl.h"
