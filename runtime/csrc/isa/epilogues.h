// What is fused behind the GEMM: every epilogue takes a row of accumulators, nv panels of 16
// columns from column n of row m (panel v at acc + v * step), and writes the finished result.
// Included after a vec_*.h.
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

// x * Phi(x), Phi as an odd polynomial of degree 15, clamped where it reaches 0 and 1: at most
// 7.2e-5 from the exact (erf) GELU. Fitted by weighted least squares to a minimax error.
inline F32 gelu(F32 x) {
  const F32 t = f_max(f_min(x, f_set1(4.15f)), f_set1(-4.15f));
  const F32 y = f_mul(t, t);
  F32 p = f_set1(-0x1.028b64p-30f);
  p = f_fma(p, y, f_set1(0x1.5ffde4p-24f));
  p = f_fma(p, y, f_set1(-0x1.a0b972p-19f));
  p = f_fma(p, y, f_set1(0x1.1c5be4p-14f));
  p = f_fma(p, y, f_set1(-0x1.f5eae8p-11f));
  p = f_fma(p, y, f_set1(0x1.318946p-7f));
  p = f_fma(p, y, f_set1(-0x1.0c98e6p-4f));
  p = f_fma(p, y, f_set1(0x1.980eecp-2f));
  return f_mul(x, f_fma(t, p, f_set1(0.5f)));
}

// The upper bound keeps the conversion in range; the lower one is the saturating store's.
inline I32 quantize(F32 y, F32 mult, F32 zero_point) {
  return i_round(f_min(f_fma(y, mult, zero_point), f_set1(255.0f)));
}

struct StoreS32 {
  static constexpr bool is_raw = true; // the accumulators themselves
  int32_t* c;
  ptrdiff_t ldc;
  template <int nv>
  inline void row(const int32_t* acc, int step, int m, int n) const {
    for (int v = 0; v < nv; ++v) i_store(c + m * ldc + n + 16 * v, i_load(acc + step * v));
  }
};

struct DequantizePanels {
  static constexpr bool is_raw = false;
  const float* scale;
  const float* bias;
  float* out;
  ptrdiff_t ld_panel;
  template <int nv>
  inline void row(const int32_t* acc, int step, int m, int n) const {
    for (int v = 0; v < nv; ++v) {
      const int c = n + 16 * v;
      const F32 y = f_fma(f_from_i(i_load(acc + step * v)), f_load(scale + c), f_load(bias + c));
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
  inline void row(const int32_t* acc, int step, int m, int n) const {
    for (int v = 0; v < nv; ++v) {
      const int c = n + 16 * v;
      F32 y = f_fma(f_from_i(i_load(acc + step * v)), f_load(scale + c), f_load(bias + c));
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
  inline void row(const int32_t* acc, int step, int m, int n) const {
    I32 q[nv];
    for (int v = 0; v < nv; ++v) {
      const int c = n + 16 * v;
      const F32 y = f_fma(f_from_i(i_load(acc + step * v)), f_load(scale + c), f_load(bias + c));
      q[v] = quantize(gelu(y), f_load(mult + c), f_set1(zero_point));
    }
    i_store_u8_row<nv>(out + m * ldo + n, q);
  }
};

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
