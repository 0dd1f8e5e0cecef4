// Sequences of a question and a passage, cut into the parts that split layers run over.
#pragma once

#include "encoder.h"
#include "reuse/context_cache.h"

#include <string_view>
#include <unordered_map>
#include <vector>

namespace bert_rt {

// Where a sequence's second text begins, counted in tokens of the batch: its first token of type 1.
int passage_begin(const Batch& batch, int sequence);

// The different parts of some sequences, each once, and where the states of every token are.
class Segments {
 public:
  // Cuts the sequences. Parts that the cache does not have are to be computed into `states`, one
  // behind the other, each token hidden_size numbers.
  void cut(const Batch& batch, int passage_position, int hidden_size, float* states,
           ContextCache& cache);

  // The parts to compute, as sequences of their own.
  Batch parts() const;
  // For every token of the sequences, from the first one on, where its state is.
  const float* const* states_of_tokens() const { return states_of_tokens_.data(); }
  // Keeps the passages that were computed.
  void keep(ContextCache& cache) const;

 private:
  int add(const int32_t* ids, int tokens, int type, int position);
  void locate(const float* first, int tokens);

  const float* states_ = nullptr;
  size_t hidden_size_ = 0;
  std::vector<int32_t> ids_, types_, cu_seqlens_, positions_;
  std::vector<const float*> states_of_tokens_;
  std::unordered_map<std::string_view, int> questions_, passages_; // to the first token in parts
};

} // namespace bert_rt
