// What encoders and decoders are made of, with weights packed.
#pragma once

#include "arena.h"
#include "kernels.h"
#include "ops/split.h"

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

struct FeedForward {
  Linear up;   // [D] -> [F]
  Linear down; // [F] -> [D]
  // Channels of [F] that must not share the INT8 range are computed once more and kept in float.
  Linear outliers_up;   // those columns of up, at most 16; n is 0 where there are none
  Linear outliers_down; // their rows of down, in float

  bool keeps_float() const { return !up.is_int8 || !down.is_int8; }
  size_t bytes() const {
    return up.bytes() + down.bytes() + outliers_up.bytes() + outliers_down.bytes();
  }
};

struct Embeddings {
  int size = 0;             // width E
  Buffer<int8_t> word_s8;   // [V][E], or
  Buffer<float> word_f32;   // [V][E]
  Buffer<float> word_scale; // [V], with word_s8
  Buffer<float> type;       // [types][E]; one row where types are not read
  Buffer<float> position;   // [P][E]
  LayerNorm norm;

  size_t bytes() const {
    return word_s8.bytes() + word_f32.bytes() + word_scale.bytes() + type.bytes() +
           position.bytes();
  }
};

} // namespace bert_rt
