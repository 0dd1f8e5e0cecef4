// The rest of weights in two parts (see ops/split.h) times rows of A: what accumulators start from.
// For instruction sets of x86 that add products in 16 bits.
#pragma once

#include "isa/ahead.h"
#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kBlockRows = 32;  // rows of A that are multiplied with the rest at a time
constexpr int kFewRows = 4;     // and where there are no more than these
constexpr int kRestAhead = 768; // bytes of the rest that are fetched ahead for few rows

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

// columns[k] holds byte k of four rows; those that are not there are zero.
inline void transpose_few(const uint8_t* a, ptrdiff_t lda, int rows, int k, uint8_t* columns) {
  const __m128i none = _mm_setzero_si128();
  int i = 0;
  for (; i + 16 <= k; i += 16, a += 16) {
    const __m128i x0 = row16(a), x1 = rows > 1 ? row16(a + lda) : none;
    const __m128i x2 = rows > 2 ? row16(a + 2 * lda) : none;
    const __m128i x3 = rows > 3 ? row16(a + 3 * lda) : none;
    const __m128i low01 = _mm_unpacklo_epi8(x0, x1), high01 = _mm_unpackhi_epi8(x0, x1);
    const __m128i low23 = _mm_unpacklo_epi8(x2, x3), high23 = _mm_unpackhi_epi8(x2, x3);
    auto* to = reinterpret_cast<__m128i*>(columns + i * kFewRows);
    _mm_store_si128(to, _mm_unpacklo_epi16(low01, low23));
    _mm_store_si128(to + 1, _mm_unpackhi_epi16(low01, low23));
    _mm_store_si128(to + 2, _mm_unpacklo_epi16(high01, high23));
    _mm_store_si128(to + 3, _mm_unpackhi_epi16(high01, high23));
  }
  for (; i < k; ++i, ++a)
    for (int r = 0; r < kFewRows; ++r)
      columns[i * kFewRows + r] = r < rows ? a[r * lda] : uint8_t{0};
}

// Sums of one column of the rest, a lane a row.
inline __m128i multiply_rest_few(const uint8_t* columns, const RestFour* four, int count) {
  const __m128i by_row = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m128i ones = _mm_set1_epi16(1);
  __m128i sum = _mm_setzero_si128();
  for (int i = 0; i < count; ++i, ++four) {
    int32_t x[4], weights;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      __builtin_memcpy(&x[j], columns + ptrdiff_t{four->k[j]} * kFewRows, 4);
    __builtin_memcpy(&weights, four->w, 4);
    const __m128i bytes = _mm_shuffle_epi8(_mm_setr_epi32(x[0], x[1], x[2], x[3]), by_row);
    const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi32(weights));
    sum = _mm_add_epi32(sum, _mm_madd_epi16(pairs, ones));
  }
  return sum;
}

// As start_panel, for four rows. So few take less time than their weights do from memory, which
// therefore never waits: the next panel and its rest are fetched meanwhile.
inline void start_few(const GemmArgs& g, int n, const uint8_t* columns, int32_t* start) {
  const RestFour* four = g.rest.fours + g.rest.first[n / kPanel];
  const uint16_t* count = g.rest.count + n;
  Ahead ahead(g, n, kPanel, kPanel);
  for (int j = 0; j < kPanel; j += 4) {
    __m128i s[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(four) + kRestAhead, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(four) + kRestAhead + 64, _MM_HINT_T0);
      ahead.advance();
      s[i] = multiply_rest_few(columns, four, count[j + i]);
      four += count[j + i];
    }
    const __m128i init = row16(g.init + n + j);
    const __m128i low01 = _mm_unpacklo_epi32(s[0], s[1]), high01 = _mm_unpackhi_epi32(s[0], s[1]);
    const __m128i low23 = _mm_unpacklo_epi32(s[2], s[3]), high23 = _mm_unpackhi_epi32(s[2], s[3]);
    const auto store = [&](int row, __m128i x) {
      _mm_store_si128(reinterpret_cast<__m128i*>(start + row * kPanel + j), _mm_add_epi32(x, init));
    };
    store(0, _mm_unpacklo_epi64(low01, low23));
    store(1, _mm_unpackhi_epi64(low01, low23));
    store(2, _mm_unpacklo_epi64(high01, high23));
    store(3, _mm_unpackhi_epi64(high01, high23));
  }
}

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
