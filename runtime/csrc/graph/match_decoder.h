// Recognises one step of a decoder by its structure, as match.h does an encoder.
#pragma once

#include "graph/match.h"

#include <vector>

namespace bert_rt {

struct DecoderLayerView {
  LinearView qkv, attention;               // of self-attention
  LinearView cross_query, cross_attention; // keys and values come from the encoder
  LinearView ffn1, ffn2;
  NormView norm1, norm2, norm3;
  int num_heads = 0;
  float attention_scale = 0.0f, cross_scale = 0.0f;
};

struct DecoderView {
  EmbeddingView embeddings;
  NormView embedding_norm;
  std::vector<DecoderLayerView> layers;
  LinearView transform; // GELU and a norm come behind it
  NormView transform_norm;
  LinearView vocabulary;
};

DecoderView match_decoder(const onnx::Graph& graph);

} // namespace bert_rt
