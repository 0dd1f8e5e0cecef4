#include "cpu/crew.h"

#include "cpu/wait.h"

#include <algorithm>

namespace bert_rt {
namespace {

constexpr int kLeast = 2; // tiles in a piece: a product of one tile reads its weights too often

uint64_t packed(int begin, int end) {
  return static_cast<uint64_t>(begin) << 32 | static_cast<uint32_t>(end);
}

} // namespace

void Crew::reset(int most_helpers, int expected_helpers, uint8_t* scratch) {
  const auto parts = static_cast<size_t>(most_helpers) + 1;
  if (num_parts_ != parts) {
    parts_ = std::make_unique<Part[]>(parts);
    num_parts_ = parts;
  }
  expected_ = expected_helpers;
  scratch_ = scratch;
  num_helpers_.store(0, std::memory_order_relaxed);
}

void Crew::lead(int helpers) {
  const int tiles = (loop_.n + loop_.tile - 1) / loop_.tile, parts = helpers + 1;
  undone_.store(tiles, std::memory_order_relaxed);
  for (int i = 0; i < parts; ++i)
    parts_[static_cast<size_t>(i)].left.store(packed(tiles * i / parts, tiles * (i + 1) / parts),
                                              std::memory_order_release);
  calls_.fetch_add(1, std::memory_order_acq_rel);
  calls_.notify_all();
  work(0, scratch_);
  wait_for_zero(undone_);
}

bool Crew::take(size_t part, bool is_own, Range& tiles) {
  std::atomic<uint64_t>& left = parts_[part].left;
  uint64_t seen = left.load(std::memory_order_acquire);
  while (true) {
    const int begin = static_cast<int>(seen >> 32), end = static_cast<int>(seen & UINT32_MAX);
    if (begin >= end) return false;
    const int wanted = is_own ? end - begin : (end - begin + 1) / 2;
    const int count = std::min(end - begin, std::max(kLeast, wanted));
    tiles = is_own ? Range{begin, begin + count} : Range{end - count, end};
    const uint64_t rest = is_own ? packed(begin + count, end) : packed(begin, end - count);
    if (left.compare_exchange_weak(seen, rest, std::memory_order_acq_rel,
                                   std::memory_order_acquire))
      return true;
  }
}

bool Crew::work(size_t own, uint8_t* scratch) {
  bool has_worked = false;
  Range tiles{};
  for (size_t i = 0; i < num_parts_; ++i) {
    const size_t part = (own + i) % num_parts_;
    while (take(part, i == 0, tiles)) {
      has_worked = true;
      const int tile = loop_.tile;
      loop_.call(loop_.work, {tiles.begin * tile, std::min(loop_.n, tiles.end * tile)}, scratch);
      if (undone_.fetch_sub(tiles.size(), std::memory_order_acq_rel) == tiles.size())
        undone_.notify_all();
    }
  }
  return has_worked;
}

void Crew::close() {
  is_open_.store(false, std::memory_order_release);
  calls_.fetch_add(1, std::memory_order_acq_rel);
  calls_.notify_all();
}

void Crew::help(uint8_t* scratch) {
  const auto own = static_cast<size_t>(num_helpers_.fetch_add(1, std::memory_order_acq_rel)) + 1;
  while (true) {
    const uint32_t seen = calls_.load(std::memory_order_acquire);
    if (!is_open()) return;
    if (!work(own, scratch)) wait_while(calls_, seen);
  }
}

void Crews::reset(size_t num_groups, const std::vector<uint8_t*>& scratch) {
  num_groups_ = num_groups;
  next_.store(0, std::memory_order_relaxed);
  undone_.store(num_groups, std::memory_order_relaxed);
  const size_t size = crews_.size();
  const size_t expected = num_groups < size ? size / num_groups - 1 : 0;
  for (size_t i = 0; i < size; ++i)
    crews_[i].reset(static_cast<int>(size) - 1, static_cast<int>(expected), scratch[i]);
}

void Crews::announce() {
  changes_.fetch_add(1, std::memory_order_acq_rel);
  changes_.notify_all();
}

// Joins the open crew that has the fewest helpers.
void Crews::help(uint8_t* scratch) {
  while (true) {
    const uint32_t seen = changes_.load(std::memory_order_acquire);
    if (undone_.load(std::memory_order_acquire) == 0) return;
    Crew* best = nullptr;
    for (Crew& crew : crews_)
      if (crew.is_open() && (best == nullptr || crew.num_helpers() < best->num_helpers()))
        best = &crew;
    if (best != nullptr)
      best->help(scratch);
    else
      wait_while(changes_, seen);
  }
}

} // namespace bert_rt
