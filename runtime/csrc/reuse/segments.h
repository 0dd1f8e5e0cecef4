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

// Where what is computed of the parts goes: of each token states and projections, and how many
// numbers they have.
struct PartBuffers {
  float* states;
  float* projections;
  size_t hidden_size, projection_width;
};

// The different parts of some sequences, each once, and where the states and projections of every
// token are.
class Segments {
 public:
  // Cuts the sequences. What the cache does not have is to be computed into the buffers: of `parts`
  // both, one behind the other, and behind them the projections of `bare_parts`.
  void cut(const Batch& batch, int passage_position, const PartBuffers& buffers,
           ContextCache& cache);

  // The parts to compute, as sequences of their own.
  Batch parts() const;
  // Those whose states are kept and whose projections are not, likewise, with their states.
  Batch bare_parts() const;
  float* bare_projections() const; // where they go
  // For every token of the sequences, from the first one on, where its numbers are.
  const float* const* states_of_tokens() const { return states_of_tokens_.data(); }
  const float* const* projections_of_tokens() const { return projections_of_tokens_.data(); }
  // Keeps the passages that were computed, and projections: at once, or of those that were kept
  // before as the cache decides.
  void keep(ContextCache& cache, bool at_once) const;

 private:
  // Sequences of their own, one behind the other.
  struct Parts {
    std::vector<int32_t> ids, types, positions, cu_seqlens;
    std::unordered_map<std::string_view, int> passages; // to the part's first token

    void clear();
    int add(const int32_t* ids, int tokens, int type, int position);
    Batch batch() const;
  };
  // Of a question or passage, from which token of `computed_` or `bare_` its numbers are, unless
  // both are kept.
  struct Place {
    int tokens;
    KeptContext kept;
    int first;
  };
  Place place_passage(const int32_t* ids, int tokens, int position, ContextCache& cache);
  void locate(const Place& place);

  PartBuffers buffers_{};
  Parts computed_, bare_;
  std::unordered_map<std::string_view, int> questions_;
  std::vector<Place> places_;
  std::vector<const float*> bare_states_; // of each token
  std::vector<const float*> states_of_tokens_, projections_of_tokens_;
};

} // namespace bert_rt
