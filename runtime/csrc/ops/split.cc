#include "ops/split.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace bert_rt {
namespace {

constexpr int kBound = 128; // of the weights of one sign in a 16-bit sum

// Of one sign the two must keep the bound together; of two signs each does alone.
bool fits(int w0, int w1) {
  return std::max(w0, 0) + std::max(w1, 0) <= kBound &&
         std::min(w0, 0) + std::min(w1, 0) >= -kBound;
}

// The fours of one column, filled pair by pair.
class Column {
 public:
  void add(int k, int w) {
    while (at_ % 2 != 0 && !fits(fours_.back().w[at_ - 1], w)) ++at_; // alone in its pair
    if (at_ % 4 == 0) {
      fours_.push_back({});
      at_ = 0;
    }
    fours_.back().k[at_] = static_cast<uint16_t>(k);
    fours_.back().w[at_] = static_cast<int8_t>(w);
    ++at_;
  }
  // Appends the fours, and starts another column in the same memory.
  uint16_t move_to(std::vector<RestFour>& all) {
    const auto count = static_cast<uint16_t>(fours_.size());
    all.insert(all.end(), fours_.begin(), fours_.end());
    fours_.clear();
    at_ = 0;
    return count;
  }

 private:
  std::vector<RestFour> fours_;
  int at_ = 0; // next place in the last four
};

// Four weights that are added in one 16-bit lane, and their rows.
struct Lane {
  int8_t* w[4];
  int k[4];
};

// Takes from the largest weights of one sign until the bound holds.
void cap(const Lane& lane, int sign, Column& column) {
  const auto size = [&](int i) { return std::max(sign * *lane.w[i], 0); };
  int excess = size(0) + size(1) + size(2) + size(3) - kBound;
  while (excess > 0) {
    int largest = 0;
    for (int i = 1; i < 4; ++i)
      if (size(i) > size(largest)) largest = i;
    const int taken = std::min(excess, size(largest));
    column.add(lane.k[largest], sign * taken);
    *lane.w[largest] = static_cast<int8_t>(*lane.w[largest] - sign * taken);
    excess -= taken;
  }
}

constexpr int kLanes = 2 * kPanel; // of a block: 4 rows of a panel, a pair of them in a lane

// Marks with a byte that is not 0 the lanes that break the bound: of the weights of either sign
// their sum over a pair of `first` and the one of `second`. Written for the compiler to vectorize.
void mark(const int8_t* first, const int8_t* second, uint8_t* over) {
  int16_t pairs[2][kLanes];
  std::memcpy(pairs[0], first, sizeof(pairs[0]));
  std::memcpy(pairs[1], second, sizeof(pairs[1]));
  for (int l = 0; l < kLanes; ++l) {
    int16_t positive = 0, negative = 0;
    for (int step = 0; step < 2; ++step) {
      const auto high = static_cast<int16_t>(pairs[step][l] >> 8);
      const auto low = static_cast<int16_t>(static_cast<int16_t>(pairs[step][l] << 8) >> 8);
      for (const int16_t w : {low, high}) {
        positive = static_cast<int16_t>(positive + std::max<int16_t>(w, 0));
        negative = static_cast<int16_t>(negative + std::min<int16_t>(w, 0));
      }
    }
    over[l] = static_cast<uint8_t>((positive > kBound) | (negative < -kBound));
  }
}

// Splits one panel of k rows.
void split_panel(int8_t* panel, int k, Column* columns) {
  int8_t none[4 * kPanel] = {}; // stands for the second step where their number is odd
  for (int i = 0; i < k; i += 8) {
    int8_t* first = panel + ptrdiff_t{i} * kPanel;
    int8_t* second = i + 4 < k ? first + ptrdiff_t{4} * kPanel : none;
    uint8_t over[kLanes];
    mark(first, second, over);
    for (int l = 0; l < kLanes; ++l) {
      if (over[l] == 0) continue;
      const int p = l % 2 * 2, at = 2 * l;
      const Lane lane{{first + at, first + at + 1, second + at, second + at + 1},
                      {i + p, i + p + 1, i + p + 4, i + p + 5}};
      cap(lane, 1, columns[l / 2]);
      cap(lane, -1, columns[l / 2]);
    }
  }
}

} // namespace

SplitRest split_s8(int8_t* packed, int n, int k) {
  SplitRest rest;
  if (k > kMaxSplitDepth) return rest;
  std::vector<RestFour> fours;
  rest.first = Buffer<uint32_t>(static_cast<size_t>(n / kPanel + 1));
  rest.count = Buffer<uint16_t>(static_cast<size_t>(n));
  Column columns[kPanel];
  for (int panel = 0; panel < n / kPanel; ++panel) {
    split_panel(packed + ptrdiff_t{panel} * padded_k(k) * kPanel, k, columns);
    for (int j = 0; j < kPanel; ++j)
      rest.count[static_cast<size_t>(panel * kPanel + j)] = columns[j].move_to(fours);
    rest.first[static_cast<size_t>(panel + 1)] = static_cast<uint32_t>(fours.size());
  }
  rest.fours = Buffer<RestFour>(fours.size());
  std::copy(fours.begin(), fours.end(), rest.fours.data());
  return rest;
}

} // namespace bert_rt
