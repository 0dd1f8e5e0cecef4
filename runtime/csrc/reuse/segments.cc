#include "reuse/segments.h"

#include <algorithm>

namespace bert_rt {

int passage_begin(const Batch& batch, int sequence) {
  const int32_t* types = batch.token_type_ids;
  return static_cast<int>(
      std::find(types + batch.cu_seqlens[sequence], types + batch.cu_seqlens[sequence + 1], 1) -
      types);
}

void Segments::Parts::clear() {
  for (std::vector<int32_t>* list : {&ids, &types, &positions, &cu_seqlens}) list->clear();
  cu_seqlens.push_back(0);
  passages.clear();
}

// Returns the part's first token.
int Segments::Parts::add(const int32_t* part, int tokens, int type, int position) {
  const int first = cu_seqlens.back();
  ids.insert(ids.end(), part, part + tokens);
  types.insert(types.end(), static_cast<size_t>(tokens), type);
  cu_seqlens.push_back(first + tokens);
  positions.push_back(position);
  return first;
}

Batch Segments::Parts::batch() const {
  Batch batch{ids.data(), types.data(), cu_seqlens.data(), static_cast<int>(positions.size())};
  batch.first_positions = positions.data();
  return batch;
}

void Segments::cut(const Batch& batch, int passage_position, const PartBuffers& buffers,
                   ContextCache& cache) {
  buffers_ = buffers;
  computed_.clear();
  bare_.clear();
  questions_.clear();
  places_.clear();
  bare_states_.clear();
  for (int s = 0; s < batch.num_sequences; ++s) {
    const int begin = batch.cu_seqlens[s], end = batch.cu_seqlens[s + 1];
    const int middle = passage_begin(batch, s), tokens = middle - begin;
    const int32_t* ids = batch.input_ids + begin;
    if (tokens > 0) {
      const auto [question, is_new] = questions_.try_emplace(tokens_key(ids, tokens), 0);
      if (is_new) question->second = computed_.add(ids, tokens, 0, 0);
      places_.push_back({tokens, {}, question->second});
    }
    if (middle < end)
      places_.push_back(place_passage(ids + tokens, end - middle, passage_position, cache));
  }
  // Only now it is known where projections of bare parts begin.
  states_of_tokens_.clear();
  projections_of_tokens_.clear();
  for (const Place& place : places_) locate(place);
}

Segments::Place Segments::place_passage(const int32_t* ids, int tokens, int position,
                                        ContextCache& cache) {
  const std::string_view key = tokens_key(ids, tokens);
  const auto computed = computed_.passages.find(key);
  if (computed != computed_.passages.end()) return {tokens, {}, computed->second};
  const KeptContext kept = cache.find(ids, tokens);
  if (kept.projections != nullptr) return {tokens, kept, 0};
  Parts& parts = kept.states == nullptr ? computed_ : bare_;
  const auto [part, is_new] = parts.passages.try_emplace(key, 0);
  if (is_new) {
    part->second = parts.add(ids, tokens, 1, position);
    for (int i = 0; i < tokens && kept.states != nullptr; ++i)
      bare_states_.push_back(kept.states + static_cast<size_t>(i) * buffers_.hidden_size);
  }
  return {tokens, kept, part->second};
}

void Segments::locate(const Place& place) {
  const size_t d = buffers_.hidden_size, width = buffers_.projection_width;
  const auto first = static_cast<size_t>(place.first);
  const bool is_bare = place.kept.states != nullptr;
  const float* states = is_bare ? place.kept.states : buffers_.states + first * d;
  const float* projections = place.kept.projections;
  if (projections == nullptr)
    projections = (is_bare ? bare_projections() : buffers_.projections) + first * width;
  for (size_t i = 0; i < static_cast<size_t>(place.tokens); ++i) {
    states_of_tokens_.push_back(states + i * d);
    projections_of_tokens_.push_back(projections + i * width);
  }
}

Batch Segments::parts() const { return computed_.batch(); }

Batch Segments::bare_parts() const {
  Batch batch = bare_.batch();
  batch.states = bare_states_.data();
  return batch;
}

float* Segments::bare_projections() const {
  return buffers_.projections + computed_.ids.size() * buffers_.projection_width;
}

void Segments::keep(ContextCache& cache, bool at_once) const {
  const size_t d = buffers_.hidden_size, width = buffers_.projection_width;
  const auto for_each_passage = [](const Parts& parts, const auto& work) {
    for (size_t part = 0; part < parts.positions.size(); ++part) {
      const auto first = static_cast<size_t>(parts.cu_seqlens[part]);
      const auto tokens = static_cast<size_t>(parts.cu_seqlens[part + 1]) - first;
      if (parts.types[first] == 1) work(parts.ids.data() + first, first, tokens);
    }
  };
  const auto add_projections = [&](const float* projections) {
    return [=, &cache](const int32_t* ids, size_t first, size_t tokens) {
      cache.add_projections(ids, static_cast<int>(tokens), projections + first * width,
                            tokens * width, at_once);
    };
  };
  for_each_passage(computed_, [&](const int32_t* ids, size_t first, size_t tokens) {
    cache.insert(ids, static_cast<int>(tokens), buffers_.states + first * d, tokens * d);
  });
  if (at_once) for_each_passage(computed_, add_projections(buffers_.projections));
  for_each_passage(bare_, add_projections(bare_projections()));
}

} // namespace bert_rt
