// The GEMM as plain loops: the oracle of every other folder.
#include "isa/vec_scalar.h"
// The lanes come first.
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  for (int m = 0; m < g.m; ++m) {
    const uint8_t* a = g.a + m * g.lda;
    for (int n = 0; n < g.n; n += 16) {
      const int8_t* b = g.b + (n / 16) * g.ldb;
      int32_t acc[16];
      for (int j = 0; j < 16; ++j) {
        acc[j] = g.init[n + j];
        for (int k = 0; k < g.k; ++k) acc[j] += a[k] * b[(k / 4) * 64 + j * 4 + k % 4];
      }
      epilogue.row({i_load(acc)}, m, n);
    }
  }
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  int32_t acc[16] = {};
  for (int64_t i = 0; i < iterations; ++i)
    for (int j = 0; j < 16; ++j) {
      acc[j] = static_cast<int32_t>(static_cast<uint32_t>(acc[j]) * 3u + 1u);
      asm volatile("" : "+r"(acc[j]));
    }
  return 2.0 * 16.0 * static_cast<double>(iterations);
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_impl.h"
