// Weights in two parts, for instruction sets that add products of u8 and s8 in 16 bits.
//
// Eight neighbouring rows of K are two steps of four. Of both steps the first pairs are added in
// one 16-bit lane, the second pairs in another: four products each. They cannot overflow where the
// positive weights of the four add up to 128 at most, and the negative ones to -128 at least, for
// 255 * 128 = 32640. Weights beyond that are capped, and the rest is kept apart by column: it is
// sparse, and is multiplied with 32 rows of A at a time, or with four (isa/gemm_split_rest.h).
#pragma once

#include "arena.h"
#include "kernels.h"

namespace bert_rt {

struct SplitRest {
  Buffer<uint32_t> first;
  Buffer<uint16_t> count;
  Buffer<RestFour> fours;

  Rest view() const { return {first.data(), count.data(), fours.data()}; }
  size_t bytes() const { return first.bytes() + count.bytes() + fours.bytes(); }
};

// Caps packed weights (kernels.h) in place and returns the rest; of a matrix deeper than
// kMaxSplitDepth nothing is capped, and its view says so.
SplitRest split_s8(int8_t* packed, int n, int k);

} // namespace bert_rt
