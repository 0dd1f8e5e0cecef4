// The GEMM of instruction sets without an exact dot product of u8 and s8 (see ops/split.h), written
// once over their registers. Include a vec_*.h and epilogues.h before, and define:
//   constexpr int kMr                rows of a register tile, a divisor of kBlockRows
//   Word broadcast4(const uint8_t*)  four bytes of a row of A in all lanes
//   void add_fours(I32& c, Word x, const int8_t* bx, Word y, const int8_t* by)
//                                    c += the products of two steps, of capped weights
//   void add_pairs(I32& c, Word x, const int8_t* b)           of one step, of capped weights
//   void add_whole(I32& c, Word x, const Widened& w)          of one step, of any weights
//   Widened widen(const int8_t* b)   what add_whole takes
#pragma once

#include "isa/functions.h"
#include "isa/gemm_split_rest.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kPanelAhead = 4096; // bytes of B that are fetched ahead for few rows

// Capped weights; accumulators of row r start from start + r * lds.
template <int mr, bool few>
inline void capped_tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* start,
                        ptrdiff_t lds, int32_t* out, ptrdiff_t ldo) {
  I32 c[mr];
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r) c[r] = i_load(start + r * lds);
  int k = 0;
  for (; k + 8 <= g.k; k += 8, b += 128) {
    if constexpr (few) {
      _mm_prefetch(b + kPanelAhead, _MM_HINT_T0);
      _mm_prefetch(b + kPanelAhead + 64, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int r = 0; r < mr; ++r)
      add_fours(c[r], broadcast4(a + r * g.lda + k), b, broadcast4(a + r * g.lda + k + 4), b + 64);
  }
  if (k < g.k) {
#pragma GCC unroll 8
    for (int r = 0; r < mr; ++r) add_pairs(c[r], broadcast4(a + r * g.lda + k), b);
  }
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r) i_store(out + r * ldo, c[r]);
}

// Any weights.
template <int mr>
inline void whole_tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* start,
                       ptrdiff_t lds, int32_t* out, ptrdiff_t ldo) {
  I32 c[mr];
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r) c[r] = i_load(start + r * lds);
  for (int k = 0; k < g.k; k += 4, b += 64) {
    const Widened w = widen(b);
#pragma GCC unroll 8
    for (int r = 0; r < mr; ++r) add_whole(c[r], broadcast4(a + r * g.lda + k), w);
  }
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r) i_store(out + r * ldo, c[r]);
}

template <bool capped, bool few, int mr>
inline void tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* start,
                 ptrdiff_t lds, int32_t* out, ptrdiff_t ldo) {
  if constexpr (capped)
    capped_tile<mr, few>(g, a, b, start, lds, out, ldo);
  else
    whole_tile<mr>(g, a, b, start, lds, out, ldo);
}

// Fewer rows than a tile has, at least one.
template <bool capped, bool few>
inline void last_tiles(const GemmArgs& g, const uint8_t* a, int rows, const int8_t* b,
                       const int32_t* start, ptrdiff_t lds, int32_t* out, ptrdiff_t ldo) {
  static_assert(kMr <= 8, "after four rows at most three are left");
  if constexpr (kMr > 4) {
    if (rows >= 4) {
      tile<capped, few, 4>(g, a, b, start, lds, out, ldo);
      rows -= 4, a += 4 * g.lda, start += 4 * lds, out += 4 * ldo;
    }
  }
  switch (rows) {
  case 1: tile<capped, few, 1>(g, a, b, start, lds, out, ldo); break;
  case 2: tile<capped, few, 2>(g, a, b, start, lds, out, ldo); break;
  case 3: tile<capped, few, 3>(g, a, b, start, lds, out, ldo); break;
  default: break;
  }
}

// Rows m to m + rows of one panel.
template <bool capped, bool few, class Epilogue>
inline void panel(const GemmArgs& g, int m, int rows, int n, const int32_t* start, ptrdiff_t lds,
                  const Epilogue& epilogue) {
  alignas(64) int32_t acc[kMr * kPanel];
  const int8_t* b = g.b + (n / kPanel) * g.ldb;
  for (const int end = m + rows; m < end; m += kMr, start += kMr * lds) {
    const uint8_t* a = g.a + m * g.lda;
    // Plain accumulators go where they belong; every other epilogue reads them from L1.
    int32_t* to = acc;
    ptrdiff_t ldo = kPanel;
    if constexpr (Epilogue::is_raw) {
      to = epilogue.c + m * epilogue.ldc + n;
      ldo = epilogue.ldc;
    }
    const int left = end - m < kMr ? end - m : kMr;
    if (left == kMr)
      tile<capped, few, kMr>(g, a, b, start, lds, to, ldo);
    else
      last_tiles<capped, few>(g, a, left, b, start, lds, to, ldo);
    if constexpr (!Epilogue::is_raw)
      for (int r = 0; r < left; ++r) epilogue.row({i_load(acc + r * kPanel)}, m + r, n);
  }
}

// Rows m to m + rows, kBlockRows at most. Few of them are multiplied with the rest by themselves.
template <bool few, class Epilogue>
void block(const GemmArgs& g, int m, int rows, const Epilogue& epilogue) noexcept {
  constexpr int kMost = few ? kFewRows : kBlockRows;
  alignas(64) uint8_t columns[kMaxSplitDepth * kMost];
  alignas(64) int32_t start[kMost * kPanel];
  if (g.rest.first[g.n / kPanel] > 0) {
    if constexpr (few)
      transpose_few(g.a + m * g.lda, g.lda, rows, g.k, columns);
    else
      transpose_block(g.a + m * g.lda, g.lda, rows, g.k, columns);
  }
  for (int n = 0; n < g.n; n += kPanel) {
    if (g.rest.first[n / kPanel + 1] == g.rest.first[n / kPanel]) {
      panel<true, few>(g, m, rows, n, g.init + n, 0, epilogue);
      continue;
    }
    if constexpr (few)
      start_few(g, n, columns, start);
    else
      start_panel(g, n, columns, start);
    panel<true, few>(g, m, rows, n, start, kPanel, epilogue);
  }
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  if (g.rest.first == nullptr) {
    for (int n = 0; n < g.n; n += kPanel)
      panel<false, false>(g, 0, g.m, n, g.init + n, 0, epilogue);
    return;
  }
  for (int m = 0; m < g.m; m += kBlockRows) {
    const int rows = g.m - m < kBlockRows ? g.m - m : kBlockRows;
    if (rows <= kFewRows)
      block<true>(g, m, rows, epilogue);
    else
      block<false>(g, m, rows, epilogue);
  }
}

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
