#include "reuse/segments.h"

#include <algorithm>

namespace bert_rt {

int passage_begin(const Batch& batch, int sequence) {
  const int32_t* types = batch.token_type_ids;
  return static_cast<int>(
      std::find(types + batch.cu_seqlens[sequence], types + batch.cu_seqlens[sequence + 1], 1) -
      types);
}

void Segments::cut(const Batch& batch, int passage_position, int hidden_size, float* states,
                   ContextCache& cache) {
  states_ = states;
  hidden_size_ = static_cast<size_t>(hidden_size);
  for (std::vector<int32_t>* list : {&ids_, &types_, &cu_seqlens_, &positions_}) list->clear();
  cu_seqlens_.push_back(0);
  states_of_tokens_.clear();
  questions_.clear();
  passages_.clear();
  for (int s = 0; s < batch.num_sequences; ++s) {
    const int begin = batch.cu_seqlens[s], end = batch.cu_seqlens[s + 1];
    const int middle = passage_begin(batch, s);
    const int32_t* ids = batch.input_ids;
    if (begin < middle) {
      const auto [question, is_new] =
          questions_.try_emplace(tokens_key(ids + begin, middle - begin), 0);
      if (is_new) question->second = add(ids + begin, middle - begin, 0, 0);
      locate(states_ + static_cast<size_t>(question->second) * hidden_size_, middle - begin);
    }
    if (middle == end) continue;
    const std::string_view key = tokens_key(ids + middle, end - middle);
    auto passage = passages_.find(key);
    if (passage == passages_.end()) {
      const float* kept = cache.find(ids + middle, end - middle);
      if (kept != nullptr) {
        locate(kept, end - middle);
        continue;
      }
      passage = passages_.emplace(key, add(ids + middle, end - middle, 1, passage_position)).first;
    }
    locate(states_ + static_cast<size_t>(passage->second) * hidden_size_, end - middle);
  }
}

// Returns the part's first token.
int Segments::add(const int32_t* ids, int tokens, int type, int position) {
  const int first = cu_seqlens_.back();
  ids_.insert(ids_.end(), ids, ids + tokens);
  types_.insert(types_.end(), static_cast<size_t>(tokens), type);
  cu_seqlens_.push_back(first + tokens);
  positions_.push_back(position);
  return first;
}

void Segments::locate(const float* first, int tokens) {
  for (int i = 0; i < tokens; ++i)
    states_of_tokens_.push_back(first + static_cast<size_t>(i) * hidden_size_);
}

Batch Segments::parts() const {
  Batch batch{ids_.data(), types_.data(), cu_seqlens_.data(),
              static_cast<int>(cu_seqlens_.size()) - 1};
  batch.first_positions = positions_.data();
  return batch;
}

void Segments::keep(ContextCache& cache) const {
  for (size_t part = 0; part < positions_.size(); ++part) {
    const int first = cu_seqlens_[part], tokens = cu_seqlens_[part + 1] - first;
    if (types_[static_cast<size_t>(first)] != 1) continue;
    cache.insert(ids_.data() + first, tokens, states_ + static_cast<size_t>(first) * hidden_size_,
                 static_cast<size_t>(tokens) * hidden_size_);
  }
}

} // namespace bert_rt
