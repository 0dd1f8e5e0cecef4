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

// States by a passage's tokens; the least recently used are dropped first. For one thread at a
// time.
class ContextCache {
 public:
  explicit ContextCache(size_t max_bytes) : max_bytes_(max_bytes) {}

  // States of a passage, [tokens][D], or null. They stay until the next insert.
  const float* find(const int32_t* ids, int tokens);
  // Copies the states, count numbers, unless they are there already or too many.
  void insert(const int32_t* ids, int tokens, const float* states, size_t count);
  void clear();
  // What a passage takes of max_bytes.
  static size_t entry_bytes(int tokens, size_t count);

  size_t max_bytes() const { return max_bytes_; }
  size_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }
  uint64_t num_hits() const { return num_hits_; }
  uint64_t num_misses() const { return num_misses_; }

 private:
  struct Entry {
    std::vector<int32_t> ids;
    std::unique_ptr<float[]> states;
    size_t bytes;
  };

  size_t max_bytes_, bytes_ = 0;
  uint64_t num_hits_ = 0, num_misses_ = 0;
  std::list<Entry> entries_; // the last used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;
};

} // namespace bert_rt
