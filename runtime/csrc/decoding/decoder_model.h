// A decoder as the engine runs it, one token a step: weights packed, everything checked.
#pragma once

#include "model/layers.h"
#include "model/model.h"

#include <string_view>
#include <vector>

namespace bert_rt {

struct DecoderLayer {
  Linear qkv;             // [D] -> q, k, v of N heads of padded_head_dim
  Linear attention;       // [N * padded_head_dim] -> [D]
  Linear cross_query;     // [D] -> N heads
  Linear cross_attention; // [N * padded_head_dim] -> [D]
  FeedForward feed_forward;
  LayerNorm norm1;
  LayerNorm norm2;
  LayerNorm norm3;
  float attention_scale = 0.0f;
  float cross_scale = 0.0f;
};

struct DecoderModel {
  int vocab_size = 0, hidden_size = 0, num_heads = 0, head_dim = 0, intermediate_size = 0;
  int max_position_embeddings = 0; // the longest target
  int padded_head_dim = 0;         // head_dim rounded up to a multiple of 16
  Embeddings embeddings;
  std::vector<DecoderLayer> layers;
  Linear transform; // [D] -> [D], before GELU and a norm
  LayerNorm transform_norm;
  Linear vocabulary; // [D] -> [V], columns padded to 16

  size_t bytes() const;
  int context_width() const { return num_heads * padded_head_dim; }
  MemoryShape memory() const { return {static_cast<int>(layers.size()), num_heads, head_dim}; }
  // Keys and values of one token, of all layers, behind a cell's header.
  size_t cell_bytes() const;
  CellLayout cell_layout(int layer) const;
};

// Bytes before the keys and values of a cell, which belong to the cache.
inline constexpr ptrdiff_t kCellHeader = 64;

// Scores of padding columns, which no search may take: below all others, and finite.
inline constexpr float kPaddingScore = -1e30f;

// Reads the graph of one step of /docs/artifact-format.md; throws std::invalid_argument naming the
// node where it is anything else. num_threads threads pack the weights.
DecoderModel load_decoder(std::string_view file, int num_threads, bool sums_in_16_bits);

} // namespace bert_rt
