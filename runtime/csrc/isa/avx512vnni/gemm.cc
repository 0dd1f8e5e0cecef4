// 6 x 64 register tile: 24 accumulators, 4 panels of B, 1 broadcast of A.
#include "isa/vec_avx512.h"
// The lanes come first.
#include "isa/ahead.h"
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kMr = 6;

// One instruction of inline assembly: with the intrinsic g++ 12 spills the accumulators.
inline void dot4(__m512i& c, __m512i a, __m512i b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
}

template <int mr, int nv>
void tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* init, int32_t* out,
          ptrdiff_t ldo) noexcept {
  __m512i c[mr][nv];
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < nv; ++v) c[r][v] = i_load(init + 16 * v);
#pragma GCC unroll 4
  for (int k = 0; k < g.k; k += 4, b += 64) {
    __m512i bv[nv];
#pragma GCC unroll 4
    for (int v = 0; v < nv; ++v) bv[v] = _mm512_loadu_si512(b + v * g.ldb);
#pragma GCC unroll 8
    for (int r = 0; r < mr; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + r * g.lda + k, 4);
      const __m512i av = _mm512_set1_epi32(four);
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
  alignas(64) int32_t acc[kMr * 64];
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
  for (; n + 64 <= g.n; n += 64) columns<4>(g, n, epilogue);
  switch (g.n - n) {
  case 16: columns<1>(g, n, epilogue); break;
  case 32: columns<2>(g, n, epilogue); break;
  case 48: columns<3>(g, n, epilogue); break;
  default: break;
  }
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  __m512i c[24];
#pragma GCC unroll 24
  for (auto& x : c) x = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 24
    for (auto& x : c) dot4(x, a, b);
  }
#pragma GCC unroll 24
  for (auto& x : c) asm volatile("" ::"v"(x));
  return static_cast<double>(iterations) * 24 * 128; // 64 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_impl.h"
