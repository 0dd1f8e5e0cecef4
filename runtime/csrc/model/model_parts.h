// Makes layers of the views that a matcher found: checks shapes at once, packs weights later.
#pragma once

#include "graph/match.h"
#include "model/layers.h"
#include "ops/pack.h"

#include <functional>
#include <string>
#include <vector>

namespace bert_rt {

// What is left to do when the graph is checked: copies and packs weights.
struct Jobs {
  bool sums_in_16_bits; // of the instruction set
  std::vector<std::function<void()>> list = {};
  size_t weight_bytes = 0; // of all matrices, which share one block
  Block weights = {};      // made by run

  // Room for count weights; where it begins in the block.
  template <class T>
  size_t reserve(size_t count) {
    const size_t at = weight_bytes;
    weight_bytes += Block::padded(count * sizeof(T));
    return at;
  }
  void run(int num_threads);
};

// Throw std::invalid_argument.
[[noreturn]] void fail_model(const std::string& what);
void require(bool holds, const std::string& what);
void check_shape(const LinearView& view, int k, int n, const char* what);
// Of hidden states d wide, the layers' heads; returns the width of one.
int check_heads(int d, int num_heads);

// 0, 1, ..., n - 1, padded with -1 to a multiple of `multiple`.
IndexMap identity(int n, int multiple);
// Columns of `parts` matrices of heads side by side, every head padded with -1 to a multiple of 16.
IndexMap padded_heads(int parts, int num_heads, int head_dim);

// Every layer stays where it is until the jobs are done.
void build_linear(const LinearView& view, IndexMap rows, IndexMap columns, Linear& to, Jobs& jobs);
LayerNorm build_norm(const NormView& view, int d);
void build_feed_forward(const LinearView& up, const LinearView& down, int d, int f, FeedForward& to,
                        Jobs& jobs);
void build_embeddings(const EmbeddingView& view, const NormView& norm, Embeddings& to, Jobs& jobs);

} // namespace bert_rt
