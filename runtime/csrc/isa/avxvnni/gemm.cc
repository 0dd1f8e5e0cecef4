// 6 x 16 register tile: 12 accumulators, 1 panel of B in two registers, 1 broadcast of A.
#include "isa/vec_avx2.h"
// The lanes come first.
#include "isa/ahead.h"
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kPanels = 1;
using Word = __m256i;

inline Word broadcast4(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline I32 load_bytes(const int8_t* p) { return {load256(p), load256(p + 32)}; }

#if defined(BERT_RT_SOFT_VPDPBUSD)
// The same function without the instruction, so that machines that lack it test all around it.
inline void dot4(__m256i& c, __m256i a, __m256i b) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  c = _mm256_add_epi32(c, _mm256_add_epi32(even, odd));
}
#else
inline void dot4(__m256i& c, __m256i a, __m256i b) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
}
#endif
inline void dot4(I32& c, Word a, const I32& b) {
  dot4(c.a, a, b.a);
  dot4(c.b, a, b.b);
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  __m256i c[12];
#pragma GCC unroll 12
  for (auto& x : c) x = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (auto& x : c) dot4(x, a, b);
  }
#pragma GCC unroll 12
  for (auto& x : c) asm volatile("" ::"x"(x));
  return static_cast<double>(iterations) * 12 * 64; // 32 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_dot.h"
// The GEMM first.
#include "isa/gemm_impl.h"
