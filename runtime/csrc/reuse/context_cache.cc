#include "reuse/context_cache.h"

#include <algorithm>

namespace bert_rt {
namespace {

constexpr size_t kEntryBytes = 256; // what an entry takes in the lists and in the index, rounded up
constexpr uint64_t kHitsBeforeProjections = 4;

std::unique_ptr<float[]> copy_of(const float* numbers, size_t count) {
  std::unique_ptr<float[]> copy(new float[count]); // make_unique writes zeros first
  std::copy_n(numbers, count, copy.get());
  return copy;
}

} // namespace

KeptContext ContextCache::find(const int32_t* ids, int tokens) {
  const auto found = index_.find(tokens_key(ids, tokens));
  if (found == index_.end()) {
    ++num_misses_;
    return {};
  }
  ++num_hits_;
  entries_.splice(entries_.begin(), entries_, found->second);
  Entry& entry = entries_.front();
  ++entry.num_hits;
  if (entry.projections != nullptr)
    projected_.splice(projected_.begin(), projected_, entry.projected);
  return {entry.states.get(), entry.projections.get()};
}

void ContextCache::insert(const int32_t* ids, int tokens, const float* states, size_t count) {
  const size_t bytes = entry_bytes(tokens, count);
  if (bytes > max_bytes_ || index_.count(tokens_key(ids, tokens)) != 0) return;
  while (bytes_ + bytes > max_bytes_) drop_oldest(); // before anything is allocated
  entries_.push_front({{ids, ids + tokens}, copy_of(states, count), nullptr, bytes, 0, 0, {}});
  index_.emplace(tokens_key(entries_.front().ids.data(), tokens), entries_.begin());
  bytes_ += bytes;
}

void ContextCache::add_projections(const int32_t* ids, int tokens, const float* projections,
                                   size_t count, bool at_once) {
  const auto found = index_.find(tokens_key(ids, tokens));
  const size_t bytes = count * sizeof(float);
  if (found == index_.end() || bytes_ + bytes > max_bytes_) return;
  Entry& entry = *found->second;
  if (entry.projections != nullptr) return;
  if (!at_once && entry.num_hits < kHitsBeforeProjections) return;
  entry.projections = copy_of(projections, count);
  entry.projection_bytes = bytes;
  entry.projected = projected_.insert(projected_.begin(), &entry);
  bytes_ += bytes;
}

// Projections, or where there are none an entry.
void ContextCache::drop_oldest() {
  if (!projected_.empty()) {
    Entry& oldest = *projected_.back();
    bytes_ -= oldest.projection_bytes;
    oldest.projections.reset();
    projected_.pop_back();
    return;
  }
  const Entry& oldest = entries_.back();
  bytes_ -= oldest.bytes;
  index_.erase(tokens_key(oldest.ids.data(), static_cast<int>(oldest.ids.size())));
  entries_.pop_back();
}

void ContextCache::clear() {
  index_.clear();
  projected_.clear();
  entries_.clear();
  bytes_ = 0;
}

size_t ContextCache::entry_bytes(int tokens, size_t count) {
  return count * sizeof(float) + static_cast<size_t>(tokens) * sizeof(int32_t) + kEntryBytes;
}

} // namespace bert_rt
