// What split layers have made of passages, kept for the next question.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace bert_rt {

// Tokens as a key: two keys are equal where all tokens are.
inline std::string_view tokens_key(const int32_t* ids, int tokens) {
  return {reinterpret_cast<const char*>(ids), static_cast<size_t>(tokens) * sizeof(int32_t)};
}

// Of a passage its states behind the split layers, [tokens][D], and what the next layer's
// projection makes of them, [tokens][projection_width]. Null for what is not kept.
struct KeptContext {
  const float* states = nullptr;
  const float* projections = nullptr;
};

// By a passage's tokens. States save most of the work for a fourth of the bytes: projections have
// the room that states leave, and are dropped for them, the least recently used first; then states
// are. To copy projections into new memory takes as long as to compute them some times, so only
// those of passages that are asked again and again are kept. For one thread at a time.
class ContextCache {
 public:
  explicit ContextCache(size_t max_bytes) : max_bytes_(max_bytes) {}

  // What is kept of a passage. It stays until the next insert.
  KeptContext find(const int32_t* ids, int tokens);
  // Copies a passage's states, count numbers, unless they are there already or too many.
  void insert(const int32_t* ids, int tokens, const float* states, size_t count);
  // Copies its projections, count numbers, if its states are there and room is left; unless at
  // once, if it was found several times.
  void add_projections(const int32_t* ids, int tokens, const float* projections, size_t count,
                       bool at_once);
  void clear();
  // What a passage takes of max_bytes, without projections.
  static size_t entry_bytes(int tokens, size_t count);

  size_t max_bytes() const { return max_bytes_; }
  size_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }
  uint64_t num_hits() const { return num_hits_; }
  uint64_t num_misses() const { return num_misses_; }

 private:
  struct Entry {
    std::vector<int32_t> ids;
    std::unique_ptr<float[]> states, projections;
    size_t bytes, projection_bytes;
    uint64_t num_hits;
    std::list<Entry*>::iterator projected; // where projections are
  };

  void drop_oldest();

  size_t max_bytes_, bytes_ = 0;
  uint64_t num_hits_ = 0, num_misses_ = 0;
  std::list<Entry> entries_;    // the last used first
  std::list<Entry*> projected_; // those with projections, likewise
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;
};

} // namespace bert_rt
