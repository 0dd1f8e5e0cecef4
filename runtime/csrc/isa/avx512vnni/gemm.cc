// 6 x 64 register tile: 24 accumulators, 4 panels of B, 1 broadcast of A.
#include "isa/vec_avx512.h"
// The lanes come first.
#include "isa/ahead.h"
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

constexpr int kPanels = 4;
using Word = __m512i;

inline Word broadcast4(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
inline I32 load_bytes(const int8_t* p) { return _mm512_loadu_si512(p); }
// One instruction of inline assembly: with the intrinsic g++ 12 spills the accumulators.
inline void dot4(I32& c, Word a, I32 b) { asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b)); }

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

#include "isa/gemm_dot.h"
// The GEMM first.
#include "isa/gemm_impl.h"
