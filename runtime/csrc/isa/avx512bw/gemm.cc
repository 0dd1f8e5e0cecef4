// 8 x 16 register tile: AVX-512 without VNNI, by the products of avx2 at twice the width.
#include "isa/vec_avx512.h"
// The lanes come first.
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kMr = 8;
using Word = __m512i;

inline Word broadcast4(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
inline void add_words(I32& c, __m512i words) {
  c = _mm512_add_epi32(c, _mm512_madd_epi16(words, _mm512_set1_epi16(1)));
}
inline void add_fours(I32& c, Word x, const int8_t* bx, Word y, const int8_t* by) {
  add_words(c, _mm512_add_epi16(_mm512_maddubs_epi16(x, _mm512_loadu_si512(bx)),
                                _mm512_maddubs_epi16(y, _mm512_loadu_si512(by))));
}
inline void add_pairs(I32& c, Word x, const int8_t* b) {
  add_words(c, _mm512_maddubs_epi16(x, _mm512_loadu_si512(b)));
}

// Even and odd bytes apart.
struct Widened {
  I32 even, odd;
};
inline Widened widen(const int8_t* b) {
  const __m512i x = _mm512_loadu_si512(b);
  return {_mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8), _mm512_srai_epi16(x, 8)};
}
inline void add_whole(I32& c, Word x, const Widened& w) {
  const __m512i even = _mm512_and_si512(x, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(x, 8);
  c = _mm512_add_epi32(
      c, _mm512_add_epi32(_mm512_madd_epi16(even, w.even), _mm512_madd_epi16(odd, w.odd)));
}

} // namespace

// The most that two steps in 16 bits can reach.
double peak_loop(int64_t iterations) noexcept {
  __m512i c[8];
#pragma GCC unroll 8
  for (auto& x : c) x = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 8
    for (auto& x : c) {
      __m512i y = a; // a product of its own for every sum
      asm volatile("" : "+v"(y));
      add_words(x, _mm512_add_epi16(_mm512_maddubs_epi16(y, b), _mm512_maddubs_epi16(b, y)));
    }
  }
#pragma GCC unroll 8
  for (auto& x : c) asm volatile("" ::"v"(x));
  return static_cast<double>(iterations) * 8 * 256; // 128 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_split.h"
// The GEMM first.
#include "isa/gemm_impl.h"
