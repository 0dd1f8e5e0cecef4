// The GEMM of instruction sets with an exact dot product of four u8 and four s8 (vpdpbusd), written
// once over their registers. Include a vec_*.h, ahead.h and epilogues.h before, and define:
//   constexpr int kPanels            panels of a register tile: 1 or 4
//   Word broadcast4(const uint8_t*)  four bytes of a row of A in all lanes
//   I32 load_bytes(const int8_t*)    four bytes of 16 columns
//   void dot4(I32& c, Word a, I32 b) c += their products
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kMr = 6;

template <int mr, int nv>
void tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* init, int32_t* out,
          ptrdiff_t ldo) noexcept {
  I32 c[mr][nv];
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < nv; ++v) c[r][v] = i_load(init + 16 * v);
#pragma GCC unroll 4
  for (int k = 0; k < g.k; k += 4, b += 64) {
    I32 bv[nv];
#pragma GCC unroll 4
    for (int v = 0; v < nv; ++v) bv[v] = load_bytes(b + v * g.ldb);
#pragma GCC unroll 8
    for (int r = 0; r < mr; ++r) {
      const Word av = broadcast4(a + r * g.lda + k);
#pragma GCC unroll 4
      for (int v = 0; v < nv; ++v) dot4(c[r][v], av, bv[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < nv; ++v) i_store(out + r * ldo + v * 16, c[r][v]);
}

template <int nv, class Epilogue>
inline void columns(const GemmArgs& g, int n, const Epilogue& epilogue) noexcept {
  alignas(64) int32_t acc[kMr * 16 * nv];
  const int8_t* b = g.b + (n / 16) * g.ldb;
  const int32_t* init = g.init + n;
  Ahead ahead(g, n, 16 * nv, (g.m + kMr - 1) / kMr);
  for (int m = 0; m < g.m; m += kMr) {
    // Operands of attention, the raw products, are in L1 as it is.
    if constexpr (!Epilogue::is_raw) ahead.advance();
    const uint8_t* a = g.a + m * g.lda;
    const int rows = g.m - m < kMr ? g.m - m : kMr;
    // Plain accumulators go where they belong; every other epilogue reads them from L1.
    int32_t* to = acc;
    ptrdiff_t ld = nv * 16;
    if constexpr (Epilogue::is_raw) {
      to = epilogue.c + m * epilogue.ldc + n;
      ld = epilogue.ldc;
    }
    switch (rows) {
    case 1: tile<1, nv>(g, a, b, init, to, ld); break;
    case 2: tile<2, nv>(g, a, b, init, to, ld); break;
    case 3: tile<3, nv>(g, a, b, init, to, ld); break;
    case 4: tile<4, nv>(g, a, b, init, to, ld); break;
    case 5: tile<5, nv>(g, a, b, init, to, ld); break;
    default: tile<6, nv>(g, a, b, init, to, ld); break;
    }
    if constexpr (!Epilogue::is_raw)
      for (int r = 0; r < rows; ++r) {
        I32 row[nv];
        for (int v = 0; v < nv; ++v) row[v] = i_load(acc + (r * nv + v) * 16);
        epilogue.row(row, m + r, n);
      }
  }
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  if (g.m <= 0) return;
  int n = 0;
  for (; n + 16 * kPanels <= g.n; n += 16 * kPanels) columns<kPanels>(g, n, epilogue);
  if constexpr (kPanels > 1) {
    switch (g.n - n) {
    case 16: columns<1>(g, n, epilogue); break;
    case 32: columns<2>(g, n, epilogue); break;
    case 48: columns<3>(g, n, epilogue); break;
    default: break;
    }
  }
}

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
