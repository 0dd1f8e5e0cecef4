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

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kBlockRows = 32; // rows of A that are multiplied with the rest at a time

inline __m128i row16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

// 16 x 16 bytes, row i at in + i * ldi; row j of the result at out + j * ldo.
inline void transpose_bytes16(const uint8_t* in, ptrdiff_t ldi, uint8_t* out, ptrdiff_t ldo) {
  __m128i a[16], b[16];
  // Four rounds of interleaving row i with row i + 8.
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = row16(in + i * ldi);
#pragma GCC unroll 2
  for (int round = 0; round < 2; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]);
      a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * ldo), a[i]);
}

// columns[k] holds byte k of all rows; rows that are not there are anything.
inline void transpose_block(const uint8_t* a, ptrdiff_t lda, int rows, int k, uint8_t* columns) {
  int r = 0;
  for (; r + 16 <= rows; r += 16) {
    int i = 0;
    for (; i + 16 <= k; i += 16)
      transpose_bytes16(a + r * lda + i, lda, columns + i * kBlockRows + r, kBlockRows);
    for (; i < k; ++i)
      for (int j = r; j < r + 16; ++j) columns[i * kBlockRows + j] = a[j * lda + i];
  }
  for (; r < rows; ++r)
    for (int i = 0; i < k; ++i) columns[i * kBlockRows + r] = a[r * lda + i];
}

// Sums of one column of the rest, in the order in which bytes are interleaved: lane i of sums[v] is
// row 4 v + i, or 16 + 4 v + i in the upper half.
inline void multiply_rest(const uint8_t* columns, const RestFour* four, int count,
                          __m256i (&sums)[4]) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (__m256i& x : sums) x = _mm256_setzero_si256();
  for (int i = 0; i < count; ++i, ++four) {
    __m256i x[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      x[j] = _mm256_load_si256(
          reinterpret_cast<const __m256i*>(columns + ptrdiff_t{four->k[j]} * kBlockRows));
    int32_t weights;
    __builtin_memcpy(&weights, four->w, 4);
    const __m256i w = _mm256_set1_epi32(weights);
    const __m256i low01 = _mm256_unpacklo_epi8(x[0], x[1]);
    const __m256i high01 = _mm256_unpackhi_epi8(x[0], x[1]);
    const __m256i low23 = _mm256_unpacklo_epi8(x[2], x[3]);
    const __m256i high23 = _mm256_unpackhi_epi8(x[2], x[3]);
    const auto add = [&](__m256i& sum, __m256i bytes) {
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, w), ones));
    };
    add(sums[0], _mm256_unpacklo_epi16(low01, low23));
    add(sums[1], _mm256_unpackhi_epi16(low01, low23));
    add(sums[2], _mm256_unpacklo_epi16(high01, high23));
    add(sums[3], _mm256_unpackhi_epi16(high01, high23));
  }
}

// Eight columns of one v of multiply_rest to eight rows: 4 v to 4 v + 3, and 16 further.
inline void store_rows(const __m256i (&sums)[8][4], int v, __m256i init, int32_t* out) {
  __m256i s[8], t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = _mm256_unpacklo_epi32(sums[2 * i][v], sums[2 * i + 1][v]);
    s[2 * i + 1] = _mm256_unpackhi_epi32(sums[2 * i][v], sums[2 * i + 1][v]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    t[4 * i] = _mm256_unpacklo_epi64(s[4 * i], s[4 * i + 2]);
    t[4 * i + 1] = _mm256_unpackhi_epi64(s[4 * i], s[4 * i + 2]);
    t[4 * i + 2] = _mm256_unpacklo_epi64(s[4 * i + 1], s[4 * i + 3]);
    t[4 * i + 3] = _mm256_unpackhi_epi64(s[4 * i + 1], s[4 * i + 3]);
  }
  const auto store = [&](int row, __m256i x) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + row * kPanel), _mm256_add_epi32(x, init));
  };
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store(4 * v + i, _mm256_permute2x128_si256(t[i], t[i + 4], 0x20));
    store(4 * v + i + 16, _mm256_permute2x128_si256(t[i], t[i + 4], 0x31));
  }
}

// What the accumulators of a panel start from: start[row][column] = init + A times the rest.
inline void start_panel(const GemmArgs& g, int n, const uint8_t* columns, int32_t* start) {
  const RestFour* four = g.rest.fours + g.rest.first[n / kPanel];
  for (int half = 0; half < kPanel; half += 8) {
    __m256i sums[8][4];
    for (int j = 0; j < 8; ++j) {
      const int count = g.rest.count[n + half + j];
      multiply_rest(columns, four, count, sums[j]);
      four += count;
    }
    const __m256i init = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(g.init + n + half));
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store_rows(sums, v, init, start + half);
  }
}

// Capped weights; accumulators of row r start from start + r * lds.
template <int mr>
inline void capped_tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* start,
                        ptrdiff_t lds, int32_t* out, ptrdiff_t ldo) {
  I32 c[mr];
#pragma GCC unroll 8
  for (int r = 0; r < mr; ++r) c[r] = i_load(start + r * lds);
  int k = 0;
  for (; k + 8 <= g.k; k += 8, b += 128) {
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

template <bool capped, int mr>
inline void tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* start,
                 ptrdiff_t lds, int32_t* out, ptrdiff_t ldo) {
  if constexpr (capped)
    capped_tile<mr>(g, a, b, start, lds, out, ldo);
  else
    whole_tile<mr>(g, a, b, start, lds, out, ldo);
}

// Rows m to m + rows of one panel.
template <bool capped, class Epilogue>
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
    if (left == kMr) {
      tile<capped, kMr>(g, a, b, start, lds, to, ldo);
    } else {
      for (int r = 0; r < left; ++r)
        tile<capped, 1>(g, a + r * g.lda, b, start + r * lds, lds, to + r * ldo, ldo);
    }
    if constexpr (!Epilogue::is_raw)
      for (int r = 0; r < left; ++r) epilogue.row({i_load(acc + r * kPanel)}, m + r, n);
  }
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  if (g.rest.first == nullptr) {
    for (int n = 0; n < g.n; n += kPanel) panel<false>(g, 0, g.m, n, g.init + n, 0, epilogue);
    return;
  }
  alignas(64) uint8_t columns[kMaxSplitDepth * kBlockRows];
  alignas(64) int32_t start[kBlockRows * kPanel];
  const bool has_rest = g.rest.first[g.n / kPanel] > 0;
  for (int m = 0; m < g.m; m += kBlockRows) {
    const int rows = g.m - m < kBlockRows ? g.m - m : kBlockRows;
    if (has_rest) transpose_block(g.a + m * g.lda, g.lda, rows, g.k, columns);
    for (int n = 0; n < g.n; n += kPanel) {
      if (g.rest.first[n / kPanel + 1] == g.rest.first[n / kPanel]) {
        panel<true>(g, m, rows, n, g.init + n, 0, epilogue);
      } else {
        start_panel(g, n, columns, start);
        panel<true>(g, m, rows, n, start, kPanel, epilogue);
      }
    }
  }
}

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
