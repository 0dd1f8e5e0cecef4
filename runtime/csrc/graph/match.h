// Recognises a BERT graph by its structure, never by names, and hands out views of its constants.
// Anything unexpected throws std::invalid_argument naming the node.
#pragma once

#include "graph/onnx_reader.h"

#include <string>
#include <string_view>
#include <vector>

namespace bert_rt {

// A linear layer as the graph has it: [Mul by smooth] [quantize] MatMul, Add bias.
struct LinearView {
  std::string_view input; // before smoothing and quantization
  int k = 0, n = 0;
  bool is_int8 = false;
  const int8_t* weights_s8 = nullptr;  // [K][N]
  const float* weights_f32 = nullptr;  // [K][N]
  const float* weight_scale = nullptr; // [N], with weights_s8
  const float* bias = nullptr;         // [N]
  const float* smooth = nullptr;       // [K] or null
  float input_scale = 1.0f;
  int input_zero_point = 0;
  int num_outliers = 0;                      // input channels that are computed in float beside
  const int64_t* outlier_channels = nullptr; // [num_outliers], each in [0, K)
  const float* outlier_weight = nullptr;     // [num_outliers][N]
};

struct NormView {
  std::string_view input;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  int d = 0;
  float eps = 0.0f;
};

struct LayerView {
  LinearView qkv, attention, ffn1, ffn2;
  NormView norm1, norm2;
  int num_heads = 0;
  float attention_scale = 0.0f;
  std::string_view mask; // what is added to the scores
};

struct EmbeddingView {
  const int8_t* word_s8 = nullptr;
  const float* word_scale = nullptr;
  const float* word_f32 = nullptr;
  const float* type = nullptr;     // [types][D], or one row for all tokens, or null
  const float* position = nullptr; // of the first token
  int vocab_size = 0, max_position_embeddings = 0, d = 0;
  int type_vocab_size = 0; // 0: token types are not read
  int passage_position =
      0; // of the second text's first token; 0: positions count on from the first
};

enum class Activation { kTanh, kRelu, kGelu };

// What the last linear layer reads, and what its columns are called.
enum class HeadKind {
  kSpans,  // every token; two columns, start_logits and end_logits
  kTokens, // every token; all columns together, logits
  kPooled, // the first token through another layer and an activation; logits
  kMemory, // every token; keys and values for the layers of a decoder
};

struct BertView {
  EmbeddingView embeddings;
  NormView embedding_norm;
  bool has_projection = false;
  LinearView projection; // of embeddings of another width than the layers
  std::vector<LayerView> layers;
  HeadKind head = HeadKind::kSpans;
  LinearView output;
  LinearView pooler; // kPooled only
  Activation pooler_activation = Activation::kTanh;
  bool has_states = false;  // kMemory only
  LinearView states;        // of hidden states of another width than the decoder's
  int num_memories = 0;     // kMemory only: parts of output, keys and values of each layer
  int num_split_layers = 0; // the lowest, in which two texts do not see each other
};

BertView match_bert(const onnx::Graph& graph);

} // namespace bert_rt
