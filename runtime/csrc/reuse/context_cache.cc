#include "reuse/context_cache.h"

#include <algorithm>

namespace bert_rt {
namespace {

constexpr size_t kEntryBytes = 256; // what an entry takes in the list and in the index, rounded up

} // namespace

const float* ContextCache::find(const int32_t* ids, int tokens) {
  const auto found = index_.find(tokens_key(ids, tokens));
  if (found == index_.end()) {
    ++num_misses_;
    return nullptr;
  }
  ++num_hits_;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->states.get();
}

void ContextCache::insert(const int32_t* ids, int tokens, const float* states, size_t count) {
  const size_t bytes = entry_bytes(tokens, count);
  if (bytes > max_bytes_ || index_.count(tokens_key(ids, tokens)) != 0) return;
  while (bytes_ + bytes > max_bytes_) { // before anything is allocated
    const Entry& oldest = entries_.back();
    bytes_ -= oldest.bytes;
    index_.erase(tokens_key(oldest.ids.data(), static_cast<int>(oldest.ids.size())));
    entries_.pop_back();
  }
  Entry entry{{ids, ids + tokens}, std::make_unique<float[]>(count), bytes};
  std::copy_n(states, count, entry.states.get());
  entries_.push_front(std::move(entry));
  index_.emplace(tokens_key(entries_.front().ids.data(), tokens), entries_.begin());
  bytes_ += bytes;
}

void ContextCache::clear() {
  index_.clear();
  entries_.clear();
  bytes_ = 0;
}

size_t ContextCache::entry_bytes(int tokens, size_t count) {
  return count * sizeof(float) + static_cast<size_t>(tokens) * sizeof(int32_t) + kEntryBytes;
}

} // namespace bert_rt
