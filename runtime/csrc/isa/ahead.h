// Weights come from L3, for a model is larger than L2: the panels that follow are fetched into L2
// during the blocks of these. For instruction sets with _mm_prefetch; include a vec_*.h before.
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

// Some cache lines of the next columns with every step of these. Those past the last panel, where
// the steps do not divide the lines, do no harm: a prefetch never faults.
class Ahead {
 public:
  // Columns n to n + width are computed in this many steps, one at least; the next ones are as
  // many or fewer.
  Ahead(const GemmArgs& g, int n, int width, int steps) : next_(g.b + (n + width) / 16 * g.ldb) {
    const int left = (g.n - n - width) / 16, panels = left < width / 16 ? left : width / 16;
    lines_ = (static_cast<int>(g.ldb / 64) * panels + steps - 1) / steps;
  }
  inline void advance() {
    for (int i = 0; i < lines_; ++i, next_ += 64) _mm_prefetch(next_, _MM_HINT_T1);
  }

 private:
  const int8_t* next_;
  int lines_;
};

} // namespace
} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
