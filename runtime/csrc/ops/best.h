// The greatest scores of a row over a vocabulary.
#pragma once

#include "kernels.h"

#include <vector>

namespace bert_rt {

// Where the best scores of a row go, greatest first; of equal ones the lower token stands first.
struct Best {
  int count = 0;              // at most V
  float* log_probs = nullptr; // [count]
  int32_t* tokens = nullptr;  // [count]
};

// x: [N], of which the first v are scores and the others padding below all of them. blocks is
// memory for at least N / kScoreBlock + 1 numbers, twice.
void find_best(const Kernels& kernels, const float* x, int n, int v, float* blocks,
               const Best& best);

} // namespace bert_rt
