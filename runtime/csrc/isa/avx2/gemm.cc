// 4 x 16 register tile. vpmaddubsw saturates, so both sides are widened to 16 bits: even and odd
// bytes apart, each pair sum by vpmaddwd is exact.
#include "isa/vec_avx2.h"
// The lanes come first.
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

inline __m256i even_s8(__m256i b) { return _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8); }
inline __m256i odd_s8(__m256i b) { return _mm256_srai_epi16(b, 8); }

template <int mr>
inline void tile(const GemmArgs& g, const uint8_t* a, const int8_t* b, const int32_t* init,
                 int32_t* out) {
  __m256i c[mr][2];
#pragma GCC unroll 4
  for (int r = 0; r < mr; ++r) {
    c[r][0] = load256(init);
    c[r][1] = load256(init + 8);
  }
  const __m256i even_bytes = _mm256_set1_epi16(255);
  for (int k = 0; k < g.k; k += 4, b += 64) {
    const __m256i b0 = load256(b), b1 = load256(b + 32);
    const __m256i b0e = even_s8(b0), b0o = odd_s8(b0), b1e = even_s8(b1), b1o = odd_s8(b1);
#pragma GCC unroll 4
    for (int r = 0; r < mr; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + r * g.lda + k, 4);
      const __m256i x = _mm256_set1_epi32(four);
      const __m256i e = _mm256_and_si256(x, even_bytes), o = _mm256_srli_epi16(x, 8);
      c[r][0] = _mm256_add_epi32(
          c[r][0], _mm256_add_epi32(_mm256_madd_epi16(e, b0e), _mm256_madd_epi16(o, b0o)));
      c[r][1] = _mm256_add_epi32(
          c[r][1], _mm256_add_epi32(_mm256_madd_epi16(e, b1e), _mm256_madd_epi16(o, b1o)));
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < mr; ++r) {
    store256(out + r * 16, c[r][0]);
    store256(out + r * 16 + 8, c[r][1]);
  }
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  alignas(64) int32_t acc[4 * 16];
  for (int n = 0; n < g.n; n += 16) {
    const int8_t* b = g.b + (n / 16) * g.ldb;
    for (int m = 0; m < g.m; m += 4) {
      const uint8_t* a = g.a + m * g.lda;
      const int rows = g.m - m < 4 ? g.m - m : 4;
      switch (rows) {
      case 1: tile<1>(g, a, b, g.init + n, acc); break;
      case 2: tile<2>(g, a, b, g.init + n, acc); break;
      case 3: tile<3>(g, a, b, g.init + n, acc); break;
      default: tile<4>(g, a, b, g.init + n, acc); break;
      }
      for (int r = 0; r < rows; ++r) epilogue.row({i_load(acc + 16 * r)}, m + r, n);
    }
  }
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  __m256i c[8];
  for (auto& x : c) x = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi16(3);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+x"(a));
#pragma GCC unroll 8
    for (auto& x : c) x = _mm256_add_epi32(x, _mm256_madd_epi16(a, a));
  }
  for (auto& x : c) asm volatile("" ::"x"(x));
  return static_cast<double>(iterations) * 8 * 32; // 16 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_impl.h"
