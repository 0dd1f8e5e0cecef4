// What is fused behind the GEMM: every epilogue takes a row of accumulators, nv panels of 16
// columns from column n of row m (panel v at acc + v * step), and writes the finished result.
// Included after a vec_*.h.
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr float kTiny = 1e-30f; // stands for the largest magnitude of a zero row

// x * Phi(x) = max(x, 0) - |x| Phi(-|x|), and the second term as 16 quadratics in |x|, one for
// every quarter around 0, 1/4, ... 15/4: at most 1.1e-4 from the exact (erf) GELU, 7e-5 where |x|
// < 3.6. Each is the minimax fit (Remez), the first through the origin; the last one ends, and
// everything beyond stays, halfway between the term's value there and zero.
constexpr float kGeluEnd = 0x1.effffep+1f; // just below 3.875, where the 17th quarter would begin
alignas(64) constexpr float kGeluC0[16] = {
    0x0p+0f,         -0x1.4dbf32p-11f, -0x1.58ce2p-7f,  -0x1.7d68fep-5f,
    -0x1.e82902p-4f, -0x1.c3b762p-3f,  -0x1.4d125ap-2f, -0x1.9c0992p-2f,
    -0x1.b916cep-2f, -0x1.a00c02p-2f,  -0x1.5efd8ep-2f, -0x1.0b3c6ap-2f,
    -0x1.71d9ap-3f,  -0x1.d3b58ep-4f,  -0x1.0f577ap-4f, -0x1.40a404p-4f};
alignas(64) constexpr float kGeluC1[16] = {
    -0x1.ffe8bap-2f, -0x1.f7e91p-2f, -0x1.c3c64ap-2f, -0x1.4ea754p-2f,
    -0x1.496dc6p-3f, 0x1.48155ep-6f, 0x1.62d89ep-3f,  0x1.138d5ep-2f,
    0x1.33382ep-2f,  0x1.1c05c8p-2f, 0x1.cababep-3f,  0x1.4b08bp-3f,
    0x1.b09d5ap-4f,  0x1.0219cep-4f, 0x1.1ac62cp-5f,  0x1.43fe5cp-5f};
alignas(64) constexpr float kGeluC2[16] = {
    0x1.96cee4p-2f,  0x1.7e6de8p-2f,  0x1.3ac5fap-2f,  0x1.bb1526p-3f,
    0x1.f1293p-4f,   0x1.4cc35ep-5f,  -0x1.fb76a8p-7f, -0x1.72da1ap-5f,
    -0x1.b7e2aap-5f, -0x1.8ce8f2p-5f, -0x1.310c18p-5f, -0x1.9f5e5p-6f,
    -0x1.fedf16p-7f, -0x1.1ee6a4p-7f, -0x1.284a58p-8f, -0x1.47ae14p-8f};
inline F32 gelu(F32 x) {
  const F32 u = f_min_abs(x, f_set1(kGeluEnd));
  const F32 quarter = f_add(u, f_set1(0x1p+21f)); // floats of that size are 1/4 apart
  F32 p = f_fma(f_lookup(kGeluC2, quarter), u, f_lookup(kGeluC1, quarter));
  p = f_fma(p, u, f_lookup(kGeluC0, quarter));
  return f_add(f_max(f_set1(0.0f), x), p);
}

// The upper bound keeps the conversion in range; the lower one is the saturating store's.
inline I32 quantize(F32 y, F32 mult, F32 zero_point) {
  return i_round(f_min(f_fma(y, mult, zero_point), f_set1(255.0f)));
}
// n columns, a multiple of 16: make(c) gives 16 of them, and up to 64 are stored at a time.
template <class Make>
inline void store_u8_columns(uint8_t* out, int n, const Make& make) {
  int c = 0;
  for (; c + 64 <= n; c += 64) {
    const I32 q[4] = {make(c), make(c + 16), make(c + 32), make(c + 48)};
    i_store_u8_row<4>(out + c, q);
  }
  for (; c + 32 <= n; c += 32) {
    const I32 q[2] = {make(c), make(c + 16)};
    i_store_u8_row<2>(out + c, q);
  }
  for (; c < n; c += 16) i_store_u8(out + c, make(c));
}

struct StoreS32 {
  static constexpr bool is_raw = true; // the accumulators themselves
  int32_t* c;
  ptrdiff_t ldc;
  template <int nv>
  inline void row(const I32 (&acc)[nv], int m, int n) const {
    for (int v = 0; v < nv; ++v) i_store(c + m * ldc + n + 16 * v, acc[v]);
  }
};

struct DequantizePanels {
  static constexpr bool is_raw = false;
  const float* scale;
  const float* bias;
  float* out;
  ptrdiff_t ld_panel;
  template <int nv>
  inline void row(const I32 (&acc)[nv], int m, int n) const {
    for (int v = 0; v < nv; ++v) {
      const int c = n + 16 * v;
      const F32 y = f_fma(f_from_i(acc[v]), f_load(scale + c), f_load(bias + c));
      f_store(out + (c / 16) * ld_panel + ptrdiff_t{m} * 16, y);
    }
  }
};

struct DequantizeResidual {
  static constexpr bool is_raw = false;
  const float* scale;
  const float* bias;
  const float* residual; // null: none
  float* out;
  ptrdiff_t ld;
  template <int nv>
  inline void row(const I32 (&acc)[nv], int m, int n) const {
    for (int v = 0; v < nv; ++v) {
      const int c = n + 16 * v;
      F32 y = f_fma(f_from_i(acc[v]), f_load(scale + c), f_load(bias + c));
      if (residual != nullptr) y = f_add(y, f_load(residual + m * ld + c));
      f_store(out + m * ld + c, y);
    }
  }
};

struct DequantizeGeluQuantize {
  static constexpr bool is_raw = false;
  const float* scale;
  const float* bias;
  const float* mult;
  float zero_point;
  uint8_t* out;
  ptrdiff_t ldo;
  template <int nv>
  inline void row(const I32 (&acc)[nv], int m, int n) const {
    I32 q[nv];
    for (int v = 0; v < nv; ++v) {
      const int c = n + 16 * v;
      const F32 y = f_fma(f_from_i(acc[v]), f_load(scale + c), f_load(bias + c));
      q[v] = quantize(gelu(y), f_load(mult + c), f_set1(zero_point));
    }
    i_store_u8_row<nv>(out + m * ldo + n, q);
  }
};

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
