// A BERT model as the encoder runs it: weights packed, everything checked.
#pragma once

#include "arena.h"
#include "graph/match.h"
#include "kernels.h"
#include "ops/split.h"

#include <string>
#include <string_view>
#include <vector>

namespace bert_rt {

// y = x W + bias, in INT8 or, where the artifact keeps it so, in float.
struct Linear {
  int n = 0; // columns, a multiple of 16
  int k = 0;
  bool is_int8 = false;
  Buffer<int8_t> weights_s8; // packed
  SplitRest rest;            // of weights_s8, where the instruction set wants it apart
  Buffer<int32_t> init;      // [N] -zero_point * column sum
  Buffer<float> scale;       // [N] activation scale * weight scale
  Buffer<float> mult;        // [K] smoothing / activation scale: quantizes the input
  float zero_point = 0.0f;   // of the input
  Buffer<float> weights_f32; // [N / 16][K][16]
  Buffer<float> bias;        // [N]

  ptrdiff_t ldb() const { return ptrdiff_t{padded_k(k)} * kPanel; }
  size_t bytes() const {
    return weights_s8.bytes() + rest.bytes() + weights_f32.bytes() + init.bytes() + scale.bytes() +
           mult.bytes() + bias.bytes();
  }
};

struct LayerNorm {
  Buffer<float> gamma; // [D]
  Buffer<float> beta;  // [D]
  float eps = 0.0f;
};

struct Layer {
  Linear qkv;       // [D] -> q, k, v of N heads of padded_head_dim
  Linear attention; // attention output, [N * padded_head_dim] -> [D]
  Linear ffn1;      // [D] -> [F]
  Linear ffn2;      // [F] -> [D]
  // Channels of [F] that must not share the INT8 range are computed once more and kept in float.
  Linear outliers_up;   // those columns of ffn1, at most 16; n is 0 where there are none
  Linear outliers_down; // their rows of ffn2, in float
  LayerNorm norm1;
  LayerNorm norm2;
  float attention_scale = 0.0f;
};

struct Model {
  int vocab_size = 0, hidden_size = 0, num_heads = 0, head_dim = 0, intermediate_size = 0;
  int max_position_embeddings = 0; // rows from the first token's on: the longest sequence
  int type_vocab_size = 0;         // 0: token types are not read
  int embedding_size = 0;          // width E of the embeddings
  int padded_head_dim = 0;         // head_dim rounded up to a multiple of 16
  Buffer<int8_t> word_s8;          // [V][E], or
  Buffer<float> word_f32;          // [V][E]
  Buffer<float> word_scale;        // [V], with word_s8
  Buffer<float> type;              // [types][E]; one row where types are not read
  Buffer<float> position;          // [P][E]
  LayerNorm embedding_norm;
  Linear projection; // float: [E] -> [D]; n is 0 where E is D
  std::vector<Layer> layers;
  HeadKind head = HeadKind::kSpans;
  Linear output; // float: [D] -> num_labels, columns padded to 16
  Linear pooler; // float, kPooled only
  Activation pooler_activation = Activation::kTanh;
  int num_labels = 0;

  size_t bytes() const;
  int context_width() const { return num_heads * padded_head_dim; }
};

// Reads the graph of /docs/artifact-format.md; throws std::invalid_argument naming the node where
// it is anything else. num_threads threads pack the weights, in two parts for an instruction set
// that adds in 16 bits.
Model load_model(std::string_view file, int num_threads, bool sums_in_16_bits);

} // namespace bert_rt
