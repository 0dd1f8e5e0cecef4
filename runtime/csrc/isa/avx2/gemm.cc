// 4 x 16 register tile. vpmaddubsw saturates, so weights come in two parts (ops/split.h); where
// they do not, as attention's operands, both sides are widened to 16 bits.
#include "isa/vec_avx2.h"
// The lanes come first.
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kMr = 4;
using Word = __m256i;

inline Word broadcast4(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline __m256i add_words(__m256i c, __m256i words) {
  return _mm256_add_epi32(c, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}
inline __m256i fours(Word x, const int8_t* bx, Word y, const int8_t* by) {
  return _mm256_add_epi16(_mm256_maddubs_epi16(x, load256(bx)),
                          _mm256_maddubs_epi16(y, load256(by)));
}
inline void add_fours(I32& c, Word x, const int8_t* bx, Word y, const int8_t* by) {
  c.a = add_words(c.a, fours(x, bx, y, by));
  c.b = add_words(c.b, fours(x, bx + 32, y, by + 32));
}
inline void add_pairs(I32& c, Word x, const int8_t* b) {
  c.a = add_words(c.a, _mm256_maddubs_epi16(x, load256(b)));
  c.b = add_words(c.b, _mm256_maddubs_epi16(x, load256(b + 32)));
}

// Even and odd bytes apart.
struct Widened {
  I32 even, odd;
};
inline Widened widen(const int8_t* b) {
  const __m256i x = load256(b), y = load256(b + 32);
  return {{_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8),
           _mm256_srai_epi16(_mm256_slli_epi16(y, 8), 8)},
          {_mm256_srai_epi16(x, 8), _mm256_srai_epi16(y, 8)}};
}
inline void add_whole(I32& c, Word x, const Widened& w) {
  const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(x, 8);
  c.a = _mm256_add_epi32(
      c.a, _mm256_add_epi32(_mm256_madd_epi16(even, w.even.a), _mm256_madd_epi16(odd, w.odd.a)));
  c.b = _mm256_add_epi32(
      c.b, _mm256_add_epi32(_mm256_madd_epi16(even, w.even.b), _mm256_madd_epi16(odd, w.odd.b)));
}

} // namespace

// The most that two steps in 16 bits can reach.
double peak_loop(int64_t iterations) noexcept {
  __m256i c[6];
  for (auto& x : c) x = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 6
    for (auto& x : c) {
      __m256i y = a; // a product of its own for every sum
      asm volatile("" : "+x"(y));
      x = add_words(x, _mm256_add_epi16(_mm256_maddubs_epi16(y, b), _mm256_maddubs_epi16(b, y)));
    }
  }
  for (auto& x : c) asm volatile("" ::"x"(x));
  return static_cast<double>(iterations) * 6 * 128; // 64 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_split.h"
// The GEMM first.
#include "isa/gemm_impl.h"
