// A BERT model as the encoder runs it: weights packed, everything checked.
#pragma once

#include "graph/match.h"
#include "model/layers.h"

#include <string_view>
#include <vector>

namespace bert_rt {

struct Layer {
  Linear qkv;       // [D] -> q, k, v of N heads of padded_head_dim
  Linear attention; // attention output, [N * padded_head_dim] -> [D]
  FeedForward feed_forward;
  LayerNorm norm1;
  LayerNorm norm2;
  float attention_scale = 0.0f;
};

// Keys and values of a decoder's cross attention, which an encoder ends in: of every layer those of
// N heads of padded_head_dim.
struct MemoryShape {
  int num_layers = 0;
  int num_heads = 0;
  int head_dim = 0;

  int padded_head_dim() const { return round_up(head_dim, kPanel); }
  int width() const { return num_heads * padded_head_dim(); } // of a layer's keys, padded
};

// Of a sequence, the packed heads of all layers of a decoder: that of a layer and head.
inline PackedHead memory_head(const MemoryShape& shape, uint8_t* memory, int layer, int head,
                              int tokens) {
  const int h = shape.padded_head_dim();
  const auto place = static_cast<size_t>(layer * shape.num_heads + head);
  return packed_head(memory + place * packed_head_bytes(tokens, h), tokens, h);
}
inline size_t memory_bytes(const MemoryShape& shape, int tokens) {
  return static_cast<size_t>(shape.num_layers * shape.num_heads) *
         packed_head_bytes(tokens, shape.padded_head_dim());
}

struct Model {
  int vocab_size = 0, hidden_size = 0, num_heads = 0, head_dim = 0, intermediate_size = 0;
  int max_position_embeddings = 0; // rows from the first token's on: the longest sequence
  int type_vocab_size = 0;         // 0: token types are not read
  int padded_head_dim = 0;         // head_dim rounded up to a multiple of 16
  int num_split_layers = 0;        // the lowest, which run over questions and passages apart
  int passage_position = 0;        // with split layers, of a passage's first token
  Embeddings embeddings;
  Linear projection; // float: [E] -> [D]; n is 0 where E is D
  std::vector<Layer> layers;
  HeadKind head = HeadKind::kSpans;
  Linear output; // [D] -> num_labels, columns padded to 16, in float; kMemory: see MemoryShape
  Linear pooler; // float, kPooled only
  Linear states; // float, kMemory only: [D] -> the decoder's width; n is 0 where they are alike
  Activation pooler_activation = Activation::kTanh;
  int num_labels = 0;
  MemoryShape memory; // kMemory only

  size_t bytes() const;
  int context_width() const { return num_heads * padded_head_dim; }
  int projection_width() const { return 3 * context_width(); } // queries, keys and values
};

// Reads the graph of /docs/artifact-format.md; throws std::invalid_argument naming the node where
// it is anything else. num_threads threads pack the weights, in two parts for an instruction set
// that adds in 16 bits. A graph that ends in a decoder's keys and values must have this shape.
Model load_model(std::string_view file, int num_threads, bool sums_in_16_bits,
                 const MemoryShape& memory = {});

} // namespace bert_rt
