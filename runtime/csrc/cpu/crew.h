// Threads that are done with their own groups help the others with theirs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace bert_rt {

struct Range {
  int begin, end;
  int size() const { return end - begin; }
};

// A thread that leads a group, and those that help it. The lead calls share() for one loop after
// the other. Each helper has a part of its own, the same rows in each loop, whose memory it knows;
// who is done takes of the other parts, so a thread whose core is slow, or taken away for a while,
// holds up nobody. Who computes a piece never changes its bits.
class Crew {
 public:
  Crew() = default;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Before a run, by one thread. `scratch` is the lead's own. Helpers that are expected get their
  // parts of the first loops before they have come.
  void reset(int most_helpers, int expected_helpers, uint8_t* scratch);

  // By the lead: calls work(range, scratch) for pieces of [0, n), in whole tiles, until all are
  // done. Alone it has one piece.
  template <class Work>
  void share(int n, int tile, const Work& work) {
    const int helpers = std::max(expected_, num_helpers_.load(std::memory_order_acquire));
    if (helpers == 0) {
      work(Range{0, n}, scratch_);
      return;
    }
    const auto call = [](const void* it, Range r, uint8_t* scratch) {
      (*static_cast<const Work*>(it))(r, scratch);
    };
    loop_ = {call, &work, n, tile};
    lead(helpers);
  }

  // By the lead: no loop follows.
  void close();
  // By another thread: joins and works on every loop until the lead closes.
  void help(uint8_t* scratch);
  bool is_open() const { return is_open_.load(std::memory_order_acquire); }
  void open() { is_open_.store(true, std::memory_order_release); }
  int num_helpers() const { return num_helpers_.load(std::memory_order_relaxed); }

 private:
  struct Loop {
    void (*call)(const void* work, Range r, uint8_t* scratch);
    const void* work;
    int n, tile;
  };
  struct alignas(64) Part {
    std::atomic<uint64_t> left{0}; // the tiles that nobody has taken: first, and one past the last
  };

  void lead(int helpers);
  // Takes pieces, of the own part first, and does them. False where there was none.
  bool work(size_t own, uint8_t* scratch);
  bool take(size_t part, bool is_own, Range& tiles);

  Loop loop_{}; // read only by those who have taken a piece of it
  uint8_t* scratch_ = nullptr;
  std::unique_ptr<Part[]> parts_; // the lead's, then the helpers'
  size_t num_parts_ = 0;
  int expected_ = 0;
  alignas(64) std::atomic<int> undone_{0};     // tiles of the loop
  alignas(64) std::atomic<uint32_t> calls_{0}; // loops so far; helpers wait for the next one
  std::atomic<int> num_helpers_{0};
  std::atomic<bool> is_open_{false};
};

// The crews of a run, one a thread. Groups are dealt out in their order.
class Crews {
 public:
  explicit Crews(size_t size) : crews_(size) {}

  // Before a run, by one thread. `scratch` is a thread's own.
  void reset(size_t num_groups, const std::vector<uint8_t*>& scratch);
  // On every thread: calls lead(group, crew) for groups, then helps until all are done.
  template <class Lead>
  void run(size_t rank, uint8_t* scratch, const Lead& lead) {
    Crew& own = crews_[rank];
    for (size_t i = next_++; i < num_groups_; i = next_++) {
      own.open();
      announce();
      lead(i, own);
      own.close();
      --undone_;
      announce();
    }
    help(scratch);
  }

 private:
  void announce();
  void help(uint8_t* scratch);

  std::vector<Crew> crews_;
  size_t num_groups_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<size_t> undone_{0};    // groups
  std::atomic<uint32_t> changes_{0}; // of crews that opened or closed
};

} // namespace bert_rt
