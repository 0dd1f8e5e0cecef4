#include "ops/best.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace bert_rt {

void find_best(const Kernels& kernels, const float* x, int n, int v, float* blocks,
               const Best& best) {
  const int num_blocks = (n + kScoreBlock - 1) / kScoreBlock;
  const ScoreSum sum = kernels.sum_scores({x, n, blocks});
  // No score below the count-th greatest of the blocks' maxima can be among the best.
  float least = -INFINITY;
  if (best.count < num_blocks) {
    float* sorted = blocks + num_blocks;
    std::copy_n(blocks, num_blocks, sorted);
    std::nth_element(sorted, sorted + best.count - 1, sorted + num_blocks, std::greater<float>());
    least = sorted[best.count - 1];
  }
  int found = 0;
  for (int block = 0; block < num_blocks; ++block) {
    if (blocks[block] < least) continue;
    const int end = std::min((block + 1) * kScoreBlock, v);
    for (int token = block * kScoreBlock; token < end; ++token) {
      const float score = x[token];
      if (score < least) continue;
      if (found == best.count && !(score > best.log_probs[found - 1])) continue;
      // Tokens come in their order: an equal score stays behind those that are there.
      int at = found < best.count ? found++ : found - 1;
      for (; at > 0 && score > best.log_probs[at - 1]; --at) {
        best.log_probs[at] = best.log_probs[at - 1];
        best.tokens[at] = best.tokens[at - 1];
      }
      best.log_probs[at] = score;
      best.tokens[at] = token;
    }
  }
  const auto log_sum = static_cast<float>(std::log(static_cast<double>(sum.sum)));
  for (int i = 0; i < best.count; ++i)
    best.log_probs[i] = (best.log_probs[i] - sum.largest) - log_sum;
}

} // namespace bert_rt
